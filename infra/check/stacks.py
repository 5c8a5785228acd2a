"""Makes the stacks that moto can make, at the URL given, and sees that each of their resources is there: moto leaves out in silence
what it does not know.

The stack's tables are what an instance is then started on (`proxy/tests/it/stacks.rs`).
"""

import pathlib
import sys

import boto3

STAGE = "tst"
FOLDER = pathlib.Path(__file__).parent.parent


def client(service):
    return boto3.client(
        service,
        endpoint_url=sys.argv[1],
        region_name="eu-central-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )


def make(name):
    """The stack's outputs."""
    stacks, stack = client("cloudformation"), f"gatehouse-{STAGE}-{name}"
    stacks.create_stack(
        StackName=stack,
        TemplateBody=(FOLDER / f"{name}.yaml").read_text(encoding="utf-8"),
        Parameters=[{"ParameterKey": "Stage", "ParameterValue": STAGE}],
        Tags=[{"Key": "gatehouse-stage", "Value": STAGE}],
    )
    described = stacks.describe_stacks(StackName=stack)["Stacks"][0]
    assert described["StackStatus"] == "CREATE_COMPLETE", described
    return {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}


def main():
    # moto takes no versioning from the template: cfn-guard looks at that.
    client("s3").head_bucket(Bucket=make("artifacts")["Bucket"])

    outputs = make("domains")
    tables = client("dynamodb")
    for kind in ("certificates", "domains", "state"):
        name = outputs[f"{kind.capitalize()}Table"]
        table = tables.describe_table(TableName=name)["Table"]
        assert name == f"gatehouse-{STAGE}-{kind}" and table["TableStatus"] == "ACTIVE", table
    # moto's DescribeKey fails for a key of a stack.
    keys = client("kms")
    assert outputs["Key"] in [key["KeyArn"] for key in keys.list_keys()["Keys"]], outputs
    aliases = {alias["AliasName"]: alias.get("TargetKeyId") for alias in keys.list_aliases()["Aliases"]}
    assert outputs["Key"].endswith(aliases[f"alias/gatehouse-{STAGE}"]), aliases

    # As `remove` would: tables and key outlive their stack.
    client("cloudformation").delete_stack(StackName=f"gatehouse-{STAGE}-domains")
    assert len(tables.list_tables()["TableNames"]) == 3
    assert outputs["Key"] in [key["KeyArn"] for key in keys.list_keys()["Keys"]]


main()
