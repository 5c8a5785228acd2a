"""Whether who deploys is granted what CloudFormation reads of the resources in the templates, by AWS's resource schemas, which cfn-lint
carries. What its handlers write goes by properties, of which a template has a few: that is left to eyes.

Called as `handlers.py DEPLOYER TEMPLATE...`; prints each fault; exit code 1 if there is one.
"""

import sys

from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from statements import listed, read, statements

REGION = "us-east-1"


def read_by(kind):
    """What reads a resource of this kind; by name, as wildcards say nothing of what is called."""
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema
    permissions = schema.get("handlers", {}).get("read", {}).get("permissions", [])
    return {action for action in permissions if "*" not in action}


def main():
    deployer, *templates = sys.argv[1:]
    granted = {action for _, statement in statements(read(deployer)) for action in listed(statement["Action"])}
    kinds = {resource["Type"] for template in templates for resource in read(template)["Resources"].values()}
    found = False
    for kind in sorted(kinds):
        for action in sorted(read_by(kind) - granted):
            found = True
            print(f"{deployer}: {action} is not granted, which reads {kind}")
    sys.exit(found)


main()
