//! The binary as it is shipped: optimised, stripped, and the same wherever it was built.

use std::{fs, path::PathBuf};

use anyhow::{Context, ensure};
use xshell::{Shell, cmd};

use super::Workspace;
use crate::path_remap::Places;

/// Builds it; the guard's object has to be there.
pub(super) fn build(shell: &Shell, workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let places = Places::of(&workspace.root)?;
    let target = workspace.architecture.target();
    let folder = workspace.architecture.folder(workspace);
    // With a target named, flags are for what is shipped and not for build scripts; and another machine's needs it anyway.
    cmd!(
        shell,
        "cargo build --quiet --locked --release --package gatehouse --bin gatehouse --target {target}"
    )
    .arg("--target-dir")
    .arg(&folder)
    .env("CARGO_ENCODED_RUSTFLAGS", places.rust_flags().join("\u{1f}"))
    .env_remove("RUSTFLAGS")
    .envs(workspace.architecture.environment(&places))
    .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
    .env("CARGO_PROFILE_RELEASE_DEBUG", "none")
    // For C's `__DATE__`. The commit's would have every library compiled anew that has C in it, or stands on one.
    .env("SOURCE_DATE_EPOCH", "0")
    .quiet()
    .run()
    .context("the binary does not build")?;
    let binary = folder.join(target).join("release/gatehouse");
    ensure!(
        !knows_faults(&fs::read(&binary)?),
        "{} is built with the feature `fault-injection`, which is for tests",
        binary.display()
    );
    Ok(binary)
}

/// Whether a binary reads the variable that injects faults into the store. One that does not refuses it as an unknown setting.
fn knows_faults(binary: &[u8]) -> bool {
    binary.windows(FAULTS.len()).any(|text| text == FAULTS)
}

const FAULTS: &[u8] = b"GATEHOUSE_STORE_FAULTS";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_of_the_tests_is_not_shipped() {
        assert!(knows_faults(b"\x7fELF..GATEHOUSE_CONFIGGATEHOUSE_STORE_FAULTS=.."));
        assert!(!knows_faults(b"\x7fELF..GATEHOUSE_CONFIG.."));
    }
}
