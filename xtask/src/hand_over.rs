//! Programs of the workspace that a command is handed over to, built where they have changed.
//! Invariant: this program becomes the other, so that a signal reaches the process that has to clean up, and its exit code is the
//! command's. The folder is the caller's: so are paths among the arguments.

use std::{os::unix::process::CommandExt, process::Command};

use anyhow::Context;
use xshell::Shell;

/// Cargo's command line for the only program of `package`.
pub(crate) fn to(shell: &Shell, package: &str, command: &str) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--quiet", "--package", package, "--manifest-path"]);
    cargo.arg(shell.current_dir().join("Cargo.toml")).args(["--", command]);
    cargo
}

/// Cargo in its turn becomes what it runs.
pub(crate) fn become_it(mut cargo: Command) -> anyhow::Result<()> {
    Err(cargo.exec()).context("cannot start cargo")
}
