//! Ends and beginnings: of the process, of the package's version, of the machine.

use std::time::Duration;

use anyhow::ensure;
use testbed::{
    edge::Edge,
    gatehouse::Place,
    load::{Load, Plan, Protocol, Seen},
    relay::Traffic,
    wait,
};

use super::names::SHOP;
use crate::{
    guest::Guest,
    repository::Repository,
    world::{PATIENCE, World},
};

pub(super) fn service(world: &World, guest: &mut Guest) -> anyhow::Result<String> {
    let process = main_process(guest)?;
    let seen = under_load(world, guest, |guest| guest.run("systemctl restart gatehouse").map(drop))?;
    ensure!(main_process(guest)? != process, "it is the same process");
    Ok(told(&seen))
}

pub(super) fn upgrade(world: &World, guest: &mut Guest) -> anyhow::Result<String> {
    let folder = world.edge.folder().join("repository");
    let repository = Repository::start(&world.edge.network.edge, &world.next, &folder)?;
    guest.run(&format!("echo '{}' >/etc/apt/sources.list.d/next.list", Repository::source()))?;
    guest.run("apt-get --quiet=2 update -o Dir::Etc::sourcelist=sources.list.d/next.list -o Dir::Etc::sourceparts=-")?;
    let seen = under_load(world, guest, |guest| {
        guest.run("DEBIAN_FRONTEND=noninteractive apt-get --quiet=2 --yes upgrade").map(drop)
    })?;
    let version = guest.run("dpkg-query --show --showformat='${Version} ${db:Status-Status}' gatehouse")?;
    ensure!(version == format!("{} installed", repository.version), "{version}");
    world.await_health(guest.place, 200)?;
    Ok(format!("{version}; {}", told(&seen)))
}

/// systemd hears nothing for 30 s, and starts another.
pub(super) fn watchdog(world: &World, guest: &mut Guest) -> anyhow::Result<String> {
    let process = main_process(guest)?;
    guest.run(&format!("kill -STOP {process}"))?;
    wait::until("another process", PATIENCE, || {
        let now = main_process(guest)?;
        ensure!(now != process && now != "0", "{now}");
        Ok(())
    })?;
    world.await_health(guest.place, 200)?;
    let log = guest.run(
        "journalctl --unit=gatehouse --no-pager --output=cat | grep --ignore-case watchdog | head -n 1",
    )?;
    ensure!(!log.is_empty(), "it was not the watchdog");
    Ok(log)
}

pub(super) fn reboot(world: &World, guest: &mut Guest) -> anyhow::Result<String> {
    ensure_served(world, guest)?;
    let (certificate, orders) = (world.presented(guest.place, SHOP)?, world.edge.ca.relay.count("newOrder"));
    let boot = guest.run("cat /proc/sys/kernel/random/boot_id")?;
    let began = std::time::Instant::now();
    guest.run("systemctl --no-block reboot")?;
    wait::until("nobody to answer", PATIENCE, || {
        ensure!(world.health(guest.place).is_err(), "it still answers");
        Ok(())
    })?;
    world.await_health(guest.place, 200)?;
    let took = began.elapsed();
    guest.await_shell()?;
    ensure!(guest.run("cat /proc/sys/kernel/random/boot_id")? != boot, "it has not rebooted");
    unchanged(world, guest.place, &certificate, orders)?;
    Ok(format!("healthy again after {} s (emulated)", took.as_secs()))
}

pub(super) fn power_cut(world: &World, guest: &mut Guest) -> anyhow::Result<String> {
    ensure_served(world, guest)?;
    let certificate = world.presented(guest.place, SHOP)?;
    world.add(guest.place, CUT)?;
    let (orders, fetched) = (world.edge.ca.relay.count("newOrder"), world.edge.ca.relay.count("certificate"));
    world.edge.ca.relay.set(Traffic::HoldOnly("finalize"));
    let lost = world.edge.curl(&format!("https://{CUT}/")).spawn()?;
    let held = world.edge.ca.relay.count("finalize held");
    wait::until("finalize to be held", PATIENCE, || {
        let counts = world.edge.ca.relay.counts();
        ensure!(world.edge.ca.relay.count("finalize held") > held, "{counts:?}");
        Ok(())
    })?;
    guest.cut_power(&world.edge.network)?;
    world.edge.ca.relay.set(Traffic::Pass);
    ensure!(lost.reply()?.status == 0, "the connection outlived the power");
    world.await_health(guest.place, 200)?;
    unchanged(world, guest.place, &certificate, orders + 1)?;
    world.served(guest.place, CUT)?;
    let counts = world.edge.ca.relay.counts();
    ensure!(
        world.edge.ca.relay.count("newOrder") == orders + 1,
        "the order was not gone on with: {counts:?}"
    );
    ensure!(world.edge.ca.relay.count("certificate") == fetched + 1, "{counts:?}");
    Ok("the order was gone on with once its lease had ended".to_owned())
}

/// Load over new and kept connections, HTTP/1.1 and HTTP/2, while `change` is made and until it is healthy again.
fn under_load(
    world: &World,
    guest: &mut Guest,
    change: impl FnOnce(&mut Guest) -> anyhow::Result<()>,
) -> anyhow::Result<Seen> {
    ensure_served(world, guest)?;
    let plan = |protocol| Plan {
        to: Edge::https(guest.place),
        name: SHOP.to_owned(),
        path: "/".to_owned(),
        protocol,
        connections: 2,
        requests_per_connection: 20,
    };
    let start = |protocol| Load::start(&world.edge.network.client, world.edge.ca.roots(), plan(protocol));
    let loads = [start(Protocol::Http1)?, start(Protocol::Http2)?];
    wait::until("load on all connections", PATIENCE, || {
        let served: Vec<u64> = loads.iter().map(|load| load.seen().served).collect();
        ensure!(served.iter().all(|served| *served > 50), "{served:?}");
        Ok(())
    })?;
    change(guest)?;
    world.await_health(guest.place, 200)?;
    let mut total = Seen::default();
    for load in loads {
        let before = load.seen().served;
        wait::until("load after the change", PATIENCE, || {
            let seen = load.seen();
            ensure!(seen.served > before + 20, "{seen:?}");
            Ok(())
        })?;
        let seen = load.stop_after(Duration::from_secs(1))?;
        ensure!(seen.failures.is_empty(), "{seen:?}");
        total.served += seen.served;
        total.connections += seen.connections;
        total.told += seen.told;
    }
    Ok(total)
}

fn told(seen: &Seen) -> String {
    format!("{} requests over {} connections, all served", seen.served, seen.connections)
}

/// Whichever case came before: the name is in the table, and is served, as soon as a machine taken back has heard of it.
pub(super) fn ensure_served(world: &World, guest: &Guest) -> anyhow::Result<()> {
    if world.operate(&["domain", "show", SHOP]).is_err() {
        world.add(guest.place, SHOP)?;
    }
    wait::until(SHOP, PATIENCE, || world.served(guest.place, SHOP).map(drop))
}

/// Served, guarded, with the same certificate, and the CA was not asked.
fn unchanged(world: &World, place: Place, certificate: &[u8], orders: u64) -> anyhow::Result<()> {
    world.await_metrics(place, "the guard to enforce", |metrics| {
        metrics.sum("gatehouse_guard_enforcing", &[]) > 0.5
    })?;
    world.served(place, SHOP)?;
    ensure!(world.presented(place, SHOP)? == certificate, "another certificate");
    let now = world.edge.ca.relay.count("newOrder");
    ensure!(now == orders, "{now} orders instead of {orders}");
    Ok(())
}

pub(super) fn main_process(guest: &mut Guest) -> anyhow::Result<String> {
    guest.run("systemctl show gatehouse.service --property=MainPID --value")
}

const CUT: &str = "cut.customer.test";
