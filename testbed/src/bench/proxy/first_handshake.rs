//! How long the first request to a new name takes, and how much of it is the CA's.
//!
//! An order's time is from its first request to the chain, as Gatehouse's own metric has it: the CA's work and validation,
//! which Pebble does at once, and the pauses between our questions about them.

use std::{net::IpAddr, path::Path, time::Instant};

use anyhow::{Context, ensure};

use crate::{
    bench::report::{Report, Row},
    edge::Edge,
    gatehouse::{Gatehouse, Place},
    keep_alive_client::Kept,
    metrics::Metrics,
};

/// Adds rows for both back ends, interleaved: each name is new to its instance, and ordered at Pebble.
pub(super) fn measure(report: &mut Report, binary: &Path) -> anyhow::Result<()> {
    let edge = Edge::start()?;
    let instances = [
        Instance::start(&edge, Place::A, "uring", binary)?,
        Instance::start(&edge, Place::B, "epoll", binary)?,
    ];
    let mut samples = [Samples::default(), Samples::default()];
    for round in 0..=ROUNDS {
        for (instance, samples) in instances.iter().zip(&mut samples) {
            let first = instance.first_request(&edge, round)?;
            // The very first order registers an account as well.
            if round > 0 {
                println!(
                    "round {round} of {ROUNDS}: first handshake, {}: {:.1} ms",
                    instance.io, first.total
                );
                samples.push(&first);
            }
        }
    }
    for (instance, samples) in instances.iter().zip(samples) {
        samples.publish(report, &format!("gatehouse {}", instance.io))?;
    }
    Ok(())
}

struct Instance {
    io: &'static str,
    place: Place,
    gatehouse: Gatehouse,
}

/// Milliseconds.
struct First {
    total: f64,
    handshake: f64,
    order: f64,
}

#[derive(Default)]
struct Samples {
    total: Vec<f64>,
    order: Vec<f64>,
    handshake_without_order: Vec<f64>,
}

impl Instance {
    fn start(edge: &Edge, place: Place, io: &'static str, binary: &Path) -> anyhow::Result<Self> {
        let mut settings = edge.settings(place, io);
        settings.text("log", "filter", "warn").raw("log", "access", "false");
        for round in 0..=ROUNDS {
            settings.domain(&name(io, round));
        }
        Ok(Self { io, place, gatehouse: Gatehouse::start(&edge.network, binary, settings)? })
    }

    /// From the connection's first packet to the answer's last byte.
    fn first_request(&self, edge: &Edge, round: usize) -> anyhow::Result<First> {
        let (client, name) = (&edge.network.client, name(self.io, round));
        edge.ca.resolve(client, &name, IpAddr::V4(self.place.v4()))?;
        let before = self.gatehouse.metrics()?;
        let begun = Instant::now();
        let mut connection = Kept::connect(client, Edge::https(self.place), &name, edge.ca.roots())?;
        let status = connection.get("/")?;
        let total = begun.elapsed().as_secs_f64() * 1e3;
        ensure!(status == 200, "{name} is answered with {status}");
        let after = self.gatehouse.metrics()?;
        let grown = |series| (seconds(&after, series) - seconds(&before, series)) * 1e3;
        Ok(First {
            total,
            handshake: grown("gatehouse_tls_handshake_seconds_sum"),
            order: grown("gatehouse_certificate_order_seconds_sum"),
        })
    }
}

impl Samples {
    fn push(&mut self, first: &First) {
        self.total.push(first.total);
        self.order.push(first.order);
        self.handshake_without_order.push(first.handshake - first.order);
    }

    fn publish(self, report: &mut Report, subject: &str) -> anyhow::Result<()> {
        for (work, samples) in [
            ("first request to a new name", self.total),
            ("- of it, the order at the CA", self.order),
            ("- of it, the handshake's remainder", self.handshake_without_order),
        ] {
            report.push(Row::of(work, subject, "ms", samples).context("no rounds")?);
        }
        Ok(())
    }
}

fn seconds(metrics: &Metrics, series: &str) -> f64 {
    metrics.sum(series, &[])
}

fn name(io: &str, round: usize) -> String {
    format!("first-{round}.{io}.customer.test")
}

const ROUNDS: usize = 9;
