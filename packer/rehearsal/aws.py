"""AWS as far as the rehearsal of the AMI needs it: moto, and what moto does not keep of an image.

Started as `aws.py CALLS`: prints its URL once it listens, and writes each call to the file CALLS, one JSON object a line.
What is added to moto answers as the EC2 API Reference says of EnableImageDeprecation, ModifyImageAttribute and CopyImage.
"""

import io
import json
import re
import sys
from urllib.parse import parse_qsl

from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.models.amis import Ami
from moto.ec2.responses.amis import AmisResponse
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


def enable_image_deprecation(response):
    image = response.ec2_backend.describe_images(ami_ids=[response._get_param("ImageId")])[0]
    image.deprecation_time = response._get_param("DeprecateAt").strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return ActionResult({"Return": True})


def modify_image_attribute(response, inherited=AmisResponse.modify_image_attribute):
    if response._get_param("Attribute") != "imdsSupport":
        return inherited(response)
    image = response.ec2_backend.describe_images(ami_ids=[response._get_param("ImageId")])[0]
    image.imds_support = response._get_param("Value")
    return EmptyResult()


def copy_image(response, inherited=AmisResponse.copy_image):
    result = inherited(response)
    image = response.ec2_backend.describe_images(ami_ids=[result.result["ImageId"]])[0]
    image.encrypted = bool(response._get_param("Encrypted"))
    return result


def block_device_mappings(image, inherited=Ami.block_device_mappings.fget):
    mappings = inherited(image)
    for mapping in mappings:
        mapping["Ebs"]["Encrypted"] = getattr(image, "encrypted", False)
    return mappings


def call(environ, body):
    """Who called what, of which service, where, and with which parameters."""
    scope = re.search(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
    region, service = scope.groups() if scope else ("", "")
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        action, parameters = target.rpartition(".")[2], json.loads(body)
    else:
        parameters = dict(parse_qsl(body.decode()))
        action = parameters.pop("Action", "")
    agent = environ.get("HTTP_USER_AGENT", "").partition("/")[0]
    return {"agent": agent, "service": service, "region": region, "action": action, "parameters": parameters}


def written_down(application, calls):
    def answer(environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        calls.write(json.dumps(call(environ, body)) + "\n")
        calls.flush()
        return application(environ, start_response)

    return answer


AmisResponse.enable_image_deprecation = enable_image_deprecation
AmisResponse.modify_image_attribute = modify_image_attribute
AmisResponse.copy_image = copy_image
Ami.block_device_mappings = property(block_device_mappings)

with open(sys.argv[1], "w", encoding="utf-8") as calls:
    application = written_down(DomainDispatcherApplication(create_backend_app), calls)
    server = make_server("127.0.0.1", 0, application, threaded=True)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
