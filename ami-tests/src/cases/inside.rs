//! The machine seen from inside.

use anyhow::{Context, ensure};

use crate::{guest::Guest, world::World};

pub(super) fn ring(_: &World, guest: &mut Guest) -> anyhow::Result<String> {
    let status = guest.run("gatehouse status")?;
    let workers = status.lines().find(|line| line.contains("workers")).context("no workers in the status")?;
    ensure!(workers.contains("uring"), "{status}");
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

/// The baked disk, as it was before this machine's first boot: what lies under the overlay's own files.
pub(super) fn image(_: &World, guest: &mut Guest) -> anyhow::Result<String> {
    guest.run("mkdir --parents /run/image && mount -o ro,noload /dev/vdc3 /run/image")?;
    let left = guest.run(
        "cd /run/image; ls etc/ssh/ssh_host_* root/.ssh home/*/.ssh root/.bash_history home/*/.bash_history var/lib/gatehouse/* \
         var/lib/apt/lists/*_Packages var/cache/apt/archives/*.deb var/log/journal/* var/lib/cloud/instance etc/sudoers.d/90-cloud-init-users \
         usr/sbin/sshd tmp/* 2>/dev/null; true",
    )?;
    ensure!(left.is_empty(), "left in the image: {left}");
    let identity = guest.run("stat --format=%s /run/image/etc/machine-id")?;
    ensure!(identity == "0", "machine-id has {identity} bytes");
    let secrets = guest.run(
        "cd /run/image; grep --recursive --files-with-matches --binary-files=without-match 'PRIVATE KEY' etc home root var; true",
    )?;
    ensure!(secrets.is_empty(), "private keys: {secrets}");
    let users = guest.run("awk -F: '$2 !~ /^[*!]/ { print $1 }' /run/image/etc/shadow")?;
    ensure!(users.is_empty(), "users with a password: {users}");
    let packages = guest.run("dpkg-query --show --admindir=/run/image/var/lib/dpkg | wc -l")?;
    let privileged = guest.run("find /run/image -xdev -type f -perm /6000 | wc -l")?;
    guest.run("umount /run/image")?;
    Ok(format!("{packages} packages, {privileged} files with SUID or SGID"))
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key))
}

const MOST_EXPOSURE: f64 = 2.5;
