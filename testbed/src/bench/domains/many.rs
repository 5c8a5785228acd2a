//! An instance that starts with very many entries in a shared table, and what it takes and asks for when nobody uses it.

use std::{
    net::SocketAddr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use dynoxide::{Database, actions::query::QueryRequest, types::AttributeValue};

use super::{entries, kernel_names::KernelNames, push_one};
use crate::{
    bench::report::Report,
    cleartext,
    edge::Edge,
    gatehouse::{Place, Settings},
    metrics::Metrics,
    network::LOOPBACK,
    process::Process,
};

pub(super) fn measure(
    report: &mut Report,
    binary: &Path,
    count: u32,
    million_reads: f64,
) -> anyhow::Result<()> {
    let database = Database::memory()?;
    let edge = Edge::start_over(database.clone())?;
    let settings = settings(&edge, count)?;
    let command = |arguments: &[&str]| settings.command(&edge.network.edge, binary, arguments);
    command(&["tables", "create"])?;
    command(&["domain", "add", entries::MODEL])?;
    entries::fill(&database, count)?;
    println!("{count} entries are in the table");

    // Without `tables create`, which asks for their description: this engine counts the entries for one.
    let mut process = settings.spawn(&edge.network.edge, binary)?;
    start(report, &edge, &mut process, count)?;
    let kernel = KernelNames::open(&edge.network.edge, &edge.pins())?;
    for number in (0..count).step_by(usize::try_from(count / SPOT_CHECKS)?.max(1)) {
        let (name, is_served) = (entries::name(number), entries::is_served(number));
        ensure!(kernel.holds(&name)? == is_served, "{name} in the kernel, served: {is_served}");
    }
    let work = format!("{count} entries at rest");
    pass(IDLE);
    let minute = rest(report, &work, &edge)?;
    for (subject, bytes) in [
        ("resident memory", process.resident_bytes()?),
        ("most of it since the start", process.peak_memory_bytes()?),
        ("the kernel's map", kernel.memory_bytes()),
    ] {
        push_one(report, &work, subject, "MiB", mebibytes(bytes))?;
    }
    let whole = whole_reading(&database)?;
    push_one(report, &work, "hourly full reading", "units", whole)?;
    for (subject, units) in [
        ("a month of these reads", minute * MONTH_MINUTES),
        ("a month of full readings", whole * MONTH_HOURS),
    ] {
        push_one(report, &work, subject, "dollars", units / 1e6 * million_reads)?;
    }
    Ok(())
}

/// An instance on the shared table whose guard has room for all and as many again.
fn settings(edge: &Edge, count: u32) -> anyhow::Result<Settings> {
    let mut settings = edge.shared_settings(Place::A, "auto");
    settings.text("log", "filter", "info");
    edge.guard(&mut settings, "strict")?;
    settings.raw("guard", "names", &count.saturating_mul(2).to_string());
    Ok(settings)
}

/// Seconds until it answers, has read its lists, and its guard holds and enforces them.
fn start(report: &mut Report, edge: &Edge, process: &mut Process, count: u32) -> anyhow::Result<()> {
    let started = Instant::now();
    let served = (0..count).filter(|number| entries::is_served(*number)).count();
    let served = f64::from(u32::try_from(served)?);
    let mut row = |subject: &str, holds: &dyn Fn(&Metrics) -> bool| {
        process.wait_until(subject, START, || {
            // A scrape costs the process some time of its own.
            pass(SCRAPES);
            let answer = cleartext::get(&edge.network.edge, METRICS, "localhost", "/metrics")?;
            let metrics = Metrics::parse(&answer.body);
            ensure!(holds(&metrics), "{metrics}");
            Ok(())
        })?;
        let work = format!("start with {count} entries");
        push_one(report, &work, subject, "s", started.elapsed().as_secs_f64())
    };
    row("until it answers", &|_| true)?;
    row("until it serves by its lists", &|metrics| metrics.sum("gatehouse_domains_loaded", &[]) > 0.5)?;
    row("until the guard holds the names", &|metrics| {
        let is_enforcing = metrics.sum("gatehouse_guard_enforcing", &[]) > 0.5;
        is_enforcing && metrics.sum("gatehouse_guard_names", &[]) >= served
    })
}

/// What the tables are asked for while nobody uses it; the read units of a minute.
fn rest(report: &mut Report, work: &str, edge: &Edge) -> anyhow::Result<f64> {
    let scans = || edge.table.relay.counts().keys().filter(|name| name.starts_with("Scan ")).count();
    ensure!(scans() == 0, "{:?}", edge.table.relay.counts());
    let before = edge.table.read_calls();
    pass(REST);
    let after = edge.table.read_calls();
    let minutes = REST.as_secs_f64() / 60.0;
    let mut each = [0.0; 2];
    for (each, (before, after)) in each.iter_mut().zip(before.into_iter().zip(after)) {
        *each = f64::from(u32::try_from(after - before)?) / minutes;
    }
    let [consistent, eventual] = each;
    let calls = consistent + eventual;
    // Of up to 4 KiB, which none exceeds: what is read at rest is an item, or says that there is nothing new.
    let units = consistent + eventual / 2.0;
    push_one(report, work, "reads a minute", "calls", calls)?;
    push_one(report, work, "reads a minute", "units", units)?;
    Ok(units)
}

/// Read units of the feed, read from its beginning as an instance does each hour.
fn whole_reading(database: &Database) -> anyhow::Result<f64> {
    let mut units = 0.0;
    for shard in 0..4 {
        let mut start = None;
        loop {
            let request = QueryRequest {
                table_name: "gatehouse-domains".to_owned(),
                index_name: Some("feed".to_owned()),
                key_condition_expression: Some("feed = :feed".to_owned()),
                expression_attribute_values: Some(
                    [(":feed".to_owned(), AttributeValue::S(shard.to_string()))].into(),
                ),
                scan_index_forward: true,
                exclusive_start_key: start,
                limit: Some(4_000),
                return_consumed_capacity: Some("TOTAL".to_owned()),
                ..QueryRequest::default()
            };
            let answer = database.query(request)?;
            units += answer.consumed_capacity.context("no consumed capacity")?.capacity_units;
            start = answer.last_evaluated_key;
            if start.is_none() {
                break;
            }
        }
    }
    Ok(units)
}

#[expect(
    clippy::disallowed_methods,
    reason = "an instance rests for a time; there is no condition to wait for"
)]
fn pass(time: Duration) {
    thread::sleep(time);
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

const METRICS: SocketAddr = SocketAddr::new(LOOPBACK, 9_464);
const START: Duration = Duration::from_mins(5);
const SCRAPES: Duration = Duration::from_millis(100);
/// An instance is idle when nobody came for twice `domains.idle_poll`; its start counts as a client.
const IDLE: Duration = Duration::from_secs(75);
const REST: Duration = Duration::from_mins(2);
const SPOT_CHECKS: u32 = 1_000;
/// A month of 30 days.
const MONTH_HOURS: f64 = 720.0;
const MONTH_MINUTES: f64 = MONTH_HOURS * 60.0;
