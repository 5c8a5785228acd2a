//! What is done to a fleet under load, and what has to come of it.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    sync::PoisonError,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use super::{
    machine::NAME,
    scaling::{Image, Template},
    world::{Update, World},
};
use crate::{
    edge::Edge,
    gatehouse::Place,
    load::{Failure, Load, Manner, Plan, Protocol, Seen},
    wait,
};

/// Each begins and ends with a fleet of [`COUNT`] instances in service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Story {
    /// A new version of the launch template, one instance at a time: no request fails.
    RollingUpdate,
    /// An image that never becomes healthy: the update goes back, by which all are replaced once more, and no request fails.
    BadImage,
    /// A machine dies: what was in flight there fails, and what comes there before the health checks notice.
    InstanceKilled,
    /// A zone is cut off, with the machines in it: likewise.
    ZoneLost,
    /// A region's dial is turned to 0, and its group scaled to none: no request fails.
    RegionDrained,
}

impl Story {
    /// In the order in which they are played; the last one leaves the first region empty.
    pub const ALL: [Self; 5] =
        [Self::RollingUpdate, Self::BadImage, Self::InstanceKilled, Self::ZoneLost, Self::RegionDrained];

    /// What it has shown.
    pub(super) fn play(self, world: &World) -> anyhow::Result<String> {
        world.await_fleet(NEAR, COUNT)?;
        let begun = Instant::now();
        let told = match self {
            Self::RollingUpdate => rolling_update(world),
            Self::BadImage => bad_image(world),
            Self::InstanceKilled => instance_killed(world),
            Self::ZoneLost => zone_lost(world),
            Self::RegionDrained => region_drained(world),
        };
        let told = told.with_context(|| format!("{self:?}"))?;
        world.ensure_sound()?;
        Ok(format!("{self:?}, {} s: {told}", begun.elapsed().as_secs()))
    }
}

fn rolling_update(world: &World) -> anyhow::Result<String> {
    let loads = Loads::start(world)?;
    let before = world.change(NEAR, |region| region.group.in_service())?;
    let version = world.change(NEAR, |region| region.group.template.version)? + 1;
    let update = world.update(NEAR, Template { version, image: Image::Good })?;
    ensure!(update == Update::Complete, "{update:?}\n{}", world.history());
    world.await_fleet(NEAR, COUNT)?;
    let report = loads.end()?.none_failed(world)?;
    let after = world.change(NEAR, |region| region.group.in_service())?;
    ensure!(after.iter().all(|id| !before.contains(id)), "{before:?} and then {after:?}");
    world.ensure_version(NEAR, version)?;
    Ok(format!("{COUNT} of {COUNT} replaced, {report}"))
}

fn bad_image(world: &World) -> anyhow::Result<String> {
    let loads = Loads::start(world)?;
    let before = world.change(NEAR, |region| region.group.in_service())?;
    let version = world.change(NEAR, |region| region.group.template.version)?;
    let update = world.update(NEAR, Template { version: version + 1, image: Image::Bad })?;
    ensure!(update == Update::RolledBack, "{update:?}\n{}", world.history());
    world.await_fleet(NEAR, COUNT)?;
    let report = loads.end()?.none_failed(world)?;
    let after = world.change(NEAR, |region| region.group.in_service())?;
    ensure!(
        after.iter().all(|id| !before.contains(id)),
        "{before:?} and then {after:?}\n{}",
        world.history()
    );
    world.ensure_version(NEAR, version + 2)?;
    Ok(format!("rolled back, {COUNT} of {COUNT} replaced by the former image, {report}"))
}

fn instance_killed(world: &World) -> anyhow::Result<String> {
    let loads = Loads::start(world)?;
    let victims = victims(world, |index, _| index == 0)?;
    let (id, _) = victims.first().context("nobody is in service")?;
    let killed = Instant::now();
    {
        let mut cloud = world.cloud.lock();
        cloud.note(&format!("{id} is killed"));
        cloud.killed.insert(id.clone());
    }
    world.machines.lock().unwrap_or_else(PoisonError::into_inner).get(id).context("no machine")?.kill()?;
    loads.end_replaced(world, &victims, killed)
}

fn zone_lost(world: &World) -> anyhow::Result<String> {
    let loads = Loads::start(world)?;
    let victims = victims(world, |_, zone| zone == LOST)?;
    ensure!((1..COUNT).contains(&victims.len()), "{victims:?} are in the zone");
    let lost = Instant::now();
    {
        let mut cloud = world.cloud.lock();
        cloud.note("a zone is cut off");
        cloud.cut.extend(victims.iter().map(|(_, address)| *address));
    }
    world.change(NEAR, |region| region.group.lost_zone = Some(LOST))?;
    let report = loads.end_replaced(world, &victims, lost)?;
    // Its machines stay cut off: the kernel goes on sending what their connections had not got through, and the upstream would get it late.
    world.change(NEAR, |region| region.group.lost_zone = None)?;
    Ok(report)
}

fn region_drained(world: &World) -> anyhow::Result<String> {
    let far = world.create_region("us-east-1", COUNT / 2)?;
    let loads = Loads::start(world)?;
    let near = victims(world, |_, _| true)?;
    world.change(NEAR, |region| region.endpoint_group.traffic_dial = 0)?;
    world.cloud.lock().note("the dial of the nearest region is set to 0");
    world.await_diversion(&near.iter().map(|(_, address)| *address).collect())?;
    loads.served_once_more(world)?;
    world.change(NEAR, |region| region.group.desired = 0)?;
    for (id, _) in &near {
        world.terminate(NEAR, id)?;
    }
    world.await_fleet(NEAR, 0)?;
    loads.served_once_more(world)?;
    world.await_fleet(far, COUNT / 2)?;
    let report = loads.end()?.none_failed(world)?;
    Ok(format!("{} of {} left, {report}", near.len(), near.len()))
}

/// Instances in service, by their number and zone.
fn victims(
    world: &World,
    mut is_meant: impl FnMut(usize, usize) -> bool,
) -> anyhow::Result<Vec<(String, Ipv4Addr)>> {
    world.change(NEAR, |region| {
        let all = region.group.instances.iter().enumerate();
        let meant = all.filter(|(index, (_, one))| is_meant(*index, one.zone));
        meant.map(|(_, (id, one))| (id.clone(), one.address)).collect()
    })
}

/// Clients of each kind.
struct Loads {
    loads: Vec<(&'static str, Load)>,
    /// Requests at the upstream before.
    before: u64,
}

/// What they saw.
struct Outcome {
    seen: Vec<(&'static str, Seen)>,
    before: u64,
}

impl Loads {
    fn start(world: &World) -> anyhow::Result<Self> {
        let before = world.edge.upstream.requests();
        let mut loads = Vec::new();
        for (name, protocol, requests_per_connection) in [
            // Kept for ever: they end only where an instance has them end.
            ("HTTP/1.1 kept alive", Protocol::Http1, u64::MAX),
            ("HTTP/1.1 anew", Protocol::Http1, 1),
            ("HTTP/2", Protocol::Http2, u64::MAX),
        ] {
            let plan = Plan {
                to: Edge::https(Place::A),
                name: NAME.to_owned(),
                path: "/".to_owned(),
                protocol,
                connections: 4,
                requests_per_connection,
            };
            let (client, roots) = (&world.edge.network.client, world.edge.ca.roots());
            loads.push((name, Load::start_with(client, roots, plan, MANNER)?));
        }
        let loads = Self { loads, before };
        loads.served_once_more(world)?;
        Ok(loads)
    }

    /// Waits until requests that begin now were answered on connections of each kind.
    fn served_once_more(&self, world: &World) -> anyhow::Result<()> {
        let now = || self.loads.iter().map(|(_, load)| load.seen().served);
        let before: Vec<_> = now().collect();
        wait::until("requests on all kinds of connections", PATIENCE, || {
            let seen: Vec<_> = now().collect();
            let mut both = seen.iter().zip(&before);
            ensure!(both.all(|(now, before)| *now > before + 50), "{seen:?}");
            Ok(())
        })
        .map_err(|error| world.told(&error))
    }

    fn end(self) -> anyhow::Result<Outcome> {
        let ended = self.loads.into_iter().map(|(name, load)| Ok((name, load.stop_after(Duration::ZERO)?)));
        Ok(Outcome { seen: ended.collect::<anyhow::Result<_>>()?, before: self.before })
    }

    /// Once those of `victims` are replaced: nothing that was connected after the accelerator had noticed may have failed.
    fn end_replaced(
        self,
        world: &World,
        victims: &[(String, Ipv4Addr)],
        lost: Instant,
    ) -> anyhow::Result<String> {
        let addresses: BTreeSet<_> = victims.iter().map(|(_, address)| *address).collect();
        let noticed = world.await_diversion(&addresses)?;
        world.await_fleet_without(NEAR, COUNT, victims)?;
        self.served_once_more(world)?;
        let outcome = self.end()?;
        let failures: Vec<_> = outcome.failures().collect();
        let unexpected: Vec<_> =
            failures.iter().filter(|(_, one)| one.connected > noticed || one.at < lost).collect();
        ensure!(
            unexpected.is_empty(),
            "noticed after {:?}, and then: {unexpected:#?}\n{}",
            noticed - lost,
            world.history()
        );
        let longest = failures.iter().map(|(_, one)| one.at.saturating_duration_since(lost)).max();
        Ok(format!(
            "{} of {COUNT} replaced, {} requests served, {} failed, the last one {} ms after the loss; noticed after {} ms",
            victims.len(),
            outcome.served(),
            failures.len(),
            longest.unwrap_or_default().as_millis(),
            (noticed - lost).as_millis()
        ))
    }
}

impl Outcome {
    fn served(&self) -> u64 {
        self.seen.iter().map(|(_, seen)| seen.served).sum()
    }

    fn failures(&self) -> impl Iterator<Item = (&'static str, &Failure)> {
        self.seen.iter().flat_map(|(name, seen)| seen.failures.iter().map(|one| (*name, one)))
    }

    /// No request failed, and none was taken twice; and no connection of HTTP/1.1 was closed while its client might have sent another, since
    /// who sends what must not be done twice may not send it again (RFC 9110 §9.2.2).
    fn none_failed(&self, world: &World) -> anyhow::Result<String> {
        let failures: Vec<_> = self.failures().collect();
        ensure!(failures.is_empty(), "{failures:#?}\n{}", world.history());
        let again: Vec<_> = self.seen.iter().map(|(name, seen)| (*name, seen.retries)).collect();
        let (served, taken) = (self.served(), world.edge.upstream.requests() - self.before);
        ensure!(
            served == taken,
            "{served} served, {taken} at the upstream, sent again {again:?}\n{}",
            world.history()
        );
        let lost = again.iter().any(|(name, times)| name.starts_with("HTTP/1.1") && *times > 0);
        ensure!(!lost, "closed under their clients: {again:?}\n{}", world.history());
        let connections: u64 = self.seen.iter().map(|(_, seen)| seen.connections).sum();
        let told: u64 = self.seen.iter().map(|(_, seen)| seen.told).sum();
        Ok(format!("{served} requests over {connections} connections, none failed; {told} were told to end"))
    }
}

/// Of instances, in the first region.
pub(super) const COUNT: usize = 4;
/// The region next to the clients.
pub(super) const NEAR: usize = 0;
/// The zone that is lost.
const LOST: usize = 0;
/// A client gives up on a machine that says nothing.
const MANNER: Manner = Manner { patience: Some(Duration::from_secs(5)), pause: Duration::from_millis(20) };
const PATIENCE: Duration = Duration::from_mins(1);
