//! What drives the browser of the console's cases: packages of npm in a folder of their own, of the exact versions of a lock file. No
//! script of a package is run.

use std::path::Path;

use anyhow::Context;
use xshell::{Shell, cmd};

/// Installs into `folder` what the lock file lists.
pub(crate) fn install(shell: &Shell, folder: &Path) -> anyhow::Result<()> {
    shell.create_dir(folder)?;
    for list in [PACKAGE, LOCK] {
        shell.copy_file(list, folder)?;
    }
    cmd!(shell, "npm ci --ignore-scripts --no-audit --no-fund --silent --prefix {folder}")
        .quiet()
        .run()
        .with_context(|| format!("what {LOCK} lists cannot be installed; is npm's registry reachable?"))
}

const PACKAGE: &str = "testbed/console/package.json";
pub(crate) const LOCK: &str = "testbed/console/package-lock.json";
pub(crate) const FOLDER: &str = "target/console";
