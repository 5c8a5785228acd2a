//! How a program is built that is shipped: optimised, stripped, and the same wherever it was built.

use std::path::PathBuf;

use anyhow::Context;
use xshell::{Shell, cmd};

use super::Workspace;
use crate::path_remap::Places;

/// Builds the binary `name` of `package` for the workspace's architecture, with `flags` for rustc; says where it is.
pub(super) fn build(
    shell: &Shell,
    workspace: &Workspace,
    package: &str,
    name: &str,
    flags: &[String],
) -> anyhow::Result<PathBuf> {
    let places = Places::of(&workspace.root)?;
    let flags = [&places.rust_flags(), flags].concat();
    let target = workspace.architecture.target();
    let folder = workspace.architecture.folder(workspace);
    // With a target named, flags are for what is shipped and not for build scripts; and another machine's needs it anyway.
    cmd!(shell, "cargo build --quiet --locked --release --package {package} --bin {name} --target {target}")
        .arg("--target-dir")
        .arg(&folder)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env_remove("RUSTFLAGS")
        .envs(workspace.architecture.environment(&places))
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "none")
        // For C's `__DATE__`. The commit's would have every library compiled anew that has C in it, or stands on one.
        .env("SOURCE_DATE_EPOCH", "0")
        .quiet()
        .run()
        .with_context(|| format!("{package} does not build"))?;
    Ok(folder.join(target).join("release").join(name))
}
