//! `cargo xtask build-ebpf`: the guard's object and the stub, by the toolchain that is installed, into `target/ebpf`.
//! Not here: whether the kernel accepts them (`verify-object` of `proxy-common`), installing anything (`setup`).

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use xshell::{Cmd, Shell, cmd};

use crate::{path_remap::Places, shell};

/// Builds both objects, and has the kernel verify them when they have changed.
pub(crate) fn run() -> anyhow::Result<()> {
    let shell = shell()?;
    let toolchain = Toolchain::find(&shell)?;
    println!("guard: building with {}", toolchain.name());
    build(&shell, &toolchain)?;
    let folder = shell.current_dir().join("target/ebpf");
    fs::create_dir_all(&folder)?;
    let mut changed = false;
    for name in OBJECTS {
        let built = shell.current_dir().join("target/ebpf-build").join(TARGET).join("release").join(name);
        changed |= publish(&built, &folder.join(name))?;
    }
    let verified = folder.join(".verified");
    if changed || !verified.exists() {
        verify(&shell, &folder, &verified)?;
    }
    println!("guard: {}", folder.join("guard").display());
    Ok(())
}

/// A compiler for the kernel's target together with the sources of `core`.
enum Toolchain {
    /// rustup's nightly with `rust-src`.
    Nightly,
    /// Debian's rustc-web and rust-web-src.
    Debian,
}

impl Toolchain {
    fn find(shell: &Shell) -> anyhow::Result<Self> {
        if quietly(cmd!(shell, "bpf-linker --version")).is_none() {
            bail!("bpf-linker is missing; {REMEDY}");
        }
        let nightly = quietly(cmd!(shell, "rustup run nightly rustc --print sysroot"));
        if nightly.as_deref().is_some_and(has_sources) {
            return Ok(Self::Nightly);
        }
        let debian = quietly(cmd!(shell, "{DEBIAN_RUSTC} --print sysroot"));
        if debian.as_deref().is_some_and(has_sources) {
            return Ok(Self::Debian);
        }
        match (nightly, debian) {
            (None, None) => bail!("neither rustup's nightly nor Debian's rustc-web is here; {REMEDY}"),
            (Some(_), _) => bail!("rustup's nightly lacks the sources of core; {REMEDY}"),
            (None, Some(_)) => bail!("{DEBIAN_RUSTC} lacks the sources of core; {REMEDY}"),
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Nightly => "rustup's nightly",
            Self::Debian => "Debian's rustc-web",
        }
    }

    fn cargo<'a>(&self, shell: &'a Shell) -> Cmd<'a> {
        match self {
            Self::Nightly => cmd!(shell, "rustup run nightly cargo").env_remove("RUSTC"),
            // Building core asks for unstable options, which this stable compiler has behind the variable.
            Self::Debian => cmd!(shell, "cargo").env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1"),
        }
    }
}

fn build(shell: &Shell, toolchain: &Toolchain) -> anyhow::Result<()> {
    let places = Places::of(&shell.current_dir())?.rust_flags();
    let flags: Vec<&str> = FLAGS.into_iter().chain(places.iter().map(String::as_str)).collect();
    toolchain
        .cargo(shell)
        .args(["build", "--quiet", "--package", "proxy-ebpf", "--release", "-Z", "build-std=core"])
        // A folder of its own: sharing one would make this wait for, and spoil, every other build.
        .args(["--target", TARGET, "--target-dir", "target/ebpf-build"])
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTUP_TOOLCHAIN")
        .quiet()
        .run()
        .context("the guard's program does not build")
}

/// Copies an object to where others look for it, unless it is there; its time stamp tells them that it changed.
fn publish(from: &Path, to: &Path) -> anyhow::Result<bool> {
    let object = fs::read(from).with_context(|| format!("{} was not built", from.display()))?;
    if fs::read(to).is_ok_and(|there| there == object) {
        return Ok(false);
    }
    fs::write(to, object)?;
    Ok(true)
}

fn verify(shell: &Shell, folder: &Path, verified: &Path) -> anyhow::Result<()> {
    if quietly(cmd!(shell, "id -u")).as_deref() != Some("0") {
        println!("guard: not verified by this kernel, which needs root");
        return Ok(());
    }
    let objects: Vec<PathBuf> = OBJECTS.iter().map(|name| folder.join(name)).collect();
    let said = cmd!(shell, "cargo run --quiet --package proxy-common --features user --bin verify-object --")
        .args(objects)
        .quiet()
        .read()
        .context("this kernel refuses the guard's program")?;
    println!("{said}");
    fs::write(verified, said)?;
    Ok(())
}

fn has_sources(sysroot: &str) -> bool {
    Path::new(sysroot).join("lib/rustlib/src/rust/library/core").is_dir()
}

/// What a command prints, if it is there and succeeds.
fn quietly(command: Cmd<'_>) -> Option<String> {
    command.quiet().ignore_stderr().read().ok()
}

const FLAGS: [&str; 3] = [
    // BTF carries the names and lines that the verifier prints, and without its functions the verifier refuses a callback;
    // it is made from full debug information.
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
    // Else clearing 64 bytes is a loop over bytes: 23 ns more for each segment that carries data.
    "-Clink-arg=--disable-expand-memcpy-in-order",
];
const OBJECTS: [&str; 2] = ["guard", "stub"];
const TARGET: &str = "bpfel-unknown-none";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const REMEDY: &str = "either
  rustup toolchain install nightly --component rust-src
  cargo install bpf-linker
or, on Debian 12,
  apt-get install rustc-web rust-web-src llvm-22-dev
  LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker --version 0.13.0 --no-default-features --features llvm-22";
