//! `cargo xtask plan`, `deploy`, `update`, `remove`, `status`: handed over to `gatehouse-deploy`, which a fleet's operator may as well
//! call itself. Light on purpose: a newcomer compiles no client of AWS.

use std::ffi::OsString;

use crate::{hand_over, shell};

/// Declared by `gatehouse-deploy`, and handed over as it was written.
#[derive(Clone, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Deployment {
    /// `cargo xtask plan --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Deployment {
    /// Becomes the program, with `command` for it.
    pub(crate) fn run(&self, command: &str) -> anyhow::Result<()> {
        let mut cargo = hand_over::to(&shell()?, "deploy", command);
        cargo.args(&self.arguments);
        hand_over::become_it(cargo)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::{Arguments, Command};

    #[test]
    fn a_deployment_is_handed_over_as_it_was_written() {
        for words in [
            ["--stage", "prd", "--region", "eu-central-1,us-east-1"].as_slice(),
            &["--stage=prd", "--dry-run"],
            &["--help"],
            &[],
        ] {
            let line = ["xtask", "update"].iter().chain(words);
            let Command::Update(handed) = Arguments::try_parse_from(line).unwrap().command else {
                panic!("another command");
            };
            assert_eq!(handed.arguments, words);
        }
    }
}
