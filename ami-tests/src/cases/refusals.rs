//! What is wrong with settings or surroundings: told at the console and in the log with its remedy, and nothing is served
//! until it is mended; then nothing more has to be done.

use anyhow::ensure;

use crate::{guest::Guest, services::Closed, world::World};

pub(super) fn malformed(world: &World, guest: &mut Guest) -> anyhow::Result<String> {
    let wanted = ["limits.connections", "many", "90-wrong.toml:2"];
    refused(world, guest, &Spoilt::by("[limits]\nconnections = \"many\"\n"), &wanted)
}

pub(super) fn no_region(world: &World, guest: &mut Guest) -> anyhow::Result<String> {
    // By one file and one rename: the unit is started again and again meanwhile, and half of this mended would be
    // settings that are right, of an instance that waits for AWS.
    let fleet = "/etc/gatehouse/conf.d/50-fleet.toml";
    let spoilt = Spoilt {
        how: format!("sed --in-place=.kept '/^region/d; s/^endpoint.*/endpoint = \"aws\"/' {fleet}"),
        mended: format!("mv {fleet}.kept {fleet}"),
    };
    refused(world, guest, &spoilt, &["store.region", "AWS_REGION", "eu-central-1"])
}

pub(super) fn no_table(world: &World, guest: &mut Guest) -> anyhow::Result<String> {
    let wanted = ["table `nobodys`", "not there", "gatehouse tables create"];
    refused(world, guest, &Spoilt::by("[store]\ndomains_table = \"nobodys\"\n"), &wanted)
}

pub(super) fn no_permission(world: &World, guest: &mut Guest) -> anyhow::Result<String> {
    let _closed = Closed::start(&world.edge.network.edge)?;
    let spoilt = Spoilt::by(&format!("[store]\nendpoint = {:?}\n", Closed::endpoint()));
    refused(world, guest, &spoilt, &["table `gatehouse-certificates`", "not authorized"])
}

pub(super) fn port_taken(world: &World, guest: &mut Guest) -> anyhow::Result<String> {
    let from = guest.console().len();
    guest
        .run("systemctl stop gatehouse && systemd-run --quiet --unit=squatter python3 -m http.server 443")?;
    guest.run("until ss --no-header --listening --tcp --numeric | grep --quiet :443; do sleep 1; done")?;
    guest.run("systemctl start --no-block gatehouse")?;
    guest.await_console(from, &["Not running", "0.0.0.0:443", "listened on already"])?;
    closed(world, guest)?;
    guest.run("systemctl stop squatter")?;
    world.await_health(guest.place, 200)?;
    Ok(last_word(guest))
}

/// What is made wrong on a machine, as commands of a shell.
struct Spoilt {
    how: String,
    mended: String,
}

impl Spoilt {
    /// By settings that come after all others.
    fn by(fragment: &str) -> Self {
        let text = fragment.replace('\n', "\\n");
        Self { how: format!("printf '{text}' >{WRONG}"), mended: format!("rm {WRONG}") }
    }
}

/// With the fault the instance does not serve and says `texts`; without it, it serves by itself.
fn refused(world: &World, guest: &mut Guest, spoilt: &Spoilt, texts: &[&str]) -> anyhow::Result<String> {
    let from = guest.console().len();
    guest.run(&format!("{} && systemctl restart --no-block gatehouse", spoilt.how))?;
    guest.await_console(from, &["Not running", "next: correct"])?;
    guest.await_console(from, texts)?;
    closed(world, guest)?;
    let log = guest.run("journalctl --unit=gatehouse --lines=20 --no-pager --output=cat")?;
    ensure!(texts.iter().all(|text| log.contains(text)), "{texts:?} not in the log: {log}");
    let said = last_word(guest);
    guest.run(&spoilt.mended)?;
    world.await_health(guest.place, 200)?;
    Ok(said)
}

/// Neither health nor anything else is answered.
fn closed(world: &World, guest: &Guest) -> anyhow::Result<()> {
    let health = world.health(guest.place);
    ensure!(health.is_err(), "health says {health:?}");
    Ok(())
}

fn last_word(guest: &Guest) -> String {
    let console = guest.console();
    let said = console.lines().rev().find(|line| line.contains("Not running"));
    said.unwrap_or_default().trim().to_owned()
}

const WRONG: &str = "/etc/gatehouse/conf.d/90-wrong.toml";
