"""Whether every action that templates grant exists, and fits the resources it is granted on, by AWS's own tables (policy_sentry).

Prints each fault; exit code 1 if there is one.
"""

import re
import sys
from fnmatch import fnmatchcase

from policy_sentry.querying.actions import get_action_data

from statements import listed, read, statements

# Of what a template refers to instead of writing it.
REFERRED = {
    ("Fn::GetAtt", "EndpointGroup"): "arn:x:globalaccelerator::x:accelerator/x/listener/x/endpoint-group/x",
    ("Fn::GetAtt", "ServiceRole"): "arn:x:iam::x:role/x",
    ("Ref", "AWS::StackId"): "arn:x:cloudformation:x:x:stack/x/x",
    ("Ref", "FormerKey"): "arn:x:kms:x:x:key/x",
    ("Ref", "Key"): "arn:x:kms:x:x:key/x",
    ("Ref", "KeyEncryptionKeys"): "arn:x:kms:x:x:key/x",
    ("Ref", "SettingsKey"): "arn:x:kms:x:x:key/x",
}
# Resources that a call knows and the tables do not yet. CloudFormation's schema of a dashboard has it tagged by these.
DASHBOARD = "arn:${Partition}:cloudwatch::${Account}:dashboard/${DashboardName}"
NEWER = {"cloudwatch:TagResource": {DASHBOARD}, "cloudwatch:ListTagsForResource": {DASHBOARD}}
# A log group's ARN matches the table in two forms, of which CloudWatch Logs asks IAM for one: `NAME:log-stream:`, but the bare name where tags are
# concerned ("Overview of managing access permissions to your CloudWatch Logs resources": `:*` for all other actions). The other permits nothing.
LOG_GROUP = "arn:${Partition}:logs:${Region}:${Account}:log-group:${LogGroupName}"
OF_TAGS = {"logs:TagResource", "logs:UntagResource", "logs:ListTagsForResource"}
# What the tables say that a call needs, and why ours does without.
UNNEEDED = {
    # Quotas of other services than EC2 and Global Accelerator.
    "servicequotas:GetServiceQuota": None,
    "servicequotas:ListServiceQuotas": None,
    # Where no stack is named.
    "cloudformation:DescribeStacks": {"cloudformation:ListStacks"},
    # Of keys in several regions.
    "kms:CreateKey": {"iam:CreateServiceLinkedRole"},
    # Where a template names its image by a parameter; ours names the image.
    "ec2:CreateLaunchTemplate": {"ssm:GetParameters"},
    "ec2:CreateLaunchTemplateVersion": {"ssm:GetParameters"},
    "ec2:DescribeLaunchTemplateVersions": {"ssm:GetParameters"},
    "ec2:RunInstances": {"ssm:GetParameters"},
    # Functions on instances of one's own.
    "lambda:CreateFunction": {"lambda:PassCapacityProvider"},
}


def arn(resource):
    """The resource with `x` in the place of what is known at AWS only; None if its form is unknown."""
    if isinstance(resource, str):
        return resource
    (function, value), = resource.items()
    if function == "Fn::If":
        return arn(value[1])
    if function == "Fn::Sub":
        # A parameter's name begins with a slash, as the template demands.
        return re.sub(r"\$\{[^}]*\}", "x", value.replace("${SettingsParameter}", "/x"))
    return REFERRED.get((function, value[0] if isinstance(value, list) else str(value).split(".")[0]))


def fits(written, known):
    """Whether an ARN has the form of one in the table, like `arn:${Partition}:kms:${Region}:${Account}:key/${KeyId}`."""
    if known == "*" or written == "*":
        return known == written
    form = re.split(r"\$\{[^}]*\}", known)
    return re.fullmatch("[^ ]+".join(map(re.escape, form)), written) is not None


def unasked(action, known, resources):
    """ARNs that the service asks for in the place of those of the table's form, and that nothing written here covers."""
    if LOG_GROUP not in known:
        return
    suffix = "" if action in OF_TAGS else ":log-stream:"
    for group in filter(None, (re.match("arn:[^ ]+?:log-group:[^: ]+", resource) for resource in resources)):
        asked = group[0].replace("*", "x") + suffix
        if not any(fnmatchcase(asked, resource) for resource in resources):
            yield asked


def needed(action, data):
    """Other calls' rights without which a call fails, and the table says so."""
    others = {other for entry in data for other in entry["dependent_actions"]}
    unneeded = UNNEEDED.get(action, set())
    return set() if unneeded is None else others - unneeded


def faults(statement, granted):
    """What is wrong with a statement, beside which others grant actions as well."""
    actions, resources = listed(statement["Action"]), [arn(resource) for resource in listed(statement["Resource"])]
    if None in resources:
        yield "a resource of unknown form: tell it to REFERRED in infra/check/actions.py"
        return
    fitting = set()
    for action in actions:
        service, name = action.split(":")
        data = get_action_data(service, name)
        if not data:
            yield f"{action}: there is no such action"
            continue
        known = {entry["resource_arn_format"] for entry in data[service]} | NEWER.get(action, set())
        if "*" in resources and known != {"*"}:
            yield f"{action}: knows resources, and is granted on all"
        matching = {resource for resource in resources if any(fits(resource, form) for form in known)}
        fitting |= matching
        if not matching:
            yield f"{action}: none of {resources} is of its form, {sorted(known)}"
        yield from (f"{action}: is asked of {asked}, and granted on {resources} alone" for asked in unasked(action, known, resources))
        yield from (f"{action}: needs {other}, too" for other in sorted(needed(action, data[service]) - granted))
    yield from (f"{resource}: no action of the statement fits it" for resource in resources if resource not in fitting)


def holder(template, name):
    """A role, with what is attached to it, or a managed policy that is attached to none: each has to suffice by itself."""
    for role, resource in template["Resources"].items():
        if {"Ref": name} in resource.get("Properties", {}).get("ManagedPolicyArns", []):
            return role
    return name


def main():
    found = False
    for path in sys.argv[1:]:
        template = read(path)
        granted = {}
        for role, statement in statements(template):
            granted.setdefault(holder(template, role), set()).update(listed(statement["Action"]))
        for role, statement in statements(template):
            sid = statement.get("Sid", "?")
            for fault in faults(statement, granted[holder(template, role)]):
                found = True
                print(f"{path}: {role}, {sid}: {fault}")
    sys.exit(found)


main()
