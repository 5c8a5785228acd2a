//! Many domains: how soon lists and searches are answered, a new name is served, and a change is in the kernel of every instance; how an
//! instance starts with a million of them, and what it costs at rest.
//! Not here: requests of domains' clients (`proxy`).

mod changes;
mod entries;
mod fleet;
mod kernel_names;
mod lists;
mod many;
mod new_names;
mod operator;

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::Context;

use super::report::{Report, Row, first_line, quantile};

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Lists and searches of the API and the console, with 100,000 entries in the embedded engine
    Lists,
    /// From the API's answer to the first byte of a new name
    NewNames,
    /// From the API's answer until the kernel of each instance knows
    Changes,
    /// An instance that starts with a million entries, and rests
    Many,
}

/// What is measured besides.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Extent {
    /// This part alone
    #[arg(long)]
    part: Option<Part>,
    /// Entries of the part `many`, where the machine has too little memory for so many
    #[arg(long, default_value_t = 1_000_000)]
    entries: u32,
    /// What a million read units of the tables cost, in dollars; `cargo xtask bench domains` takes it from infra/prices.json
    #[arg(long)]
    million_reads: f64,
}

/// Measures and publishes; `binary` is a release build of Gatehouse.
pub fn run(root: &Path, binary: &Path, extent: Extent) -> anyhow::Result<()> {
    let versions = [
        ("gatehouse", first_line(&binary.to_string_lossy(), &["--version"])),
        ("curl", first_line("curl", &["--version"])),
    ];
    let versions = versions.map(|(name, version)| (name.to_owned(), version));
    let mut report = Report::new("domains", BTreeMap::from(versions));
    let takes = |one| extent.part.is_none_or(|part| part == one);
    if takes(Part::Lists) {
        lists::measure(&mut report, binary)?;
    }
    if takes(Part::NewNames) {
        new_names::measure(&mut report, binary)?;
    }
    if takes(Part::Changes) {
        changes::measure(&mut report, binary)?;
    }
    if takes(Part::Many) {
        many::measure(&mut report, binary, extent.entries, extent.million_reads)?;
    }
    report.publish(root)
}

/// What is to be held at most, in the unit of the samples.
#[derive(Debug, Clone, Copy)]
struct Goal {
    most: f64,
    of: Statistic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Statistic {
    Median,
    Percentile99,
    Maximum,
}

impl Statistic {
    const ALL: [Self; 3] = [Self::Median, Self::Percentile99, Self::Maximum];

    fn name(self) -> &'static str {
        match self {
            Self::Median => "median",
            Self::Percentile99 => "99th percentile",
            Self::Maximum => "maximum",
        }
    }

    fn of(self, samples: &[f64]) -> Option<f64> {
        quantile(
            samples,
            match self {
                Self::Median => 0.5,
                Self::Percentile99 => 0.99,
                Self::Maximum => 1.0,
            },
        )
    }
}

/// Adds a row for each of `statistics` of `samples`.
fn push(
    report: &mut Report,
    work: &str,
    unit: &'static str,
    samples: &[f64],
    statistics: &[Statistic],
    goals: &[Goal],
) -> anyhow::Result<()> {
    for statistic in statistics {
        let goal = goals.iter().find(|goal| goal.of == *statistic).map(|goal| goal.most);
        let aim = goal.map_or_else(String::new, |most| format!(", goal {most} {unit}"));
        let work = format!("{work}, n = {}{aim}", samples.len());
        let value = statistic.of(samples).context("no samples")?;
        let row = Row::of(&work, statistic.name(), unit, samples.to_vec()).context("no samples")?;
        let row = Row { value, ..row };
        report.push(match goal {
            Some(most) => row.against(most, Some(1.0)),
            None => row,
        });
    }
    Ok(())
}

/// Adds a row of a figure that was taken once.
fn push_one(
    report: &mut Report,
    work: &str,
    subject: &str,
    unit: &'static str,
    value: f64,
) -> anyhow::Result<()> {
    report.push(Row::of(work, subject, unit, vec![value]).context("no sample")?);
    println!("{work}, {subject}: {value:.2} {unit}");
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
