//! How a fleet is, region by region: a table for people, JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{
    aws::{Alarm, Aws, Endpoint, Fault, Group},
    found::{Found, FoundStack},
    stack::{Condition, Kind, StackKey},
    wanted::{Region, Stage, Wanted},
};

/// All of a stage.
#[derive(Debug, Default)]
pub(crate) struct Status {
    /// The stacks that are not fleets, with CloudFormation's words; none where one is missing.
    base: Vec<(StackKey, Option<String>)>,
    fleets: Vec<FleetStatus>,
    /// Regions into which the caller may not look.
    denied: Vec<Region>,
}

/// One region's instances.
#[derive(Debug)]
pub(crate) struct FleetStatus {
    region: Region,
    /// None where the stack is missing.
    stack: Option<String>,
    image_id: String,
    image_version: String,
    group: Group,
    endpoints: Vec<Endpoint>,
    alarms: Vec<Alarm>,
}

impl Status {
    /// Asks for what the stacks that were found consist of.
    pub(crate) async fn look(aws: &Aws, wanted: &Wanted, found: &Found) -> Result<Self, Fault> {
        let mut status = Self { denied: found.denied.iter().cloned().collect(), ..Self::default() };
        for kind in [Kind::Domains, Kind::Edge] {
            status.base.push(of_stack(found, StackKey::new(kind, &wanted.home)));
        }
        if wanted.domain_functions.is_some() {
            status.base.push(of_stack(found, StackKey::new(Kind::Functions, &wanted.home)));
        }
        for key in fleets(wanted, found) {
            status.base.push(of_stack(found, StackKey::new(Kind::Artifacts, &key.region)));
            status.fleets.push(FleetStatus::look(aws, &wanted.stage, &key, found.stack(&key)).await?);
        }
        Ok(status)
    }

    /// Whether everything is as it should be.
    pub(crate) fn is_healthy(&self) -> bool {
        self.faults().is_empty()
    }

    /// What is not as it should be.
    fn faults(&self) -> Vec<String> {
        let base = self.base.iter().filter(|(_, status)| !is_ready(status.as_deref()));
        let base = base.map(|(key, status)| format!("{key} is {}", status.as_deref().unwrap_or("missing")));
        base.chain(self.fleets.iter().flat_map(FleetStatus::faults)).collect()
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut table = format!(
            "{:16} {:24} {:>9} {:>9} {:10} {:22} {}\n",
            "REGION", "STACK", "INSTANCES", "ENDPOINTS", "VERSION", "IMAGE", "ALARMS"
        );
        for fleet in &self.fleets {
            let _ = writeln!(table, "{}", fleet.line());
        }
        for fault in self.faults() {
            let _ = writeln!(table, "fault: {fault}");
        }
        table
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let base = self.base.iter().map(|(key, status)| {
            json!({ "stack": key.kind.name(), "region": key.region.as_str(), "status": status })
        });
        json!({
            "healthy": self.is_healthy(),
            "faults": self.faults(),
            "stacks": base.collect::<Vec<_>>(),
            "fleets": self.fleets.iter().map(FleetStatus::json).collect::<Vec<_>>(),
            "denied_regions": self.denied.iter().map(Region::as_str).collect::<Vec<_>>(),
        })
    }
}

/// Those that are wanted, and those that are there.
fn fleets(wanted: &Wanted, found: &Found) -> Vec<StackKey> {
    let there = found.stacks.keys().filter(|key| key.kind == Kind::Fleet).cloned();
    let mut fleets: Vec<_> =
        wanted.regions.keys().map(|region| StackKey::new(Kind::Fleet, region)).chain(there).collect();
    fleets.sort();
    fleets.dedup();
    fleets
}

fn of_stack(found: &Found, key: StackKey) -> (StackKey, Option<String>) {
    let status = found.stack(&key).map(|stack| stack.status.clone());
    (key, status)
}

fn is_ready(status: Option<&str>) -> bool {
    status.is_some_and(|status| Condition::of(status) == Condition::Ready)
}

impl FleetStatus {
    async fn look(
        aws: &Aws,
        stage: &Stage,
        key: &StackKey,
        stack: Option<&FoundStack>,
    ) -> Result<Self, Fault> {
        let text = |name: &str| stack.and_then(|stack| stack.outputs.get(name)).cloned().unwrap_or_default();
        let name = key.name(stage);
        let (mut group, mut endpoints, mut alarms) = (Group::default(), Vec::new(), Vec::new());
        if stack.is_some() {
            group = aws.group(&key.region, &name).await?.unwrap_or_default();
            alarms = aws.alarms(&key.region, &name).await?;
            let endpoint_group = text("EndpointGroup");
            if !endpoint_group.is_empty() {
                endpoints = aws.endpoints(&endpoint_group).await?;
            }
        }
        Ok(Self {
            region: key.region.clone(),
            stack: stack.map(|stack| stack.status.clone()),
            image_id: text("ImageId"),
            image_version: text("ImageVersion"),
            group,
            endpoints,
            alarms,
        })
    }

    fn healthy_endpoints(&self) -> usize {
        self.endpoints.iter().filter(|endpoint| endpoint.is_healthy).count()
    }

    fn faults(&self) -> Vec<String> {
        let region = &self.region;
        let Some(stack) = &self.stack else {
            return vec![format!("{region}: there is no fleet")];
        };
        let mut faults = Vec::new();
        if !is_ready(Some(stack)) {
            faults.push(format!("{region}: the fleet's stack is {stack}"));
        }
        let Group { wanted, in_service } = self.group;
        if in_service < wanted || wanted == 0 {
            faults.push(format!("{region}: {in_service} of {wanted} instances are in service"));
        }
        let (healthy, all) = (self.healthy_endpoints(), self.endpoints.len());
        // Fewer than instances, too: one that has not joined gets no client.
        if healthy < all || u32::try_from(all).is_ok_and(|all| all < in_service) {
            faults.push(format!(
                "{region}: {healthy} of {all} endpoints are healthy, for {in_service} instances"
            ));
        }
        let alarming = self.alarms.iter().filter(|alarm| alarm.state == "ALARM");
        faults.extend(alarming.map(|alarm| format!("{region}: the alarm {} is on", alarm.name)));
        faults
    }

    fn line(&self) -> String {
        let Self { group, endpoints, alarms, .. } = self;
        let alarming = alarms.iter().filter(|alarm| alarm.state == "ALARM").count();
        format!(
            "{:16} {:24} {:>9} {:>9} {:10} {:22} {alarming} of {}",
            self.region.as_str(),
            self.stack.as_deref().unwrap_or("missing"),
            format!("{}/{}", group.in_service, group.wanted),
            format!("{}/{}", self.healthy_endpoints(), endpoints.len()),
            self.image_version,
            self.image_id,
            alarms.len()
        )
    }

    fn json(&self) -> Value {
        let alarms = self.alarms.iter().map(|alarm| json!({ "name": alarm.name, "state": alarm.state }));
        let endpoints = self.endpoints.iter();
        let endpoints = endpoints.map(|one| json!({ "id": one.id, "healthy": one.is_healthy }));
        json!({
            "region": self.region.as_str(),
            "status": self.stack,
            "image_id": self.image_id,
            "image_version": self.image_version,
            "instances": { "wanted": self.group.wanted, "in_service": self.group.in_service },
            "endpoints": endpoints.collect::<Vec<_>>(),
            "alarms": alarms.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> Status {
        let region = Region::parse("eu-central-1").unwrap();
        let endpoint = |id: &str| Endpoint { id: id.to_owned(), is_healthy: true };
        Status {
            base: vec![(StackKey::new(Kind::Edge, &region), Some("CREATE_COMPLETE".to_owned()))],
            fleets: vec![FleetStatus {
                region,
                stack: Some("UPDATE_COMPLETE".to_owned()),
                image_id: "ami-1".to_owned(),
                image_version: "0.1.0".to_owned(),
                group: Group { wanted: 2, in_service: 2 },
                endpoints: vec![endpoint("i-a"), endpoint("i-b")],
                alarms: vec![Alarm { name: "a".to_owned(), state: "OK".to_owned() }],
            }],
            denied: Vec::new(),
        }
    }

    type Spoil = fn(&mut Status);

    #[test]
    fn each_fault_is_said_and_counts() {
        assert!(healthy().is_healthy(), "{:?}", healthy().faults());
        let cases: [(Spoil, &str); 8] = [
            (|status| status.base[0].1 = None, "stack edge in eu-central-1 is missing"),
            (|status| status.fleets[0].stack = None, "eu-central-1: there is no fleet"),
            (
                |status| status.fleets[0].stack = Some("UPDATE_IN_PROGRESS".to_owned()),
                "eu-central-1: the fleet's stack is UPDATE_IN_PROGRESS",
            ),
            (|status| status.fleets[0].group.in_service = 1, "1 of 2 instances are in service"),
            (|status| status.fleets[0].group = Group::default(), "0 of 0 instances"),
            (|status| status.fleets[0].endpoints[0].is_healthy = false, "1 of 2 endpoints are healthy"),
            (
                |status| drop(status.fleets[0].endpoints.pop()),
                "1 of 1 endpoints are healthy, for 2 instances",
            ),
            (|status| status.fleets[0].alarms[0].state = "ALARM".to_owned(), "the alarm a is on"),
        ];
        for (spoil, said) in cases {
            let mut status = healthy();
            spoil(&mut status);
            let faults = status.faults();
            assert!(matches!(&faults[..], [only] if only.contains(said)), "{said}: {faults:?}");
            assert_eq!(status.json()["healthy"], json!(false));
            assert!(status.table().contains(said), "{}", status.table());
        }
    }

    #[test]
    fn a_line_is_a_region() {
        let table = healthy().table();
        let words: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
        let wanted = ["eu-central-1", "UPDATE_COMPLETE", "2/2", "2/2", "0.1.0", "ami-1", "0", "of", "1"];
        assert_eq!(words, wanted);
    }
}
