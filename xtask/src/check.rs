//! `cargo xtask check`: format, lints, unit tests. Installs nothing and needs no root.

use xshell::cmd;

use crate::shell;

/// Runs all three and stops at the first that fails.
pub(crate) fn run() -> anyhow::Result<()> {
    let shell = shell()?;
    println!("format");
    cmd!(shell, "cargo fmt --all -- --check").quiet().run()?;
    println!("lints");
    let lints = cmd!(shell, "cargo clippy --quiet --workspace --exclude proxy-ebpf --all-targets");
    lints.args(["--", "--deny", "warnings"]).quiet().run()?;
    // Features only add: each crate that has one builds without it, too.
    for package in ["proxy-common", "gatehouse"] {
        cmd!(shell, "cargo check --quiet --package {package} --no-default-features").quiet().run()?;
    }
    println!("unit tests");
    cmd!(shell, "cargo test --quiet --workspace --exclude proxy-ebpf --lib --bins").quiet().run()?;
    Ok(())
}
