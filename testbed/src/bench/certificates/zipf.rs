//! Names that are asked for as Zipf's law has it, the first of them twice as often as the second: a table with ten times as many
//! certificates as memory may hold.
//!
//! Memory begins with the names that are asked for most, as after days. The rate is far below what the machine serves, so that times are not
//! those of a queue.

use std::path::Path;

use anyhow::{Context, ensure};
use proxy_common::fixture::fuzz::Dice;

use super::{
    GATEHOUSE, as_f64, milliseconds, row, stored,
    visitors::{Pace, Visitors},
};
use crate::{
    bench::report::Report,
    edge::Edge,
    gatehouse::{Gatehouse, Place},
};

/// Adds a row for what memory answers, for the table's calls, and for the time of handshakes.
pub(super) fn measure(report: &mut Report, binary: &Path) -> anyhow::Result<()> {
    let edge = Edge::start()?;
    let names = stored::names(NAMES);
    let mut own = stored::settings(&edge);
    own.raw("certificates", "cached", &CACHED.to_string());
    let gatehouse = Gatehouse::start(&edge.network, binary, own)?;
    println!("{NAMES} certificates for the table");
    stored::fill(&edge, &names)?;
    let visitors = Visitors::new(&edge, Place::A, edge.authority.file())?;
    println!("the first {CACHED} names into memory");
    visitors.visit_all(names.iter().take(CACHED).cloned().collect(), CLIENTS, Pace::Closely)?;
    let (law, mut dice) = (Zipf::new(NAMES), Dice::new(1));
    let mut load = |seconds: u32| -> anyhow::Result<Vec<f64>> {
        let drawn = (0..RATE * seconds).map(|_| names.get(law.draw(&mut dice)).cloned());
        let drawn = drawn.collect::<Option<Vec<_>>>().context("a name that is not there")?;
        let took = visitors.visit_all(drawn, CLIENTS, Pace::PerSecond(RATE))?;
        Ok(took.into_iter().map(milliseconds).collect())
    };
    println!("{RATE} handshakes a second for {} s, of which {MEASURED} are measured", WARM_UP + MEASURED);
    load(WARM_UP)?;
    let before = Counts::read(&gatehouse)?;
    let mut took = load(MEASURED)?;
    let counts = Counts::read(&gatehouse)?.since(&before);
    took.sort_by(f64::total_cmp);
    let slow = *took.get(took.len() * 99 / 100).context("no handshakes")?;
    let work = format!("{CACHED} of {NAMES} cached, Zipf: in memory");
    let most = law.share(CACHED)?;
    report.push(row(&work, GATEHOUSE, "%", vec![counts.held()? * 100.0])?.against(most * 100.0, None));
    report.push(row(
        "- presented without asking the table",
        GATEHOUSE,
        "%",
        vec![counts.at_once()? * 100.0],
    )?);
    report.push(row("- handshake", GATEHOUSE, "ms", took)?);
    report.push(row("- 99 of 100 within", GATEHOUSE, "ms", vec![slow])?);
    Ok(())
}

/// Of one instance.
struct Counts {
    handshakes: f64,
    /// That were not completed from memory alone.
    obtained: f64,
    /// Reads of what memory did not hold.
    reads: f64,
}

impl Counts {
    fn read(gatehouse: &Gatehouse) -> anyhow::Result<Self> {
        let metrics = gatehouse.metrics()?;
        let handshakes = |labels: &[&str]| metrics.sum("gatehouse_tls_handshake_seconds_count", labels);
        Ok(Self {
            handshakes: handshakes(&[]),
            obtained: handshakes(&["certificate=\"obtained\""]),
            reads: metrics.sum("gatehouse_certificate_reads_total", &["for=\"certificate\""]),
        })
    }

    fn since(self, before: &Self) -> Self {
        Self {
            handshakes: self.handshakes - before.handshakes,
            obtained: self.obtained - before.obtained,
            reads: self.reads - before.reads,
        }
    }

    /// The share of handshakes whose certificate memory held, whether it was to be confirmed or not.
    fn held(&self) -> anyhow::Result<f64> {
        self.share(self.reads)
    }

    /// The share of those that waited for no answer of the table.
    fn at_once(&self) -> anyhow::Result<f64> {
        self.share(self.obtained)
    }

    fn share(&self, others: f64) -> anyhow::Result<f64> {
        ensure!(self.handshakes >= 1.0, "no handshakes were counted");
        Ok(1.0 - others / self.handshakes)
    }
}

/// Numbers below an end, of which the n-th is drawn in proportion to 1/n.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(end: usize) -> Self {
        let sums = (1..=end).scan(0.0, |sum, number| {
            *sum += 1.0 / as_f64(number);
            Some(*sum)
        });
        Self(sums.collect())
    }

    fn draw(&self, dice: &mut Dice) -> usize {
        let at = as_f64(dice.below(FINENESS)) / as_f64(FINENESS) * self.0.last().copied().unwrap_or_default();
        self.0.partition_point(|sum| *sum <= at)
    }

    /// How often one of the first `count` is drawn.
    fn share(&self, count: usize) -> anyhow::Result<f64> {
        let first = count.checked_sub(1).and_then(|last| self.0.get(last)).context("not so many")?;
        Ok(first / self.0.last().context("none")?)
    }
}

const NAMES: usize = 100_000;
const CACHED: usize = 10_000;
const CLIENTS: usize = 16;
/// Handshakes a second.
const RATE: u32 = 300;
/// Seconds.
const WARM_UP: u32 = 20;
const MEASURED: u32 = 70;
/// Of the draws.
const FINENESS: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_drawn_twice_as_often_as_the_second_and_none_beyond_the_last() {
        let (law, mut dice) = (Zipf::new(100), Dice::new(7));
        let mut drawn = [0_i32; 100];
        for _ in 0..100_000 {
            drawn[law.draw(&mut dice)] += 1;
        }
        let expected = 100_000.0 / law.0[99];
        for (place, times) in [(0, 1.0), (1, 2.0), (9, 10.0)] {
            let off = f64::from(drawn[place]) * times / expected - 1.0;
            assert!(off.abs() < 0.1, "{place}: {off}");
        }
        assert!((law.share(100).unwrap() - 1.0).abs() < 1e-9 && law.share(0).is_err());
    }
}
