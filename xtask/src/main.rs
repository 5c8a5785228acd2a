//! The project's own commands: one module each. Light on purpose: a newcomer compiles this before anything else.
//! Not here: what runs inside namespaces (`testbed`), which is built and started once everything is set up.

mod bench;
mod build_ebpf;
mod check;
mod conformance;
mod cost;
mod deploy;
mod fuzz;
mod hand_over;
mod hellos;
mod image;
mod node;
mod package;
mod path_remap;
mod python;
mod run;
mod setup;
mod soak;
mod summary;
mod templates;
mod test;
#[cfg(test)]
mod tests;
mod units;

use std::{path::Path, process::ExitCode};

use anyhow::Context;
use clap::{Parser, Subcommand};
use xshell::{Shell, cmd};

fn main() -> ExitCode {
    match dispatch(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Setup => setup::run(&shell()?, setup::Purpose::All),
        Command::Run { check } => run::run(check),
        Command::Test => test::run(),
        Command::Check => check::run(),
        Command::Conformance { only } => conformance::run(only),
        Command::Templates => templates::run(),
        Command::Soak { minutes } => soak::run(minutes),
        Command::Upgrades { upgrades, reloads } => soak::upgrades(upgrades, reloads),
        Command::FleetSimulation { factor, only } => soak::fleet_simulation(factor, only),
        Command::Fuzz { seconds } => fuzz::run(seconds),
        Command::BuildEbpf => build_ebpf::run(),
        Command::Hellos => hellos::run(),
        Command::Bench { name } => bench::run(name),
        Command::Profile => package::profile::make(),
        Command::Package { product, architecture, step } => package::run(product, architecture, step),
        Command::Image { step } => image::run(step),
        Command::Cost(arguments) => cost::run(arguments),
        Command::Plan(arguments) => arguments.run("plan"),
        Command::Deploy(arguments) => arguments.run("deploy"),
        Command::Update(arguments) => arguments.run("update"),
        Command::Remove(arguments) => arguments.run("remove"),
        Command::Status(arguments) => arguments.run("status"),
    }
}

/// Builds every program of the workspace for this machine. All at once, as `cargo test` does: with the same features of the
/// same crates neither compiles what the other has compiled.
fn build_programs(shell: &Shell) -> anyhow::Result<()> {
    cmd!(shell, "cargo build --quiet --locked --workspace --exclude proxy-ebpf --bins").quiet().run()?;
    Ok(())
}

/// A shell in the workspace's root, wherever the command was called.
fn shell() -> anyhow::Result<Shell> {
    let shell = Shell::new()?;
    shell.change_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in no workspace")?);
    Ok(shell)
}

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Subcommand)]
enum Command {
    /// Bring up Gatehouse with a CA, a table, an upstream and clients in namespaces of its own
    Run {
        /// Use it, print each outcome, tear down; succeeds only if all are as expected
        #[arg(long)]
        check: bool,
    },
    /// Set up what is missing, then run all tests: unit, property, verifier, end to end
    Test,
    /// Format, lints and unit tests: the quick one, for every edit
    Check,
    /// Mutate the corpora of all parsers, and say how many inputs each took
    Fuzz {
        /// For how long, all targets together
        #[arg(long, default_value_t = 120)]
        seconds: u32,
    },
    /// Programs of others judge a running Gatehouse: TLS, both versions of HTTP, WebSocket, slow clients
    Conformance {
        /// Those checks alone whose names contain this
        #[arg(long)]
        only: Option<String>,
    },
    /// Judge the CloudFormation templates: cfn-lint, our own rules, AWS's tables of actions
    Templates,
    /// Load on both back ends while endpoints fail and settings are reloaded: no request may fail that no endpoint has hung on
    Soak {
        /// How long on each
        #[arg(long, default_value_t = 10)]
        minutes: u32,
    },
    /// Load on both back ends while successors take over and settings are reloaded: no request may fail
    Upgrades {
        /// How many successors on each
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        upgrades: u32,
        /// How many reloads on each
        #[arg(long, default_value_t = 100)]
        reloads: u32,
    },
    /// A fleet under load, before doubles of AWS, is updated, gets a bad image, loses an instance and a zone, and a region is drained
    FleetSimulation {
        /// By which AWS's times are divided
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=60))]
        factor: u32,
        /// This alone: rolling-update, bad-image, instance-killed, zone-lost, or region-drained
        #[arg(long)]
        only: Option<String>,
    },
    /// Install what the other commands need; quick and silent when nothing is missing
    Setup,
    /// Build the guard's XDP object and have the kernel verify it
    BuildEbpf,
    /// Capture the ClientHellos of installed clients into the corpus of proxy-common
    Hellos,
    /// Measure and publish in target/bench
    Bench {
        /// What to measure
        #[arg(value_enum)]
        name: bench::Name,
    },
    /// Run the binary under load, and put the profile of it into the tree, by which the package's is optimised
    Profile,
    /// Build the Debian package with its manual pages, SBOM and checksums, in target/package
    Package {
        /// Which program's
        #[arg(long, value_enum, default_value_t = package::Product::Gatehouse)]
        product: package::Product,
        /// For which machines
        #[arg(long, value_enum, default_value_t = package::Architecture::Amd64)]
        architecture: package::Architecture,
        #[command(subcommand)]
        step: Option<package::Step>,
    },
    /// Print what a fleet costs in a month, by item, with each price's date and source
    Cost(cost::CostArguments),
    /// Print what `deploy` would do to a fleet on AWS; changes nothing
    Plan(deploy::Deployment),
    /// Make a fleet on AWS, or what it lacks
    Deploy(deploy::Deployment),
    /// Change a fleet's instances, one region after the other
    Update(deploy::Deployment),
    /// Remove a fleet's regions, or all of it
    Remove(deploy::Deployment),
    /// Print how a fleet is, region by region
    Status(deploy::Deployment),
    /// Make the appliance's image, step by step, in target/image
    Image {
        #[command(subcommand)]
        step: image::Step,
    },
}
