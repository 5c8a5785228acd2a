//! Doubles of Global Accelerator, Auto Scaling and CloudFormation, as far as the function calls them. Parameters, answers and errors are
//! those of the services' API models (botocore 1.44: globalaccelerator 2018-08-08, autoscaling 2011-01-01, cloudformation 2010-05-15).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use aws_policy::{
    Call, Request, Role, Signed,
    role::{ENDPOINT_GROUP, FLEET_STACK},
};
use http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

/// One region, and its endpoint group.
#[derive(Debug, Default)]
pub(crate) struct Region {
    /// None where there is no group.
    instances: Option<BTreeMap<String, String>>,
    /// How often each was described since it was added.
    endpoints: BTreeMap<String, u32>,
    /// Whose health checks fail.
    pub(crate) sick: BTreeSet<String>,
    pub(crate) busy: Busy,
    /// Codes of faults that the next descriptions of the endpoint group are answered with; none for an answer.
    pub(crate) faults_of_looks: VecDeque<Option<&'static str>>,
    /// Somebody else adds it before the next change.
    pub(crate) add_before_change: Option<String>,
    /// The stack is updated, or made.
    pub(crate) stack_waits: bool,
    calls: Vec<String>,
    judged: BTreeSet<Call>,
}

/// Why the accelerator refuses changes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Busy {
    /// `TransactionInProgressException`, so often.
    For(u32),
    /// `AccessDeniedException`, always.
    Denied,
}

impl Default for Busy {
    fn default() -> Self {
        Self::For(0)
    }
}

/// Status and body.
pub(crate) type Answer = (StatusCode, String);

impl Region {
    /// With a group of these instances and their states.
    pub(crate) fn with(instances: &[(&str, &str)]) -> Self {
        let instances = instances.iter().map(|(id, state)| ((*id).to_owned(), (*state).to_owned()));
        Self { instances: Some(instances.collect()), stack_waits: true, ..Self::default() }
    }

    /// `id` has a healthy endpoint.
    pub(crate) fn serve(&mut self, id: &str) {
        self.endpoints.insert(id.to_owned(), HEALTHY_AFTER);
    }

    pub(crate) fn endpoints(&self) -> Vec<&str> {
        self.endpoints.keys().map(String::as_str).collect()
    }

    pub(crate) fn states(&self) -> Vec<String> {
        self.instances.iter().flatten().map(|(id, state)| format!("{id} {state}")).collect()
    }

    /// `service:Action` of each call.
    pub(crate) fn calls(&self) -> &[String] {
        &self.calls
    }

    /// The same as IAM is asked.
    pub(crate) fn judged(&self) -> &BTreeSet<Call> {
        &self.judged
    }

    /// What IAM says to a call that the function's policy does not grant.
    fn denial(&mut self, fields: &HeaderMap, body: &str) -> Option<Answer> {
        let field = |name| fields.get(name).and_then(|value| value.to_str().ok());
        let authorization = field("authorization").unwrap_or_default();
        let signed = Signed::of(authorization).unwrap();
        assert_eq!(Role::of(signed.access_key), Some(Role::FleetFunction));
        let (operation, body) = (field("x-amz-target"), body.as_bytes());
        let request = Request { method: "POST", target: "/", authorization, operation, body };
        let (calls, policy) = (request.calls(&signed).unwrap(), Role::FleetFunction.policy().unwrap());
        let denied = calls.iter().find(|call| policy.judge(call).unwrap().is_empty()).cloned();
        self.judged.extend(calls);
        denied.map(|call| match operation {
            Some(_) => json_fault(StatusCode::BAD_REQUEST, "AccessDeniedException", &call.to_string()),
            None => xml_fault(StatusCode::FORBIDDEN, "AccessDenied", &call.to_string()),
        })
    }

    /// The answer to a call, whose signature names service and region.
    pub(crate) fn answer(&mut self, fields: &HeaderMap, body: &str) -> Answer {
        if let Some(denial) = self.denial(fields, body) {
            return denial;
        }
        let field = |name| fields.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let scope = field("authorization").split(['/', ',']).skip(2).take(2).collect::<Vec<_>>().join("/");
        if let Some(operation) = field("x-amz-target").strip_prefix("GlobalAccelerator_V20180706.") {
            self.calls.push(format!("globalaccelerator:{operation}"));
            // "Global Accelerator API Reference": Region us-west-2, wherever the endpoints are.
            if scope != "us-west-2/globalaccelerator" {
                return json_fault(StatusCode::FORBIDDEN, "InvalidSignatureException", &scope);
            }
            return self.accelerator(operation, body);
        }
        let form: HashMap<_, _> = body.split('&').filter_map(pair).collect();
        let of = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let service = if of("Version") == "2010-05-15" { "cloudformation" } else { "autoscaling" };
        self.calls.push(format!("{service}:{}", of("Action")));
        if scope != format!("{REGION}/{service}") {
            return xml_fault(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", &scope);
        }
        match of("Action") {
            "DescribeAutoScalingGroups" if of("AutoScalingGroupNames.member.1") == GROUP => self.describe(),
            "CompleteLifecycleAction" if of("LifecycleActionResult") == "CONTINUE" => {
                self.hook(&of, "join", "Pending:Wait", "InService")
            }
            "RecordLifecycleActionHeartbeat" => {
                self.hook(&of, "leave", "Terminating:Wait", "Terminating:Wait")
            }
            "SignalResource" => self.signal(&of),
            other => xml_fault(StatusCode::BAD_REQUEST, "InvalidAction", other),
        }
    }

    fn accelerator(&mut self, operation: &str, body: &str) -> Answer {
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let bad = |code, said: &str| json_fault(StatusCode::BAD_REQUEST, code, said);
        if body["EndpointGroupArn"] != ENDPOINT_GROUP {
            return bad("EndpointGroupNotFoundException", "");
        }
        if operation == "DescribeEndpointGroup" {
            let code = self.faults_of_looks.pop_front().flatten();
            return code.map_or_else(|| self.describe_endpoints(), |code| bad(code, "come again"));
        }
        match &mut self.busy {
            Busy::Denied => return bad("AccessDeniedException", "no identity-based policy allows it"),
            Busy::For(0) => {}
            Busy::For(times) => {
                *times -= 1;
                return bad("TransactionInProgressException", "a transaction is in progress");
            }
        }
        if let Some(id) = self.add_before_change.take() {
            self.endpoints.insert(id, 0);
        }
        let list = if operation == "AddEndpoints" { "EndpointConfigurations" } else { "EndpointIdentifiers" };
        let list = body[list].as_array().cloned().unwrap_or_default();
        let ids: Vec<_> =
            list.iter().filter_map(|one| one["EndpointId"].as_str()).map(str::to_owned).collect();
        if ids.is_empty() || ids.len() > MOST_ENDPOINTS {
            return bad("InvalidArgumentException", "one to ten endpoints");
        }
        match operation {
            "AddEndpoints" => self.add(&list, ids),
            "RemoveEndpoints" if ids.iter().all(|id| self.endpoints.contains_key(id)) => {
                self.endpoints.retain(|id, _| !ids.contains(id));
                (StatusCode::OK, "{}".to_owned())
            }
            _ => bad("InvalidArgumentException", "no such endpoint"),
        }
    }

    /// All or none.
    fn add(&mut self, list: &[Value], ids: Vec<String>) -> Answer {
        let bad = |code, said: &str| json_fault(StatusCode::BAD_REQUEST, code, said);
        let is_sound = |one: &Value| one["ClientIPPreservationEnabled"] == true && one["Weight"] == 128;
        let has_instance = |id| self.instances.as_ref().is_some_and(|all| all.contains_key(id));
        if !list.iter().all(is_sound) || !ids.iter().all(has_instance) {
            return bad("InvalidArgumentException", "no such instance, or clients' addresses are lost");
        }
        if ids.iter().any(|id| self.endpoints.contains_key(id)) {
            return bad("InvalidArgumentException", "the endpoint is there already");
        }
        if self.endpoints.len() + ids.len() > MOST_ENDPOINTS {
            return bad("LimitExceededException", "ten endpoints");
        }
        self.endpoints.extend(ids.into_iter().map(|id| (id, 0)));
        (StatusCode::OK, "{}".to_owned())
    }

    /// An endpoint is healthy from its third description on.
    fn describe_endpoints(&mut self) -> Answer {
        let mut descriptions = Vec::new();
        for (id, described) in &mut self.endpoints {
            *described += 1;
            let checked = if *described > HEALTHY_AFTER { "HEALTHY" } else { "INITIAL" };
            let health = if self.sick.contains(id) { "UNHEALTHY" } else { checked };
            descriptions.push(json!({"EndpointId": id, "Weight": 128, "HealthState": health}));
        }
        let group = json!({"EndpointGroupArn": ENDPOINT_GROUP, "EndpointDescriptions": descriptions});
        (StatusCode::OK, json!({"EndpointGroup": group}).to_string())
    }

    fn describe(&self) -> Answer {
        let member = |(id, state): (&String, &String)| {
            format!(
                "<member><InstanceId>{id}</InstanceId><AvailabilityZone>a</AvailabilityZone><LifecycleState>{state}</LifecycleState></member>"
            )
        };
        let group = self.instances.as_ref().map(|instances| {
            let (desired, members) = (instances.len(), instances.iter().map(member).collect::<String>());
            format!("<member><AutoScalingGroupName>{GROUP}</AutoScalingGroupName><DesiredCapacity>{desired}</DesiredCapacity><Instances>{members}</Instances></member>")
        });
        let groups = group.unwrap_or_default();
        let result = format!(
            "<DescribeAutoScalingGroupsResult><AutoScalingGroups>{groups}</AutoScalingGroups></DescribeAutoScalingGroupsResult>"
        );
        let of = "DescribeAutoScalingGroupsResponse";
        (
            StatusCode::OK,
            format!("<{of} xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\">{result}</{of}>"),
        )
    }

    fn hook<'a>(&mut self, of: &dyn Fn(&str) -> &'a str, hook: &str, state: &str, then: &str) -> Answer {
        let id = of("InstanceId");
        let instance = self.instances.as_mut().and_then(|instances| instances.get_mut(id));
        match instance.filter(|is| *is == state) {
            Some(is) if of("AutoScalingGroupName") == GROUP && of("LifecycleHookName") == hook => {
                then.clone_into(is);
                (StatusCode::OK, "<Response/>".to_owned())
            }
            _ => {
                let said = format!("No active Lifecycle Action found with instance ID {id}");
                xml_fault(StatusCode::BAD_REQUEST, "ValidationError", &said)
            }
        }
    }

    fn signal<'a>(&mut self, of: &dyn Fn(&str) -> &'a str) -> Answer {
        let is_ours = of("StackName") == FLEET_STACK && of("LogicalResourceId") == "Group";
        if is_ours && self.stack_waits && of("Status") == "SUCCESS" && of("UniqueId").starts_with("i-") {
            return (StatusCode::OK, "<SignalResourceResponse/>".to_owned());
        }
        let said = "Stack is in UPDATE_COMPLETE state and can not be signaled";
        xml_fault(StatusCode::BAD_REQUEST, "ValidationError", said)
    }
}

fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let plain = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
    Some((plain(name), plain(value)))
}

fn json_fault(status: StatusCode, code: &str, said: &str) -> Answer {
    (status, json!({"__type": code, "Message": said}).to_string())
}

fn xml_fault(status: StatusCode, code: &str, said: &str) -> Answer {
    let error = format!("<Type>Sender</Type><Code>{code}</Code><Message>{said}</Message>");
    (status, format!("<ErrorResponse><Error>{error}</Error><RequestId>r</RequestId></ErrorResponse>"))
}

pub(crate) const REGION: &str = "eu-south-2";
pub(crate) const GROUP: &str = "gatehouse-tst-fleet";
const MOST_ENDPOINTS: usize = 10;
const HEALTHY_AFTER: u32 = 2;
