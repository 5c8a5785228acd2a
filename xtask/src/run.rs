//! `cargo xtask run`: set up, build, and hand over to the testbed.

use std::{os::unix::process::CommandExt, process::Command};

use anyhow::Context;

use crate::{build_ebpf, build_programs, setup, shell};

/// Becomes `testbed run`, so that Ctrl-C reaches the process that has to clean up.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let shell = shell()?;
    setup::require_root(&shell, "run")?;
    setup::run(&shell, setup::Purpose::Run)?;
    build_ebpf::run()?;
    println!("building Gatehouse and its testbed");
    build_programs(&shell)?;
    let target = shell.current_dir().join("target/debug");
    let mut testbed = Command::new(target.join("testbed"));
    testbed.arg("run").arg("--binary").arg(target.join("gatehouse"));
    if check {
        testbed.arg("--check");
    }
    Err(testbed.exec()).context("cannot start the testbed")
}
