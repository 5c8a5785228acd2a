//! Names that are served, and names that are not.

use std::{fs, net::SocketAddr, process::Command};

use anyhow::ensure;
use testbed::{edge::Edge, hello::Ending, namespace};

use crate::{guest::Guest, world::World};

pub(super) fn guard(world: &World, guest: &mut Guest) -> anyhow::Result<String> {
    let metrics = world.await_metrics(guest.place, "the guard to enforce", |metrics| {
        metrics.sum("gatehouse_guard_enforcing", &[]) > 0.5
    })?;
    let native = metrics.sum("gatehouse_guard_interfaces", &["attach=\"native\""]);
    ensure!((native - 1.0).abs() < 0.1, "{native} interfaces natively: {metrics}");
    let link = guest.run("ip -details link show dev eth0")?;
    ensure!(link.contains(" xdp ") && !link.contains("xdpgeneric"), "{link}");
    let driver =
        guest.run("basename \"$(readlink /sys/class/net/eth0/device/driver)\"; uname --kernel-release")?;
    Ok(driver.replace('\n', ", Linux "))
}

pub(super) fn added(world: &World, guest: &mut Guest) -> anyhow::Result<String> {
    let orders = world.edge.ca.relay.count("newOrder");
    world.add(guest.place, SHOP)?;
    let first = world.served(guest.place, SHOP)?;
    ensure!(world.edge.ca.relay.count("newOrder") == orders + 1, "{:?}", world.edge.ca.relay.counts());
    let v6 = world.edge.curl(&format!("https://{SHOP}/")).at(guest.place.v6().into()).run()?;
    ensure!(v6.status == 200, "over IPv6: {v6:?}");
    let again = world.served(guest.place, SHOP)?;
    ensure!(world.edge.ca.relay.count("newOrder") == orders + 1, "a second order");
    let millis = |seconds: f64| seconds * 1e3;
    Ok(format!(
        "first handshake {:.0} ms, again {:.0} ms (emulated)",
        millis(first.handshake_seconds),
        millis(again.handshake_seconds)
    ))
}

pub(super) fn foreign(world: &World, guest: &mut Guest) -> anyhow::Result<String> {
    let before = world.metrics(guest.place)?;
    for to in [Edge::https(guest.place), SocketAddr::new(guest.place.v6().into(), 443)] {
        let seen = world.send_client_hello(to, FOREIGN)?;
        ensure!(seen.ending == Ending::Reset, "{to}: {seen:?}");
    }
    let metrics = world.await_metrics(guest.place, "the guard's count", |metrics| {
        metrics.verdicts("reject_foreign") - before.verdicts("reject_foreign") >= 2.0
    })?;
    let taken = |metrics: &testbed::metrics::Metrics| metrics.sum("gatehouse_tls_connections_total", &[]);
    ensure!((taken(&metrics) - taken(&before)).abs() < 0.5, "user space saw a connection: {metrics}");
    Ok("reset over IPv4 and IPv6; user space saw neither".to_owned())
}

pub(super) fn metrics(world: &World, guest: &mut Guest) -> anyhow::Result<String> {
    let text = world.exposition(guest.place)?;
    let file = world.edge.folder().join("metrics");
    fs::write(&file, &text)?;
    namespace::run(Command::new("promtool").args(["check", "metrics"]).stdin(fs::File::open(&file)?))?;
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    ensure!(series > 50, "only {series} series");
    Ok(format!("{series} series"))
}

pub(super) const SHOP: &str = "shop.customer.test";
pub(super) const FOREIGN: &str = "foreign.example.net";
