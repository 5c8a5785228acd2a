"""Templates as data, and the policy statements of their roles."""

import sys

from cfnlint.decode import decode


def read(path):
    """The template, with intrinsic functions in their long form."""
    template, errors = decode(path)
    if template is None:
        sys.exit(f"{path}: {errors}")
    return template


def statements(template):
    """Name of the role or policy and statement, of every one, those behind a condition among them."""
    for name, resource in template.get("Resources", {}).items():
        if resource["Type"] == "AWS::IAM::ManagedPolicy":
            for statement in resource["Properties"]["PolicyDocument"]["Statement"]:
                yield name, statement
        if resource["Type"] != "AWS::IAM::Role":
            continue
        for policy in resource["Properties"].get("Policies", []):
            for document in policy["Fn::If"][1:] if "Fn::If" in policy else [policy]:
                for statement in document.get("PolicyDocument", {}).get("Statement", []):
                    yield name, statement


def listed(value):
    """A list, where one value may stand for a list of one."""
    return value if isinstance(value, list) else [value]
