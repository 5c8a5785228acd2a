//! Gatehouse beside nginx, `HAProxy` and Caddy, in one interleaved run: what an idle connection holds, what a handshake and a kept-alive
//! request cost, how many requests a second there are at most, and how long one in a hundred takes at least while all serve the same number.
//!
//! Each has one thread and, where it can be told, the same core. That number of requests is 70 % of what the best of the others reaches: a proxy
//! that cannot serve it queues, and its figure says so.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use rustls::ClientConfig;

use super::{
    as_f64, caddy, cost, haproxy, in_rounds,
    nginx::Nginx,
    of_nginx,
    subject::Subject,
    versions,
    work::{Work, wrk},
};
use crate::{
    authority::{self, Authority},
    bench::report::{Report, Row, first_line, median},
    keep_alive_client::Kept,
};

/// Measures and publishes; `binary` is a release build of Gatehouse. Without `rounds`, as often as a quiet machine needs.
pub fn run(root: &Path, binary: &Path, rounds: Option<usize>) -> anyhow::Result<()> {
    let rounds = rounds.unwrap_or(ROUNDS);
    let mut report = Report::new("peers", all_versions(binary));
    let folder = tempfile::tempdir()?;
    let authority = Authority::create(folder.path())?;
    let upstream = Subject::nginx(folder.path(), "upstream", &Nginx::upstream(folder.path())?)?;
    let peers = [
        Subject::gatehouse(folder.path(), binary, "uring", upstream.port())?,
        Subject::gatehouse(folder.path(), binary, "epoll", upstream.port())?,
        Subject::nginx(folder.path(), "nginx", &Nginx::peer(&authority, &upstream)?)?,
        haproxy::start(folder.path(), &authority, &upstream)?,
        caddy::start(folder.path(), &authority, &upstream)?,
    ];
    let subjects: Vec<&Subject> = peers.iter().collect();
    for subject in &subjects {
        subject.check()?;
    }
    // First of all: what was in use once is not always given back.
    let idle = "memory of an idle TLS connection";
    let held = in_rounds(1, &subjects, idle, "KiB", |subject| Ok(idle_bytes(subject)? / 1024.0))?;
    push(&mut report, idle, "KiB", &subjects, held)?;
    let handshake = Work::FullHandshake;
    let costs = in_rounds(rounds, &subjects, handshake.name(), "us", |subject| cost(handshake, subject))?;
    push(&mut report, handshake.name(), "us", &subjects, costs)?;
    for connections in CONNECTIONS {
        measure_requests(&mut report, &subjects, rounds, connections, folder.path())?;
    }
    report.publish(root)
}

fn measure_requests(
    report: &mut Report,
    subjects: &[&Subject],
    rounds: usize,
    connections: usize,
    folder: &Path,
) -> anyhow::Result<()> {
    let of = |what: &str| format!("{what}, {connections} clients");
    let mut costs = Vec::new();
    let (at_most, slowest) = (of("requests at most"), of("p99, 70 % load"));
    let rates = in_rounds(rounds, subjects, &at_most, "1/s", |subject| {
        let before = subject.cpu()?;
        let count = as_f64(wrk(subject, MEASURED, connections, &[])?);
        let spent = subject.cpu()?.saturating_sub(before);
        costs.push((subject.name().to_owned(), spent.as_secs_f64() * 1e6 / count));
        Ok(count / MEASURED.as_secs_f64())
    })?;
    let costs = subjects.iter().map(|subject| {
        let own = costs.iter().filter(|(name, _)| name == subject.name());
        own.map(|(_, cost)| *cost).collect()
    });
    push(report, &of("kept-alive TLS request"), "us", subjects, costs.collect())?;
    let best = subjects.iter().zip(&rates).filter(|(subject, _)| !subject.name().starts_with("gatehouse"));
    let best = best.filter_map(|(_, rates)| median(rates)).fold(0.0, f64::max);
    push(report, &at_most, "1/s", subjects, rates)?;
    let rate = best * SHARE;
    println!("{}: {rate:.0} a second, 70 % of the best peer's", of("load"));
    let ask = |subject: &Subject| percentile_ms(subject, connections, rate, folder);
    let times = in_rounds(rounds, subjects, &slowest, "ms", ask)?;
    push(report, &slowest, "ms", subjects, times)
}

/// A row for each subject, held against nginx.
fn push(
    report: &mut Report,
    work: &str,
    unit: &'static str,
    subjects: &[&Subject],
    samples: Vec<Vec<f64>>,
) -> anyhow::Result<()> {
    let nginx = of_nginx(subjects, &samples)?;
    for (subject, samples) in subjects.iter().zip(samples) {
        let row = Row::of(work, subject.name(), unit, samples).context("no rounds")?;
        report.push(row.against(nginx, None));
    }
    Ok(())
}

/// What the subject's processes hold for each of some connections that have asked once.
fn idle_bytes(subject: &Subject) -> anyhow::Result<f64> {
    let roots = authority::roots(subject.roots().context("it has no TLS")?)?;
    let config = Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, subject.port()));
    let connect = || -> anyhow::Result<Kept> {
        let mut kept = Kept::connect_with(to, "localhost", Arc::clone(&config))?;
        ensure!(kept.get("/")? == 200, "it does not serve");
        Ok(kept)
    };
    let first = connect()?;
    let before = subject.resident_bytes()?;
    let kept = (0..IDLE).map(|_| connect()).collect::<anyhow::Result<Vec<_>>>()?;
    let held = as_f64(subject.resident_bytes()?.saturating_sub(before)) / as_f64(IDLE);
    drop((first, kept));
    Ok(held)
}

/// The time within which 99 of 100 requests were answered, while so many a second were sent.
fn percentile_ms(subject: &Subject, connections: usize, rate: f64, folder: &Path) -> anyhow::Result<f64> {
    let log = folder.join("requests.tsv");
    let mut client = Command::new("h2load");
    client.args(["--h1", "-t1", "-c", &connections.to_string(), "-D", &MEASURED.as_secs().to_string()]);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let each = rate / connections as f64;
    client.args(["--warm-up-time", "1", "--rps", &format!("{each:.3}")]);
    // h2load appends.
    let _ = fs::remove_file(&log);
    client.arg(format!("--log-file={}", log.display())).arg(subject.url());
    let output = client.output().context("cannot run h2load; `cargo xtask setup` installs it")?;
    ensure!(output.status.success(), "h2load: {}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(&log)?;
    let mut times = Vec::new();
    for line in text.lines() {
        let mut columns = line.split('\t').skip(1);
        ensure!(columns.next() == Some("200"), "answered otherwise than with 200: {line}");
        times.push(columns.next().context("no time")?.parse::<u64>()?);
    }
    times.sort_unstable();
    let time = times.get(times.len() * 99 / 100).context("h2load made no request")?;
    Ok(as_f64(*time) / 1e3)
}

fn all_versions(binary: &Path) -> BTreeMap<String, String> {
    let mut versions = versions(binary);
    versions.insert("caddy".to_owned(), first_line("caddy", &["version"]));
    versions.insert("h2load".to_owned(), first_line("h2load", &["--version"]));
    versions
}

const ROUNDS: usize = 5;
const CONNECTIONS: [usize; 2] = [64, 512];
/// Long enough for the handshakes of 512 connections not to matter.
const MEASURED: Duration = Duration::from_secs(6);
/// Of what the best peer reaches.
const SHARE: f64 = 0.7;
const IDLE: u64 = 500;
