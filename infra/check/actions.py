"""Whether every action that templates grant exists, and fits the resources it is granted on, by AWS's own tables (policy_sentry).

Prints each fault; exit code 1 if there is one.
"""

import re
import sys

from policy_sentry.querying.actions import get_action_data

from statements import listed, read, statements

# Of what a template refers to instead of writing it.
REFERRED = {
    ("Fn::GetAtt", "EndpointGroup"): "arn:x:globalaccelerator::x:accelerator/x/listener/x/endpoint-group/x",
    ("Ref", "AWS::StackId"): "arn:x:cloudformation:x:x:stack/x/x",
    ("Ref", "Key"): "arn:x:kms:x:x:key/x",
}


def arn(resource):
    """The resource with `x` in the place of what is known at AWS only; None if its form is unknown."""
    if isinstance(resource, str):
        return resource
    (function, value), = resource.items()
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


def faults(statement):
    """What is wrong with a statement."""
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
        known = {entry["resource_arn_format"] for entry in data[service]}
        if "*" in resources and known != {"*"}:
            yield f"{action}: knows resources, and is granted on all"
        matching = {resource for resource in resources if any(fits(resource, form) for form in known)}
        fitting |= matching
        if not matching:
            yield f"{action}: none of {resources} is of its form, {sorted(known)}"
        # A call that needs another's right fails without it, and the table says so.
        needed = {other for entry in data[service] for other in entry["dependent_actions"]}
        yield from (f"{action}: needs {other}, too" for other in sorted(needed - set(actions)))
    yield from (f"{resource}: no action of the statement fits it" for resource in resources if resource not in fitting)


def main():
    found = False
    for path in sys.argv[1:]:
        for role, statement in statements(read(path)):
            sid = statement.get("Sid", "?")
            for fault in faults(statement):
                found = True
                print(f"{path}: {role}, {sid}: {fault}")
    sys.exit(found)


main()
