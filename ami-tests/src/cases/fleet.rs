//! Machines that share state, and one that has nobody to share it with.

use anyhow::ensure;
use testbed::{
    gatehouse::Place,
    metadata::{Instance, Metadata},
    network::HOST,
    wait,
};

use super::{names::SHOP, restarts::ensure_served};
use crate::{
    guest::Guest,
    world::{PATIENCE, World},
};

pub(super) fn alone(world: &World, guest: &mut Guest) -> anyhow::Result<String> {
    let from = guest.console().len();
    // Stopped and started: a restart may be too quick for the console, which then has nothing to tell.
    guest.run("systemctl stop gatehouse && rm /etc/gatehouse/conf.d/50-fleet.toml")?;
    guest.await_console(from, &["Stopped"])?;
    guest.run("systemctl start gatehouse")?;
    world.await_health(guest.place, 200)?;
    let status = guest.run("gatehouse status")?;
    let log = guest
        .run("journalctl --unit=gatehouse --no-pager --output=cat | grep 'embedded store' | tail -n 1")?;
    ensure!(!log.is_empty(), "the log does not say which store it is: {status}");
    guest.await_console(from, &["Serving"])?;
    Ok(log)
}

/// What a person does: reads the console, corrects the settings, and does nothing more.
pub(super) fn second(world: &World, guest: &mut Guest) -> anyhow::Result<String> {
    world.served(guest.place, SHOP)?;
    let (certificate, orders) = (world.presented(guest.place, SHOP)?, world.edge.ca.relay.count("newOrder"));
    let right = world.fleet_settings();
    let wrong = right.replace("mode = \"strict\"", "mode = \"strickt\"");
    ensure!(wrong != right, "nothing was made wrong");
    let mut second = world.boot(Place::B, &wrong)?;
    corrected(world, &mut second).map_err(|error| error.context(second.testimony()))?;
    world.served(Place::B, SHOP)?;
    ensure!(world.presented(Place::B, SHOP)? == certificate, "another certificate than the first machine's");
    ensure!(world.edge.ca.relay.count("newOrder") == orders, "it ordered one of its own");
    world.served(guest.place, SHOP)?;
    Ok("one certificate, no order".to_owned())
}

fn corrected(world: &World, second: &mut Guest) -> anyhow::Result<()> {
    second.await_console(0, &["Not running", "guard.mode", "strickt", "observe"])?;
    let health = world.health(Place::B);
    ensure!(health.is_err(), "it answers {health:?}");
    second.await_shell()?;
    second.run("sed --in-place s/strickt/strict/ /etc/gatehouse/conf.d/50-fleet.toml")?;
    world.await_health(Place::B, 200)
}

/// As an Auto Scaling group takes an instance out: first the target state, then the end.
pub(super) fn scale_in(world: &World, guest: &mut Guest) -> anyhow::Result<String> {
    let [id, region, availability_zone] =
        ["i-0123456789abcdef0", "eu-central-1", "eu-central-1b"].map(str::to_owned);
    let instance = Instance { id, region, availability_zone };
    let metadata = Metadata::start(&world.edge.network.edge, (HOST, METADATA_PORT).into(), instance)?;
    ensure_served(world, guest)?;
    let fragment = format!("[instance]\\nmetadata = \"{}\"\\nlifecycle_poll = \"1s\"\\n", metadata.url());
    guest.run(&format!(
        "printf '{fragment}' >/etc/gatehouse/conf.d/60-instance.toml && systemctl restart gatehouse"
    ))?;
    world.await_health(guest.place, 200)?;
    let status = guest.run("gatehouse status")?;
    ensure!(status.contains("i-0123456789abcdef0"), "{status}");
    let from = guest.console().len();
    let slow = world.edge.curl(&format!("https://{SHOP}/slow/20000")).at(guest.place.v4().into()).spawn()?;
    wait::until("a request in flight", PATIENCE, || {
        ensure!(world.edge.upstream.slow_in_flight() == 1, "none");
        Ok(())
    })?;
    metadata.set_target_state("Terminated");
    world.await_health(guest.place, 503)?;
    let late = world.served(guest.place, SHOP)?;
    ensure!(late.status == 200, "a load balancer's late connection: {late:?}");
    guest.await_console(from, &["Leaving"])?;
    guest.run("systemctl stop gatehouse")?;
    let slow = slow.reply()?;
    ensure!(slow.status == 200, "the request in flight: {slow:?}");
    Ok("503 at once, late connections served, the request in flight finished".to_owned())
}

const METADATA_PORT: u16 = 1338;
