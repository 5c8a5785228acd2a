//! Certificates: what Gatehouse adds to the CA's own time in a name's first handshake, what a certificate costs that only the table has, what
//! memory holds of one, many new names at once beside Caddy, and a cache that holds a tenth of what the table does.
//! Not here: what a handshake costs beside other servers (`proxy`).
//!
//! The table is the testbed's, of three servers one behind the other on this machine, and CA, clients and upstream share its cores: times
//! are more than a machine of its own would need.

mod at_once;
mod authority_time;
mod first_handshake;
mod memory;
mod stored;
mod visitors;
mod zipf;

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::Context;

use super::report::{Report, Row, first_line};
use crate::gatehouse::Settings;

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// A new name's first handshake, and one whose certificate only the table has
    FirstHandshake,
    /// Memory of a cached certificate, and CPU of a handshake among many
    Memory,
    /// Many new names at once, beside Caddy
    AtOnce,
    /// A cache that holds a tenth of what the table does
    Zipf,
}

/// Measures `part`, or everything, and publishes; `binary` is a release build of Gatehouse.
pub fn run(root: &Path, binary: &Path, part: Option<Part>) -> anyhow::Result<()> {
    let mut report = Report::new("certificates", versions(binary));
    let takes = |one| part.is_none_or(|part| part == one);
    if takes(Part::FirstHandshake) {
        first_handshake::measure(&mut report, binary)?;
    }
    if takes(Part::Memory) {
        memory::measure(&mut report, binary)?;
    }
    if takes(Part::AtOnce) {
        at_once::measure(&mut report, binary)?;
    }
    if takes(Part::Zipf) {
        zipf::measure(&mut report, binary)?;
    }
    report.publish(root)
}

/// The same settings for one worker, which serves `names` and logs what goes wrong alone. No budget of orders ends before they do.
fn settings<'a>(mut settings: Settings, names: impl IntoIterator<Item = &'a str>) -> Settings {
    settings.raw("worker", "threads", "1");
    settings.text("log", "filter", "warn").raw("log", "access", "false");
    for budget in ["orders_per_three_hours", "orders_per_registered_domain"] {
        settings.raw("certificates", budget, "1000000");
    }
    for name in names {
        settings.domain(name);
    }
    settings
}

/// A row of a subject's samples.
fn row(work: &str, subject: &str, unit: &'static str, samples: Vec<f64>) -> anyhow::Result<Row> {
    Row::of(work, subject, unit, samples).with_context(|| format!("{work}: no samples"))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

fn versions(binary: &Path) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("gatehouse".to_owned(), first_line(&binary.to_string_lossy(), &["--version"])),
        ("caddy".to_owned(), first_line("caddy", &["version"])),
        ("pebble".to_owned(), first_line("dpkg-query", &["--show", "pebble"])),
    ])
}

const GATEHOUSE: &str = "gatehouse";
