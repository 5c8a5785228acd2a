//! The baked image under test: `ami-tests` boots it.

use anyhow::Context;
use xshell::{Shell, cmd};

use super::bake::{self, Baked};
use crate::{build_programs, package};

/// Bakes the image if its inputs have changed, and has every case run, or those whose name contains `filter`.
pub(super) fn run(shell: &Shell, filter: Option<&str>) -> anyhow::Result<()> {
    let Baked { disk, package } = bake::run(shell)?;
    let folder = shell.create_temp_dir()?;
    let next = folder.path().join("next.deb");
    package::later(shell, &package, &next)?;
    build_programs(shell)?;
    let accelerator = bake::accelerator();
    cmd!(shell, "target/debug/ami-tests --image {disk} --package {package} --next {next}")
        .args(["--accelerator", accelerator])
        .args(filter)
        .quiet()
        .run()
        .context("a test of the image failed")
}
