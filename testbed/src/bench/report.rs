//! What a measurement prints: a table for people and a JSON file for comparison over time.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::Context;
use serde::Serialize;

/// All rows of one run.
#[derive(Debug, Serialize)]
pub struct Report {
    #[serde(skip)]
    name: &'static str,
    machine: BTreeMap<&'static str, String>,
    versions: BTreeMap<String, String>,
    rows: Vec<Row>,
}

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was done.
    pub work: String,
    /// By whom.
    pub subject: String,
    /// Median of all rounds.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// Smallest and largest of all rounds.
    pub spread: [f64; 2],
    /// To the base that the goal names; below 1 is better.
    pub ratio: Option<f64>,
    /// The largest ratio aimed at.
    pub goal: Option<f64>,
    /// Whether the goal is met.
    pub holds: Option<bool>,
}

impl Row {
    /// The median and spread of `samples`; `None` without samples.
    #[must_use]
    pub fn of(work: &str, subject: &str, unit: &'static str, mut samples: Vec<f64>) -> Option<Self> {
        samples.sort_by(f64::total_cmp);
        let (first, last) = (*samples.first()?, *samples.last()?);
        let value = median(&samples)?;
        let (work, subject) = (work.to_owned(), subject.to_owned());
        Some(Self { work, subject, value, unit, spread: [first, last], ratio: None, goal: None, holds: None })
    }

    /// The same row, held against `base`.
    #[must_use]
    pub fn against(mut self, base: f64, goal: Option<f64>) -> Self {
        let ratio = self.value / base;
        self.ratio = Some(ratio);
        self.goal = goal;
        self.holds = goal.map(|goal| ratio <= goal);
        self
    }
}

impl Report {
    /// An empty report of this machine; `versions` are of what is compared.
    #[must_use]
    pub fn new(name: &'static str, versions: BTreeMap<String, String>) -> Self {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let machine = BTreeMap::from([
            ("kernel", first_line("uname", &["-r"])),
            ("cores", cores.to_string()),
            ("processor", processor()),
        ]);
        Self { name, machine, versions, rows: Vec::new() }
    }

    /// Adds a figure.
    pub fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Prints the table and writes `target/bench/<name>.json` below `root`.
    pub fn publish(&self, root: &Path) -> anyhow::Result<()> {
        println!("{}", self.table());
        let folder = root.join("target/bench");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let file = folder.join(self.name).with_extension("json");
        fs::write(&file, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        println!("written to {}", file.display());
        Ok(())
    }

    fn table(&self) -> String {
        let longest = |least, text: fn(&Row) -> &str| {
            self.rows.iter().map(|row| text(row).chars().count()).fold(least, usize::max)
        };
        let (width, by) = (longest(34, |row| &row.work), longest(18, |row| &row.subject));
        let head = format!(
            "{:<width$} {:<by$} {:>10} {:<7} {:>19} {:>7}",
            "work", "subject", "median", "unit", "spread", "ratio"
        );
        let lines = self.rows.iter().map(|row| {
            let spread = format!("{:.1} - {:.1}", row.spread[0], row.spread[1]);
            let ratio = row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            let goal = match (row.goal, row.holds) {
                (Some(goal), Some(true)) => format!("  goal {goal:.2} met"),
                (Some(goal), _) => format!("  goal {goal:.2} missed"),
                (None, _) => String::new(),
            };
            let (work, subject, value, unit) = (&row.work, &row.subject, row.value, row.unit);
            let digits = if value.abs() < 10.0 { 2 } else { 1 };
            format!(
                "{work:<width$} {subject:<by$} {value:>10.digits$} {unit:<7} {spread:>19} {ratio:>7}{goal}"
            )
        });
        std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n")
    }
}

/// The middle one of `samples`; `None` without samples.
#[must_use]
pub fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// The least of `samples` that so large a `share` of them do not exceed; `None` without samples.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank among samples that were taken one by one"
)]
pub fn quantile(samples: &[f64], share: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() as f64 * share).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied()
}

/// The first line a command prints, on either stream; empty when it cannot be run.
#[must_use]
pub fn first_line(program: &str, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else {
        return String::new();
    };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned()
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name"));
    model.map_or_else(String::new, |rest| rest.trim_start_matches([' ', '\t', ':']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_the_median_and_holds_it_against_the_base() {
        let row = Row::of("work", "subject", "us", vec![30.0, 10.0, 20.0]).unwrap().against(40.0, Some(1.0));
        assert_eq!(
            (row.value, row.spread, row.ratio, row.holds),
            (20.0, [10.0, 30.0], Some(0.5), Some(true))
        );
        assert!(Row::of("work", "subject", "us", Vec::new()).is_none());
    }

    #[test]
    fn a_quantile_is_a_sample_that_its_share_does_not_exceed() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        for (share, wanted) in [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (0.995, 100.0), (1.0, 100.0)] {
            assert_eq!(quantile(&hundred, share), Some(wanted), "{share}");
        }
        assert_eq!(quantile(&[7.0], 0.99), Some(7.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
