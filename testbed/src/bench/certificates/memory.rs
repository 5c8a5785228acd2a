//! What memory holds of a certificate that was presented once, with the TLS configuration that its worker keeps; and whether a handshake
//! costs more among many of them than with one.

use std::{path::Path, time::Duration};

use anyhow::{Context, ensure};

use super::{
    GATEHOUSE, as_f64, row, stored,
    visitors::{Pace, Visitors},
};
use crate::{
    bench::{report::Report, settled},
    edge::Edge,
    gatehouse::{Gatehouse, Place},
};

/// Adds a row for the memory, and for the CPU.
pub(super) fn measure(report: &mut Report, binary: &Path) -> anyhow::Result<()> {
    let edge = Edge::start()?;
    let names = stored::names(WARM_UP + NAMES);
    let gatehouse = Gatehouse::start(&edge.network, binary, stored::settings(&edge))?;
    stored::fill(&edge, &names)?;
    let visitors = Visitors::new(&edge, Place::A, edge.authority.file())?;
    let (first, names) = names.split_at(WARM_UP);
    // What the first certificates and connections cost once is nobody's.
    visitors.visit_all(first.to_vec(), CLIENTS, Pace::Closely)?;
    let resident = || gatehouse.process.resident_bytes();
    let before = settled(resident)?;
    visitors.visit_all(names.to_vec(), CLIENTS, Pace::Closely)?;
    let grown = settled(resident)?.saturating_sub(before);
    let cached = gatehouse.metrics()?.sum("gatehouse_certificates_cached", &[]);
    ensure!(cached >= as_f64(NAMES), "{cached} certificates are in memory");
    let each = as_f64(usize::try_from(grown)?) / as_f64(NAMES) / 1024.0;
    println!("memory of {NAMES} certificates: {each:.1} KiB each");
    let work = format!("memory of a certificate, {NAMES} cached");
    report.push(row(&work, GATEHOUSE, "KiB", vec![each])?);
    measure_handshakes(report, &gatehouse, &visitors, names)
}

/// The last of `names`, each once, beside one of them as often.
fn measure_handshakes(
    report: &mut Report,
    gatehouse: &Gatehouse,
    visitors: &Visitors,
    names: &[String],
) -> anyhow::Result<()> {
    let obtained = || -> anyhow::Result<f64> {
        let labels = ["certificate=\"obtained\""];
        Ok(gatehouse.metrics()?.sum("gatehouse_tls_handshake_seconds_count", &labels))
    };
    let before = obtained()?;
    let (mut one, mut many) = (Vec::new(), Vec::new());
    // Each once: had it been presented a minute ago, the table would be asked whether it has it still.
    for names in names.rchunks(PART).take(ROUNDS) {
        let name = names.first().context("no names")?;
        let cost = |names| cost(gatehouse, visitors, names);
        one.push(cost(vec![name.clone(); PART])?);
        many.push(cost(names.to_vec())?);
        println!(
            "full handshake and request: {:.0?} us with one name, {:.0?} with many",
            one.last(),
            many.last()
        );
    }
    ensure!(
        obtained()? <= before,
        "certificates were read from the table: the machine is too slow to measure"
    );
    let more = one.iter().zip(&many).map(|(one, many)| many - one).collect();
    let among = format!("- among {} names", PART * ROUNDS);
    report.push(row("CPU, full handshake and request, one name", GATEHOUSE, "us", one)?);
    report.push(row(&among, GATEHOUSE, "us", many)?);
    report.push(row("- difference", GATEHOUSE, "us", more)?);
    Ok(())
}

/// Microseconds of CPU, user and system, that each costs the process.
fn cost(gatehouse: &Gatehouse, visitors: &Visitors, names: Vec<String>) -> anyhow::Result<f64> {
    let (before, count) = (gatehouse.process.cpu()?, names.len());
    visitors.visit_all(names, CLIENTS, Pace::Closely)?;
    let spent: Duration = gatehouse.process.cpu()?.saturating_sub(before);
    Ok(spent.as_secs_f64() * 1e6 / as_f64(count))
}

const WARM_UP: usize = 1_000;
/// As many as a worker keeps configurations of.
const NAMES: usize = 10_000;
const CLIENTS: usize = 8;
const ROUNDS: usize = 5;
const PART: usize = 600;
