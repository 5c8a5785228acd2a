//! The baked disk as it is before any machine's first boot: mounted and looked at.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use serde_json::Value;
use testbed::namespace;

use crate::{guest::Guest, world::World};

pub(super) fn clean(world: &World, _: &mut Guest) -> anyhow::Result<String> {
    let root = Mounted::of(&world.image, &world.edge.folder().join("baked"))?;
    for path in FORBIDDEN {
        let left = shell(&format!("ls -d {path} 2>/dev/null; true"), &root.folder)?;
        ensure!(left.is_empty(), "left in the image: {left}");
    }
    for path in WANTED {
        ensure!(root.folder.join(path).symlink_metadata().is_ok(), "{path} is missing");
    }
    let identity = fs::metadata(root.folder.join("etc/machine-id"))?.len();
    ensure!(identity == 0, "every instance would be the same machine: machine-id has {identity} bytes");
    let keys = "grep --recursive --files-with-matches --binary-files=without-match 'PRIVATE KEY' etc home root var; true";
    let keys = shell(keys, &root.folder)?;
    ensure!(keys.is_empty(), "private keys: {keys}");
    let passwords = shell("awk -F: '$2 !~ /^[*!]/ { print $1 }' etc/shadow", &root.folder)?;
    ensure!(passwords.is_empty(), "users with a password: {passwords}");
    let packages = shell("dpkg-query --admindir=var/lib/dpkg --show", &root.folder)?.lines().count();
    let privileged = shell("find . -xdev -type f -perm /6000", &root.folder)?.lines().count();
    let size = fs::metadata(&world.image)?.len() >> 20;
    ensure!(size < LARGEST_MIB, "{size} MiB");
    Ok(format!("{size} MiB, {packages} packages, {privileged} files with SUID or SGID"))
}

/// The root of a disk, read only; dropping it unmounts.
struct Mounted {
    folder: PathBuf,
}

impl Mounted {
    fn of(disk: &Path, work: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(work)?;
        let (raw, folder) = (work.join("raw"), work.join("root"));
        namespace::run(Command::new("qemu-img").args(["convert", "-O", "raw"]).arg(disk).arg(&raw))?;
        let table = namespace::run(Command::new("/usr/sbin/sfdisk").arg("--json").arg(&raw))?;
        let offset =
            root_offset(&serde_json::from_str(&table)?).context("the disk has no partition `root`")?;
        fs::create_dir_all(&folder)?;
        let options = format!("ro,noload,loop,offset={offset}");
        namespace::run(Command::new("mount").args(["-t", "ext4", "-o", &options]).arg(&raw).arg(&folder))?;
        Ok(Self { folder })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = namespace::run(Command::new("umount").arg(&self.folder)) {
            eprintln!("cannot unmount {}: {error:#}", self.folder.display());
        }
    }
}

/// Where the partition `root` begins, in bytes.
fn root_offset(table: &Value) -> Option<u64> {
    let table = table.get("partitiontable")?;
    let partitions = table.get("partitions")?.as_array()?;
    let root =
        partitions.iter().find(|partition| partition.get("name").is_some_and(|name| name == "root"))?;
    Some(root.get("start")?.as_u64()? * table.get("sectorsize").and_then(Value::as_u64).unwrap_or(512))
}

fn shell(line: &str, folder: &Path) -> anyhow::Result<String> {
    Ok(namespace::run(Command::new("sh").args(["-c", line]).current_dir(folder))?.trim().to_owned())
}

/// Keys, identities, histories, caches, leftovers of the build, and access for a person.
const FORBIDDEN: [&str; 15] = [
    "etc/ssh/ssh_host_*",
    "root/.ssh home/*/.ssh",
    "root/.aws home/*/.aws",
    "root/.bash_history home/*/.bash_history",
    "var/lib/gatehouse/*",
    "var/lib/cloud/*",
    "var/lib/systemd/random-seed",
    "var/lib/apt/lists/*_*",
    "var/cache/apt/archives/*.deb",
    "var/log/journal/*",
    "etc/sudoers.d/90-cloud-init-users",
    "usr/sbin/policy-rc.d",
    "usr/sbin/sshd",
    "tmp/*",
    "var/tmp/*",
];
const WANTED: [&str; 5] = [
    "etc/systemd/system/multi-user.target.wants/gatehouse.service",
    "etc/systemd/system/multi-user.target.wants/chrony.service",
    "etc/systemd/system/multi-user.target.wants/unattended-upgrades.service",
    "etc/gatehouse/conf.d/10-image.toml",
    "etc/systemd/system/gatehouse.service.d/nic.conf",
];
const LARGEST_MIB: u64 = 250;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_found_by_its_name() {
        let table = serde_json::json!({ "partitiontable": { "sectorsize": 512, "partitions": [
            { "start": 2048, "name": "bios" }, { "start": 135_168, "name": "root" },
        ] } });
        assert_eq!(root_offset(&table), Some(66 << 20));
        assert_eq!(root_offset(&serde_json::json!({})), None);
    }
}
