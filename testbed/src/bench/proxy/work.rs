//! What the subjects are made to do, and in what unit its cost is told.

use std::{process::Command, time::Duration};

use anyhow::{Context, bail, ensure};

use super::{
    client::{Client, Exchange},
    subject::Subject,
};

/// A kind of load.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// One request after the other on each of 32 connections.
    KeptAlive,
    /// A connection for each request, its session resumed.
    Resumed,
    /// A connection for each request, with a handshake in full.
    FullHandshake,
    /// Large answers on kept connections.
    Download,
    /// Large requests on kept connections.
    Upload,
}

/// A unit of cost.
pub(super) struct Unit {
    pub(super) name: &'static str,
    pub(super) per_second: f64,
}

impl Work {
    pub(super) const ALL: &[Self] =
        &[Self::KeptAlive, Self::Resumed, Self::FullHandshake, Self::Download, Self::Upload];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::KeptAlive => "kept-alive TLS request",
            Self::Resumed => "new TLS connection, resumed",
            Self::FullHandshake => "new TLS connection, full handshake",
            Self::Download => "16 MiB body to the client",
            Self::Upload => "16 MiB body to the upstream",
        }
    }

    pub(super) fn unit(self) -> Unit {
        match self {
            Self::KeptAlive | Self::Resumed | Self::FullHandshake => Unit { name: "us", per_second: 1e6 },
            Self::Download | Self::Upload => Unit { name: "ms", per_second: 1e3 },
        }
    }

    /// Makes the load for `duration`; how often the work was done.
    pub(super) fn load(self, subject: &Subject, duration: Duration) -> anyhow::Result<u64> {
        let exchange = match self {
            Self::KeptAlive => return wrk(subject, duration, 32, &[]),
            // wrk resumes its sessions.
            Self::Resumed => return wrk(subject, duration, 32, &["-H", "Connection: close"]),
            Self::FullHandshake => Exchange::OnNewConnection,
            Self::Download => Exchange::Download,
            Self::Upload => Exchange::Upload,
        };
        Client::new(subject)?.load(exchange, duration)
    }
}

/// One request after the other on each of some connections; how many there were.
pub(super) fn wrk(
    subject: &Subject,
    duration: Duration,
    connections: usize,
    more: &[&str],
) -> anyhow::Result<u64> {
    let mut client = Command::new("wrk");
    client.args(["-t1", "-c", &connections.to_string(), "-d", &format!("{}s", duration.as_secs())]);
    client.arg(subject.url()).args(more).args(subject.fields().iter().flat_map(|field| ["-H", field]));
    let output = client.output().context("cannot run wrk; `cargo xtask setup` installs it")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && !text.contains("Non-2xx"), "wrk: {text}");
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in "));
    match requests.and_then(|(count, _)| count.parse().ok()) {
        Some(count) if count > 0 => Ok(count),
        _ => bail!("wrk made no request: {text}"),
    }
}

/// Ten requests at once on each of some connections of HTTP/2.
pub(super) fn h2load(subject: &Subject, duration: Duration) -> anyhow::Result<()> {
    let mut client = Command::new("h2load");
    client.args(["-t1", "-c32", "-m10", "-D", &duration.as_secs().to_string(), &subject.url()]);
    let output = client.output().context("cannot run h2load; `cargo xtask setup` installs it")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let succeeded = text.lines().find(|line| line.starts_with("status codes:"));
    let all =
        succeeded.is_some_and(|line| line.contains(" 2xx, 0 3xx, 0 4xx, 0 5xx") && !line.contains(": 0 2xx"));
    ensure!(output.status.success() && all, "h2load: {text}");
    Ok(())
}
