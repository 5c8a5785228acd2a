//! Python environments of their own: what `PyPI` has and Debian has not, or not of the release that is wanted.

use std::path::Path;

use anyhow::Context;
use xshell::{Shell, cmd};

/// Makes `environment` with Debian's Python, and installs what the file `requirements` lists.
pub(crate) fn install(shell: &Shell, environment: &Path, requirements: &str) -> anyhow::Result<()> {
    cmd!(shell, "/usr/bin/python3 -m venv {environment}").quiet().run()?;
    let pip = environment.join("bin/pip");
    cmd!(shell, "{pip} install --quiet --disable-pip-version-check --requirement {requirements}")
        .quiet()
        .run()
        .with_context(|| format!("{requirements} cannot be installed; is PyPI reachable?"))
}
