//! Packages of npm in a folder of their own, of the exact versions of a lock file. No script of a package is run.

use std::path::Path;

use anyhow::Context;
use xshell::{Shell, cmd};

/// Installs into `folder` what `package-lock.json` of `packages` lists, unless that is there already; its copy says what is.
pub(crate) fn install(shell: &Shell, folder: &Path, packages: &str) -> anyhow::Result<()> {
    let lists =
        ["package.json", "package-lock.json"].map(|list| (Path::new(packages).join(list), folder.join(list)));
    // The copy of the lock file is the last thing that is written.
    let [_, (lock, installed)] = &lists;
    let marker = installed.with_extension("installed");
    let wanted = shell.read_file(lock)?;
    if shell.path_exists(&marker) && shell.read_file(&marker)? == wanted {
        return Ok(());
    }
    println!(
        "  browser tools    playwright-core and axe-core; installing them from npm, which takes ten seconds"
    );
    shell.remove_path(folder)?;
    shell.create_dir(folder)?;
    for (from, to) in &lists {
        shell.copy_file(from, to)?;
    }
    cmd!(shell, "npm ci --ignore-scripts --no-audit --no-fund --silent --prefix {folder}")
        .quiet()
        .run()
        .with_context(|| {
            format!("what {packages} lists cannot be installed; is npm's registry reachable?")
        })?;
    Ok(shell.write_file(&marker, wanted)?)
}
