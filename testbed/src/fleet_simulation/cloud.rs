//! What the doubles of AWS know, of all regions. Pure.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{
    accelerator::{self, EndpointGroup},
    scaling::{Group, Hooks, Template},
};
use crate::network::fleet_machine;

/// AWS's times and the template's, divided by one factor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// Between two health checks of an endpoint.
    pub(super) check: Duration,
    /// After which the accelerator forgets an idle flow.
    pub(super) idle: Duration,
    /// How long a change of an endpoint group is under way. No documentation says.
    pub(super) accelerator_change: Duration,
    pub(super) hooks: Hooks,
    /// How long an update waits for a signal.
    pub(super) signal: Duration,
    /// Between two scheduled invocations of the function.
    pub(super) schedule: Duration,
    /// The function's own.
    pub(super) function: fleet_function::Pace,
    /// Until EC2's status checks tell of a machine that is dead or cut off.
    pub(super) status_check: Duration,
    /// `instance.lifecycle_poll`.
    pub(super) lifecycle_poll: Duration,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Cloud {
    pub(super) times: Times,
    /// In the order of their distance from the clients.
    pub(super) regions: Vec<Region>,
    /// Machines that neither hear nor are heard.
    pub(super) cut: BTreeSet<Ipv4Addr>,
    /// Machines that a story has killed.
    pub(super) killed: BTreeSet<String>,
    /// Where new flows go now.
    pub(super) shares: Vec<(Ipv4Addr, u32)>,
    /// What must not happen, and did.
    pub(super) violations: Vec<String>,
    begun: Instant,
    timeline: Vec<String>,
    launched: u32,
}

/// A region with its stack `fleet`.
#[derive(Debug)]
pub(super) struct Region {
    pub(super) name: &'static str,
    pub(super) group: Group,
    pub(super) endpoint_group: EndpointGroup,
    /// Who has signalled, while an operation of the stack waits for signals.
    pub(super) signals: Option<BTreeSet<String>>,
}

impl Times {
    pub(super) fn scaled(factor: u32) -> Self {
        let of = |seconds| Duration::from_secs(seconds) / factor;
        Self {
            check: of(10),
            idle: of(340),
            accelerator_change: of(5),
            hooks: Hooks { join: of(900), leave: of(420) },
            signal: of(1_200),
            schedule: of(60),
            function: fleet_function::Pace { every: of(5), longest: of(40) },
            status_check: of(120),
            lifecycle_poll: of(5),
        }
    }
}

impl Cloud {
    pub(super) fn new(times: Times) -> Self {
        Self {
            times,
            regions: Vec::new(),
            cut: BTreeSet::new(),
            killed: BTreeSet::new(),
            shares: Vec::new(),
            violations: Vec::new(),
            begun: Instant::now(),
            timeline: Vec::new(),
            launched: 0,
        }
    }

    /// Writes down what happens.
    pub(super) fn note(&mut self, what: &str) {
        self.timeline.push(format!("{:8.3} {what}", self.begun.elapsed().as_secs_f64()));
    }

    /// The same for what must not happen.
    pub(super) fn violate(&mut self, what: String) {
        self.note(&what);
        self.violations.push(what);
    }

    /// The last of what happened.
    pub(super) fn history(&self) -> String {
        let skipped = self.timeline.len().saturating_sub(LINES);
        self.timeline.get(skipped..).unwrap_or_default().join("\n")
    }

    /// An id that no instance ever had, and an address that none has now: as in a subnet, it may be that of one that is gone.
    pub(super) fn identity(&mut self) -> Option<(String, Ipv4Addr)> {
        self.launched += 1;
        let instances = self.regions.iter().flat_map(|region| region.group.instances.values());
        let taken: BTreeSet<_> = instances.map(|one| one.address).chain(self.cut.iter().copied()).collect();
        let free = (1..MACHINES).map(fleet_machine).find(|address| !taken.contains(address))?;
        Some((format!("i-{:04}", self.launched), free))
    }

    /// Where new flows belong.
    pub(super) fn wanted_shares(&self) -> Vec<(Ipv4Addr, u32)> {
        accelerator::shares(&self.regions.iter().map(|region| &region.endpoint_group).collect::<Vec<_>>())
    }
}

impl Region {
    pub(super) fn new(name: &'static str, template: Template, times: &Times) -> Self {
        let group = Group::new(template, times.hooks);
        Self { name, group, endpoint_group: EndpointGroup::default(), signals: None }
    }

    pub(super) fn group_name(&self) -> String {
        format!("gatehouse-{}-fleet", self.name)
    }

    pub(super) fn stack(&self) -> String {
        format!("arn:aws:cloudformation:{}:123456789012:stack/gatehouse-fleet/a", self.name)
    }

    pub(super) fn endpoint_group_arn(&self) -> String {
        format!(
            "arn:aws:globalaccelerator::123456789012:accelerator/a/listener/b/endpoint-group/{}",
            self.name
        )
    }

    /// `SignalResource`; whether anybody waits for it.
    pub(super) fn signal(&mut self, id: &str) -> bool {
        self.signals.as_mut().map(|signals| signals.insert(id.to_owned())).is_some()
    }

    /// What the stack tells the function.
    pub(super) fn variable(&self, endpoint: &str, name: &str) -> Option<String> {
        Some(match name {
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => "testbed".to_owned(),
            "AWS_REGION" => self.name.to_owned(),
            "AWS_ENDPOINT_URL" => endpoint.to_owned(),
            "GROUP" => self.group_name(),
            "ENDPOINT_GROUP" => self.endpoint_group_arn(),
            "STACK" => self.stack(),
            "RESOURCE" => "Group".to_owned(),
            "JOIN_HOOK" => "join".to_owned(),
            "LEAVE_HOOK" => "leave".to_owned(),
            _ => return None,
        })
    }
}

const LINES: usize = 150;
/// More than any story has.
const MACHINES: u8 = 100;
