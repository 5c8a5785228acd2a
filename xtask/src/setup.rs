//! `cargo xtask setup`: what the other commands need and Cargo does not bring, from Debian's archive and crates.io.
//! Invariant: what is there is never installed again, and looking costs no process but rustup's
//! (`what_is_there_is_not_missing`).

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use xshell::{Shell, cmd};

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
        node::install(shell)?;
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

struct Package {
    name: &'static str,
    /// A program on the PATH, or a file: there when the package is.
    shows: &'static str,
    why: &'static str,
    group: Group,
    /// A service that its installation starts, and that nothing here needs.
    service: Option<&'static str>,
}

/// An environment of Python.
struct Environment {
    group: Group,
    folder: &'static str,
    requirements: &'static str,
    what: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Tests,
    /// The servers around Gatehouse in end-to-end cases.
    Origins,
    OriginsAndBenches,
    /// What judges `infra`.
    Templates,
    /// For environments of Python.
    Python,
    Toolchain,
    Packaging,
    Image,
    Aws,
    /// Of both.
    Debian,
    Benches,
    BenchesAndConformance,
    Conformance,
}

impl Package {
    const fn new(group: Group, name: &'static str, shows: &'static str, why: &'static str) -> Self {
        Self { name, shows, why, group, service: None }
    }

    const fn with_service(mut self, service: &'static str) -> Self {
        self.service = Some(service);
        self
    }

    fn is_there(&self, on_path: impl Fn(&str) -> bool) -> bool {
        if self.shows.starts_with('/') { Path::new(self.shows).exists() } else { on_path(self.shows) }
    }
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
    cmd!(shell, "apt-get -qq update").quiet().run().context("apt-get update failed")?;
    cmd!(shell, "apt-get -qq install --yes --no-install-recommends {names...}")
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

/// What `PyPI` has, in an environment of its own; its copy of the list of requirements says what is there.
fn install_environment(shell: &Shell, environment: &Environment) -> anyhow::Result<()> {
    let &Environment { folder, requirements, what, .. } = environment;
    let wanted = shell.read_file(requirements)?;
    let there = Path::new(folder).join("requirements.txt");
    if shell.path_exists(&there) && shell.read_file(&there)? == wanted {
        return Ok(());
    }
    println!("  {what}; installing them from PyPI, which takes ten seconds");
    shell.remove_path(folder)?;
    python::install(shell, Path::new(folder), requirements)?;
    Ok(shell.write_file(&there, wanted)?)
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

const PACKAGES: &[Package] = &[
    Package::new(
        Group::Tests,
        "haproxy",
        "haproxy",
        "a load balancer that says who its clients are; a peer of the benches",
    )
    .with_service("haproxy"),
    Package::new(Group::Tests, "pebble", "pebble", "Let's Encrypt's test CA and the DNS it validates by"),
    Package::new(Group::Tests, "curl", "curl", "the client of the end-to-end cases"),
    Package::new(Group::Tests, "openssl", "openssl", "a second TLS client, for alerts and old versions"),
    Package::new(Group::Tests, "caddy", "caddy", "the server that Gatehouse replaces, beside it")
        .with_service("caddy"),
    Package::new(Group::Tests, "iproute2", "ip", "namespaces, veth pairs and socket listings"),
    Package::new(Group::Tests, "ethtool", "ethtool", "checksum offload, which XDP must not meet on veth"),
    Package::new(Group::Tests, "prometheus", "promtool", "checks the metrics' format")
        .with_service("prometheus"),
    Package::new(Group::Tests, "bpftool", "bpftool", "shows what is attached and pinned"),
    Package::new(Group::Toolchain, "rustc-web", "/usr/share/doc/rustc-web", "compiles the XDP program"),
    Package::new(
        Group::Toolchain,
        "rust-web-src",
        "/usr/share/doc/rust-web-src",
        "its core library's sources",
    ),
    Package::new(Group::Toolchain, "llvm-22-dev", LLVM_CONFIG, "what bpf-linker is built on"),
    Package::new(Group::Toolchain, "libpolly-22-dev", LLVM_POLLY, "likewise"),
    Package::new(Group::Toolchain, "zlib1g-dev", "/usr/include/zlib.h", "likewise"),
    Package::new(Group::Toolchain, "libzstd-dev", "/usr/include/zstd.h", "likewise"),
    Package::new(Group::Toolchain, "libxml2-dev", "/usr/include/libxml2/libxml/parser.h", "likewise"),
    Package::new(Group::Toolchain, "g++", "g++", "its linking needs libstdc++"),
    Package::new(Group::Packaging, "dpkg-dev", "dpkg-shlibdeps", "finds what the binary depends on"),
    Package::new(Group::Packaging, "lintian", "lintian", "knows what Debian asks of a package"),
    Package::new(
        Group::Debian,
        "mmdebstrap",
        "mmdebstrap",
        "makes the Debian to try the package in, and the disk's",
    ),
    Package::new(Group::Image, "packer", "packer", "bakes the image"),
    Package::new(Group::Image, "openssh-client", "ssh-keygen", "the key that Packer provisions with"),
    Package::new(Group::Image, "shellcheck", "shellcheck", "reads the image's scripts"),
    Package::new(Group::Image, "fdisk", "sfdisk", "partitions the base disk"),
    Package::new(Group::Image, "dosfstools", "mkfs.vfat", "its EFI partition"),
    Package::new(Group::Image, "mtools", "mcopy", "likewise"),
    Package::new(Group::Image, "grub2-common", "grub-mkimage", "its boot loader"),
    Package::new(Group::Image, "grub-pc-bin", "/usr/lib/grub/i386-pc", "likewise, for BIOS"),
    Package::new(Group::Image, "grub-efi-amd64-bin", "/usr/lib/grub/x86_64-efi", "likewise, for UEFI"),
    Package::new(Group::Image, "qemu-utils", "qemu-img", "compresses disks"),
    Package::new(Group::Image, "qemu-system-x86", "qemu-system-x86_64", "boots them"),
    Package::new(Group::Image, "debsecan", "debsecan", "knows the vulnerabilities of Debian's packages"),
    Package::new(Group::Aws, "awscli", "aws", "publishes the AMI, and looks at the rehearsed one"),
    Package::new(
        Group::Python,
        "python3-venv",
        "/usr/share/doc/python3-venv",
        "for Python's servers, for moto, the rehearsal's AWS, and for tools that judge",
    ),
    Package::new(Group::Origins, "apache2-bin", "apache2", "an origin of the end-to-end cases"),
    Package::new(Group::Origins, "lighttpd", "lighttpd", "likewise").with_service("lighttpd"),
    Package::new(Group::Origins, "nodejs", "node", "likewise; drives the browser"),
    Package::new(Group::Origins, "npm", "npm", "installs what drives the browser"),
    Package::new(Group::Origins, "chromium", "/usr/bin/chromium", "looks at the pages of the console"),
    Package::new(
        Group::OriginsAndBenches,
        "nginx-light",
        "nginx",
        "likewise, and the peer that is measured beside Gatehouse",
    )
    .with_service("nginx"),
    Package::new(Group::Benches, "wrk", "wrk", "makes the load"),
    Package::new(Group::Benches, "valgrind", "valgrind", "counts instructions"),
    Package::new(
        Group::BenchesAndConformance,
        "nghttp2-client",
        "h2load",
        "makes load at a given rate; nghttp's client",
    ),
    Package::new(Group::Conformance, "varnish", "varnishtest", "plays scripted clients and servers")
        .with_service("varnish"),
    Package::new(Group::Conformance, "testssl.sh", "testssl", "scans TLS"),
    Package::new(Group::Conformance, "bsdextrautils", "hexdump", "testssl needs it"),
    Package::new(Group::Conformance, "slowhttptest", "slowhttptest", "makes slow clients"),
];
const ARM64: &[Package] = &[
    Package::new(Group::Packaging, "rustc-web", "/usr/share/doc/rustc-web", "compiles for it"),
    Package::new(Group::Packaging, "libstd-rust-web-dev:arm64", ARM64_LIBRARY, "its standard library"),
    Package::new(Group::Packaging, "gcc-aarch64-linux-gnu", "aarch64-linux-gnu-gcc", "compiles C, and links"),
    Package::new(
        Group::Packaging,
        "libc6-dev-arm64-cross",
        "/usr/aarch64-linux-gnu/include/sys/types.h",
        "the C library it links",
    ),
    Package::new(Group::Packaging, "qemu-user", "qemu-aarch64", "starts what was built"),
];
const ARM64_LIBRARY: &str = "/usr/lib/rustlib/aarch64-unknown-linux-gnu";
const LLVM: &str = "/usr/lib/llvm-22";
const LLVM_CONFIG: &str = "/usr/lib/llvm-22/bin/llvm-config";
const LLVM_POLLY: &str = "/usr/lib/llvm-22/lib/libPolly.a";
/// Paths are relative to the workspace; `testbed` starts programs from there.
const PYTHON: [Environment; 5] = [
    Environment {
        group: Group::Origins,
        folder: "target/moto",
        requirements: "packer/rehearsal/requirements.txt",
        what: "moto             stands for AWS KMS and CloudFormation",
    },
    Environment {
        group: Group::Origins,
        folder: "target/origins",
        requirements: "testbed/origins/requirements.txt",
        what: "python origins   gunicorn, uvicorn, tornado, waitress, grpcio",
    },
    Environment {
        group: Group::Origins,
        folder: "target/schemathesis",
        requirements: "testbed/api/requirements.txt",
        what: "schemathesis     asks the API what its description permits; openapi-spec-validator reads that",
    },
    Environment {
        group: Group::Templates,
        folder: "target/templates",
        requirements: "infra/check/requirements.txt",
        what: "template checks  cfn-lint, policy_sentry",
    },
    Environment {
        group: Group::Conformance,
        folder: "target/conformance",
        requirements: "testbed/conformance/requirements.txt",
        what: "python tools     sslyze, websockets, h2, wsproto",
    },
];
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
