//! The binary as it is shipped, which is none of the tests'.

use std::{fs, path::PathBuf};

use anyhow::ensure;
use xshell::Shell;

use super::{Workspace, cargo_build, profile};

/// Builds it; the guard's object has to be there.
pub(super) fn build(shell: &Shell, workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let flags = profile::flags(shell, workspace)?;
    let binary = cargo_build::build(shell, workspace, "gatehouse", "gatehouse", &flags)?;
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
