//! What drives the browser of the console's cases: packages of npm in a folder of their own, of the exact versions of a lock file. No
//! script of a package is run.

use std::path::Path;

use anyhow::Context;
use xshell::{Shell, cmd};

/// Installs what the lock file lists, unless that is there already; its copy says what is.
pub(crate) fn install(shell: &Shell) -> anyhow::Result<()> {
    let (lists, folder) = (Path::new(LISTS), Path::new(FOLDER));
    let wanted = shell.read_file(lists.join(LOCK))?;
    // Written last.
    let installed = folder.join("installed.json");
    if shell.path_exists(&installed) && shell.read_file(&installed)? == wanted {
        return Ok(());
    }
    println!(
        "  browser tools    playwright-core and axe-core; installing them from npm, which takes ten seconds"
    );
    shell.remove_path(folder)?;
    shell.create_dir(folder)?;
    for list in ["package.json", LOCK] {
        shell.copy_file(lists.join(list), folder.join(list))?;
    }
    cmd!(shell, "npm ci --ignore-scripts --no-audit --no-fund --silent --prefix {folder}")
        .quiet()
        .run()
        .with_context(|| {
            format!("what {LISTS}/{LOCK} lists cannot be installed; is npm's registry reachable?")
        })?;
    Ok(shell.write_file(&installed, wanted)?)
}

/// Of the sources.
const LISTS: &str = "testbed/console";
const LOCK: &str = "package-lock.json";
const FOLDER: &str = "target/console";
