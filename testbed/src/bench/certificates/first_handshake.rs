//! A name's first handshake: new to the fleet, then at another instance, to which the table alone can say what the first has obtained, and
//! there again from memory.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use super::{GATEHOUSE, authority_time::LogReader, milliseconds, row, settings, visitors::Visitors};
use crate::{
    bench::report::Report,
    edge::Edge,
    gatehouse::{Gatehouse, Place},
    relay::Exchange,
};

/// Adds a row for each, and for what it consists of.
pub(super) fn measure(report: &mut Report, binary: &Path) -> anyhow::Result<()> {
    let edge = Edge::start()?;
    let names: Vec<String> = (0..=ROUNDS).map(|round| format!("first-{round}.customer.test")).collect();
    let start = |place| {
        Gatehouse::start(
            &edge.network,
            binary,
            settings(edge.shared_settings(place, "auto"), names.iter().map(String::as_str)),
        )
    };
    let _instances = [start(Place::A)?, start(Place::B)?];
    let visitors = |place| Visitors::new(&edge, place, edge.ca.roots());
    let (orders, reads) = (visitors(Place::A)?, visitors(Place::B)?);
    let log = LogReader::start(edge.ca.log())?;
    let mut samples = Samples::default();
    for (round, name) in names.iter().enumerate() {
        let ordered = Ordered::visit(&edge, &orders, &log, name)?;
        let read = Read::visit(&edge, &reads, name)?;
        // The first order registers an account, and the first connections are made.
        if round > 0 {
            println!("round {round} of {ROUNDS}: {ordered}; {read}");
            samples.push(&ordered, &read);
        }
    }
    samples.publish(report)
}

/// A handshake with an order.
struct Ordered {
    took: Duration,
    authority: Duration,
    /// Before the order was asked for, and after its certificate had come.
    around: Duration,
}

impl Ordered {
    fn visit(edge: &Edge, visitors: &Visitors, log: &LogReader, name: &str) -> anyhow::Result<Self> {
        drop(edge.ca.relay.exchanges());
        let (begun, took) = visitors.visit(name)?;
        let exchanges = edge.ca.relay.exchanges();
        let of = |wanted: &'static str| {
            exchanges.iter().filter(move |exchange| exchange.names.iter().any(|name| name == wanted))
        };
        let ordered = of("newOrder").map(|order| order.begun).min().context("nothing was ordered")?;
        let fetched =
            of("certificate").map(|order| order.ended).max().context("no certificate was fetched")?;
        let authority = log.own_time(&exchanges, (begun, begun + took));
        let around = took.saturating_sub(fetched.saturating_duration_since(ordered));
        Ok(Self { took, authority, around })
    }

    fn added(&self) -> Duration {
        self.took.saturating_sub(self.authority)
    }
}

impl std::fmt::Display for Ordered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "new name {:.1?}, of it the CA's own {:.1?}", self.took, self.authority)
    }
}

/// A handshake for what the table has, and one for the same from memory.
struct Read {
    took: Duration,
    cached: Duration,
    table: Duration,
    calls: usize,
}

impl Read {
    fn visit(edge: &Edge, visitors: &Visitors, name: &str) -> anyhow::Result<Self> {
        drop(edge.table.relay.exchanges());
        let (begun, took) = visitors.visit(name)?;
        let calls = calls_within(edge.table.relay.exchanges(), begun, took);
        let table = calls.iter().map(|call| call.ended - call.begun).sum();
        ensure!(!calls.is_empty(), "{name}: the table was not asked");
        let (begun, cached) = visitors.visit(name)?;
        let more = calls_within(edge.table.relay.exchanges(), begun, cached);
        ensure!(more.is_empty(), "{name}: the table was asked again: {more:?}");
        Ok(Self { took, cached, table, calls: calls.len() })
    }

    /// Beyond a handshake from memory and what the table needed to answer; below zero where that one happened to be the slower.
    fn added(&self) -> f64 {
        milliseconds(self.took) - milliseconds(self.cached) - milliseconds(self.table)
    }
}

impl std::fmt::Display for Read {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "in the table {:.1?}, in memory {:.1?}", self.took, self.cached)
    }
}

/// The calls of a handshake to the certificate table. The names are of the settings: for none of them another table is asked.
fn calls_within(exchanges: Vec<Exchange>, begun: Instant, took: Duration) -> Vec<Exchange> {
    let is_within = |call: &Exchange| call.begun >= begun && call.begun <= begun + took;
    let is_of_it = |call: &Exchange| call.names.iter().any(|name| name.ends_with("gatehouse-certificates"));
    exchanges.into_iter().filter(|call| is_within(call) && is_of_it(call)).collect()
}

#[derive(Default)]
struct Samples {
    new: Vec<f64>,
    authority: Vec<f64>,
    added: Vec<f64>,
    around: Vec<f64>,
    in_table: Vec<f64>,
    cached: Vec<f64>,
    table: Vec<f64>,
    table_added: Vec<f64>,
    calls: Vec<f64>,
}

impl Samples {
    fn push(&mut self, ordered: &Ordered, read: &Read) {
        self.new.push(milliseconds(ordered.took));
        self.authority.push(milliseconds(ordered.authority));
        self.added.push(milliseconds(ordered.added()));
        self.around.push(milliseconds(ordered.around));
        self.in_table.push(milliseconds(read.took));
        self.cached.push(milliseconds(read.cached));
        self.table.push(milliseconds(read.table));
        self.table_added.push(read.added());
        self.calls.push(super::as_f64(read.calls));
    }

    fn publish(self, report: &mut Report) -> anyhow::Result<()> {
        let one = |work, unit, samples| row(work, GATEHOUSE, unit, samples);
        report.push(one("first handshake of a new name", "ms", self.new)?);
        report.push(one("- of it, the CA's own time", "ms", self.authority)?);
        report.push(one("- added to that", "ms", self.added)?.against(ADDED_MS, Some(1.0)));
        report.push(one("- of that, outside the order", "ms", self.around)?);
        report.push(one("handshake, certificate in the table", "ms", self.in_table)?);
        report.push(one("handshake, certificate in memory", "ms", self.cached)?);
        report.push(one("- calls to the table", "calls", self.calls)?.against(1.0, Some(1.0)));
        report.push(one("- of the difference, the table's", "ms", self.table)?);
        report.push(one("- and ours", "ms", self.table_added)?.against(TABLE_ADDED_MS, Some(1.0)));
        Ok(())
    }
}

const ROUNDS: usize = 25;
/// Goals.
const ADDED_MS: f64 = 50.0;
const TABLE_ADDED_MS: f64 = 2.0;
