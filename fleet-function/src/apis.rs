//! The calls: three of Global Accelerator's, three of Auto Scaling's, one of CloudFormation's.
//! Not here: what an answer means (`answer`).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use aws_call::{Call, CallLimits, endpoint_of};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::{
    answer::{self, Fault},
    reconcile::{Group, Health},
    settings::Settings,
};

/// AWS, as the function sees it.
pub(crate) struct Apis<'a> {
    settings: &'a Settings,
    accelerator: String,
    scaling: String,
    stacks: String,
}

impl<'a> Apis<'a> {
    pub(crate) fn new(settings: &'a Settings) -> Self {
        let (set, region) = (settings.endpoint_url.as_deref(), settings.region.as_str());
        Self {
            settings,
            accelerator: endpoint_of("globalaccelerator", set, ACCELERATORS_REGION),
            scaling: endpoint_of("autoscaling", set, region),
            stacks: endpoint_of("cloudformation", set, region),
        }
    }

    /// The endpoints, and what is found of each.
    pub(crate) async fn endpoints(&self) -> Result<BTreeMap<String, Health>, Fault> {
        answer::endpoints(&self.accelerator("DescribeEndpointGroup", &[]).await?)
    }

    /// The Auto Scaling group.
    pub(crate) async fn group(&self) -> Result<Option<Group>, Fault> {
        let fields = [("AutoScalingGroupNames.member.1", self.settings.group.as_str())];
        answer::group(&self.scaling("DescribeAutoScalingGroups", &fields).await?)
    }

    /// Adds endpoints that keep clients' addresses.
    pub(crate) async fn add(&self, ids: &BTreeSet<String>) -> Result<(), Fault> {
        let of =
            |id: &String| json!({"EndpointId": id, "Weight": WEIGHT, "ClientIPPreservationEnabled": true});
        let endpoints: Value = ids.iter().map(of).collect();
        self.accelerator("AddEndpoints", &[("EndpointConfigurations", endpoints)]).await.map(drop)
    }

    /// Puts endpoints out; their connections go on.
    pub(crate) async fn remove(&self, ids: &BTreeSet<String>) -> Result<(), Fault> {
        let endpoints: Value = ids.iter().map(|id| json!({"EndpointId": id})).collect();
        self.accelerator("RemoveEndpoints", &[("EndpointIdentifiers", endpoints)]).await.map(drop)
    }

    /// Begins the time of an instance's leave hook anew.
    pub(crate) async fn prolong_leave(&self, id: &str) -> Result<(), Fault> {
        let hook = self.settings.leave_hook.as_str();
        self.hook("RecordLifecycleActionHeartbeat", hook, id, &[]).await
    }

    /// Lets an instance be in service.
    pub(crate) async fn complete_join(&self, id: &str) -> Result<(), Fault> {
        let result = [("LifecycleActionResult", "CONTINUE")];
        self.hook("CompleteLifecycleAction", &self.settings.join_hook, id, &result).await
    }

    /// Tells the stack's update that an instance is well.
    pub(crate) async fn signal(&self, id: &str) -> Result<(), Fault> {
        let Settings { stack, resource, .. } = self.settings;
        let fields = [
            ("StackName", stack.as_str()),
            ("LogicalResourceId", resource),
            ("UniqueId", id),
            ("Status", "SUCCESS"),
        ];
        let body = form("SignalResource", "2010-05-15", &fields);
        self.call("cloudformation", &self.stacks, FORM, body).await.map(drop)
    }

    async fn hook(&self, action: &str, hook: &str, id: &str, more: &[(&str, &str)]) -> Result<(), Fault> {
        let group = self.settings.group.as_str();
        let mut fields =
            vec![("AutoScalingGroupName", group), ("LifecycleHookName", hook), ("InstanceId", id)];
        fields.extend(more);
        self.scaling(action, &fields).await.map(drop)
    }

    async fn scaling(&self, action: &str, fields: &[(&str, &str)]) -> Result<Vec<u8>, Fault> {
        self.call("autoscaling", &self.scaling, FORM, form(action, "2011-01-01", fields)).await
    }

    async fn accelerator(&self, operation: &str, more: &[(&str, Value)]) -> Result<Vec<u8>, Fault> {
        let mut body = json!({"EndpointGroupArn": self.settings.endpoint_group});
        if let Value::Object(fields) = &mut body {
            fields.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        }
        let target = format!("GlobalAccelerator_V20180706.{operation}");
        let fields = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
        self.call("globalaccelerator", &self.accelerator, &fields, body.to_string()).await
    }

    async fn call(
        &self,
        service: &str,
        endpoint: &str,
        fields: &[(&'static str, &str)],
        body: String,
    ) -> Result<Vec<u8>, Fault> {
        let region = if service == "globalaccelerator" { ACCELERATORS_REGION } else { &self.settings.region };
        let call = Call { service, region, endpoint, fields };
        let sent = call.send(body, &self.settings.credentials, SystemTime::now(), LIMITS).await;
        let answer = sent.map_err(|error| Fault::Again(format!("{endpoint}: {error}")))?;
        let (status, body) = (answer.status(), answer.body().bytes().unwrap_or_default());
        if status.is_success() { Ok(body.to_vec()) } else { Err(answer::fault(status.as_u16(), body)) }
    }
}

/// AWS's Query protocol.
fn form(action: &str, version: &str, fields: &[(&str, &str)]) -> String {
    let all = [("Action", action), ("Version", version)].into_iter().chain(fields.iter().copied());
    let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    all.map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect::<Vec<_>>().join("&")
}

const FORM: &[(&str, &str)] = &[("content-type", "application/x-www-form-urlencoded")];
/// "Global Accelerator API: you must specify the US West (Oregon) Region".
const ACCELERATORS_REGION: &str = "us-west-2";
/// The API's own default, written out: equal shares.
const WEIGHT: u8 = 128;
const LIMITS: CallLimits = CallLimits {
    connect: Duration::from_secs(3),
    answer: Duration::from_secs(10),
    // A group of ten instances is some 20 KiB.
    most_bytes: 1 << 20,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_letter_is_encoded() {
        let fields = [("StackName", "arn:aws:a/b c"), ("A.member.1", "é&=")];
        let wanted = "Action=Signal&Version=2010%2D05%2D15&StackName=arn%3Aaws%3Aa%2Fb%20c&A%2Emember%2E1=%C3%A9%26%3D";
        assert_eq!(form("Signal", "2010-05-15", &fields), wanted);
    }
}
