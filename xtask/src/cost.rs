//! `cargo xtask cost`: what a fleet costs in a month of 30 days, by item, with each price's date and source.
//! Not here: prices (`infra/prices.json`), which change without this code.

mod bill;
mod fleet;
mod prices;
#[cfg(test)]
mod tests;
mod usage;

use std::fs;

use anyhow::Context;
use clap::Args;
use xshell::Shell;

use self::{
    bill::Bill,
    fleet::{Fleet, Key, count, some, span_seconds},
    prices::Prices,
};
use crate::shell;

/// What the fleet is and does.
#[derive(Clone, Args)]
pub(crate) struct CostArguments {
    /// Regions with instances
    #[arg(long, value_name = "N", default_value = "1", value_parser = some)]
    regions: f64,
    /// Instances in each
    #[arg(long, value_name = "N", default_value = "1", value_parser = some)]
    instances: f64,
    /// Their type; its price must be in infra/prices.json
    #[arg(long, value_name = "TYPE", default_value = "t4g.nano")]
    instance_type: String,
    /// Names that are served
    #[arg(long, value_name = "M", default_value = "100", value_parser = count)]
    domains: f64,
    /// Requests in a month, at all times of the day alike
    #[arg(long, value_name = "R", default_value = "0", value_parser = count)]
    requests: f64,
    /// Requests that share a connection
    #[arg(long, value_name = "N", default_value = "10", value_parser = some)]
    requests_per_connection: f64,
    /// Gigabytes that clients receive in a month
    #[arg(long, value_name = "GB", default_value = "0", value_parser = count)]
    gigabytes: f64,
    /// Gigabytes of each instance's disk
    #[arg(long, value_name = "GB", default_value = "8", value_parser = some)]
    disk: f64,
    /// `domains.poll` of the settings, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = span_seconds)]
    poll: f64,
    /// Whose key encrypts the tables
    #[arg(long, value_enum, default_value_t = Key::Own)]
    key: Key,
    /// The fleet checks customers' names (`verification.edge_names`)
    #[arg(long)]
    verification: bool,
    /// Writes JSON
    #[arg(long)]
    json: bool,
}

/// Prints the bill.
pub(crate) fn run(arguments: CostArguments) -> anyhow::Result<()> {
    let prices = prices(&shell()?)?;
    let json = arguments.json;
    let fleet = Fleet::from(arguments);
    let bill = Bill::of(&fleet, &prices)?;
    if json {
        println!("{:#}", bill.json());
    } else {
        print!("{}", bill.text());
    }
    Ok(())
}

/// What a million read units of the tables cost.
pub(crate) fn million_reads(shell: &Shell) -> anyhow::Result<f64> {
    Ok(prices(shell)?.of("table_reads")?.of_unit)
}

fn prices(shell: &Shell) -> anyhow::Result<Prices> {
    let path = shell.current_dir().join("infra/prices.json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Prices::read(&text).with_context(|| path.display().to_string())
}

impl From<CostArguments> for Fleet {
    fn from(arguments: CostArguments) -> Self {
        Self {
            regions: arguments.regions,
            instances: arguments.instances,
            instance_type: arguments.instance_type,
            domains: arguments.domains,
            requests: arguments.requests,
            requests_per_connection: arguments.requests_per_connection,
            gigabytes: arguments.gigabytes,
            disk_gigabytes: arguments.disk,
            poll_seconds: arguments.poll,
            key: arguments.key,
            is_verifying: arguments.verification,
        }
    }
}
