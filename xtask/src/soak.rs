//! `cargo xtask soak`, `upgrades` and `fleet-simulation`: set up, build, and hand over to the testbed.

use std::path::PathBuf;

use xshell::{Shell, cmd};

use crate::{build_ebpf, build_programs, setup, shell};

/// Load for so many minutes on each back end, while endpoints fail in turn. The build is that of the tests: it has their assertions.
pub(crate) fn run(minutes: u32) -> anyhow::Result<()> {
    on_both_back_ends("soak", &["--minutes", &minutes.to_string()])
}

/// Load while so many successors take over on each back end, and so many reloads between them.
pub(crate) fn upgrades(upgrades: u32, reloads: u32) -> anyhow::Result<()> {
    let (upgrades, reloads) = (upgrades.to_string(), reloads.to_string());
    on_both_back_ends("upgrades", &["--upgrades", &upgrades, "--reloads", &reloads])
}

/// A fleet before doubles of AWS, whose times are divided by `factor`.
pub(crate) fn fleet_simulation(factor: u32, only: Option<String>) -> anyhow::Result<()> {
    let (shell, testbed, gatehouse) = prepared("fleet-simulation")?;
    let factor = factor.to_string();
    let only = only.map(|only| format!("--only={only}"));
    cmd!(shell, "{testbed} fleet-simulation --binary {gatehouse} --factor {factor} {only...}")
        .quiet()
        .run()?;
    Ok(())
}

/// With the programs `testbed` and `gatehouse`.
fn prepared(command: &str) -> anyhow::Result<(Shell, PathBuf, PathBuf)> {
    let shell = shell()?;
    setup::require_root(&shell, command)?;
    setup::run(&shell, setup::Purpose::Run)?;
    build_ebpf::run()?;
    build_programs(&shell)?;
    let target = shell.current_dir().join("target/debug");
    Ok((shell, target.join("testbed"), target.join("gatehouse")))
}

fn on_both_back_ends(command: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let (shell, testbed, gatehouse) = prepared(command)?;
    for io in ["uring", "epoll"] {
        println!("{io}:");
        cmd!(shell, "{testbed} {command} --binary {gatehouse} --io {io} {arguments...}").quiet().run()?;
    }
    Ok(())
}
