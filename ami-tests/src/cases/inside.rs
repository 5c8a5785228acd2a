//! The machine seen from inside.

use anyhow::{Context, ensure};

use crate::{guest::Guest, world::World};

/// The unit's limits and its system call filter permit either way of waiting for sockets.
pub(super) fn ring(world: &World, guest: &mut Guest) -> anyhow::Result<String> {
    guest.run(&format!("printf '[worker]\\nio = \"uring\"\\n' >{RING} && systemctl restart gatehouse"))?;
    world.await_health(guest.place, 200)?;
    let ring = workers(guest)?;
    guest.run(&format!("rm {RING} && systemctl restart gatehouse"))?;
    world.await_health(guest.place, 200)?;
    ensure!(ring.contains("uring"), "{ring}");
    Ok(format!("{ring}; by default {}", workers(guest)?))
}

fn workers(guest: &mut Guest) -> anyhow::Result<String> {
    let status = guest.run("gatehouse status")?;
    let workers = status.lines().find(|line| line.contains("workers")).context("no workers in the status")?;
    Ok(workers.split_whitespace().collect::<Vec<_>>().join(" "))
}

pub(super) fn console(world: &World, guest: &mut Guest) -> anyhow::Result<String> {
    let (v4, version) = (guest.place.v4().to_string(), guest.run("gatehouse --version")?);
    guest.await_console(0, &[&format!("{version} at"), &v4, "Serving", "next: "])?;
    let from = guest.console().len();
    guest.run("systemctl stop gatehouse")?;
    guest.await_console(from, &["Stopped", "next: systemctl start gatehouse"])?;
    guest.run("systemctl start gatehouse")?;
    guest.await_console(from, &["Serving"])?;
    world.await_health(guest.place, 200)?;
    Ok(guest.console().lines().rev().find(|line| line.contains(&v4)).unwrap_or_default().to_owned())
}

/// 80 and 443 are the public ones; the metrics' is of this trial's settings.
pub(super) fn ports(_: &World, guest: &mut Guest) -> anyhow::Result<String> {
    let listening = guest.run("ss --no-header --listening --tcp --udp --numeric")?;
    let mut open: Vec<u16> = listening
        .lines()
        .filter_map(|line| line.split_whitespace().nth(4))
        .filter(|address| !address.starts_with("127.") && !address.starts_with("[::1]"))
        .filter_map(|address| address.rsplit(':').next()?.parse().ok())
        .collect();
    open.sort_unstable();
    open.dedup();
    ensure!(open == [80, 443, 9464], "{listening}");
    Ok("80, 443, and the metrics' as these settings have it".to_owned())
}

pub(super) fn unit(_: &World, guest: &mut Guest) -> anyhow::Result<String> {
    let said = guest.run("systemd-analyze security --no-pager gatehouse.service | tail -n 1")?;
    let exposure: f64 = said
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .with_context(|| format!("no figure in: {said}"))?;
    ensure!(exposure <= MOST_EXPOSURE, "{said}");
    let failed = guest.run("systemctl list-units --failed --no-legend --plain")?;
    ensure!(failed.is_empty(), "failed units: {failed}");
    let show =
        "systemctl show gatehouse.service --property=MemoryCurrent --property=NRestarts --property=MainPID";
    let shown = guest.run(show)?;
    ensure!(shown.contains("NRestarts=0"), "{shown}");
    let capabilities = guest.run("grep CapEff /proc/$(systemctl show gatehouse -P MainPID)/status")?;
    // CAP_NET_BIND_SERVICE (10), CAP_NET_ADMIN (12), CAP_PERFMON (38), CAP_BPF (39).
    ensure!(capabilities.ends_with("000000c000001400"), "{capabilities}");
    let memory = guest.run(
        "grep VmRSS /proc/$(systemctl show gatehouse -P MainPID)/status | tr -s '[:space:]' ' '; free --mebi | awk '/^Mem/ { print $3 }'",
    )?;
    let bytes: u64 = value(&shown, "MemoryCurrent=").context("no memory")?.parse()?;
    let memory = memory.replace('\n', ", machine uses (MiB) ");
    Ok(format!("exposure {exposure}; cgroup {} MiB, {memory}", bytes >> 20))
}

pub(super) fn doctor(_: &World, guest: &mut Guest) -> anyhow::Result<String> {
    let said = guest.run("gatehouse doctor")?;
    Ok(format!("{} checks", said.lines().count() - 1))
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key))
}

const MOST_EXPOSURE: f64 = 2.5;
const RING: &str = "/etc/gatehouse/conf.d/60-ring.toml";
