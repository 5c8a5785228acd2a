//! How a fleet is, region by region: a table for people, JSON for programs.
//! Invariant: what is not known is never told as absent, and is a fault (`a_region_that_says_nothing_is_a_fault_and_nothing_else_is_said_of_it`).

mod look;

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde_json::{Value, json};

use self::look::{FleetSeen, Seen, Silence, look};
use crate::{
    aws::{Alarm, Aws, Endpoint, Group},
    found::{Found, FoundStack},
    stack::{Condition, Kind, StackKey},
    wanted::{Region, Wanted},
};

/// All of a stage.
#[derive(Debug, Default)]
pub(crate) struct Status {
    /// The stacks that are not fleets, with CloudFormation's words; none where one is missing.
    base: Vec<(StackKey, Option<String>)>,
    fleets: Vec<FleetStatus>,
    /// Regions into which the caller may not look.
    denied: Vec<Region>,
    /// Regions of which nothing is known.
    unanswered: BTreeMap<Region, Silence>,
    /// Why nobody knows which regions there are beside those of the fleet's file.
    unlisted: Option<Silence>,
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
    endpoints: Result<Vec<Endpoint>, Silence>,
    alarms: Vec<Alarm>,
}

impl Status {
    /// Asks for the stage's stacks and what they consist of, in the home region and those of `wanted`, and, unless some were `chosen`, in all others that
    /// the account may use; waits for a region's answers no longer than `within`.
    pub(crate) async fn look(aws: &Aws, wanted: &Wanted, chosen: bool, within: Duration) -> Self {
        Self::of(wanted, look(aws, wanted, chosen, within).await)
    }

    fn of(wanted: &Wanted, seen: Seen) -> Self {
        let Seen { found, fleets: mut seen, unanswered, unlisted } = seen;
        let functions = wanted.domain_functions.as_ref().map(|_| Kind::Functions);
        let at_home = [Kind::Domains, Kind::Edge].into_iter().chain(functions);
        let mut keys: Vec<_> = at_home.map(|kind| StackKey::new(kind, &wanted.home)).collect();
        let fleets = fleets(wanted, &found);
        keys.extend(fleets.iter().map(|fleet| StackKey::new(Kind::Artifacts, &fleet.region)));
        let is_known = |key: &StackKey| !unanswered.contains_key(&key.region);
        let base = keys.into_iter().filter(is_known).map(|key| of_stack(&found, key)).collect();
        let of_fleet = |key: StackKey| FleetStatus::of(&key, found.stack(&key), seen.remove(&key.region));
        let fleets = fleets.into_iter().filter(is_known).map(of_fleet).collect();
        Self { base, fleets, denied: found.denied.iter().cloned().collect(), unanswered, unlisted }
    }

    /// Regions into which the caller may not look, and which the fleet's file does not name.
    pub(crate) fn denied(&self) -> impl Iterator<Item = &Region> {
        self.denied.iter()
    }

    /// Whether everything is as it should be.
    pub(crate) fn is_healthy(&self) -> bool {
        self.faults().is_empty()
    }

    /// What is not as it should be.
    fn faults(&self) -> Vec<String> {
        let base = self.base.iter().filter(|(_, status)| !is_ready(status.as_deref()));
        let base = base.map(|(key, status)| format!("{key} is {}", status.as_deref().unwrap_or("missing")));
        let unanswered = self.unanswered.iter().map(|(region, silence)| unanswered(region, silence));
        let unlisted = self.unlisted.iter().map(|silence| {
            format!("the account's regions are not known, so those alone were looked at that the fleet's file names: {silence}")
        });
        let fleets = self.fleets.iter().flat_map(FleetStatus::faults);
        base.chain(unanswered).chain(unlisted).chain(fleets).collect()
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
        for region in self.unanswered.keys() {
            let _ = writeln!(table, "{:16} not known", region.as_str());
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
        let unanswered = self.unanswered.iter();
        let unanswered = unanswered
            .map(|(region, silence)| json!({ "region": region.as_str(), "reason": silence.to_string() }));
        json!({
            "healthy": self.is_healthy(),
            "faults": self.faults(),
            "stacks": base.collect::<Vec<_>>(),
            "fleets": self.fleets.iter().map(FleetStatus::json).collect::<Vec<_>>(),
            "unanswered_regions": unanswered.collect::<Vec<_>>(),
            "denied_regions": self.denied.iter().map(Region::as_str).collect::<Vec<_>>(),
        })
    }
}

/// What is the matter with a region that did not say what there is, and what to do.
fn unanswered(region: &Region, silence: &Silence) -> String {
    let what = match silence {
        Silence::Late(_) => format!("{region}: {silence}"),
        // Which begins with its region.
        Silence::Fault(fault) => fault.to_string(),
    };
    let remedy = match silence {
        Silence::Fault(fault) if fault.is_denial() => {
            "give the caller the policy `Calls` of infra/deployer.yaml"
        }
        Silence::Late(_) | Silence::Fault(_) => {
            "see whether AWS has trouble there, and whether this machine reaches it; `--within` waits longer, `--region` looks at others alone"
        }
    };
    format!("{what}; {remedy}")
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
    fn of(key: &StackKey, stack: Option<&FoundStack>, seen: Option<FleetSeen>) -> Self {
        let text = |name: &str| stack.and_then(|stack| stack.outputs.get(name)).cloned().unwrap_or_default();
        let nothing = FleetSeen { group: Group::default(), alarms: Vec::new(), endpoints: Ok(Vec::new()) };
        let FleetSeen { group, alarms, endpoints } = seen.unwrap_or(nothing);
        Self {
            region: key.region.clone(),
            stack: stack.map(|stack| stack.status.clone()),
            image_id: text("ImageId"),
            image_version: text("ImageVersion"),
            group,
            endpoints,
            alarms,
        }
    }

    /// How many endpoints are healthy, and how many there are; none where nobody knows.
    fn endpoints(&self) -> Option<(usize, usize)> {
        let endpoints = self.endpoints.as_ref().ok()?;
        Some((endpoints.iter().filter(|endpoint| endpoint.is_healthy).count(), endpoints.len()))
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
        if let Err(silence) = &self.endpoints {
            faults.push(format!("{region}: its endpoints are not known: {silence}; repeat this later"));
        }
        // Fewer than instances, too: one that has not joined gets no client.
        if let Some((healthy, all)) = self.endpoints()
            && (healthy < all || u32::try_from(all).is_ok_and(|all| all < in_service))
        {
            faults.push(format!(
                "{region}: {healthy} of {all} endpoints are healthy, for {in_service} instances"
            ));
        }
        let alarming = self.alarms.iter().filter(|alarm| alarm.state == "ALARM");
        faults.extend(alarming.map(|alarm| format!("{region}: the alarm {} is on", alarm.name)));
        faults
    }

    fn line(&self) -> String {
        let Self { group, alarms, .. } = self;
        let endpoints = self.endpoints().map(|(healthy, all)| format!("{healthy}/{all}"));
        let alarming = alarms.iter().filter(|alarm| alarm.state == "ALARM").count();
        format!(
            "{:16} {:24} {:>9} {:>9} {:10} {:22} {alarming} of {}",
            self.region.as_str(),
            self.stack.as_deref().unwrap_or("missing"),
            format!("{}/{}", group.in_service, group.wanted),
            endpoints.as_deref().unwrap_or("not known"),
            self.image_version,
            self.image_id,
            alarms.len()
        )
    }

    fn json(&self) -> Value {
        let alarms = self.alarms.iter().map(|alarm| json!({ "name": alarm.name, "state": alarm.state }));
        let endpoint = |one: &Endpoint| json!({ "id": one.id, "healthy": one.is_healthy });
        // Null where nobody knows.
        let endpoints: Option<Vec<_>> =
            self.endpoints.as_ref().ok().map(|endpoints| endpoints.iter().map(endpoint).collect());
        json!({
            "region": self.region.as_str(),
            "status": self.stack,
            "image_id": self.image_id,
            "image_version": self.image_version,
            "instances": { "wanted": self.group.wanted, "in_service": self.group.in_service },
            "endpoints": endpoints,
            "alarms": alarms.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::Fault;

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
                endpoints: Ok(vec![endpoint("i-a"), endpoint("i-b")]),
                alarms: vec![Alarm { name: "a".to_owned(), state: "OK".to_owned() }],
            }],
            ..Status::default()
        }
    }

    const LATE: Silence = Silence::Late(Duration::from_secs(20));

    type Spoil = fn(&mut Status);

    #[test]
    fn each_fault_is_said_and_counts() {
        assert!(healthy().is_healthy(), "{:?}", healthy().faults());
        let cases: [(Spoil, &str); 9] = [
            (|status| status.base[0].1 = None, "stack edge in eu-central-1 is missing"),
            (|status| status.fleets[0].stack = None, "eu-central-1: there is no fleet"),
            (
                |status| status.fleets[0].stack = Some("UPDATE_IN_PROGRESS".to_owned()),
                "eu-central-1: the fleet's stack is UPDATE_IN_PROGRESS",
            ),
            (|status| status.fleets[0].group.in_service = 1, "1 of 2 instances are in service"),
            (|status| status.fleets[0].group = Group::default(), "0 of 0 instances"),
            (
                |status| status.fleets[0].endpoints.as_mut().unwrap()[0].is_healthy = false,
                "1 of 2 endpoints are healthy",
            ),
            (
                |status| status.fleets[0].endpoints = Err(LATE),
                "eu-central-1: its endpoints are not known: nothing was answered within 20 s",
            ),
            (
                |status| drop(status.fleets[0].endpoints.as_mut().unwrap().pop()),
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
    fn a_region_that_says_nothing_is_a_fault_and_nothing_else_is_said_of_it() {
        let wanted = crate::wanted::tests::wanted(&["eu-central-1", "us-east-1"]);
        let (home, other) = (&wanted.home, Region::parse("us-east-1").unwrap());
        let denied = Fault {
            region: "us-east-1".to_owned(),
            call: "cloudformation:DescribeStacks".to_owned(),
            code: "AccessDenied".to_owned(),
            said: "no".to_owned(),
            passes: false,
        };
        let late = "eu-central-1: nothing was answered within 20 s; see whether AWS has trouble there";
        let refused =
            "us-east-1: cloudformation:DescribeStacks: AccessDenied: no; give the caller the policy `Calls`";
        for (region, silence, said) in [(home, LATE, late), (&other, Silence::Fault(denied), refused)] {
            let unanswered = BTreeMap::from([(region.clone(), silence)]);
            let status = Status::of(&wanted, Seen { unanswered, ..Seen::default() });
            let faults = status.faults();
            let about: Vec<_> = faults.iter().filter(|fault| fault.contains(region.as_str())).collect();
            assert!(matches!(&about[..], [only] if only.starts_with(said)), "{faults:?}");
            assert!(faults.len() > 1, "the other one is missing: {faults:?}");
            let lines = status.table();
            assert!(lines.contains(&format!("{:16} not known\n", region.as_str())), "{lines}");
        }
        let unlisted = Status { unlisted: Some(LATE), ..healthy() };
        assert!(!unlisted.is_healthy(), "a fleet may be where nobody looked");
    }

    #[test]
    fn a_line_is_a_region() {
        let table = healthy().table();
        let words: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
        let wanted = ["eu-central-1", "UPDATE_COMPLETE", "2/2", "2/2", "0.1.0", "ami-1", "0", "of", "1"];
        assert_eq!(words, wanted);
    }
}
