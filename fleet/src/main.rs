//! The image at AWS: built as an AMI, published to regions, both rehearsed without AWS; `cargo xtask image` calls it.
//! Not here: the package and the disks, which are ready before it starts (`xtask`); how a machine is provisioned
//! (`packer`); what is asserted of the booted machine (`ami-tests`).

mod ami;
mod publish;
mod rehearse_ami;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xshell::Shell;

fn main() -> ExitCode {
    match dispatch(&Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: &Command) -> anyhow::Result<()> {
    let shell = Shell::new()?;
    match command {
        Command::Ami(options) => ami::run(&shell, options),
        Command::Publish(options) => publish::run(&shell, options),
        Command::RehearseAmi(options) => rehearse_ami::run(&shell, options),
    }
}

/// Under the name by which it is called.
#[derive(Parser)]
#[command(name = "fleet", bin_name = "xtask image", about = "The image at AWS; `cargo xtask image` calls it")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bake the AMI at AWS, copy it to other regions and publish it; in the workspace's root
    Ami(ami::Options),
    /// Publish what `ami` baked; harmless to repeat
    Publish(publish::Options),
    /// Bake and publish the AMI without AWS; in the workspace's root
    RehearseAmi(rehearse_ami::Options),
}
