"""Whether the fleet's instances may do with their tables what docs/security.md says, which `gatehouse doctor` tries, and no more; and whether
what bounds a right is what the page says bounds it.

Prints each difference; exit code 1 if there is one.
"""

import json
import re
import sys

from statements import listed, read, statements

# How a table is called in the page, and in the template.
TABLES = {
    "gatehouse-certificates": "${CertificatesTable}",
    "gatehouse-state": "${StateTable}",
    "gatehouse-domains": "${DomainsTable}",
}


def granted(policy):
    """Pairs of action and table or index."""
    return {(action, table) for action, table, _ in rights(policy)}


def rights(policy):
    """Action, table or index, and condition."""
    for statement in policy:
        assert statement["Effect"] == "Allow", statement
        for resource in listed(statement["Resource"]):
            resource = resource.get("Fn::Sub", "") if isinstance(resource, dict) else resource
            _, is_table, table = resource.partition(":table/")
            if is_table:
                yield from ((action, table, statement.get("Condition")) for action in listed(statement["Action"]))


def documented(page):
    """The page's policy, with the template's names."""
    block = re.search(r"```json\n(\{\s*\"Version\".*?)```", page, re.DOTALL).group(1)
    for name, reference in TABLES.items():
        block = re.sub(rf"table/{name}(?=[\"/])", lambda _, to=reference: f"table/{to}", block)
    return granted(json.loads(block)["Statement"])


def bound(page):
    """The condition on deletions, by the keys that the page names."""
    line = re.search(r"^DeleteItem may be bound to its keys by the condition `dynamodb:LeadingKeys`(.*)$", page, re.MULTILINE)
    keys = re.findall(r"`([^`]+)`", line.group(1))
    return {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": keys}, "Null": {"dynamodb:LeadingKeys": "false"}}


def main():
    template, page = sys.argv[1:]
    of_instances = [statement for role, statement in statements(read(template)) if role == "InstanceRole"]
    with open(page, encoding="utf-8") as file:
        text = file.read()
    wanted, found = documented(text), granted(of_instances)
    for action, table in sorted(wanted - found):
        print(f"{template}: InstanceRole lacks {action} on {table}, which {page} grants")
    for action, table in sorted(found - wanted):
        print(f"{template}: InstanceRole has {action} on {table}, which {page} does not grant")
    bounds = {"dynamodb:DeleteItem": bound(text)}
    otherwise = [right for right in rights(of_instances) if right[2] != bounds.get(right[0])]
    for action, table, condition in otherwise:
        print(f"{template}: InstanceRole has {action} on {table} under the condition {condition}, of which {page} says {bounds.get(action)}")
    sys.exit(wanted != found or bool(otherwise))


main()
