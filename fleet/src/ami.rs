//! `cargo xtask image ami`: has Packer bake the AMI, copy it to other regions, and publish it as its last step.
//! Not here: how it is provisioned (`packer/`), what publishing is (`publish`).

use std::path::{Path, PathBuf};

use anyhow::Context;
use xshell::{Shell, cmd};

/// What is baked.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The Debian package that is installed
    #[arg(long, value_name = "FILE")]
    package: PathBuf,
    /// Stem of what Packer writes: its manifest is `<output>.manifest.json`
    #[arg(long, value_name = "STEM")]
    output: PathBuf,
    /// For Packer, behind `--`: variables of the template, like `-var region=eu-west-1`
    #[arg(last = true)]
    packer: Vec<String>,
}

/// Bakes with the AWS account of the environment.
pub(crate) fn run(shell: &Shell, options: &Options) -> anyhow::Result<()> {
    packer(shell, &options.package, &options.output, &options.packer)
}

/// One bake of the template's `amazon-ebs` source; its manifest is `<output>.manifest.json`.
pub(crate) fn packer(shell: &Shell, package: &Path, output: &Path, more: &[String]) -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let variable = |name: &str, value: &str| ["-var".to_owned(), format!("{name}={value}")];
    // On this signal, which the kernel sends when this program is ended, Packer removes what it had created.
    cmd!(shell, "setpriv --pdeathsig TERM packer build -color=false -only=amazon-ebs.ami")
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
                "Packer failed; if only publishing failed, repeat that: cargo xtask image publish {}.manifest.json",
                output.display()
            )
        })
}
