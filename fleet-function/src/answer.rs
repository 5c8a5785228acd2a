//! What the APIs answer: JSON of Global Accelerator, XML of Auto Scaling and CloudFormation. Pure.

use std::collections::BTreeMap;

use aws_call::{ServiceFault, complete_xml, shortened};
use aws_smithy_xml::decode::{Document, ScopedDecoder, XmlDecodeError, try_data};
use serde::Deserialize;

use crate::reconcile::{Group, Health, Lifecycle};

/// Why a service did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The next look may succeed: somebody else's change is under way, or the service is busy.
    #[error("{0}")]
    Again(String),
    /// With its code, as the API reference names it.
    #[error("{code}: {said}")]
    Refused {
        /// Like `AccessDeniedException`.
        code: String,
        /// Its message.
        said: String,
    },
}

/// `DescribeEndpointGroup`: endpoints and what is found of each.
pub(crate) fn endpoints(body: &[u8]) -> Result<BTreeMap<String, Health>, Fault> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        endpoint_group: EndpointGroup,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct EndpointGroup {
        #[serde(default)]
        endpoint_descriptions: Vec<Endpoint>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Endpoint {
        endpoint_id: String,
        health_state: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    let endpoints = answer.endpoint_group.endpoint_descriptions.into_iter();
    Ok(endpoints.map(|one| (one.endpoint_id, Health::of(one.health_state.as_deref()))).collect())
}

/// `DescribeAutoScalingGroups` of one group. Half an answer is none: the endpoints of instances that it lacks would be removed.
pub(crate) fn group(body: &[u8]) -> Result<Option<Group>, Fault> {
    complete_xml(body).and_then(read_group).map_err(|error| unreadable(&error))
}

fn read_group(text: &str) -> Result<Option<Group>, XmlDecodeError> {
    let mut document = Document::new(text);
    let mut root = document.root_element()?;
    let mut group = None;
    while let Some(mut result) = root.next_tag() {
        if !result.start_el().matches("DescribeAutoScalingGroupsResult") {
            continue;
        }
        while let Some(mut groups) = result.next_tag() {
            if !groups.start_el().matches("AutoScalingGroups") {
                continue;
            }
            while let Some(mut member) = groups.next_tag() {
                group = Some(read_member(&mut member)?);
            }
        }
    }
    Ok(group)
}

fn read_member(member: &mut ScopedDecoder<'_, '_>) -> Result<Group, XmlDecodeError> {
    let mut group = Group::default();
    while let Some(mut field) = member.next_tag() {
        if field.start_el().matches("DesiredCapacity") {
            let text = try_data(&mut field)?;
            group.desired =
                text.trim().parse().map_err(|_| XmlDecodeError::custom("DesiredCapacity is no number"))?;
        } else if field.start_el().matches("Instances") {
            while let Some(mut instance) = field.next_tag() {
                let (id, state) = read_instance(&mut instance)?;
                group.instances.insert(id, Lifecycle::of(&state));
            }
        }
    }
    Ok(group)
}

fn read_instance(instance: &mut ScopedDecoder<'_, '_>) -> Result<(String, String), XmlDecodeError> {
    let (mut id, mut state) = (None, None);
    while let Some(mut field) = instance.next_tag() {
        if field.start_el().matches("InstanceId") {
            id = Some(try_data(&mut field)?.into_owned());
        } else if field.start_el().matches("LifecycleState") {
            state = Some(try_data(&mut field)?.into_owned());
        }
    }
    id.zip(state).ok_or_else(|| XmlDecodeError::custom("an instance lacks InstanceId or LifecycleState"))
}

/// Of status and body of an answer that is none.
pub(crate) fn fault(status: u16, body: &[u8]) -> Fault {
    let fault = ServiceFault::read(body).map(|ServiceFault { code, message }| (code, message));
    let (code, said) = fault.unwrap_or_default();
    let said = shortened(&said);
    let passes = [
        "TransactionInProgressException",
        // Of Global Accelerator's, with the status 400 (its API reference, of each operation).
        "InternalServiceErrorException",
        "Throttling",
        "ThrottlingException",
        "ScalingActivityInProgress",
        "ResourceContention",
    ];
    if status >= 500 || passes.contains(&code.as_str()) {
        return Fault::Again(format!("status {status} {code}"));
    }
    Fault::Refused { code: if code.is_empty() { format!("status {status}") } else { code }, said }
}

fn unreadable(error: &dyn std::error::Error) -> Fault {
    Fault::Refused { code: "an answer of another form".to_owned(), said: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_with_their_health() {
        let body = br#"{"EndpointGroup": {"EndpointGroupArn": "arn:a", "EndpointDescriptions": [
            {"EndpointId": "i-a", "Weight": 128, "HealthState": "HEALTHY"},
            {"EndpointId": "i-b", "HealthState": "INITIAL", "HealthReason": "pending"}, {"EndpointId": "i-c"}]}}"#;
        let wanted = [("i-a", Health::Healthy), ("i-b", Health::Initial), ("i-c", Health::Initial)];
        assert_eq!(
            endpoints(body),
            Ok(wanted.into_iter().map(|(id, health)| (id.to_owned(), health)).collect())
        );
        // The API leaves an empty list out.
        assert_eq!(endpoints(br#"{"EndpointGroup": {}}"#), Ok(BTreeMap::new()));
        assert!(endpoints(b"{}").is_err());
    }

    #[test]
    fn a_group_is_read_with_its_instances() {
        let read = group(GROUP.as_bytes()).unwrap().unwrap();
        assert_eq!(read.desired, 2);
        let wanted = [("i-a", Lifecycle::Serving), ("i-b", Lifecycle::Joining)];
        assert_eq!(read.instances, wanted.into_iter().map(|(id, state)| (id.to_owned(), state)).collect());
    }

    #[test]
    fn no_group_is_none_and_half_an_answer_is_a_fault() {
        let none = "<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult><AutoScalingGroups/></DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>";
        assert_eq!(group(none.as_bytes()), Ok(None));
        for cut in 0..GROUP.len() {
            let read = group(&GROUP.as_bytes()[..cut]);
            assert!(read.is_err(), "{cut}: {read:?}");
        }
        let nameless = GROUP.replace("<InstanceId>i-a</InstanceId>", "");
        assert!(group(nameless.as_bytes()).is_err());
    }

    #[test]
    fn faults_are_told_apart() {
        let refused =
            |code: &str, said: &str| Fault::Refused { code: code.to_owned(), said: said.to_owned() };
        for (status, body, wanted) in [
            (
                400,
                r#"{"__type":"com.amazonaws.globalaccelerator#EndpointGroupNotFoundException","Message":"gone"}"#,
                refused("EndpointGroupNotFoundException", "gone"),
            ),
            (
                400,
                r#"{"__type":"TransactionInProgressException","message":"wait"}"#,
                Fault::Again("status 400 TransactionInProgressException".to_owned()),
            ),
            (
                400,
                "<ErrorResponse><Error><Type>Sender</Type><Code>ValidationError</Code><Message>No active Lifecycle Action found\n</Message></Error></ErrorResponse>",
                refused("ValidationError", "No active Lifecycle Action found"),
            ),
            (
                400,
                r#"{"__type":"InternalServiceErrorException","Message":"internal"}"#,
                Fault::Again("status 400 InternalServiceErrorException".to_owned()),
            ),
            (503, "busy", Fault::Again("status 503 ".to_owned())),
            (403, "<html>", refused("status 403", "")),
            (400, "", refused("status 400", "")),
        ] {
            assert_eq!(fault(status, body.as_bytes()), wanted, "{body}");
        }
    }

    // As moto answers, without what is not read.
    const GROUP: &str = r#"<DescribeAutoScalingGroupsResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/">
<DescribeAutoScalingGroupsResult><AutoScalingGroups><member>
<AutoScalingGroupName>gatehouse-tst-fleet</AutoScalingGroupName><Tags><member><Key>a</Key></member></Tags>
<DesiredCapacity>2</DesiredCapacity>
<Instances><member><HealthStatus>Healthy</HealthStatus><InstanceId>i-a</InstanceId><LifecycleState>InService</LifecycleState></member>
<member><InstanceId>i-b</InstanceId><LifecycleState>Pending:Wait</LifecycleState></member></Instances>
</member></AutoScalingGroups></DescribeAutoScalingGroupsResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata>
</DescribeAutoScalingGroupsResponse>"#;
}
