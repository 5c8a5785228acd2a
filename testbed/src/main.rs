//! `testbed run`, `testbed bench-...`, `testbed soak`, `testbed upgrades`, `testbed fleet-simulation` and `testbed conformance`, as `cargo xtask` calls them once everything is set up and built.

mod demo;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};
use testbed::{
    fleet_simulation::{self, Story},
    floor,
};

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run { check, binary } => demo::run(&binary, check),
        Command::Exercise { binary } => testbed::bench::proxy::exercise(&binary),
        Command::BenchGuard => testbed::bench::guard::run(&testbed::edge::root()),
        Command::BenchProxy { binary, part, rounds } => {
            testbed::bench::proxy::run(&testbed::edge::root(), &binary, part, rounds)
        }
        Command::BenchCertificates { binary, part } => {
            testbed::bench::certificates::run(&testbed::edge::root(), &binary, part)
        }
        Command::BenchInstructions { binary, only } => {
            testbed::bench::proxy::instructions::run(&testbed::edge::root(), &binary, only.as_deref())
        }
        Command::BenchPeers { binary, rounds } => {
            testbed::bench::proxy::peers::run(&testbed::edge::root(), &binary, rounds)
        }
        Command::BenchDomains { binary, extent } => {
            testbed::bench::domains::run(&testbed::edge::root(), &binary, extent)
        }
        Command::Conformance { binary, only } => testbed::conformance::run(&binary, only.as_deref()),
        Command::Soak { binary, io, minutes } => soak(&binary, &io, minutes),
        Command::Upgrades { binary, io, upgrades, reloads } => {
            testbed::upgrades::run(&binary, &io, testbed::upgrades::Wanted { upgrades, reloads })
                .map(|report| println!("{report}"))
        }
        Command::FleetSimulation { binary, factor, only } => fleet_simulation(&binary, factor, only),
        Command::Floor { listen, to, seal } => floor(listen, to, seal),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn soak(binary: &Path, io: &str, minutes: u64) -> anyhow::Result<()> {
    println!("{}", testbed::soak::run(binary, io, Duration::from_mins(minutes))?);
    Ok(())
}

fn fleet_simulation(binary: &Path, factor: u32, only: Option<Story>) -> anyhow::Result<()> {
    let stories = only.map_or(Story::ALL.to_vec(), |only| vec![only]);
    println!("{}", fleet_simulation::run(binary, factor, &stories)?);
    Ok(())
}

fn floor(listen: u16, to: u16, seal: bool) -> anyhow::Result<()> {
    floor::run(listen, to, if seal { floor::Pass::seal()? } else { floor::Pass::Plain })
}

#[derive(Parser)]
#[command(
    name = "testbed",
    about = "A whole edge on one machine; `cargo xtask run` and `cargo xtask bench` call it"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring up the whole system and show how to use it
    Run {
        /// Use it, print each outcome, tear down; exit 0 only if all are as expected
        #[arg(long)]
        check: bool,
        /// The gatehouse binary
        #[arg(long)]
        binary: PathBuf,
    },
    /// Have it do what is measured, for a profile of its run
    Exercise {
        /// A build of gatehouse that counts its steps
        #[arg(long)]
        binary: PathBuf,
    },
    /// Nanoseconds per packet of the guard's program
    BenchGuard,
    /// CPU per request and per connection, beside nginx
    BenchProxy {
        /// A release build of gatehouse
        #[arg(long)]
        binary: PathBuf,
        /// This part alone
        #[arg(long)]
        part: Option<testbed::bench::proxy::Part>,
        /// How often work is measured, to see that it can be
        #[arg(long)]
        rounds: Option<usize>,
    },
    /// Certificates: first handshakes, memory, many names at once
    BenchCertificates {
        /// A release build of gatehouse
        #[arg(long)]
        binary: PathBuf,
        /// This part alone
        #[arg(long)]
        part: Option<testbed::bench::certificates::Part>,
    },
    /// Instructions in user space per request and per connection, beside nginx
    BenchInstructions {
        /// A release build of gatehouse
        #[arg(long)]
        binary: PathBuf,
        /// Work whose name contains this alone
        #[arg(long)]
        only: Option<String>,
    },
    /// Gatehouse beside nginx, HAProxy and Caddy
    BenchPeers {
        /// A release build of gatehouse
        #[arg(long)]
        binary: PathBuf,
        /// How often each is measured, to see that it can be
        #[arg(long)]
        rounds: Option<usize>,
    },
    /// Lists, searches, new names, changes and a start with many domains
    BenchDomains {
        /// A release build of gatehouse
        #[arg(long)]
        binary: PathBuf,
        #[command(flatten)]
        extent: testbed::bench::domains::Extent,
    },
    /// Programs of others judge it
    Conformance {
        /// The gatehouse binary
        #[arg(long)]
        binary: PathBuf,
        /// Those checks alone whose names contain this
        #[arg(long)]
        only: Option<String>,
    },
    /// Load for so many minutes, while endpoints fail in turn
    Soak {
        /// The gatehouse binary
        #[arg(long)]
        binary: PathBuf,
        /// Its back end
        #[arg(long, default_value = "auto")]
        io: String,
        /// How long
        #[arg(long)]
        minutes: u64,
    },
    /// Load while successors take over and settings are reloaded
    Upgrades {
        /// The gatehouse binary
        #[arg(long)]
        binary: PathBuf,
        /// Its back end
        #[arg(long, default_value = "auto")]
        io: String,
        /// How many successors
        #[arg(long)]
        upgrades: u32,
        /// How many reloads
        #[arg(long)]
        reloads: u32,
    },
    /// A fleet under load is updated, loses instances, a zone and a region
    FleetSimulation {
        /// The gatehouse binary
        #[arg(long)]
        binary: PathBuf,
        /// By which AWS's times are divided
        #[arg(long, default_value_t = fleet_simulation::FACTOR, value_parser = clap::value_parser!(u32).range(1..=60))]
        factor: u32,
        /// This story alone
        #[arg(long)]
        only: Option<Story>,
    },
    /// A relay without TLS and HTTP, which `bench-proxy` starts
    #[command(hide = true)]
    Floor {
        /// Its port
        #[arg(long)]
        listen: u16,
        /// The target's port
        #[arg(long)]
        to: u16,
        /// Seals what it relays, as TLS would
        #[arg(long)]
        seal: bool,
    },
}
