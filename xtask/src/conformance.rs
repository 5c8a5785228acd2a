//! `cargo xtask conformance`: set up, build, and hand over to the testbed, where programs of others judge Gatehouse.

use xshell::cmd;

use crate::{build_ebpf, build_programs, setup, shell};

/// Has all of them judge it, or those alone whose checks' names contain `only`; fails if one finds a fault.
pub(crate) fn run(only: Option<String>) -> anyhow::Result<()> {
    let shell = shell()?;
    setup::require_root(&shell, "conformance")?;
    setup::run(&shell, setup::Purpose::Conformance)?;
    build_ebpf::run()?;
    build_programs(&shell)?;
    let target = shell.current_dir().join("target/debug");
    let (testbed, gatehouse) = (target.join("testbed"), target.join("gatehouse"));
    let only = only.map(|part| ["--only".to_owned(), part]);
    let only = only.as_ref().map_or(&[][..], |option| &option[..]);
    cmd!(shell, "{testbed} conformance --binary {gatehouse} {only...}").quiet().run()?;
    Ok(())
}
