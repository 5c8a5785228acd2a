//! AWS's JSON protocols: Global Accelerator, KMS, quotas, Systems Manager, tags.

use serde_json::Value;

use super::Signed;
use crate::{ACCOUNT, Call};

pub(super) fn calls(operation: &str, body: &Value, signed: &Signed<'_>) -> Option<Vec<Call>> {
    let text = |name: &str| body.get(name)?.as_str();
    let region = signed.region;
    let call = match (signed.service, operation) {
        // "API operations defined by AWS Global Accelerator": both ask for the right to update the group as well.
        ("globalaccelerator", "AddEndpoints" | "RemoveEndpoints") => {
            let group = text("EndpointGroupArn")?;
            return Some(vec![
                Call::new(format!("globalaccelerator:{operation}"), group),
                Call::new("globalaccelerator:UpdateEndpointGroup", group),
            ]);
        }
        ("globalaccelerator", "DescribeEndpointGroup") => {
            Call::new("globalaccelerator:DescribeEndpointGroup", text("EndpointGroupArn")?)
        }
        ("globalaccelerator", "ListAccelerators") => Call::new("globalaccelerator:ListAccelerators", "*"),
        ("kms", "Decrypt" | "DescribeKey" | "GenerateDataKey" | "ScheduleKeyDeletion") => {
            let call = Call::new(format!("kms:{operation}"), key(text("KeyId"), region));
            let context = body.get("EncryptionContext").and_then(Value::as_object).into_iter().flatten();
            context.fold(call, |call, (name, value)| {
                call.with(&format!("kms:EncryptionContext:{name}"), value.as_str())
            })
        }
        ("servicequotas", "GetServiceQuota") => {
            let (service, quota) = (text("ServiceCode")?, text("QuotaCode")?);
            let quota = format!("arn:aws:servicequotas:{region}:{ACCOUNT}:{service}/{quota}");
            Call::new("servicequotas:GetServiceQuota", quota)
        }
        ("servicequotas", "ListServiceQuotas") => Call::new("servicequotas:ListServiceQuotas", "*"),
        ("ssm", "GetParameter") => {
            let name = text("Name")?.trim_start_matches('/');
            Call::new("ssm:GetParameter", format!("arn:aws:ssm:{region}:{ACCOUNT}:parameter/{name}"))
        }
        ("tagging", "GetResources") => Call::new("tag:GetResources", "*"),
        _ => return None,
    };
    Some(vec![call])
}

/// KMS judges by the key that an alias leads to ("Using IAM policies with AWS KMS"); which that is, only it knows. Decrypt may be sent without.
fn key(id: Option<&str>, region: &str) -> String {
    match id {
        Some(arn) if arn.starts_with("arn:") => arn.to_owned(),
        Some(id) => format!("arn:aws:kms:{region}:{ACCOUNT}:key/{}", id.replace("alias/", "of-alias-")),
        None => format!("arn:aws:kms:{region}:{ACCOUNT}:key/of-the-ciphertext"),
    }
}
