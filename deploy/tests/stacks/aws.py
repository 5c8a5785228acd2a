"""AWS as far as a deployment needs it: moto, and what moto leaves out of CloudFormation.

Started as `aws.py CALLS`: prints its URL once it listens, and writes each call to the file CALLS, one JSON object a line.
What is added answers as the API references say: change sets whose stacks have outputs, stacks that take a while, termination
protection, regions in trouble (`/trouble/silent/us-east-1`), a creation that is undone and an update that turns back (for the image named `bad`), tables that are retained although their
stack's creation was undone (for the key named `broken`), buckets that are not deleted while
anything is in them, accelerators, alarms, quotas, a busy service. Endpoints are the instances in service, as the fleet's function would have them.
"""

import copy
import io
import itertools
import json
import re
import sys
import threading
from urllib.parse import parse_qsl

import boto3
import yaml
from moto.autoscaling.models import autoscaling_backends
from moto.awslambda.models import lambda_backends
from moto.cloudformation import models, parsing
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import CloudFormationBackend, Stack, cloudformation_backends
from moto.cloudformation.responses import CloudFormationResponse
from moto.cloudwatch.models import cloudwatch_backends
from moto.core.common_models import CloudFormationModel
from moto.core.responses import ActionResult
from moto.dynamodb.models import dynamodb_backends
from moto.ec2.models import ec2_backends
from moto.kms.models import kms_backends
from moto.logs.models import logs_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import FakeBucket, s3_backends
from werkzeug.serving import make_server

ACCOUNT = "123456789012"
REGIONS = ("eu-central-1", "us-east-1")
# By the organization, in which EC2 goes on to list it.
DENIED = "ap-southeast-2"
# Models are registered by the second part of their module's name.
__name__ = "moto.doubles.models"
ACCELERATORS, GROUPS, DASHBOARDS = {}, {}, {}
QUOTAS = {"vcpus": 32.0, "accelerators": 20.0}
# Of so many calls, one is told to come again.
BUSY, NUMBERS = 11, itertools.count(1)
# Regions in trouble, by what is the matter: `silent` ones answer nothing for a minute, `failing` ones a fault of theirs.
TROUBLE = {"silent": set(), "failing": set()}
# How often a stack's events are read before they tell that its operation has ended.
LOOKS = 2


class Double(CloudFormationModel):
    """A resource that moto does not know: its properties, and an id."""

    ATTRIBUTES = {}
    number = 0

    def __init__(self, name, properties, region):
        Double.number += 1
        self.name, self.properties, self.region = name, properties, region
        self.physical_resource_id = self.identify(f"{Double.number:08x}")

    @staticmethod
    def cloudformation_name_type():
        return ""

    @classmethod
    def has_cfn_attr(cls, attr):
        return attr in cls.ATTRIBUTES

    def get_cfn_attribute(self, attr):
        return self.ATTRIBUTES[attr](self)

    @classmethod
    def create_from_cloudformation_json(cls, name, resource, account_id, region_name, **_):
        made = cls(name, resource.get("Properties", {}), region_name)
        made.made()
        return made

    @classmethod
    def update_from_cloudformation_json(cls, original_resource, new_resource_name, cloudformation_json, account_id, region_name):
        original_resource.properties = cloudformation_json.get("Properties", {})
        return original_resource

    @classmethod
    def delete_from_cloudformation_json(cls, resource_name, cloudformation_json, account_id, region_name):
        cls.gone(resource_name)

    def made(self):
        pass

    @classmethod
    def gone(cls, identifier):
        pass


class Accelerator(Double):
    ATTRIBUTES = {
        "DnsName": lambda self: "a0123456789abcdef.awsglobalaccelerator.com",
        "DualStackDnsName": lambda self: "a0123456789abcdef.dualstack.awsglobalaccelerator.com",
        "Ipv4Addresses": lambda self: ["192.0.2.1", "192.0.2.2"],
    }

    @staticmethod
    def cloudformation_type():
        return "AWS::GlobalAccelerator::Accelerator"

    def identify(self, number):
        return f"arn:aws:globalaccelerator::{ACCOUNT}:accelerator/{number}"

    def made(self):
        ACCELERATORS[self.physical_resource_id] = self.properties["Name"]

    @classmethod
    def gone(cls, identifier):
        del ACCELERATORS[identifier]


class Listener(Double):
    @staticmethod
    def cloudformation_type():
        return "AWS::GlobalAccelerator::Listener"

    def identify(self, number):
        return f"{self.properties['AcceleratorArn']}/listener/{number}"


class EndpointGroup(Double):
    ATTRIBUTES = {"EndpointGroupArn": lambda self: self.physical_resource_id}

    @staticmethod
    def cloudformation_type():
        return "AWS::GlobalAccelerator::EndpointGroup"

    def identify(self, number):
        return f"{self.properties['ListenerArn']}/endpoint-group/{number}"

    def made(self):
        GROUPS[self.physical_resource_id] = self.properties["EndpointGroupRegion"]

    @classmethod
    def gone(cls, identifier):
        del GROUPS[identifier]


class Alarm(Double):
    ATTRIBUTES = {"Arn": lambda self: f"arn:aws:cloudwatch:{self.region}:{ACCOUNT}:alarm:{self.name}"}

    @staticmethod
    def cloudformation_type():
        return "AWS::CloudWatch::Alarm"

    def identify(self, number):
        return self.name

    def made(self):
        fields = {"metric_name": "MetricName", "namespace": "Namespace", "period": "Period", "statistic": "Statistic"}
        fields |= {"comparison_operator": "ComparisonOperator", "evaluation_periods": "EvaluationPeriods"}
        known = {to: self.properties[of] for to, of in fields.items()}
        threshold = float(self.properties["Threshold"])
        boto3.client("cloudwatch", endpoint_url=URL, region_name=self.region, **KEYS).put_metric_alarm(
            AlarmName=self.name,
            Threshold=threshold,
            **{"".join(word.capitalize() for word in name.split("_")): value for name, value in known.items()},
        )

    @classmethod
    def gone(cls, identifier):
        for region in REGIONS:
            cloudwatch_backends[ACCOUNT][region].alarms.pop(identifier, None)


class Dashboard(Double):
    @staticmethod
    def cloudformation_type():
        return "AWS::CloudWatch::Dashboard"

    def identify(self, number):
        return self.properties["DashboardName"]

    def made(self):
        # Names are an account's. What is none, PutDashboard refuses.
        assert self.physical_resource_id not in DASHBOARDS, self.physical_resource_id
        DASHBOARDS[self.physical_resource_id] = json.loads(self.properties["DashboardBody"])

    @classmethod
    def gone(cls, identifier):
        del DASHBOARDS[identifier]


class EventInvokeConfig(Double):
    @staticmethod
    def cloudformation_type():
        return "AWS::Lambda::EventInvokeConfig"

    def identify(self, number):
        return number


class FunctionUrl(Double):
    ATTRIBUTES = {"FunctionUrl": lambda self: f"https://{self.physical_resource_id}.lambda-url.{self.region}.on.aws/"}

    @staticmethod
    def cloudformation_type():
        return "AWS::Lambda::Url"

    def identify(self, number):
        return number


def without_nothing(value, resources, inherited=parsing.clean_json):
    """Of a list, `AWS::NoValue` is no member."""
    cleaned = inherited(value, resources)
    return [one for one in cleaned if one is not None] if isinstance(cleaned, list) else cleaned


def tagged(loader, tag, node, inherited=models.yaml_tag_constructor):
    """A short form whose argument is a mapping, like `!Base64 { Ref: Settings }`."""
    if isinstance(node, yaml.MappingNode):
        return {tag.replace("!", "Fn::"): loader.construct_mapping(node, deep=True)}
    return inherited(loader, tag, node)


def event(stack, resource, kind, status, reason):
    stack._add_stack_event(status, resource_status_reason=reason)
    last = stack.events[-1]
    last.logical_resource_id, last.resource_type, last.physical_resource_id = resource, kind, resource


def fails(stack, status):
    failed = "UPDATE_FAILED" if status.startswith("UPDATE") else "CREATE_FAILED"
    event(stack, "Group", "AWS::AutoScaling::AutoScalingGroup", failed, "Received 0 SUCCESS signal(s) out of 2")
    ends(stack, status)


def ends(stack, status):
    stack._add_stack_event(status)
    stack.status = status


def takes_a_while(stack, before, meanwhile):
    """DescribeStacks is eventually consistent: at first it tells of the stack as it was before the operation."""
    stack.looks, stack.told = LOOKS, [before, meanwhile]


def is_bad(change_set):
    image, region = change_set.parameters.get("ImageId"), change_set.stack.region_name
    return image is not None and image == BAD[region]


def is_broken(change_set):
    """Tables are to be encrypted by a key that is none."""
    return change_set.parameters.get("ExistingKey", "").endswith("/broken")


def breaks(stack):
    """One table was made meanwhile, and is retained."""
    dynamodb = boto3.client("dynamodb", endpoint_url=URL, region_name=stack.region_name, **KEYS)
    table = f"gatehouse-{stack.parameters['Stage']}-certificates"
    dynamodb.create_table(
        TableName=table, DeletionProtectionEnabled=True, BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "PrimaryKey", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "PrimaryKey", "KeyType": "HASH"}],
    )
    event(stack, "CertificatesTable", "AWS::DynamoDB::Table", "CREATE_IN_PROGRESS", "Resource creation Initiated")
    stack.events[-1].physical_resource_id = table
    event(stack, "StateTable", "AWS::DynamoDB::Table", "CREATE_FAILED", "the key does not exist")
    event(stack, "CertificatesTable", "AWS::DynamoDB::Table", "CREATE_FAILED", "Resource creation cancelled")
    event(stack, "CertificatesTable", "AWS::DynamoDB::Table", "DELETE_SKIPPED", "")
    ends(stack, "ROLLBACK_COMPLETE")


def execute_change_set(backend, change_set_name, stack_name=None):
    change_set = backend.describe_change_set(change_set_name)
    stack = backend.stacks[change_set.stack_id]
    before = stack.status
    if change_set.change_set_type == "CREATE":
        is_undone = is_bad(change_set) or is_broken(change_set)
        made = Stack(
            stack.stack_id, stack.name, "{\"Resources\": {}}" if is_undone else change_set.template, change_set.parameters,
            backend.account_id, backend.region_name, tags=change_set.tags, cross_stack_resources=backend.exports,
        )
        made.events = stack.events
        backend.stacks[stack.stack_id] = made
        made._add_stack_event("CREATE_IN_PROGRESS", resource_status_reason="User Initiated")
        if is_bad(change_set):
            fails(made, "ROLLBACK_COMPLETE")
        elif is_broken(change_set):
            breaks(made)
        else:
            made.create_resources()
        stack = made
    elif is_bad(change_set):
        stack._add_stack_event("UPDATE_IN_PROGRESS", resource_status_reason="User Initiated")
        fails(stack, "UPDATE_ROLLBACK_COMPLETE")
    else:
        stack.update(change_set.template, parameters=change_set.parameters, tags=change_set.tags)
    takes_a_while(stack, before, "UPDATE_IN_PROGRESS")


def describe_stacks(backend, name, inherited=CloudFormationBackend.describe_stacks):
    going = [one for one in backend.deleted_stacks.values() if one.name == name and getattr(one, "told", [])]
    return [described(stack) for stack in going or inherited(backend, name)]


def described(stack):
    if not getattr(stack, "told", []):
        return stack
    seen = copy.copy(stack)
    seen.status = stack.told.pop(0)
    return seen


def describe_stack_events(backend, name):
    stack = backend.get_stack(name)
    if getattr(stack, "looks", 0) > 0:
        stack.looks -= 1
        return stack.events[:-1]
    stack.told = []
    return stack.events


def with_token(operation):
    """The events that an operation makes bear its token."""

    def called(response):
        backend, answer = response.cloudformation_backend, operation(response)
        name, token = response._get_param("StackName"), response._get_param("ClientRequestToken") or "none"
        for stack in [*backend.stacks.values(), *backend.deleted_stacks.values()]:
            for one in stack.events if name in (stack.name, stack.stack_id) else []:
                one.client_request_token = one.client_request_token or token
        return answer

    return called


def parameter_list(stack):
    defaults = {name: str(one.get("Default", "")) for name, one in stack.template_dict.get("Parameters", {}).items()}
    given = {name: ",".join(value) if isinstance(value, list) else str(value) for name, value in stack.parameters.items()}
    return [{"ParameterKey": key, "ParameterValue": value} for key, value in (defaults | given).items()]


def update_termination_protection(response):
    stack = response.cloudformation_backend.get_stack(response._get_param("StackName"))
    stack.enable_termination_protection = str(response._get_param("EnableTerminationProtection")).lower() == "true"
    return ActionResult({"StackId": stack.stack_id})


def delete_stack(backend, name, inherited=CloudFormationBackend.delete_stack):
    try:
        stack = backend.get_stack(name)
    except ValidationError:
        return
    if stack.enable_termination_protection:
        raise ValidationError(message=f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled")
    for bucket in stack.resource_map._parsed_resources.values():
        if isinstance(bucket, FakeBucket) and len(list(bucket.keys.values())):
            event(stack, "Bucket", "AWS::S3::Bucket", "DELETE_FAILED", "The bucket you tried to delete is not empty")
            ends(stack, "DELETE_FAILED")
            return
    before = stack.status
    inherited(backend, stack.stack_id)
    takes_a_while(stack, before, "DELETE_IN_PROGRESS")


def accelerators(operation, parameters):
    if operation == "ListAccelerators":
        return {"Accelerators": [{"AcceleratorArn": arn, "Name": name} for arn, name in ACCELERATORS.items()]}
    assert operation == "DescribeEndpointGroup", operation
    arn = parameters["EndpointGroupArn"]
    groups = autoscaling_backends[ACCOUNT][GROUPS[arn]].autoscaling_groups.values()
    ids = [one.instance.id for group in groups for one in group.instance_states if one.lifecycle_state == "InService"]
    endpoints = [{"EndpointId": one, "Weight": 128, "HealthState": "HEALTHY"} for one in ids]
    return {"EndpointGroup": {"EndpointGroupArn": arn, "EndpointDescriptions": endpoints}}


def keys():
    return {key.arn: key for region in REGIONS for key in kms_backends[ACCOUNT][region].keys.values()}


def tagged_keys(operation, parameters):
    assert (operation, parameters["ResourceTypeFilters"]) == ("GetResources", ["kms:key"]), parameters
    # Those of the stacks, whose tags moto does not hand on. What is about to be deleted is told, too.
    return {"ResourceTagMappingList": [{"ResourceARN": arn} for arn in keys()]}


def describe_key(operation, parameters):
    """moto's own fails for a key of a stack."""
    return {"KeyMetadata": {"KeyState": keys()[parameters["KeyId"]].key_state}}


def quotas(operation, parameters):
    if operation == "GetServiceQuota":
        assert parameters == {"ServiceCode": "ec2", "QuotaCode": "L-1216C47A"}, parameters
        return {"Quota": {"Value": QUOTAS["vcpus"]}}
    assert operation == "ListServiceQuotas", operation
    return {"Quotas": [{"QuotaName": "Standard accelerators per AWS account", "Value": QUOTAS["accelerators"]}]}


def call(environ, body):
    """Who is called, where, with what."""
    scope = re.search(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
    region, service = scope.groups() if scope else ("", "")
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        action, parameters = target.rpartition(".")[2], json.loads(body)
    elif body and environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        parameters = dict(parse_qsl(body.decode(), keep_blank_values=True))
        action = parameters.pop("Action", "")
    else:
        versions = "Versions" if "versions" in environ.get("QUERY_STRING", "") else ""
        action, parameters = f"{environ['REQUEST_METHOD']}{versions}", {"path": environ["PATH_INFO"]}
    parameters.pop("TemplateBody", None)
    request = {
        "method": environ["REQUEST_METHOD"],
        "target": environ["RAW_URI"],
        "authorization": environ.get("HTTP_AUTHORIZATION", ""),
        "operation": target,
        # Of S3's objects nothing is said by their content.
        "body": "" if service == "s3" else body.decode(),
    }
    return {"service": service, "region": region, "action": action, "parameters": parameters, "request": request}


def left():
    """How much there is of what costs something, by moto's own lists."""
    lists = {
        "stacks": lambda region: cloudformation_backends[ACCOUNT][region].stacks,
        "tables": lambda region: dynamodb_backends[ACCOUNT][region].tables,
        "groups": lambda region: autoscaling_backends[ACCOUNT][region].autoscaling_groups,
        "functions": lambda region: lambda_backends[ACCOUNT][region]._lambdas._functions,
        "launch templates": lambda region: ec2_backends[ACCOUNT][region].launch_templates,
        "logs": lambda region: logs_backends[ACCOUNT][region].groups,
        "alarms": lambda region: cloudwatch_backends[ACCOUNT][region].alarms,
    }
    counts = {name: sum(len(of(region)) for region in REGIONS) for name, of in lists.items()}
    counts["dashboards"] = len(DASHBOARDS)
    counts["buckets"] = len(s3_backends[ACCOUNT]["aws"].buckets)
    counts["accelerators"] = len(ACCELERATORS) + len(GROUPS)
    counts["keys"] = sum(key.key_state != "PendingDeletion" for key in keys().values())
    return counts


def served(application, calls):
    doubles = {"globalaccelerator": accelerators, "servicequotas": quotas, "tagging": tagged_keys, "kms:DescribeKey": describe_key}

    def answer(environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        if environ["PATH_INFO"] in ("/left", "/dashboards"):
            said = json.dumps(DASHBOARDS if environ["PATH_INFO"] == "/dashboards" else left()).encode()
            start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(said)))])
            return [said]
        if environ["PATH_INFO"] == "/zone":
            said = ZONE.encode()
            start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(said)))])
            return [said]
        if environ["PATH_INFO"].startswith("/trouble/"):
            _, _, kind, region = environ["PATH_INFO"].split("/")
            for regions in TROUBLE.values():
                regions.clear()
            TROUBLE[kind].add(region)
            start_response("204 No Content", [])
            return []
        one = call(environ, body)
        # boto3's calls are the double's own.
        own = "Boto3" in environ.get("HTTP_USER_AGENT", "")
        if not own and next(NUMBERS) % BUSY == 0:
            # S3 says SlowDown, and to HEAD by its status alone.
            code = "503 Slow Down" if one["service"] == "s3" else "400 Bad Request"
            said = b"<ErrorResponse><Error><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>"
            start_response(code, [("Content-Type", "text/xml"), ("Content-Length", str(len(said)))])
            return [said]
        if not own and one["region"] in TROUBLE["silent"]:
            threading.Event().wait(60)
        if not own and one["region"] in TROUBLE["failing"] | TROUBLE["silent"]:
            start_response("500 Internal Server Error", [("Content-Length", "0")])
            return [b""]
        if not own:
            calls.write(json.dumps(one) + "\n")
            calls.flush()
        if one["service"] == "cloudformation" and one["region"] == DENIED:
            said = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>not authorized: an explicit deny in a service control policy</Message></Error></ErrorResponse>"
            start_response("403 Forbidden", [("Content-Type", "text/xml"), ("Content-Length", str(len(said)))])
            return [said]
        if double := doubles.get(one["service"]) or doubles.get(f"{one['service']}:{one['action']}"):
            said = json.dumps(double(one["action"], one["parameters"])).encode()
            start_response("200 OK", [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(said)))])
            return [said]
        return application(environ, start_response)

    return answer


def publish():
    """The image of each region, found by its parameters and its tags; one that never becomes healthy; and some that have tags alone."""
    home, away = ((region,) for region in REGIONS)
    for name, version, architecture, regions in (
        ("good", "0.1.0", "arm64", REGIONS),
        ("newer", "0.2.0", "arm64", REGIONS),
        ("bad", "0.3.0", "arm64", REGIONS),
        ("other architecture", "0.2.0", "amd64", REGIONS),
        ("twice", "0.4.0", "arm64", REGIONS),
        ("twice again", "0.4.0", "arm64", away),
        ("half", "0.5.0", "arm64", home),
    ):
        for region in regions:
            ec2 = boto3.client("ec2", endpoint_url=URL, region_name=region, **KEYS)
            image = ec2.register_image(Name=name, RootDeviceName="/dev/xvda")["ImageId"]
            # Which the call does not take over.
            ec2_backends[ACCOUNT][region].amis[image].architecture = {"amd64": "x86_64"}.get(architecture, architecture)
            # As packer/image.pkr.hcl has them.
            tags = {"Application": "gatehouse", "Version": version, "Architecture": architecture}
            ec2.create_tags(Resources=[image], Tags=[{"Key": key, "Value": value} for key, value in tags.items()])
            if name in ("good", "newer", "bad"):
                ssm = boto3.client("ssm", endpoint_url=URL, region_name=region, **KEYS)
                ssm.put_parameter(Name=f"/gatehouse/images/{version}/arm64", Value=image, Type="String")
            if name == "bad":
                BAD[region] = image


def zone():
    """The id of a zone in which a name has a record already."""
    route53 = boto3.client("route53", endpoint_url=URL, region_name="us-east-1", **KEYS)
    made = route53.create_hosted_zone(Name="example.net", CallerReference="zone")["HostedZone"]["Id"].rpartition("/")[2]
    record = {"Name": "taken.example.net", "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "192.0.2.9"}]}
    route53.change_resource_record_sets(
        HostedZoneId=made, ChangeBatch={"Changes": [{"Action": "CREATE", "ResourceRecordSet": record}]}
    )
    return made


models.yaml_tag_constructor = tagged
parsing.clean_json = without_nothing
parsing.get_model_list = lambda: CloudFormationModel.__subclasses__() + Double.__subclasses__()
Stack.parameter_list = property(parameter_list)
CloudFormationBackend.execute_change_set = execute_change_set
CloudFormationBackend.describe_stacks = describe_stacks
CloudFormationBackend.describe_stack_events = describe_stack_events
CloudFormationBackend.delete_stack = delete_stack
for operation in ("create_change_set", "execute_change_set", "delete_stack"):
    setattr(CloudFormationResponse, operation, with_token(getattr(CloudFormationResponse, operation)))
CloudFormationResponse.update_termination_protection = update_termination_protection
KEYS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
BAD = {}

with open(sys.argv[1], "a", encoding="utf-8") as log:
    server = make_server("127.0.0.1", 0, served(DomainDispatcherApplication(create_backend_app), log), threaded=True)
    URL = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    publish()
    ZONE = zone()
    print(URL, flush=True)
    threading.Event().wait()
