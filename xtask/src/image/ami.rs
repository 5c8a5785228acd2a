//! `cargo xtask image ami`: has Packer bake the AMI, copy it to other regions, and publish it as its last step.
//! Not here: how it is provisioned (`packer/`), what publishing is (`publish`).

use std::path::{Path, PathBuf};

use anyhow::Context;
use xshell::{Shell, cmd};

use super::{FOLDER, packer_environment};
use crate::{
    package::{self, Architecture},
    setup,
};

/// What is baked.
#[derive(Clone, clap::Args)]
pub(crate) struct Options {
    /// For which processors
    #[arg(long, value_enum, default_value_t = Architecture::Amd64)]
    architecture: Architecture,
    /// A package that is there already; else it is built
    #[arg(long, value_name = "FILE")]
    package: Option<PathBuf>,
    /// For Packer, behind `--`: variables of the template, like `-var region=eu-west-1`
    #[arg(last = true)]
    packer: Vec<String>,
}

/// Bakes with the account that the surroundings name.
pub(super) fn run(shell: &Shell, options: &Options) -> anyhow::Result<()> {
    let package = package(shell, options.package.as_deref(), options.architecture)?;
    let output = shell.current_dir().join(FOLDER).join(format!("ami-{}", options.architecture.name()));
    let architecture = format!("architecture={}", options.architecture.name());
    packer(
        shell,
        &package,
        &output,
        &[&["-var".to_owned(), architecture], options.packer.as_slice()].concat(),
    )
}

/// The package that was given, called as where this command was; else today's.
pub(super) fn package(
    shell: &Shell,
    given: Option<&Path>,
    architecture: Architecture,
) -> anyhow::Result<PathBuf> {
    if let Some(package) = given {
        let absolute = package.canonicalize();
        return absolute.with_context(|| format!("--package: there is no `{}`", package.display()));
    }
    setup::run(shell, setup::Purpose::Package)?;
    if architecture == Architecture::Arm64 {
        setup::arm64(shell)?;
    }
    Ok(package::build(shell, architecture)?.path)
}

/// One bake of the template's `amazon-ebs` source; its manifest is `<output>.manifest.json`.
pub(super) fn packer(shell: &Shell, package: &Path, output: &Path, more: &[String]) -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let variable = |name: &str, value: &str| ["-var".to_owned(), format!("{name}={value}")];
    // On this signal, which the kernel sends when this program is ended, Packer takes away what it had begun.
    cmd!(shell, "setpriv --pdeathsig TERM packer build -color=false -only=amazon-ebs.ami")
        .envs(packer_environment())
        .args(variable("package", &package.display().to_string()))
        .args(variable("version", version))
        .args(variable("output", &output.display().to_string()))
        .args(more)
        // The file alone: Packer before 1.7 refuses the `required_plugins` of its neighbour.
        .arg("packer/image.pkr.hcl")
        .quiet()
        .run()
        .with_context(|| {
            format!(
                "Packer failed; where all it lacked was to publish, repeat that: cargo xtask image publish {}.manifest.json",
                output.display()
            )
        })
}
