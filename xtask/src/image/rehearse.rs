//! The steps of provisioning, run on a copy of the base's tree as root and without a boot: half a minute instead of the
//! many that a baking takes without KVM, and the same scripts.
//! Not here: whether what they enable then runs, for which a machine has to boot.
//! Invariants: nothing of one machine is in the image (`what_belongs_to_one_machine_is_found`); the steps are those of the
//! template, in its order (`the_template_runs_every_step_in_order`).

use std::{fs, path::PathBuf};

use anyhow::{Context, ensure};
use xshell::Shell;

use super::base;
use crate::{
    debian::Debian,
    package::{self, Architecture},
};

/// Runs all steps, then looks.
pub(super) fn run(shell: &Shell) -> anyhow::Result<()> {
    let archive = package::build(shell, Architecture::Amd64)?.path;
    let tree = base::tree(shell)?;
    let debian = Debian::copy_of(shell, &tree)?;
    fs::copy(archive, debian.path(DEB))?;
    for step in steps(shell)? {
        let name = step.file_name().and_then(|name| name.to_str()).context("a step's name is not UTF-8")?;
        // Where Packer puts it, so that cleaning finds it there, too.
        let inside = format!("/tmp/script_{name}");
        fs::copy(&step, debian.path(&inside))?;
        debian.inside(&format!("env PACKAGE={DEB} {inside}"))?;
        println!("rehearsal: {name} done");
    }
    look(&debian)
}

fn steps(shell: &Shell) -> anyhow::Result<Vec<PathBuf>> {
    let mut steps = shell.read_dir(STEPS)?;
    steps.sort();
    Ok(steps)
}

fn look(debian: &Debian<'_>) -> anyhow::Result<()> {
    let files = debian.files()?;
    let left: Vec<_> = files.iter().filter(|path| belongs_to_one_machine(path)).collect();
    ensure!(left.is_empty(), "the image would hold {left:?}; have packer/provision/90-clean.sh remove it");
    let identity = fs::metadata(debian.path("/etc/machine-id"))?.len();
    ensure!(identity == 0, "/etc/machine-id is not empty, and every instance would be the same machine");
    let secrets = "! grep --recursive --files-with-matches --binary-files=without-match 'PRIVATE KEY' /etc /home /root /var";
    fs::write(debian.path(LOOK), secrets)?;
    debian.inside(&format!("bash {LOOK}")).context("the image holds a private key")?;
    for path in WANTED {
        ensure!(debian.path(path).symlink_metadata().is_ok(), "{path} is missing");
    }
    report(debian)
}

/// What an auditor asks first.
fn report(debian: &Debian<'_>) -> anyhow::Result<()> {
    let packages = debian.inside("dpkg-query --show")?.lines().count();
    let privileged = debian.inside("find / -xdev -type f -perm /6000")?;
    println!(
        "rehearsal: clean; {packages} packages; files with SUID or SGID: {}",
        privileged.replace('\n', " ")
    );
    Ok(())
}

/// Keys, identities, histories, caches, leftovers of the making, and a way in.
fn belongs_to_one_machine(path: &str) -> bool {
    let below = |folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    let name = path.rsplit('/').next().unwrap_or_default();
    name.starts_with("ssh_host_")
        || [".ssh", ".aws", ".bash_history", "sshd", "policy-rc.d", "random-seed"].contains(&name)
        || ["/tmp", "/var/lib/gatehouse", "/var/lib/cloud", "/var/log/journal"].into_iter().any(below)
        || ["/var/lib/apt/lists", "/var/cache/apt/archives"].into_iter().any(below)
            && !["partial", "lock"].contains(&name)
}

const STEPS: &str = "packer/provision";
const DEB: &str = "/tmp/gatehouse.deb";
/// Not in a folder that it looks into.
const LOOK: &str = "/run/look";
const WANTED: [&str; 4] = [
    "/etc/systemd/system/multi-user.target.wants/gatehouse.service",
    "/etc/systemd/system/multi-user.target.wants/chrony.service",
    "/etc/systemd/system/multi-user.target.wants/unattended-upgrades.service",
    "/etc/gatehouse/conf.d/10-image.toml",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_one_machine_is_found() {
        for (path, belongs) in [
            ("/etc/ssh/ssh_host_ed25519_key.pub", true),
            ("/etc/ssh/ssh_config", false),
            ("/home/admin/.ssh", true),
            ("/root/.bash_history", true),
            ("/usr/sbin/sshd", true),
            ("/usr/sbin/policy-rc.d", true),
            ("/tmp", false),
            ("/tmp/script_1.sh", true),
            ("/var/lib/gatehouse/internal-root.pem", true),
            ("/var/lib/cloud/instances", true),
            ("/var/lib/apt/lists/partial", false),
            ("/var/lib/apt/lists/debian_Packages", true),
            ("/var/cache/apt/archives/curl.deb", true),
            ("/var/cache/apt/archives/lock", false),
            ("/var/lib/systemd/random-seed", true),
        ] {
            assert_eq!(belongs_to_one_machine(path), belongs, "{path}");
        }
    }

    #[test]
    fn the_template_runs_every_step_in_order() {
        let template = include_str!("../../../packer/image.pkr.hcl");
        let listed: Vec<&str> = template
            .lines()
            .filter_map(|line| {
                line.trim().strip_prefix('"')?.strip_suffix("\",").filter(|path| path.starts_with(STEPS))
            })
            .collect();
        let shell = crate::shell().unwrap();
        let there: Vec<String> = steps(&shell)
            .unwrap()
            .iter()
            .map(|step| format!("{STEPS}/{}", step.file_name().unwrap().display()))
            .collect();
        assert_eq!(listed, there);
    }
}
