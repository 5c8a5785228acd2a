//! AWS's Query protocol: Auto Scaling, CloudFormation, `CloudWatch`, EC2, STS.

use std::collections::BTreeMap;

use super::Signed;
use crate::{ACCOUNT, Call};

pub(super) fn calls(form: &BTreeMap<String, String>, signed: &Signed<'_>) -> Option<Vec<Call>> {
    let field = |name: &str| form.get(name).map(String::as_str);
    let (region, action) = (signed.region, field("Action")?);
    let call = match (signed.service, action) {
        ("autoscaling", "CompleteLifecycleAction" | "RecordLifecycleActionHeartbeat") => {
            let group = field("AutoScalingGroupName")?;
            let group = format!(
                "arn:aws:autoscaling:{region}:{ACCOUNT}:autoScalingGroup:an-id:autoScalingGroupName/{group}"
            );
            Call::new(format!("autoscaling:{action}"), group)
        }
        ("autoscaling", "DescribeAutoScalingGroups") => {
            Call::new("autoscaling:DescribeAutoScalingGroups", "*")
        }
        (
            "ec2",
            "DescribeImages"
            | "DescribeInstanceTypeOfferings"
            | "DescribeInstanceTypes"
            | "DescribeRegions"
            | "DescribeSubnets"
            | "DescribeVpcs",
        ) => Call::new(format!("ec2:{action}"), "*"),
        // The service's name in signatures is that of its first API.
        ("monitoring", "DescribeAlarms") => {
            Call::new("cloudwatch:DescribeAlarms", format!("arn:aws:cloudwatch:{region}:{ACCOUNT}:alarm:*"))
        }
        // "GetCallerIdentity": no permissions are required.
        ("sts", "GetCallerIdentity") => return Some(Vec::new()),
        ("cloudformation", _) => return cloudformation(form, action, region),
        _ => return None,
    };
    Some(vec![call])
}

fn cloudformation(form: &BTreeMap<String, String>, action: &str, region: &str) -> Option<Vec<Call>> {
    const KNOWN: [&str; 10] = [
        "CreateChangeSet",
        "DeleteChangeSet",
        "DeleteStack",
        "DescribeChangeSet",
        "DescribeStackEvents",
        "DescribeStacks",
        "ExecuteChangeSet",
        "GetTemplate",
        "SignalResource",
        "UpdateTerminationProtection",
    ];
    if !KNOWN.contains(&action) {
        return None;
    }
    let stack = form.get("StackName")?;
    let stack = if stack.starts_with("arn:") {
        stack.clone()
    } else {
        format!("arn:aws:cloudformation:{region}:{ACCOUNT}:stack/{stack}/an-id")
    };
    let mut calls = vec![Call::new(format!("cloudformation:{action}"), stack.as_str())];
    // "Actions defined by AWS CloudFormation": who gives tags is asked for that by the operation (`cloudformation:CreateAction`).
    if form.contains_key("Tags.member.1.Key") {
        calls.push(
            Call::new("cloudformation:TagResource", stack).with("cloudformation:CreateAction", [action]),
        );
    }
    // "Granting a user permissions to pass a role to an AWS service": who names a role has to be permitted to.
    calls.extend(form.get("RoleARN").map(|role| {
        Call::new("iam:PassRole", role.as_str()).with("iam:PassedToService", ["cloudformation.amazonaws.com"])
    }));
    Some(calls)
}
