"""Whether the role that CloudFormation takes is granted what its handlers read of the resources in the templates, by AWS's resource schemas,
which cfn-lint carries: the role by itself, since nobody else's rights count with it. Who deploys without it has the same policies and one
more. What handlers write goes by properties, of which a template has a few: that is left to eyes.

Called as `handlers.py DEPLOYER TEMPLATE...`; prints each fault; exit code 1 if there is one.
"""

import pathlib
import re
import sys

from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER
from policy_sentry.querying.actions import get_actions_for_service

from statements import listed, read, statements

REGION = "us-east-1"
ROLE = "ServiceRole"
# Policies that are for one template alone, since who has no such stack need not have them.
OF_ONE_TEMPLATE = {"Functions": "functions"}

# What a schema's wildcard stands for, where it is not all that there is. All of EC2's would let user data of any instance be read.
NARROWED = {
    "ec2:Describe*": {
        "ec2:DescribeImages",
        "ec2:DescribeInstances",
        "ec2:DescribeLaunchTemplateVersions",
        "ec2:DescribeLaunchTemplates",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets",
        "ec2:DescribeVpcs",
    },
}
# What schemas list for properties that no template has.
UNUSED = {
    # Groups: load balancers, Lattice, fleets that AWS manages, images named by a parameter, what EC2 gives beside descriptions.
    "ec2:Get*",
    "elasticloadbalancing:Describe*",
    "managed-fleets:Get*",
    "ssm:Get*",
    "vpc-lattice:GetTargetGroup",
    "vpc-lattice:ListTargets",
    # Tables: imports, their source and their log, replicas' items, streams.
    "dynamodb:DescribeImport",
    "dynamodb:GetItem",
    "kinesis:DescribeStream",
    "logs:DescribeLogStreams",
    "s3:GetObjectMetadata",
    # Functions: file systems, layers, signed code, a version of the code's object, networks of one's own.
    "ec2:DescribeNetworkInterfaces",
    "elasticfilesystem:DescribeMountTargets",
    "lambda:GetCodeSigningConfig",
    "lambda:GetLayerVersion",
    "s3:GetObjectVersion",
    "s3files:ListMountTargets",
    # Buckets: access lists, tables of metadata.
    "s3:GetBucketAcl",
    "s3tables:GetTable",
    "s3tables:GetTableMetadataLocation",
}


def meant(action):
    """The actions that one of a schema's stands for."""
    if action in NARROWED:
        return NARROWED[action]
    service, name = action.split(":")
    if "*" not in name:
        return {action}
    return {known for known in get_actions_for_service(service) if re.fullmatch(name.replace("*", ".*"), known.split(":")[1])}


def read_by(kind):
    """What handlers read of a resource of this kind, whether they make, change or delete it."""
    handlers = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema.get("handlers", {})
    listed_by_schema = {
        action
        for name, handler in handlers.items()
        # Of all resources of an account, by whom they are taken over into a stack.
        if name != "list"
        for action in handler.get("permissions", [])
        if re.match(r"[a-z0-9-]+:(Describe|Get|List)", action)
    }
    return {action for permission in listed_by_schema - UNUSED for action in meant(permission)}


def main():
    deployer, *templates = sys.argv[1:]
    template = read(deployer)
    attached = [policy["Ref"] for policy in template["Resources"][ROLE]["Properties"]["ManagedPolicyArns"]]
    found = False
    for path in templates:
        stack = pathlib.Path(path).stem
        policies = {policy for policy in attached if OF_ONE_TEMPLATE.get(policy, stack) == stack}
        granted = {action for name, statement in statements(template) if name in policies for action in listed(statement["Action"])}
        for kind in sorted({resource["Type"] for resource in read(path)["Resources"].values()}):
            for action in sorted(read_by(kind) - granted):
                found = True
                print(f"{deployer}: {ROLE} lacks {action}, which handlers of {kind} call for {stack}")
    sys.exit(found)


main()
