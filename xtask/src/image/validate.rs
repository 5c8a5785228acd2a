//! What can be said of the image without building it: templates, units, scripts. Seconds, and no network.

use std::{fs, path::PathBuf};

use anyhow::{Context, ensure};
use xshell::{Shell, cmd};

use super::packer_environment;
use crate::units;

/// Checks everything under `packer`.
pub(super) fn run(shell: &Shell) -> anyhow::Result<()> {
    templates(shell)?;
    units(shell)?;
    scripts(shell)
}

fn templates(shell: &Shell) -> anyhow::Result<()> {
    cmd!(shell, "packer fmt -check -diff packer").quiet().run().context("run `packer fmt packer`")?;
    // Packer checks that the files exist that a build would have made.
    let folder = shell.create_temp_dir()?;
    let (package, key) = (folder.path().join("package"), folder.path().join("key"));
    shell.write_file(&package, "")?;
    cmd!(shell, "ssh-keygen -q -t ed25519 -N '' -f {key}").quiet().run()?;
    // The file alone: Packer before 1.7 refuses the `required_plugins` of its neighbour.
    for architecture in ["amd64", "arm64"] {
        cmd!(shell, "packer validate -var architecture={architecture}")
            .envs(packer_environment())
            .args(["-var".to_owned(), format!("package={}", package.display())])
            .args(["-var".to_owned(), format!("ssh_key={}", key.display())])
            .arg("packer/image.pkr.hcl")
            .quiet()
            .ignore_stdout()
            .run()
            .context("the template is not valid")?;
    }
    println!("templates: formatted and valid");
    Ok(())
}

fn units(shell: &Shell) -> anyhow::Result<()> {
    let service = "packer/package/gatehouse.service";
    let said = cmd!(shell, "systemd-analyze security --offline=true {service}").quiet().read()?;
    println!("units: exposure {} (0 to 10)", units::exposure(&said)?);
    Ok(())
}

/// Shell has at most 60 lines; beyond that it is xtask.
fn scripts(shell: &Shell) -> anyhow::Result<()> {
    let mut scripts = Vec::new();
    for folder in ["packer/base", "packer/package", "packer/package/scripts", "packer/provision"] {
        scripts.extend(shell.read_dir(folder)?.into_iter().filter(is_script));
    }
    for script in &scripts {
        let lines = fs::read_to_string(script)?.lines().count();
        ensure!(
            lines <= MOST_LINES,
            "{}: {lines} lines, and more than {MOST_LINES} belong in xtask",
            script.display()
        );
    }
    let count = scripts.len();
    cmd!(shell, "shellcheck --").args(scripts).quiet().run().context("shellcheck objects")?;
    println!("scripts: {count} pass shellcheck");
    Ok(())
}

fn is_script(file: &PathBuf) -> bool {
    fs::read(file).is_ok_and(|text| text.starts_with(b"#!"))
}

const MOST_LINES: usize = 60;
