//! The profile of a run under load, by which the compiler lays out and inlines the binary that is shipped (rustc's book, "Profile-guided
//! Optimization"). It lies in the tree, made by `cargo xtask profile`, so that the package stays a function of the sources and the compiler: two
//! runs never count the same.
//! Invariant: a profile is used by the compiler that it was made with alone (`only_the_compiler_that_made_it_uses_a_profile`): the names of
//! another's functions are others, so that it would find none and say nothing.

use std::fs;

use anyhow::Context;
use xshell::{Shell, cmd};

use super::{Architecture, Product, Workspace, cargo_build};
use crate::{build_ebpf, setup, shell};

/// What the compiler of `workspace` is told of the profile; nothing, and a word of it, where it is not that compiler's.
pub(super) fn flags(shell: &Shell, workspace: &Workspace) -> anyhow::Result<Vec<String>> {
    let compiler = compiler(shell, workspace.architecture)?;
    let made_by = fs::read_to_string(workspace.root.join(COMPILER)).with_context(|| COMPILER.to_owned())?;
    if !is_of(&made_by, &compiler) {
        println!(
            "package: built without {PROFILE}, which {} made, while {} compiles; handshakes cost a fifth more CPU",
            first_line(&made_by),
            first_line(&compiler)
        );
        return Ok(Vec::new());
    }
    Ok(vec![format!("-Cprofile-use={}", workspace.root.join(PROFILE).display())])
}

/// `cargo xtask profile`: builds what counts its own steps, has it do what proxies do, and puts the counts into the tree.
pub(crate) fn make() -> anyhow::Result<()> {
    let shell = shell()?;
    setup::require_root(&shell, "profile")?;
    setup::run(&shell, setup::Purpose::Bench)?;
    build_ebpf::run()?;
    let workspace = Workspace::of(&shell, Architecture::Amd64, Product::Gatehouse)?;
    let counts = workspace.root.join("target/profile");
    shell.remove_path(&counts)?;
    println!("profile: building the binary that counts (minutes)");
    let generate = format!("-Cprofile-generate={}", counts.display());
    let binary = cargo_build::build(&shell, &workspace, "gatehouse", "gatehouse", &[generate])?;
    cmd!(shell, "cargo build --release --package testbed").quiet().run()?;
    let testbed = workspace.root.join("target/release/testbed");
    println!("profile: running it under load");
    cmd!(shell, "{testbed} exercise --binary {binary}").quiet().run()?;
    let counted = shell.read_dir(&counts)?;
    // Functions that were not run are left out: with a count of zero they would be compiled for size.
    cmd!(shell, "{MERGE} merge --sparse --output {PROFILE}").args(counted).quiet().run()?;
    fs::write(workspace.root.join(COMPILER), compiler(&shell, workspace.architecture)?)?;
    println!("written to {PROFILE}; `cargo xtask bench proxy` says what it brings");
    Ok(())
}

/// What `rustc` says of itself that compiles for `architecture`.
fn compiler(shell: &Shell, architecture: Architecture) -> anyhow::Result<String> {
    let rustc = architecture.compiler();
    let said = cmd!(shell, "{rustc} --version --verbose").quiet().read()?;
    Ok(said + "\n")
}

fn is_of(made_by: &str, compiler: &str) -> bool {
    made_by.trim_end() == compiler.trim_end()
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

const PROFILE: &str = "packer/package/profile/gatehouse.profdata";
/// The compiler that made it, as `rustc --version --verbose` says it.
const COMPILER: &str = "packer/package/profile/rustc";
/// As old as the compiler's LLVM at least.
const MERGE: &str = "/usr/lib/llvm-22/bin/llvm-profdata";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn only_the_compiler_that_made_it_uses_a_profile() {
        let ours =
            "rustc 1.95.0 (59807616e 2026-04-14)\nhost: x86_64-unknown-linux-gnu\nLLVM version: 22.1.2\n";
        assert!(is_of(ours, ours.trim_end()));
        for other in ["", &ours.replace("1.95.0", "1.96.0"), &ours.replace("x86_64", "aarch64")] {
            assert!(!is_of(ours, other), "{other}");
        }
    }

    #[test]
    fn the_trees_profile_says_who_made_it() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let made_by = fs::read_to_string(root.join(COMPILER)).unwrap();
        assert!(made_by.starts_with("rustc ") && made_by.contains("\nLLVM version: "), "{made_by}");
        // LLVM's indexed profiles begin so (`InstrProfReader`).
        assert!(fs::read(root.join(PROFILE)).unwrap().starts_with(b"\xfflprofi\x81"));
    }
}
