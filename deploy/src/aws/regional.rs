//! A region's instances, endpoints, alarms; tables and key of the home region.

use serde_json::{Value, json};

use super::{Aws, Fault};
use crate::wanted::{Region, Stage};

/// The Auto Scaling group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Group {
    pub(crate) wanted: u32,
    pub(crate) in_service: u32,
}

/// An endpoint of the accelerator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) id: String,
    pub(crate) is_healthy: bool,
}

/// An alarm, and its state in the service's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alarm {
    pub(crate) name: String,
    pub(crate) state: String,
}

impl Aws {
    pub(crate) async fn group(&self, region: &Region, name: &str) -> Result<Option<Group>, Fault> {
        let fields = [("AutoScalingGroupNames.member.1", name)];
        let action = ("DescribeAutoScalingGroups", "2011-01-01");
        let answer = self.query("autoscaling", region, action, &fields).await?;
        let groups = answer.child("DescribeAutoScalingGroupsResult");
        Ok(groups.and_then(|groups| groups.list("AutoScalingGroups").first()).map(|group| {
            let instances = group.list("Instances").iter();
            let serving = instances.filter(|one| one.text("LifecycleState") == "InService").count();
            Group {
                wanted: group.number("DesiredCapacity").unwrap_or_default(),
                in_service: u32::try_from(serving).unwrap_or(u32::MAX),
            }
        }))
    }

    pub(crate) async fn endpoints(&self, group: &str) -> Result<Vec<Endpoint>, Fault> {
        let target = ("GlobalAccelerator_V20180706.DescribeEndpointGroup", "1.1");
        let body = json!({ "EndpointGroupArn": group });
        let answer = self.json("globalaccelerator", "us-west-2", target, body).await?;
        let list = answer.pointer("/EndpointGroup/EndpointDescriptions").and_then(Value::as_array);
        let text = |one: &Value, field: &str| one.get(field).and_then(Value::as_str).map(str::to_owned);
        let read = |one: &Value| {
            let is_healthy = text(one, "HealthState").is_some_and(|state| state == "HEALTHY");
            Some(Endpoint { id: text(one, "EndpointId")?, is_healthy })
        };
        Ok(list.into_iter().flatten().filter_map(read).collect())
    }

    /// Those of a stack, which CloudFormation names after it.
    pub(crate) async fn alarms(&self, region: &Region, stack: &str) -> Result<Vec<Alarm>, Fault> {
        let prefix = format!("{stack}-");
        let fields = [("AlarmNamePrefix", prefix.as_str())];
        let answer = self.query("monitoring", region, ("DescribeAlarms", "2010-08-01"), &fields).await?;
        let alarms = answer.child("DescribeAlarmsResult");
        let alarms = alarms.map(|alarms| alarms.list("MetricAlarms")).unwrap_or_default();
        let read = |one: &super::xml::Tree| Alarm {
            name: one.text("AlarmName").to_owned(),
            state: one.text("StateValue").to_owned(),
        };
        Ok(alarms.iter().map(read).collect())
    }

    /// Whether there is a table of that name.
    pub(crate) async fn has_table(&self, region: &Region, name: &str) -> Result<bool, Fault> {
        match self.table(region, "DynamoDB_20120810.DescribeTable", json!({ "TableName": name })).await {
            Ok(_) => Ok(true),
            Err(fault) if fault.is_absence() => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    pub(crate) async fn unprotect_table(&self, region: &Region, name: &str) -> Result<(), Fault> {
        let body = json!({ "TableName": name, "DeletionProtectionEnabled": false });
        self.table(region, "DynamoDB_20120810.UpdateTable", body).await.map(drop)
    }

    pub(crate) async fn delete_table(&self, region: &Region, name: &str) -> Result<(), Fault> {
        self.table(region, "DynamoDB_20120810.DeleteTable", json!({ "TableName": name })).await.map(drop)
    }

    /// Of the key with this ARN, in 30 days, until which it may be cancelled.
    pub(crate) async fn schedule_key_deletion(&self, region: &Region, key: &str) -> Result<(), Fault> {
        let id = key.rsplit('/').next().unwrap_or(key);
        let body = json!({ "KeyId": id, "PendingWindowInDays": 30 });
        let target = ("TrentService.ScheduleKeyDeletion", "1.1");
        match self.json("kms", region.as_str(), target, body).await {
            // It is scheduled already.
            Err(fault) if fault.code.contains("KMSInvalidState") => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// ARNs of the stage's keys, which cost something until their deletion is scheduled. They have no names, and an alias goes with its stack: by
    /// the tag, of which the first page is read.
    pub(crate) async fn keys(&self, region: &Region, stage: &Stage) -> Result<Vec<String>, Fault> {
        let target = ("ResourceGroupsTaggingAPI_20170126.GetResources", "1.1");
        let filter = json!({ "Key": "gatehouse-stage", "Values": [stage.to_string()] });
        let body = json!({ "ResourceTypeFilters": ["kms:key"], "TagFilters": [filter] });
        let answer = self.json("tagging", region.as_str(), target, body).await?;
        let list = answer.get("ResourceTagMappingList").and_then(Value::as_array).into_iter().flatten();
        let mut keys = Vec::new();
        for arn in list.filter_map(|one| one.get("ResourceARN")?.as_str()) {
            let described = self
                .json("kms", region.as_str(), ("TrentService.DescribeKey", "1.1"), json!({ "KeyId": arn }))
                .await?;
            let found = described.pointer("/KeyMetadata/KeyState").and_then(Value::as_str);
            if found != Some("PendingDeletion") {
                keys.push(arn.to_owned());
            }
        }
        Ok(keys)
    }

    async fn table(&self, region: &Region, target: &'static str, body: Value) -> Result<Value, Fault> {
        self.json("dynamodb", region.as_str(), (target, "1.0"), body).await
    }
}
