//! moto, which answers for AWS in the rehearsal: a Python environment of its own.

use std::path::PathBuf;

use xshell::Shell;

use super::{FOLDER, build_cache::kept};
use crate::python;

/// Python with moto; kept until what it is made of changes.
pub(super) fn python(shell: &Shell) -> anyhow::Result<PathBuf> {
    let folder = shell.current_dir().join(FOLDER);
    shell.create_dir(&folder)?;
    let environment = kept(shell, &folder.join("moto"), &[REQUIREMENTS.into()], |environment| {
        println!("rehearsal: installing moto from PyPI (a minute)");
        python::install(shell, environment, REQUIREMENTS)
    })?;
    Ok(environment.join("bin/python"))
}

const REQUIREMENTS: &str = "packer/rehearsal/requirements.txt";
