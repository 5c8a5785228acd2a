//! Machines that share state, and one that has nobody to share it with.

use anyhow::ensure;
use testbed::gatehouse::Place;

use super::names::SHOP;
use crate::{guest::Guest, world::World};

pub(super) fn alone(world: &World, guest: &mut Guest) -> anyhow::Result<String> {
    let from = guest.console().len();
    guest.run("rm /etc/gatehouse/conf.d/50-fleet.toml && systemctl restart gatehouse")?;
    world.await_health(guest.place, 200)?;
    let status = guest.run("gatehouse status")?;
    let log = guest
        .run("journalctl --unit=gatehouse --no-pager --output=cat | grep 'embedded store' | tail -n 1")?;
    ensure!(!log.is_empty(), "the log does not say whose store it is: {status}");
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
