//! Many clients at once, each for a name that is new: how fast the orders go, what they cost, and who is not served. Beside Caddy, which
//! obtains on demand, at the same CA with the same clients; they come again a second after they were refused, as a browser's user would.
//!
//! Debian's Caddy keeps its certificates in files, so that Gatehouse's embedded store stands beside it as well as the table, whose double has one
//! thread.

use std::{
    fs,
    path::Path,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use super::{as_f64, row, settings, visitors::Visitors};
use crate::{
    bench::report::Report,
    caddy::{self, Site},
    edge::Edge,
    gatehouse::{Gatehouse, Place},
    process::Process,
};

/// Adds rows for each, at an edge of its own.
pub(super) fn measure(report: &mut Report, binary: &Path) -> anyhow::Result<()> {
    let names: Vec<String> = (0..NAMES).map(|number| format!("new-{number}.customer.test")).collect();
    for (subject, on_store) in [
        ("gatehouse embedded", Edge::settings as fn(&Edge, _, &str) -> _),
        ("gatehouse table", Edge::shared_settings),
    ] {
        let edge = Edge::start()?;
        let listed = names.iter().map(String::as_str).chain([FIRST]);
        let mut own = settings(on_store(&edge, Place::A, "auto"), listed);
        own.raw("worker", "threads", "2");
        let mut gatehouse = Gatehouse::start(&edge.network, binary, own)?;
        Outcome::measure(&edge, &mut gatehouse.process, &names)?.publish(report, subject)?;
        print_outcomes(&gatehouse)?;
    }
    let edge = Edge::start()?;
    let files = edge.folder().join("caddy");
    fs::create_dir_all(&files)?;
    let site = Site { address: "https://", lines: " tls {\n  on_demand\n }\n", ..Site::default() };
    let mut caddy = caddy::start(&edge, &files, &site)?;
    Outcome::measure(&edge, &mut caddy, &names)?.publish(report, "caddy files")
}

/// What became of orders, handshakes and calls to the table.
fn print_outcomes(gatehouse: &Gatehouse) -> anyhow::Result<()> {
    let metrics = gatehouse.metrics()?.to_string();
    let is_wanted = |line: &&str| OUTCOMES.iter().any(|outcomes| line.starts_with(outcomes));
    metrics.lines().filter(is_wanted).for_each(|line| println!("  {line}"));
    Ok(())
}

/// What became of them.
struct Outcome {
    /// How long each client waited that was served.
    waits: Vec<Duration>,
    refusals: usize,
    /// Certificates that the CA handed out, and when the last client was served.
    issued: u64,
    elapsed: Duration,
    cpu: Duration,
}

impl Outcome {
    /// The first order registers an account, and is none of them.
    fn measure(edge: &Edge, process: &mut Process, names: &[String]) -> anyhow::Result<Self> {
        let visitors = Visitors::new(edge, Place::A, edge.ca.roots())?;
        process.wait_until("the first name to be served", FIRST_WITHIN, || visitors.visit(FIRST))?;
        let (before, issued) = (process.cpu()?, edge.ca.relay.count("certificate"));
        let outcomes = come_at_once(&visitors, names)?;
        let issued = edge.ca.relay.count("certificate") - issued;
        let waits: Vec<_> = outcomes.iter().filter_map(|(wait, _)| *wait).collect();
        // Who is not served is waited for longer, while nothing is ordered.
        let elapsed = *waits.iter().max().context("nobody was served")?;
        let cpu = process.cpu()?.saturating_sub(before);
        let refusals = outcomes.iter().map(|(_, refusals)| refusals).sum();
        Ok(Self { waits, refusals, issued, elapsed, cpu })
    }

    fn publish(self, report: &mut Report, subject: &str) -> anyhow::Result<()> {
        let Self { waits, refusals, issued, elapsed, cpu } = self;
        ensure!(issued > 0, "{subject}: the CA has issued nothing");
        let (issued, left) = (as_f64(usize::try_from(issued)?), NAMES - waits.len());
        println!(
            "{subject}: {issued} orders in {elapsed:.1?}, CPU {cpu:.1?}, {left} names not served, {refusals} refusals"
        );
        let waits = waits.iter().map(Duration::as_secs_f64).collect();
        let unserved = format!("- not served within {} s", DEADLINE.as_secs());
        report.push(row(
            &format!("{NAMES} new names at once"),
            subject,
            "1/s",
            vec![issued / elapsed.as_secs_f64()],
        )?);
        report.push(row("- CPU for each order", subject, "ms", vec![cpu.as_secs_f64() * 1e3 / issued])?);
        report.push(row("- a client's wait", subject, "s", waits)?);
        report.push(row("- refused meanwhile", subject, "times", vec![as_f64(refusals)])?);
        report.push(row(&unserved, subject, "names", vec![as_f64(left)])?);
        Ok(())
    }
}

/// How long a client waited, if it was served, and how often it was refused before.
type Visit = (Option<Duration>, usize);

fn come_at_once(visitors: &Visitors, names: &[String]) -> anyhow::Result<Vec<Visit>> {
    let barrier = Arc::new(Barrier::new(names.len() + 1));
    let start = |name: &String| {
        let (name, barrier) = (name.clone(), Arc::clone(&barrier));
        visitors.thread(move |visitors| {
            barrier.wait();
            insist(&visitors, &name)
        })
    };
    let threads = names.iter().map(start).collect::<anyhow::Result<Vec<_>>>()?;
    barrier.wait();
    let joined = threads.into_iter().map(|thread| thread.join().ok().context("a client panicked"));
    joined.collect()
}

fn insist(visitors: &Visitors, name: &str) -> Visit {
    let (begun, mut refusals) = (Instant::now(), 0);
    while begun.elapsed() < DEADLINE {
        if let Ok(waited) = visitors.visit_from_here(name, begun) {
            return (Some(waited), refusals);
        }
        refusals += 1;
        thread::park_timeout(AGAIN);
    }
    (None, refusals)
}

const OUTCOMES: [&str; 4] = [
    "gatehouse_certificate_orders_total",
    "gatehouse_certificate_orders_deferred_total",
    "gatehouse_certificates_obtained_total",
    "gatehouse_store_outcomes_total",
];
const NAMES: usize = 1_000;
const FIRST: &str = "first.customer.test";
const FIRST_WITHIN: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(100);
const AGAIN: Duration = Duration::from_secs(1);
