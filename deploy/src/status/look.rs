//! Looks at each region by itself and for a bounded time: one that is slow, or cannot be reached, holds up no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use crate::{
    aws::{Alarm, Aws, Endpoint, Fault, Group},
    found::{Found, FoundStack},
    stack::{Kind, StackKey},
    wanted::{Region, Stage, Wanted},
};

/// Why something is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Silence {
    #[error("nothing was answered within {} s", .0.as_secs())]
    Late(Duration),
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What is known of a stage, and where nothing is.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Its stacks; nothing else is filled in.
    pub(super) found: Found,
    pub(super) fleets: BTreeMap<Region, FleetSeen>,
    pub(super) unanswered: BTreeMap<Region, Silence>,
    /// Why regions that the fleet's file does not name were not looked at.
    pub(super) unlisted: Option<Silence>,
}

/// What a region's fleet consists of.
#[derive(Debug)]
pub(super) struct FleetSeen {
    pub(super) group: Group,
    pub(super) alarms: Vec<Alarm>,
    /// Global Accelerator tells of them, in a region of its own.
    pub(super) endpoints: Result<Vec<Endpoint>, Silence>,
}

/// Looks at the home region and at those of `wanted`; unless some of them were `chosen`, also at all others that the account may use. What lies
/// in one is known within `within`, or that region counts as one that does not answer.
pub(super) async fn look(aws: &Aws, wanted: &Wanted, chosen: bool, within: Duration) -> Seen {
    let mut seen = Seen { found: Found { looked: true, ..Found::default() }, ..Seen::default() };
    let named: BTreeSet<_> = wanted.regions.keys().chain([&wanted.home]).cloned().collect();
    let mut looks = JoinSet::new();
    let begin = |looks: &mut JoinSet<_>, region: &Region| {
        let (aws, stage) = (aws.clone(), wanted.stage.clone());
        let (region, is_home) = (region.clone(), *region == wanted.home);
        let deadline = Deadline::new(within);
        let look = RegionLook { aws, stage, region, is_home, deadline };
        looks.spawn(async move { (look.region.clone(), look.look().await) });
    };
    // Those of which everybody wants to know do not wait for the list of the others.
    for region in &named {
        begin(&mut looks, region);
    }
    let mut usable = None;
    if !chosen {
        let deadline = Deadline::new(within);
        match deadline.keep(aws.regions(&wanted.home)).await {
            Ok(regions) => {
                for region in regions.difference(&named) {
                    begin(&mut looks, region);
                }
                usable = Some(regions);
            }
            Err(silence) => seen.unlisted = Some(silence),
        }
    }
    for (region, look) in looks.join_all().await {
        // In a region that the account may not use there is nothing, whatever was answered there.
        if usable.as_ref().is_none_or(|usable| usable.contains(&region)) {
            seen.add(region, look, &named);
        }
    }
    seen
}

impl Seen {
    fn add(&mut self, region: Region, look: Result<RegionSeen, Silence>, named: &BTreeSet<Region>) {
        match look {
            Ok(RegionSeen { stacks, fleet }) => {
                self.found.stacks.extend(stacks);
                self.fleets.extend(fleet.map(|fleet| (region, fleet)));
            }
            Err(Silence::Fault(fault)) if fault.is_denial() && !named.contains(&region) => {
                self.found.denied.insert(region);
            }
            Err(silence) => drop(self.unanswered.insert(region, silence)),
        }
    }
}

/// Until when answers are waited for.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    at: Instant,
    within: Duration,
}

impl Deadline {
    fn new(within: Duration) -> Self {
        Self { at: Instant::now() + within, within }
    }

    async fn keep<T>(self, look: impl Future<Output = Result<T, Fault>>) -> Result<T, Silence> {
        match timeout_at(self.at, look).await {
            Ok(answer) => answer.map_err(Silence::Fault),
            Err(_) => Err(Silence::Late(self.within)),
        }
    }
}

/// A region that is looked at.
struct RegionLook {
    aws: Aws,
    stage: Stage,
    region: Region,
    is_home: bool,
    deadline: Deadline,
}

struct RegionSeen {
    stacks: BTreeMap<StackKey, FoundStack>,
    /// None where there is none.
    fleet: Option<FleetSeen>,
}

impl RegionLook {
    async fn look(&self) -> Result<RegionSeen, Silence> {
        let stacks = self.deadline.keep(self.stacks()).await?;
        let fleet = match stacks.get(&StackKey::new(Kind::Fleet, &self.region)) {
            Some(stack) => Some(self.fleet(stack).await?),
            None => None,
        };
        Ok(RegionSeen { stacks, fleet })
    }

    async fn stacks(&self) -> Result<BTreeMap<StackKey, FoundStack>, Fault> {
        let mut stacks = BTreeMap::new();
        for kind in Kind::ALL.into_iter().filter(|kind| self.is_home || !kind.is_at_home()) {
            let key = StackKey::new(kind, &self.region);
            if let Some(stack) = self.aws.stack(&self.region, &key.name(&self.stage)).await? {
                stacks.insert(key, stack);
            }
        }
        Ok(stacks)
    }

    async fn fleet(&self, stack: &FoundStack) -> Result<FleetSeen, Silence> {
        let (instances, endpoints) =
            tokio::join!(self.deadline.keep(self.instances()), self.deadline.keep(self.endpoints(stack)),);
        let (group, alarms) = instances?;
        Ok(FleetSeen { group, alarms, endpoints })
    }

    async fn instances(&self) -> Result<(Group, Vec<Alarm>), Fault> {
        let name = StackKey::new(Kind::Fleet, &self.region).name(&self.stage);
        let group = self.aws.group(&self.region, &name).await?.unwrap_or_default();
        Ok((group, self.aws.alarms(&self.region, &name).await?))
    }

    async fn endpoints(&self, stack: &FoundStack) -> Result<Vec<Endpoint>, Fault> {
        match stack.outputs.get("EndpointGroup").filter(|arn| !arn.is_empty()) {
            Some(arn) => self.aws.endpoints(arn).await,
            None => Ok(Vec::new()),
        }
    }
}
