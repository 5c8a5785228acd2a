//! `cargo xtask soak`: set up, build, and hand over to the testbed.

use xshell::cmd;

use crate::{build_ebpf, build_programs, setup, shell};

/// Load for so many minutes on each back end, while endpoints fail in turn. The build is that of the tests: it has their assertions.
pub(crate) fn run(minutes: u32) -> anyhow::Result<()> {
    let shell = shell()?;
    setup::require_root(&shell, "soak")?;
    setup::run(&shell, setup::Purpose::Run)?;
    build_ebpf::run()?;
    build_programs(&shell)?;
    let target = shell.current_dir().join("target/debug");
    let (testbed, gatehouse, minutes) =
        (target.join("testbed"), target.join("gatehouse"), minutes.to_string());
    for io in ["uring", "epoll"] {
        println!("{io}:");
        cmd!(shell, "{testbed} soak --binary {gatehouse} --io {io} --minutes {minutes}").quiet().run()?;
    }
    Ok(())
}
