//! The whole: an edge, the doubles of AWS, and fleets that are made, updated and taken down as CloudFormation does it.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use tokio::sync::mpsc::{self, UnboundedSender};

use super::{
    balancer::Balancer,
    cloud::{Cloud, Region, Times},
    control::{Boots, Control, Controller, Machines},
    machine::{NAME, VERSION},
    scaling::{Group, Image, State, Template},
    services::{self, Shared},
};
use crate::{edge::Edge, service::Service, wait};

/// Everything; dropped in this order.
pub(super) struct World {
    _control: Control,
    _services: Service,
    events: UnboundedSender<usize>,
    pub(super) machines: Machines,
    pub(super) cloud: Shared,
    pub(super) edge: Arc<Edge>,
}

/// What became of an update.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Update {
    Complete,
    RolledBack,
}

impl World {
    /// Without any region.
    pub(super) fn start(binary: &Path, factor: u32) -> anyhow::Result<Self> {
        let edge = Arc::new(Edge::of_fleet()?);
        let operator = edge.machine_settings(Ipv4Addr::LOCALHOST, &edge.folder().join("operator"));
        operator.command(&edge.network.edge, binary, &["tables", "create"])?;
        let times = Times::scaled(factor);
        let balancer = Balancer::start(&edge.network.edge, edge.folder(), times.idle)?;
        let (events, invocations) = mpsc::unbounded_channel();
        let (cloud, machines) = (Shared::new(Cloud::new(times)), Machines::default());
        let services = services::start(&edge, cloud.clone(), invocations)?;
        let controller = Controller {
            edge: Arc::clone(&edge),
            binary: PathBuf::from(binary),
            cloud: cloud.clone(),
            machines: Arc::clone(&machines),
            balancer,
            events: events.clone(),
            boots: Boots::new(),
            impaired: std::collections::BTreeMap::new(),
        };
        let control = Control::start(controller)?;
        Ok(Self { _control: control, _services: services, events, machines, cloud, edge })
    }

    /// Makes a region with `count` instances: it is there once all have signalled.
    pub(super) fn create_region(&self, name: &'static str, count: usize) -> anyhow::Result<usize> {
        let number = {
            let mut cloud = self.cloud.lock();
            let template = Template { version: 1, image: Image::Good };
            let mut region = Region::new(name, template, &cloud.times);
            region.signals = Some(BTreeSet::new());
            region.group.desired = count;
            cloud.regions.push(region);
            cloud.regions.len() - 1
        };
        self.await_in(number, &format!("{count} signals"), |region| {
            let signals = region.signals.as_ref().map_or(0, BTreeSet::len);
            ensure!(signals >= count, "{signals} signals");
            ensure!(region.group.in_service().len() == count, "not all are in service");
            Ok(())
        })?;
        self.change(number, |region| region.signals = None)?;
        let reply = self.edge.curl(&format!("https://{NAME}/")).run()?;
        ensure!(reply.status == 200, "the first handshake: {reply:?}\n{}", self.history());
        Ok(number)
    }

    /// `AutoScalingRollingUpdate` of the template; back where its first instance does not signal.
    pub(super) fn update(&self, number: usize, template: Template) -> anyhow::Result<Update> {
        let before = self.change(number, |region| std::mem::replace(&mut region.group.template, template))?;
        if self.replace(number, before)? {
            return Ok(Update::Complete);
        }
        self.roll_back(number, before, template)?;
        Ok(Update::RolledBack)
    }

    /// For each instance of `before` one comes, and once it has signalled the old one goes. False where the first one does not signal in time.
    fn replace(&self, number: usize, before: Template) -> anyhow::Result<bool> {
        let olds = self.change(number, |region| {
            region.signals = Some(BTreeSet::new());
            region.group.desired += 1;
            region.group.with(|one| one.template == before)
        })?;
        for (done, old) in olds.iter().enumerate() {
            if !self.is_signalled(number, done + 1)? {
                ensure!(done == 0, "{done} were replaced, and then one failed\n{}", self.history());
                self.change(number, |region| region.group.desired -= 1)?;
                return Ok(false);
            }
            if done + 1 == olds.len() {
                self.change(number, |region| region.group.desired -= 1)?;
            }
            self.terminate(number, old)?;
            self.await_in(number, &format!("the end of {old}"), |region| {
                let left = region.group.instances.get(old);
                ensure!(left.is_none(), "{left:?}");
                Ok(())
            })?;
        }
        self.change(number, |region| region.signals = None)?;
        Ok(true)
    }

    /// Whether so many have signalled before the time is up.
    fn is_signalled(&self, number: usize, count: usize) -> anyhow::Result<bool> {
        let until = Instant::now() + self.cloud.lock().times.signal;
        wait::until("a signal or the end of its time", self.patience(), || {
            let is_signalled =
                self.change(number, |region| region.signals.as_ref().is_some_and(|all| all.len() >= count))?;
            ensure!(is_signalled || Instant::now() >= until, "neither");
            Ok(is_signalled)
        })
    }

    /// The way back, as bad as it can be: a launch template goes back by one version more, with the former content, which no instance is of
    /// (AWS's schema of `AWS::EC2::LaunchTemplate` knows no other call for an update than `CreateLaunchTemplateVersion`), and the update policy
    /// holds for the way back, too. So all are replaced once more.
    fn roll_back(&self, number: usize, before: Template, bad: Template) -> anyhow::Result<()> {
        self.cloud.lock().note("CloudFormation: no signal in time, goes back");
        let after = Template { version: bad.version + 1, image: before.image };
        let unwanted = self.change(number, |region| {
            region.group.template = after;
            region.group.with(|one| one.template == bad)
        })?;
        for id in &unwanted {
            self.terminate(number, id)?;
        }
        self.await_in(number, "the end of what came", |region| {
            let left = region.group.with(|one| one.template == bad);
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })?;
        ensure!(self.replace(number, before)?, "nor does the former image signal\n{}", self.history());
        Ok(())
    }

    /// Auto Scaling is to take it out.
    pub(super) fn terminate(&self, number: usize, id: &str) -> anyhow::Result<()> {
        let now = Instant::now();
        self.cloud.lock().note(&format!("{id} is to leave"));
        for _ in self.change(number, |region| region.group.terminate(id, now))? {
            self.events.send(number)?;
        }
        Ok(())
    }

    /// Waits until `count` instances of the region are in service, and no others there, and it has healthy endpoints for these, and no others.
    pub(super) fn await_fleet(&self, number: usize, count: usize) -> anyhow::Result<()> {
        self.await_fleet_without(number, count, &[])
    }

    /// The same, and none of them is of `victims`.
    pub(super) fn await_fleet_without(
        &self,
        number: usize,
        count: usize,
        victims: &[(String, Ipv4Addr)],
    ) -> anyhow::Result<()> {
        self.await_in(number, &format!("a fleet of {count}"), |region| {
            let group: &Group = &region.group;
            let left = victims.iter().find(|(id, _)| group.instances.contains_key(id));
            ensure!(left.is_none(), "{left:?}");
            let ids: Vec<_> = group.instances.keys().collect();
            ensure!(
                ids.len() == count && group.instances.values().all(|one| one.state == State::InService),
                "{:?}",
                group.instances
            );
            let endpoints = region.endpoint_group.endpoints();
            ensure!(endpoints.keys().collect::<Vec<_>>() == ids, "{endpoints:?}");
            ensure!(region.endpoint_group.is_healthy(), "{endpoints:?}");
            Ok(())
        })
    }

    /// Waits until no new flow goes to any of `addresses`, and says by when.
    pub(super) fn await_diversion(&self, addresses: &BTreeSet<Ipv4Addr>) -> anyhow::Result<Instant> {
        wait::until("new flows to go elsewhere", self.patience(), || {
            let shares = self.cloud.lock().shares.clone();
            let has_other = !shares.is_empty() && shares.iter().all(|(one, _)| !addresses.contains(one));
            ensure!(has_other, "{shares:?}");
            Ok(Instant::now())
        })
        .map_err(|error| self.told(&error))
    }

    /// Each machine of the region says of itself that it is of this version.
    pub(super) fn ensure_version(&self, number: usize, version: u32) -> anyhow::Result<()> {
        let addresses = self.change(number, |region| {
            region.group.instances.values().map(|one| one.address).collect::<Vec<_>>()
        })?;
        for address in addresses {
            let reply = self.edge.curl(&format!("https://{NAME}/")).at(address.into()).run()?;
            let said = reply.header(VERSION);
            ensure!(said.as_deref() == Some(&*version.to_string()), "{address} is of {said:?}: {reply:?}");
        }
        Ok(())
    }

    /// Waits until `holds` of a region; what must not happen ends it.
    pub(super) fn await_in(
        &self,
        number: usize,
        what: &str,
        mut holds: impl FnMut(&Region) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let outcome = wait::until(what, self.patience(), || {
            let cloud = self.cloud.lock();
            if !cloud.violations.is_empty() {
                return Ok(());
            }
            holds(cloud.regions.get(number).context("no such region")?)
        });
        self.ensure_sound()?;
        outcome.map_err(|error| self.told(&error))
    }

    /// Nothing has happened that must not.
    pub(super) fn ensure_sound(&self) -> anyhow::Result<()> {
        let violations = self.cloud.lock().violations.clone();
        ensure!(violations.is_empty(), "{violations:#?}\n{}", self.history());
        Ok(())
    }

    pub(super) fn change<T>(
        &self,
        number: usize,
        change: impl FnOnce(&mut Region) -> T,
    ) -> anyhow::Result<T> {
        Ok(change(self.cloud.lock().regions.get_mut(number).context("no such region")?))
    }

    /// Longer than anything that is waited for.
    fn patience(&self) -> Duration {
        self.cloud.lock().times.signal + SLOWNESS
    }

    /// The error, and what led to it.
    pub(super) fn told(&self, error: &anyhow::Error) -> anyhow::Error {
        anyhow::anyhow!("{error:#}\n{}", self.history())
    }

    pub(super) fn history(&self) -> String {
        self.cloud.lock().history()
    }
}

/// What no time of AWS's is for.
const SLOWNESS: Duration = Duration::from_mins(1);
