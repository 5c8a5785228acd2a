//! `cargo xtask setup`: what the other commands need and Cargo does not bring, from Debian's archive and crates.io.
//! Invariant: what is there is never installed again, and looking costs no process but rustup's
//! (`what_is_there_is_not_missing`).

mod packages;

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use xshell::{Shell, cmd};

use self::packages::{ARM64, ARM64_LIBRARY, Environment, Group, LLVM, PACKAGES, PYTHON, Package};
use crate::{node, python};

/// What the set-up is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// `run`.
    Run,
    /// `test`.
    Test,
    /// `package`.
    Package,
    /// `image`.
    Image,
    /// `image ami`, `publish` and `rehearse-ami`.
    Aws,
    /// `bench`.
    Bench,
    /// `conformance`.
    Conformance,
    /// `templates`.
    Templates,
    /// All of them.
    All,
}

impl Purpose {
    fn takes(self, group: Group) -> bool {
        match group {
            Group::Tests => {
                matches!(self, Self::Run | Self::Test | Self::Bench | Self::Conformance | Self::All)
            }
            Group::Origins => matches!(self, Self::Test | Self::All),
            Group::Templates => matches!(self, Self::Test | Self::Templates | Self::All),
            Group::OriginsAndBenches => matches!(self, Self::Test | Self::Bench | Self::All),
            // `package function` packs with it.
            Group::Python => !matches!(self, Self::Run | Self::Bench | Self::Image),
            Group::Toolchain => !matches!(self, Self::Image | Self::Aws | Self::Templates),
            Group::Packaging => matches!(self, Self::Package | Self::All),
            Group::Image => matches!(self, Self::Image | Self::All),
            Group::Aws => matches!(self, Self::Aws | Self::All),
            Group::Debian => matches!(self, Self::Package | Self::Image | Self::All),
            Group::Benches => matches!(self, Self::Bench | Self::All),
            Group::BenchesAndConformance => matches!(self, Self::Bench | Self::Conformance | Self::All),
            Group::Conformance => matches!(self, Self::Conformance | Self::All),
        }
    }
}

/// Installs what is missing for `purpose`; says what and why, asks nothing, is silent when nothing is missing.
pub(crate) fn run(shell: &Shell, purpose: Purpose) -> anyhow::Result<()> {
    let spares_toolchain = purpose.takes(Group::Toolchain) && has_nightly_sources(shell);
    let needed: Vec<&Package> = PACKAGES
        .iter()
        .filter(|package| {
            purpose.takes(package.group) && !(package.group == Group::Toolchain && spares_toolchain)
        })
        .collect();
    // Twice: a package of another release may have to go for one of these (qemu-utils of backports for QEMU), and comes back.
    for _ in 0..2 {
        let missing: Vec<&Package> =
            needed.iter().copied().filter(|package| !package.is_there(on_path)).collect();
        install_packages(shell, &missing)?;
    }
    if purpose.takes(Group::Toolchain) {
        install_bpf_linker(shell)?;
    }
    for environment in PYTHON.iter().filter(|environment| purpose.takes(environment.group)) {
        install_environment(shell, environment)?;
    }
    if purpose.takes(Group::Origins) {
        let what = "browser tools    playwright-core and axe-core; installing them from npm";
        keep_installed(shell, node::LOCK, node::FOLDER, what, |folder| node::install(shell, folder))?;
    }
    if purpose.takes(Group::Packaging) { install_cargo_deb(shell) } else { Ok(()) }
}

/// Installs what builds for arm64 on another machine, and starts what was built. Apart from the rest, because it makes this
/// machine one of two architectures.
pub(crate) fn arm64(shell: &Shell) -> anyhow::Result<()> {
    if !Path::new(ARM64_LIBRARY).exists() && on_path("dpkg") && is_root(shell)? {
        cmd!(shell, "dpkg --add-architecture arm64").quiet().run()?;
    }
    let missing: Vec<&Package> = ARM64.iter().filter(|package| !package.is_there(on_path)).collect();
    install_packages(shell, &missing)
}

/// Fails with the remedy unless this is root: namespaces, XDP and ports below 1024 need it.
pub(crate) fn require_root(shell: &Shell, command: &str) -> anyhow::Result<()> {
    if is_root(shell)? {
        return Ok(());
    }
    bail!(
        "`cargo xtask {command}` makes network namespaces and attaches XDP programs, so it needs root: \
         sudo --preserve-env=HOME env PATH=\"$PATH\" cargo xtask {command}"
    )
}

fn install_packages(shell: &Shell, missing: &[&Package]) -> anyhow::Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    println!("missing on this machine:");
    for Package { name, why, .. } in missing {
        println!("  {name:16} {why}");
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    if !on_path("apt-get") {
        bail!("this is not Debian: install the equivalents of {}, then run this again", names.join(" "));
    }
    if !is_root(shell)? {
        let names = names.join(" ");
        bail!("not root: run `sudo apt-get install --no-install-recommends {names}`, then this again");
    }
    println!("installing them with apt-get");
    let _noninteractive = shell.push_env("DEBIAN_FRONTEND", "noninteractive");
    cmd!(shell, "apt-get -qq -o Acquire::Retries=5 update").quiet().run().context("apt-get update failed")?;
    cmd!(shell, "apt-get -qq -o Acquire::Retries=5 install --yes --no-install-recommends {names...}")
        .quiet()
        .ignore_stdout()
        .run()
        .context("Debian 12 has all of these in bookworm and bookworm-security: are both in /etc/apt?")?;
    stop_services(shell, missing)
}

/// Debian starts a service as it installs it; where systemd runs, those that came along are stopped again.
fn stop_services(shell: &Shell, installed: &[&Package]) -> anyhow::Result<()> {
    if !Path::new("/run/systemd/system").exists() {
        return Ok(());
    }
    for service in installed.iter().filter_map(|package| package.service) {
        println!("stopping the service {service}, which nothing here needs");
        cmd!(shell, "systemctl disable --now {service}").quiet().ignore_stderr().run()?;
    }
    Ok(())
}

/// What `PyPI` has, in an environment of its own.
fn install_environment(shell: &Shell, environment: &Environment) -> anyhow::Result<()> {
    let &Environment { folder, requirements, what, .. } = environment;
    let what = format!("{what}; installing them from PyPI");
    keep_installed(shell, requirements, folder, &what, |folder| python::install(shell, folder, requirements))
}

/// Makes `folder` anew by `install`, unless that was done with what `list` says now: its copy there says with what it was.
fn keep_installed(
    shell: &Shell,
    list: &str,
    folder: &str,
    what: &str,
    install: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (wanted, folder) = (shell.read_file(list)?, Path::new(folder));
    // Written last.
    let installed = folder.join("installed");
    if shell.path_exists(&installed) && shell.read_file(&installed)? == wanted {
        return Ok(());
    }
    println!("  {what}, which takes ten seconds");
    shell.remove_path(folder)?;
    install(folder)?;
    Ok(shell.write_file(&installed, wanted)?)
}

fn install_bpf_linker(shell: &Shell) -> anyhow::Result<()> {
    if has_cargo_command("bpf-linker") {
        return Ok(());
    }
    println!("  bpf-linker       links the XDP program; installing it with cargo, which takes two minutes");
    if !Path::new(LLVM).exists() {
        cmd!(shell, "cargo install --quiet bpf-linker --version {BPF_LINKER}").quiet().run()?;
        return Ok(());
    }
    // The linker's LLVM must not be older than the compiler's, so both are of Debian's LLVM 22.
    let _prefix = shell.push_env("LLVM_PREFIX", LLVM);
    let install = cmd!(shell, "cargo install --quiet bpf-linker --version {BPF_LINKER}");
    install.args(["--no-default-features", "--features", "llvm-22"]).quiet().run()?;
    Ok(())
}

fn install_cargo_deb(shell: &Shell) -> anyhow::Result<()> {
    if has_cargo_command("cargo-deb") {
        return Ok(());
    }
    println!("  cargo-deb        packs the Debian package; installing it with cargo, which takes a minute");
    cmd!(shell, "cargo install --quiet --locked cargo-deb --version {CARGO_DEB}").quiet().run()?;
    Ok(())
}

fn has_cargo_command(name: &str) -> bool {
    on_path(name) || cargo_home().is_some_and(|home| home.join("bin").join(name).exists())
}

/// Whether rustup has a nightly with the standard library's sources, so that Debian's compiler is not needed.
fn has_nightly_sources(shell: &Shell) -> bool {
    let sysroot = cmd!(shell, "rustup run nightly rustc --print sysroot").quiet().ignore_stderr().read();
    sysroot.is_ok_and(|sysroot| Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").exists())
}

fn is_root(shell: &Shell) -> anyhow::Result<bool> {
    Ok(cmd!(shell, "id --user").quiet().read()? == "0")
}

fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder: PathBuf| folder.join(program)).any(|file| file.is_file())
}

fn cargo_home() -> Option<PathBuf> {
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}

const BPF_LINKER: &str = "0.13.0";
const CARGO_DEB: &str = "3.8.0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_missing() {
        let program = Package::new(Group::Tests, "pebble", "pebble", "");
        assert!(program.is_there(|name| name == "pebble"));
        assert!(!program.is_there(|_| false));
        let file = Package::new(Group::Tests, "base-files", "/etc", "");
        assert!(file.is_there(|_| false));
    }

    #[test]
    fn every_package_is_named_once_and_says_what_it_is_for() {
        for (index, package) in PACKAGES.iter().enumerate() {
            assert!(!package.why.is_empty() && !package.shows.is_empty(), "{}", package.name);
            assert!(
                PACKAGES[..index].iter().all(|other| other.name != package.name),
                "{} twice",
                package.name
            );
        }
    }
}
