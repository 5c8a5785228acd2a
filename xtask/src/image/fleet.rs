//! `cargo xtask image ami`, `publish` and `rehearse-ami`: what these need is made here, and then `fleet` does them.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use xshell::Shell;

use super::{FOLDER, bake, base, moto, packer_environment};
use crate::{
    hand_over,
    package::{self, Architecture},
    setup,
};

/// What is baked.
#[derive(Clone, clap::Args)]
pub(crate) struct Ami {
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

impl Ami {
    /// Bakes with the AWS account of the environment.
    pub(super) fn run(&self, shell: &Shell) -> anyhow::Result<()> {
        let package = package(shell, self.package.as_deref(), self.architecture)?;
        let architecture = self.architecture.name();
        let output = shell.current_dir().join(FOLDER).join(format!("ami-{architecture}"));
        let mut fleet = fleet(shell, "ami");
        fleet.current_dir(shell.current_dir()).envs(packer_environment());
        fleet.arg("--package").arg(package).arg("--output").arg(output);
        fleet.arg("--").args(["-var".to_owned(), format!("architecture={architecture}")]).args(&self.packer);
        hand_over::become_it(fleet)
    }
}

/// What is published, and how: declared by `fleet`, and handed over as it was written.
#[derive(Clone, clap::Args)]
pub(crate) struct Publish {
    /// `cargo xtask image publish --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Publish {
    /// Publishes the last bake of a manifest. Its path is the caller's: so is the folder that `fleet` is started in.
    pub(super) fn run(&self, shell: &Shell) -> anyhow::Result<()> {
        let mut fleet = fleet(shell, "publish");
        fleet.args(&self.arguments);
        hand_over::become_it(fleet)
    }

    /// Then nothing has to be installed.
    pub(super) fn asks_for_help(&self) -> bool {
        self.arguments.iter().any(|argument| argument == "--help" || argument == "-h")
    }
}

/// What is rehearsed with.
#[derive(Clone, clap::Args)]
pub(crate) struct RehearseAmi {
    /// A package that is there already; else it is built
    #[arg(long, value_name = "FILE")]
    package: Option<PathBuf>,
}

impl RehearseAmi {
    /// Bakes and publishes, with moto for AWS.
    pub(super) fn run(&self, shell: &Shell) -> anyhow::Result<()> {
        let package = package(shell, self.package.as_deref(), Architecture::Amd64)?;
        let base = base::disk(shell)?;
        let python = moto::python(shell)?;
        let mut fleet = fleet(shell, "rehearse-ami");
        fleet.current_dir(shell.current_dir()).envs(packer_environment());
        fleet.arg("--package").arg(package).arg("--base").arg(base).arg("--python").arg(python);
        fleet.args(["--accelerator", bake::accelerator()]);
        hand_over::become_it(fleet)
    }
}

/// The package that was given, relative to where this command was called; else a new one.
fn package(shell: &Shell, given: Option<&Path>, architecture: Architecture) -> anyhow::Result<PathBuf> {
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

fn fleet(shell: &Shell, command: &str) -> Command {
    hand_over::to(shell, "fleet", command)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{super::Step, *};
    use crate::Arguments;

    fn publish(words: &[&str]) -> Publish {
        let line = ["xtask", "image", "publish"].iter().chain(words);
        match Arguments::try_parse_from(line).unwrap().command {
            crate::Command::Image { step: Step::Publish(options) } => options,
            _ => panic!("another command"),
        }
    }

    #[test]
    fn publish_is_handed_over_as_it_was_written() {
        for words in [
            ["m.json", "--organization", "arn:a", "--organization=arn:b"].as_slice(),
            &["--prefix", "/images", "m.json"],
            &["--no-such-flag"],
            &["help"],
            &[],
        ] {
            let options = publish(words);
            assert_eq!(options.arguments, words);
            assert!(!options.asks_for_help(), "{words:?}");
        }
        assert!(publish(&["--help"]).asks_for_help());
        assert!(publish(&["m.json", "-h"]).asks_for_help());
    }
}
