//! The three services as the fleet's function calls them: parameters, answers and errors of the services' API models (botocore 1.44:
//! globalaccelerator 2018-08-08, autoscaling 2011-01-01, cloudformation 2010-05-15).
//! Not here: whether a call is permitted and signed well (`fleet-function`'s own tests).

use std::{collections::HashMap, fmt::Write as _, net::Ipv4Addr, time::Instant};

use hyper::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{
    accelerator::{Health, Refusal},
    cloud::{Cloud, Region},
};

/// Status and body.
pub(super) type Answer = (StatusCode, String);

/// The answer to a call.
pub(super) fn answer(cloud: &mut Cloud, fields: &HeaderMap, body: &str, now: Instant) -> Answer {
    let target = fields.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if let Some(operation) = target.strip_prefix("GlobalAccelerator_V20180706.") {
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let takes = cloud.times.accelerator_change;
        let arn = body.get("EndpointGroupArn").and_then(Value::as_str).unwrap_or_default();
        return match cloud.regions.iter_mut().find(|region| region.endpoint_group_arn() == arn) {
            None => json_fault("EndpointGroupNotFoundException"),
            Some(region) => accelerator(region, operation, &body, (now, takes)),
        };
    }
    let form: HashMap<_, _> = body.split('&').filter_map(pair).collect();
    let of = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let group = if of("Action") == "DescribeAutoScalingGroups" {
        of("AutoScalingGroupNames.member.1")
    } else {
        of("AutoScalingGroupName")
    };
    let is_meant = |region: &&mut Region| region.group_name() == group || region.stack() == of("StackName");
    let Some(region) = cloud.regions.iter_mut().find(is_meant) else {
        return xml_fault("no such group or stack");
    };
    let is_done = match (of("Action"), of("LifecycleHookName")) {
        ("DescribeAutoScalingGroups", _) => return describe(region),
        ("CompleteLifecycleAction", "join") if of("LifecycleActionResult") == "CONTINUE" => {
            region.group.complete_join(of("InstanceId"))
        }
        ("RecordLifecycleActionHeartbeat", "leave") => region.group.prolong_leave(of("InstanceId"), now),
        ("SignalResource", _) if of("Status") == "SUCCESS" && of("LogicalResourceId") == "Group" => {
            region.signal(of("UniqueId"))
        }
        _ => false,
    };
    if is_done { (StatusCode::OK, "<Response/>".to_owned()) } else { xml_fault("nothing waits for it") }
}

fn accelerator(
    region: &mut Region,
    operation: &str,
    body: &Value,
    (now, takes): (Instant, std::time::Duration),
) -> Answer {
    let ids = |list: &str| {
        let list = body.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
        list.into_iter().filter_map(|one| Some((one.get("EndpointId")?.as_str()?.to_owned(), one)))
    };
    let outcome = match operation {
        "DescribeEndpointGroup" => return describe_endpoints(region),
        "AddEndpoints" => {
            let added: Option<Vec<(String, Ipv4Addr, u32)>> = ids("EndpointConfigurations")
                .map(|(id, one)| {
                    let keeps_addresses = one.get("ClientIPPreservationEnabled")?.as_bool()?;
                    let weight = u32::try_from(one.get("Weight")?.as_u64()?).ok()?;
                    let address = region.group.instances.get(&id)?.address;
                    keeps_addresses.then_some((id, address, weight))
                })
                .collect();
            let added = added.filter(|added| !added.is_empty()).ok_or(Refusal::InvalidArgument);
            added.and_then(|added| region.endpoint_group.add(&added, now, takes))
        }
        "RemoveEndpoints" => {
            let removed: Vec<_> = ids("EndpointIdentifiers").map(|(id, _)| id).collect();
            region.endpoint_group.remove(&removed, now, takes)
        }
        _ => Err(Refusal::InvalidArgument),
    };
    match outcome {
        Ok(()) => (StatusCode::OK, "{}".to_owned()),
        Err(Refusal::TransactionInProgress) => json_fault("TransactionInProgressException"),
        Err(Refusal::InvalidArgument) => json_fault("InvalidArgumentException"),
        Err(Refusal::LimitExceeded) => json_fault("LimitExceededException"),
    }
}

fn describe_endpoints(region: &Region) -> Answer {
    let endpoints = region.endpoint_group.endpoints().iter().map(|(id, endpoint)| {
        let health = match endpoint.health {
            Health::Initial => "INITIAL",
            Health::Healthy => "HEALTHY",
            Health::Unhealthy => "UNHEALTHY",
        };
        json!({"EndpointId": id, "Weight": endpoint.weight, "HealthState": health})
    });
    let endpoints: Vec<_> = endpoints.collect();
    let group = json!({"EndpointGroupArn": region.endpoint_group_arn(), "EndpointDescriptions": endpoints});
    (StatusCode::OK, json!({"EndpointGroup": group}).to_string())
}

fn describe(region: &Region) -> Answer {
    let mut members = String::new();
    for (id, instance) in &region.group.instances {
        let state = instance.state.name();
        let _ = write!(
            members,
            "<member><InstanceId>{id}</InstanceId><LifecycleState>{state}</LifecycleState></member>"
        );
    }
    let (name, desired) = (region.group_name(), region.group.desired);
    let body = format!(
        "<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult><AutoScalingGroups><member>\
         <AutoScalingGroupName>{name}</AutoScalingGroupName><DesiredCapacity>{desired}</DesiredCapacity><Instances>{members}</Instances>\
         </member></AutoScalingGroups></DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>"
    );
    (StatusCode::OK, body)
}

fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let plain = |text| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    Some((plain(name), plain(value)))
}

fn json_fault(code: &str) -> Answer {
    (StatusCode::BAD_REQUEST, json!({"__type": code, "Message": ""}).to_string())
}

fn xml_fault(said: &str) -> Answer {
    let error = format!("<Code>ValidationError</Code><Message>{said}</Message>");
    (StatusCode::BAD_REQUEST, format!("<ErrorResponse><Error>{error}</Error></ErrorResponse>"))
}
