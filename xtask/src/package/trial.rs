//! The package's life in a Debian of its own: installed, upgraded, removed, purged, and judged by lintian and systemd.
//! Not here: how the service runs, for which a machine has to boot.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use xshell::{Shell, cmd};

use super::{Archive, FOLDER, Product, archive, debian::Debian};
use crate::units;

/// Runs all steps for the package of `product`, and prints what was seen in each.
pub(super) fn run(shell: &Shell, archive: &Archive, product: Product) -> anyhow::Result<()> {
    let path = &archive.path;
    cmd!(shell, "lintian --fail-on error --tag-display-limit 0 {path}")
        .quiet()
        .run()
        .context("lintian objects")?;
    println!("lintian: no error");
    let machine = Machine::make(shell)?;
    let before = machine.files()?;
    match product {
        Product::Gatehouse => {
            machine.install(path)?;
            machine.settle_in()?;
            machine.upgrade(path)?;
            machine.remove()?;
        }
        Product::GatehouseDeploy => {
            machine.dpkg_install(path)?;
            machine.plans()?;
            machine.raise(path, product)?;
            machine.plans()?;
        }
    }
    machine.purge(&before, product)
}

/// The Debian in which all this happens.
struct Machine<'a>(Debian<'a>);

impl<'a> Machine<'a> {
    /// A fresh one, from a tree that is made once.
    fn make(shell: &'a Shell) -> anyhow::Result<Self> {
        let kept = shell.current_dir().join(FOLDER).join("debian");
        if !kept.exists() {
            println!("trial: making a Debian to try the package in");
            let unfinished = kept.with_extension("unfinished");
            shell.remove_path(&unfinished)?;
            let include = "--include=systemd,iproute2,ethtool,ca-certificates";
            let retries = "--aptopt=Acquire::Retries \"5\"";
            cmd!(shell, "mmdebstrap --mode=root --variant=minbase {retries} {include} bookworm {unfinished}")
                .quiet()
                .run()?;
            fs::rename(&unfinished, &kept)?;
        }
        Debian::copy_of(shell, &kept).map(Self)
    }

    fn install(&self, archive: &Path) -> anyhow::Result<()> {
        self.dpkg_install(archive)?;
        self.inside("getent passwd gatehouse")?;
        let said = self.inside("gatehouse validate")?;
        ensure!(
            said.contains("/etc/gatehouse/gatehouse.toml"),
            "the settings it came with are not used: {said}"
        );
        self.ensure_there(&[ENABLED, "/etc/gatehouse/conf.d", "/run/gatehouse"])?;
        self.inside(
            "systemd-analyze verify --man=no gatehouse.service run-gatehouse-bpf.mount gatehouse-nic.service gatehouse-console.service",
        )?;
        let said = self.inside("systemd-analyze security --offline=true gatehouse.service")?;
        let exposure = units::exposure(&said)?;
        println!("install: user, folders and settings are there; units are valid, exposure {exposure}");
        Ok(())
    }

    /// What an operator and a running service leave behind.
    fn settle_in(&self) -> anyhow::Result<()> {
        fs::write(self.path("/etc/gatehouse/gatehouse.toml"), format!("{EDITED}\n"))?;
        fs::write(self.path("/etc/gatehouse/conf.d/50-operator.toml"), "[log]\nformat = \"json\"\n")?;
        fs::create_dir_all(self.path("/var/lib/gatehouse"))?;
        fs::write(self.path("/var/lib/gatehouse/store.db"), "kept")?;
        Ok(())
    }

    /// The operator's program as it was installed: it plans a fleet without the sources, and has what an administrator needs.
    fn plans(&self) -> anyhow::Result<()> {
        let folder = self.path("/tmp/fleet");
        fs::create_dir(&folder)?;
        fs::write(folder.join("fleet-prd.toml"), FLEET)?;
        fs::write(folder.join("settings.toml"), "[verification]\nedge_names = [\"edge.example.com\"]\n")?;
        let plan = "gatehouse-deploy plan --stage prd --offline --file /tmp/fleet/fleet-prd.toml";
        let said = self.inside(plan)?;
        fs::remove_dir_all(&folder)?;
        ensure!(said.contains("3. eu-central-1: create gatehouse-prd-fleet"), "it does not plan: {said}");
        self.ensure_there(&[
            "/usr/share/gatehouse-deploy/deployer.yaml",
            "/usr/share/doc/gatehouse-deploy/deploying.md",
            "/usr/share/man/man1/gatehouse-deploy-update.1.gz",
        ])?;
        println!("install: a fleet is planned without the sources");
        Ok(())
    }

    /// Installs the same package under a later version, which it returns.
    fn raise(&self, archive: &Path, product: Product) -> anyhow::Result<String> {
        let next = self.path("/tmp/next.deb");
        let later = archive::later(self.0.shell, archive, &next)?;
        self.dpkg_install(&next)?;
        fs::remove_file(&next)?;
        let show = format!("dpkg-query --show --showformat=${{Version}} {}", product.name());
        let now = self.inside(&show)?;
        ensure!(now == later, "after the upgrade the version is {now} and not {later}");
        Ok(later)
    }

    /// Does so beside what an operator and a running service have left.
    fn upgrade(&self, archive: &Path) -> anyhow::Result<()> {
        let later = self.raise(archive, Product::Gatehouse)?;
        let settings = fs::read_to_string(self.path("/etc/gatehouse/gatehouse.toml"))?;
        ensure!(settings.trim() == EDITED, "the upgrade changed the operator's settings: {settings}");
        self.ensure_there(&[ENABLED, "/var/lib/gatehouse/store.db"])?;
        println!("upgrade: to {later}, settings and state as they were");
        Ok(())
    }

    fn remove(&self) -> anyhow::Result<()> {
        self.inside("dpkg --remove gatehouse")?;
        ensure!(!self.path("/usr/bin/gatehouse").exists(), "the binary is still there");
        self.ensure_there(&["/var/lib/gatehouse/store.db", "/etc/gatehouse/gatehouse.toml"])?;
        println!("remove: the program is gone, settings and state are left");
        Ok(())
    }

    fn purge(&self, before: &BTreeSet<String>, product: Product) -> anyhow::Result<()> {
        self.inside(&format!("dpkg --purge {}", product.name()))?;
        let after = self.files()?;
        let left: Vec<_> = after.difference(before).collect();
        ensure!(left.is_empty(), "purging left {left:?}");
        let lost: Vec<_> = before.difference(&after).collect();
        ensure!(lost.is_empty(), "purging removed what was there before: {lost:?}");
        println!("purge: nothing is left but the user");
        Ok(())
    }

    fn dpkg_install(&self, archive: &Path) -> anyhow::Result<()> {
        fs::copy(archive, self.path("/tmp/gatehouse.deb"))?;
        let done = self.inside("dpkg --force-confold --install /tmp/gatehouse.deb");
        fs::remove_file(self.path("/tmp/gatehouse.deb"))?;
        done.map(drop)
    }

    fn inside(&self, command: &str) -> anyhow::Result<String> {
        self.0.inside(command)
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.0.path(inside)
    }

    fn ensure_there(&self, paths: &[&str]) -> anyhow::Result<()> {
        for path in paths {
            // A symbolic link counts, wherever it leads.
            ensure!(self.path(path).symlink_metadata().is_ok(), "{path} is missing");
        }
        Ok(())
    }

    /// Every path that a package may have made: dpkg's and systemd's own records are left out, and so is the user.
    fn files(&self) -> anyhow::Result<BTreeSet<String>> {
        let found = self.0.files()?;
        let counted = found.into_iter().filter(|path| !BOOKS.iter().any(|book| path.starts_with(book)));
        Ok(counted.collect())
    }
}

const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/gatehouse.service";
const FLEET: &str = "home_region = \"eu-central-1\"\nimage_version = \"0.1.0\"\nsettings = \"settings.toml\"\n\
    function = \"fleet-function-0123456789abcdef.zip\"\n[regions.eu-central-1]\n";
const EDITED: &str = "state_directory = \"/var/lib/gatehouse\"";
const BOOKS: [&str; 10] = [
    "/var/lib/dpkg",
    "/var/lib/systemd",
    "/run/systemd",
    "/var/log",
    "/var/cache",
    "/proc",
    "/etc/passwd",
    "/etc/shadow",
    "/etc/group",
    "/etc/gshadow",
];
