//! The binary as it is shipped: optimised, stripped, and the same wherever it was built.

use std::path::PathBuf;

use anyhow::Context;
use xshell::{Shell, cmd};

use super::{TARGET, Workspace};
use crate::places::Places;

/// Builds it; the guard's object has to be there.
pub(super) fn build(shell: &Shell, workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let places = Places::of(&workspace.root)?;
    // With a target named, flags are for what is shipped and not for build scripts; and arm64 needs it anyway.
    cmd!(
        shell,
        "cargo build --quiet --locked --release --package gatehouse --bin gatehouse --target {TARGET}"
    )
    .env("CARGO_ENCODED_RUSTFLAGS", places.rust_flags().join("\u{1f}"))
    .env_remove("RUSTFLAGS")
    .env("CFLAGS_x86_64_unknown_linux_gnu", places.c_flags())
    .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
    .env("SOURCE_DATE_EPOCH", &workspace.epoch)
    .quiet()
    .run()
    .context("the binary does not build")?;
    Ok(workspace.root.join("target").join(TARGET).join("release/gatehouse"))
}
