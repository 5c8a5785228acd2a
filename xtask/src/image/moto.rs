//! moto, which answers for AWS in the rehearsal: a Python environment of its own.

use std::path::PathBuf;

use anyhow::Context;
use xshell::{Shell, cmd};

use super::{FOLDER, build_cache::kept};

/// Python with moto; kept until what it is made of changes.
pub(super) fn python(shell: &Shell) -> anyhow::Result<PathBuf> {
    let folder = shell.current_dir().join(FOLDER);
    shell.create_dir(&folder)?;
    let environment = kept(shell, &folder.join("moto"), &[REQUIREMENTS.into()], |environment| {
        println!("rehearsal: installing moto from PyPI (a minute)");
        cmd!(shell, "/usr/bin/python3 -m venv {environment}").quiet().run()?;
        let pip = environment.join("bin/pip");
        cmd!(shell, "{pip} install --quiet --disable-pip-version-check --requirement {REQUIREMENTS}")
            .quiet()
            .run()
            .context("moto cannot be installed; is PyPI reachable?")
    })?;
    Ok(environment.join("bin/python"))
}

const REQUIREMENTS: &str = "packer/rehearsal/requirements.txt";
