//! CPU per request, per new connection and per large body of both back ends, beside nginx, in one interleaved run; and how
//! long a name's first handshake takes. Beside them stands the floor: the same bytes without TLS and HTTP.
//!
//! CPU time is what is compared, not throughput: load, subject and upstream share the machine's cores, and what the
//! kernel charges a subject does not depend on who else had to wait.

mod caddy;
mod client;
mod first_handshake;
mod floor;
mod haproxy;
pub mod instructions;
mod memory;
mod nginx;
pub mod peers;
mod subject;
mod work;

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::Context;

use self::{
    client::{Client, Exchange},
    floor::Floors,
    nginx::Nginx,
    subject::Subject,
    work::Work,
};
use super::report::{Report, Row, first_line, median};
use crate::authority::Authority;

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// What clients cost that do not read
    Memory,
    /// CPU per request, connection and body
    Work,
    /// How long a name's first handshake takes
    FirstHandshake,
}

/// Measures `part`, or everything, and publishes; `binary` is a release build of Gatehouse. Without `rounds`, work is measured as often
/// as a quiet machine needs.
pub fn run(root: &Path, binary: &Path, part: Option<Part>, rounds: Option<usize>) -> anyhow::Result<()> {
    let rounds = rounds.unwrap_or(ROUNDS);
    let mut report = Report::new("proxy", versions(binary));
    let takes = |one| part.is_none_or(|part| part == one);
    if takes(Part::Memory) {
        memory::measure(&mut report, binary)?;
    }
    if takes(Part::Work) {
        measure_work(&mut report, binary, rounds)?;
    }
    if takes(Part::FirstHandshake) {
        first_handshake::measure(&mut report, binary)?;
    }
    report.publish(root)
}

/// Has `binary` do over each back end once all that is measured, and requests of a browser's and over HTTP/2 besides.
pub fn exercise(binary: &Path) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let upstream = Subject::nginx(folder.path(), "upstream", &Nginx::upstream(folder.path())?)?;
    for io in ["epoll", "uring"] {
        let subject = Subject::gatehouse(folder.path(), binary, io, upstream.port())?;
        subject.check()?;
        for work in Work::ALL {
            let count = work.load(&subject, MEASURED)?;
            println!("{subject}: {count} x {}", work.name());
        }
        let count = Client::new(&subject)?.load(Exchange::OfBrowser, MEASURED)?;
        println!("{subject}: {count} requests of a browser's");
        work::h2load(&subject, MEASURED)?;
    }
    Ok(())
}

fn measure_work(report: &mut Report, binary: &Path, rounds: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::create(folder.path())?;
    let upstream = Subject::nginx(folder.path(), "upstream", &Nginx::upstream(folder.path())?)?;
    let peers = [
        Subject::gatehouse(folder.path(), binary, "uring", upstream.port())?,
        Subject::gatehouse(folder.path(), binary, "epoll", upstream.port())?,
        Subject::nginx(folder.path(), "nginx", &Nginx::peer(&authority, &upstream)?)?,
    ];
    let floors = Floors::start(folder.path(), binary, &upstream)?;
    for work in Work::ALL {
        let subjects: Vec<&Subject> = peers.iter().chain(floors.of(*work)).collect();
        // Before the rounds: a certificate that is still to be made is not what is measured.
        for subject in &subjects {
            subject.check()?;
            work.load(subject, WARM_UP).with_context(|| subject.to_string())?;
        }
        let samples =
            in_rounds(rounds, &subjects, work.name(), work.unit().name, |subject| cost(*work, subject))?;
        push_rows(report, *work, &subjects, &samples)?;
    }
    Ok(())
}

/// `measure` for each subject in each round; the samples of each subject.
fn in_rounds(
    rounds: usize,
    subjects: &[&Subject],
    what: &str,
    unit: &str,
    mut measure: impl FnMut(&Subject) -> anyhow::Result<f64>,
) -> anyhow::Result<Vec<Vec<f64>>> {
    let mut samples = vec![Vec::new(); subjects.len()];
    for round in 1..=rounds {
        for (subject, samples) in subjects.iter().zip(&mut samples) {
            let sample = measure(subject).with_context(|| format!("{what}, {subject}"))?;
            println!("round {round} of {rounds}: {what}, {subject}: {sample:.1} {unit}");
            samples.push(sample);
        }
    }
    Ok(samples)
}

/// The median of nginx's samples, against which the others' are held.
fn of_nginx(subjects: &[&Subject], samples: &[Vec<f64>]) -> anyhow::Result<f64> {
    let nginx = subjects.iter().zip(samples).find(|(subject, _)| subject.name() == "nginx");
    nginx.and_then(|(_, samples)| median(samples)).context("nginx was not measured")
}

/// CPU, user and system, that one unit of `work` costs `subject`.
fn cost(work: Work, subject: &Subject) -> anyhow::Result<f64> {
    let before = subject.cpu()?;
    let count = work.load(subject, MEASURED)?;
    let spent = subject.cpu()?.saturating_sub(before);
    Ok(spent.as_secs_f64() * work.unit().per_second / as_f64(count))
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

/// A row for each subject, held against nginx; one that holds the ring against epoll round by round, and one for each that holds it against
/// the floor.
fn push_rows(
    report: &mut Report,
    work: Work,
    subjects: &[&Subject],
    samples: &[Vec<f64>],
) -> anyhow::Result<()> {
    let of = |name: &str| subjects.iter().zip(samples).find(|(subject, _)| subject.name() == name);
    let nginx = of_nginx(subjects, samples)?;
    for (subject, samples) in subjects.iter().zip(samples) {
        let row =
            Row::of(work.name(), subject.name(), work.unit().name, samples.clone()).context("no rounds")?;
        let goal = subject.name().starts_with("gatehouse").then_some(1.0);
        report.push(if subject.name() == "floor" { row } else { row.against(nginx, goal) });
    }
    if let (Some((_, uring)), Some((_, epoll))) = (of("gatehouse uring"), of("gatehouse epoll")) {
        let row =
            Row::of(work.name(), "uring to epoll", "ratio", ratios(uring, epoll)).context("no rounds")?;
        report.push(row.against(1.0, Some(1.0)));
    }
    let Some((_, floor)) = of("floor") else { return Ok(()) };
    for (subject, samples) in subjects.iter().zip(samples).filter(|(subject, _)| subject.name() != "floor") {
        let name = subject.name().trim_start_matches("gatehouse ");
        let row = Row::of(work.name(), &format!("{name} to floor"), "ratio", ratios(samples, floor));
        report.push(row.context("no rounds")?.against(1.0, None));
    }
    Ok(())
}

fn ratios(samples: &[f64], base: &[f64]) -> Vec<f64> {
    samples.iter().zip(base).map(|(sample, base)| sample / base).collect()
}

fn versions(binary: &Path) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("gatehouse".to_owned(), first_line(&binary.to_string_lossy(), &["--version"])),
        ("nginx".to_owned(), first_line("nginx", &["-v"])),
        ("haproxy".to_owned(), first_line("haproxy", &["-v"])),
        ("wrk".to_owned(), first_line("wrk", &["-v"])),
    ])
}

const ROUNDS: usize = 7;
const WARM_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(3);
