//! `testbed run` and `testbed bench`, as `cargo xtask` calls them once everything is set up and built.

mod demo;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run { check, binary } => demo::run(&binary, check),
        Command::BenchGuard => testbed::bench::guard::run(&testbed::edge::root()),
        Command::BenchProxy { binary, part } => {
            testbed::bench::proxy::run(&testbed::edge::root(), &binary, part)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
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
    },
}
