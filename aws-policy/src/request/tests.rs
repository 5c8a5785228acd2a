use serde_json::json;

use super::*;

fn authorization(region: &str, service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=AKID/20261130/{region}/{service}/aws4_request, SignedHeaders=host, Signature=00"
    )
}

fn calls(service: &str, method: &str, target: &str, operation: Option<&str>, body: &str) -> Vec<String> {
    let authorization = authorization("eu-central-1", service);
    let signed = Signed::of(&authorization).unwrap();
    let request = Request { method, target, authorization: &authorization, operation, body: body.as_bytes() };
    match request.calls(&signed) {
        Ok(calls) => calls.iter().map(ToString::to_string).collect(),
        Err(unknown) => vec![unknown.to_string()],
    }
}

#[test]
fn who_calls_is_read_from_the_signature() {
    let authorization = authorization("eu-south-2", "ssm");
    let wanted = Signed { access_key: "AKID", region: "eu-south-2", service: "ssm" };
    assert_eq!(Signed::of(&authorization), Some(wanted));
    for other in
        ["", "Basic YTpi", "AWS4-HMAC-SHA256 SignedHeaders=host", "AWS4-HMAC-SHA256 Credential=AKID/1"]
    {
        assert_eq!(Signed::of(other), None, "{other}");
    }
}

#[test]
fn calls_of_tables_are_those_of_their_parts() {
    const T: &str = "arn:aws:dynamodb:eu-central-1:123456789012:table/t";
    for (operation, body, wanted) in [
        ("GetItem", json!({ "TableName": "t", "Key": {} }), vec![format!("dynamodb:GetItem on {T}")]),
        (
            "BatchGetItem",
            json!({ "RequestItems": { "t": {}, "u": {} } }),
            vec![
                format!("dynamodb:BatchGetItem on {T}"),
                format!("dynamodb:BatchGetItem on {}u", &T[..T.len() - 1]),
            ],
        ),
        (
            "Query",
            json!({ "TableName": "t", "IndexName": "due" }),
            vec![format!("dynamodb:Query on {T}/index/due")],
        ),
        (
            "DeleteItem",
            json!({ "TableName": "t", "Key": { "PrimaryKey": { "S": "LOCK-a" } } }),
            vec![format!("dynamodb:DeleteItem on {T}, dynamodb:leadingkeys=LOCK-a")],
        ),
        (
            "TransactWriteItems",
            json!({ "TransactItems": [
                { "Put": { "TableName": "t", "Item": { "pk": { "S": "a" }, "domain": { "S": "b" } } } },
                { "Delete": { "TableName": "t", "Key": { "domain": { "S": "b" } } } },
                { "Update": { "TableName": "t", "Key": { "pk": { "S": "c" } } } },
                { "ConditionCheck": { "TableName": "t", "Key": { "pk": { "S": "d" } } } },
            ] }),
            [("PutItem", "a"), ("DeleteItem", "b"), ("UpdateItem", "c"), ("ConditionCheckItem", "d")]
                .map(|(action, key)| format!("dynamodb:{action} on {T}, dynamodb:leadingkeys={key}"))
                .to_vec(),
        ),
    ] {
        let target = format!("DynamoDB_20120810.{operation}");
        assert_eq!(calls("dynamodb", "POST", "/", Some(&target), &body.to_string()), wanted, "{operation}");
    }
}

#[test]
fn calls_of_other_services_are_what_iam_calls_them() {
    let stack = "arn:aws:cloudformation:eu-central-1:123456789012:stack/gatehouse-tst-edge/an-id";
    let record = "<Change><Action>DELETE</Action><ResourceRecordSet><Name>_Acme-challenge.a.test.</Name><Type>TXT</Type></ResourceRecordSet></Change>";
    let changes = format!("{record}{}", record.replace("DELETE", "CREATE"));
    for (service, method, target, operation, body, wanted) in [
        (
            "kms",
            "POST",
            "/",
            Some("TrentService.GenerateDataKey"),
            r#"{"KeyId":"alias/gatehouse","EncryptionContext":{"application":"gatehouse"}}"#,
            &[
                "kms:GenerateDataKey on arn:aws:kms:eu-central-1:123456789012:key/of-alias-gatehouse, kms:encryptioncontext:application=gatehouse",
            ][..],
        ),
        (
            "ssm",
            "POST",
            "/",
            Some("AmazonSSM.GetParameter"),
            r#"{"Name":"/gatehouse/fleet"}"#,
            &["ssm:GetParameter on arn:aws:ssm:eu-central-1:123456789012:parameter/gatehouse/fleet"],
        ),
        (
            "route53",
            "POST",
            "/2013-04-01/hostedzone/Z1/rrset/",
            None,
            changes.as_str(),
            &["route53:ChangeResourceRecordSets on arn:aws:route53:::hostedzone/Z1, \
               route53:changeresourcerecordsetsactions=DELETE|CREATE, \
               route53:changeresourcerecordsetsnormalizedrecordnames=_acme-challenge.a.test|_acme-challenge.a.test, \
               route53:changeresourcerecordsetsrecordtypes=TXT|TXT"],
        ),
        (
            "route53",
            "GET",
            "/2013-04-01/hostedzone/Z1/rrset?maxitems=2",
            None,
            "",
            &["route53:ListResourceRecordSets on arn:aws:route53:::hostedzone/Z1"],
        ),
        (
            "route53",
            "GET",
            "/2013-04-01/change/C1",
            None,
            "",
            &["route53:GetChange on arn:aws:route53:::change/C1"],
        ),
        (
            "globalaccelerator",
            "POST",
            "/",
            Some("GlobalAccelerator_V20180706.AddEndpoints"),
            r#"{"EndpointGroupArn":"arn:a"}"#,
            &["globalaccelerator:AddEndpoints on arn:a", "globalaccelerator:UpdateEndpointGroup on arn:a"],
        ),
        (
            "cloudformation",
            "POST",
            "/",
            None,
            "Action=CreateChangeSet&StackName=gatehouse-tst-edge&Tags.member.1.Key=gatehouse-stage",
            &[
                &format!("cloudformation:CreateChangeSet on {stack}"),
                &format!(
                    "cloudformation:TagResource on {stack}, cloudformation:createaction=CreateChangeSet"
                ),
            ],
        ),
        ("s3", "HEAD", "/b/c%2Fd.zip", None, "", &["s3:GetObject on arn:aws:s3:::b/c/d.zip"]),
        ("s3", "DELETE", "/b/k?versionId=1", None, "", &["s3:DeleteObjectVersion on arn:aws:s3:::b/k"]),
        ("s3", "GET", "/b?versions=", None, "", &["s3:ListBucketVersions on arn:aws:s3:::b"]),
        (
            "cloudformation",
            "POST",
            "/",
            None,
            "Action=DeleteStack&Version=2010-05-15&StackName=gatehouse%2Dtst%2Dedge&RoleARN=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr",
            &[
                &format!("cloudformation:DeleteStack on {stack}"),
                "iam:PassRole on arn:aws:iam::1:role/r, iam:passedtoservice=cloudformation.amazonaws.com",
            ],
        ),
        (
            "monitoring",
            "POST",
            "/",
            None,
            "Action=DescribeAlarms",
            &["cloudwatch:DescribeAlarms on arn:aws:cloudwatch:eu-central-1:123456789012:alarm:*"],
        ),
        ("sts", "POST", "/", None, "Action=GetCallerIdentity", &[]),
    ] {
        assert_eq!(
            calls(service, method, target, operation, body),
            wanted,
            "{service} {method} {target} {body}"
        );
    }
}

#[test]
fn a_call_of_unknown_form_is_told() {
    for (service, target, operation, body, said) in [
        ("dynamodb", "/", Some("DynamoDB_20120810.ExecuteStatement"), "{}", "dynamodb: `ExecuteStatement`"),
        ("dynamodb", "/", Some("DynamoDB_20120810.GetItem"), "{}", "dynamodb: `GetItem`"),
        ("kms", "/", Some("TrentService.Encrypt"), "{}", "kms: `Encrypt`"),
        ("ec2", "/", None, "Action=RunInstances", "ec2: `RunInstances`"),
        ("cloudformation", "/", None, "Action=CreateStack&StackName=a", "cloudformation: `CreateStack`"),
        ("s3", "/b", None, "", "s3: `POST /b`"),
    ] {
        let told = calls(service, "POST", target, operation, body);
        assert!(told.len() == 1 && told[0].starts_with(&format!("{said} is not known")), "{said}: {told:?}");
    }
}
