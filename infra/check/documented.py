"""Whether the fleet's instances may do with their tables what docs/security.md says, which `gatehouse doctor` tries, and no more.

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
    for statement in policy:
        for resource in listed(statement["Resource"]):
            resource = resource.get("Fn::Sub", "") if isinstance(resource, dict) else resource
            _, is_table, table = resource.partition(":table/")
            if is_table:
                yield from ((action, table) for action in listed(statement["Action"]))


def documented(page):
    """The page's policy, with the template's names."""
    block = re.search(r"```json\n(\{\s*\"Version\".*?)```", page, re.DOTALL).group(1)
    for name, reference in TABLES.items():
        block = re.sub(rf"table/{name}(?=[\"/])", lambda _, to=reference: f"table/{to}", block)
    return set(granted(json.loads(block)["Statement"]))


def main():
    template, page = sys.argv[1:]
    of_instances = [statement for role, statement in statements(read(template)) if role == "InstanceRole"]
    with open(page, encoding="utf-8") as file:
        wanted, found = documented(file.read()), set(granted(of_instances))
    for action, table in sorted(wanted - found):
        print(f"{template}: InstanceRole lacks {action} on {table}, which {page} grants")
    for action, table in sorted(found - wanted):
        print(f"{template}: InstanceRole has {action} on {table}, which {page} does not grant")
    sys.exit(wanted != found)


main()
