//! Memory that a client costs which asks for large answers and reads nothing, beside nginx and HAProxy; and how much of it is
//! left once such clients have gone.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use super::{haproxy, nginx::Nginx, subject::Subject};
use crate::{
    authority::Authority,
    bench::{
        report::{Report, Row},
        settled,
    },
    non_reader::{Ask, several},
    wait,
};

/// Adds a row for each kind of client and each subject. Every figure is taken of a process that has just started.
pub(super) fn measure(report: &mut Report, binary: &Path) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::create(folder.path())?;
    let upstream = Subject::nginx(folder.path(), "upstream", &Nginx::upstream(folder.path())?)?;
    let start: [&dyn Fn() -> anyhow::Result<Subject>; 4] = [
        &|| Subject::gatehouse(folder.path(), binary, "uring", upstream.port()),
        &|| Subject::gatehouse(folder.path(), binary, "epoll", upstream.port()),
        &|| Subject::nginx(folder.path(), "nginx", &Nginx::peer(&authority, &upstream)?),
        &|| haproxy::start(folder.path(), &authority, &upstream),
    ];
    for (kind, ask, goal) in kinds() {
        let mut rows = Vec::new();
        for start in start {
            let subject = start()?;
            let Held { held, left } = held(&subject, &ask).with_context(|| format!("{ask}, {subject}"))?;
            println!("{kind}, {subject}: {held:.0} KiB a connection; {left:.0} KiB left of it");
            let left_of = format!("- left of it after {} s", AFTERWARDS.as_secs());
            rows.extend(Row::of(kind, subject.name(), "KiB", vec![held]).map(|row| match subject.name() {
                "nginx" | "haproxy" => row,
                _ => row.against(goal, Some(1.0)),
            }));
            rows.extend(Row::of(&left_of, subject.name(), "KiB", vec![left]));
        }
        for row in rows {
            report.push(row);
        }
    }
    Ok(())
}

/// Clients, and the KiB that one of them may cost.
fn kinds() -> [(&'static str, Ask, f64); 3] {
    let path = || "/body".to_owned();
    [
        ("memory for a client that does not read, HTTP/1.1", Ask::Http1 { path: path() }, 128.0),
        (
            "memory for a client that does not read, HTTP/2, 10 streams",
            Ask::Http2 { streams: 10, path: path() },
            256.0,
        ),
        (
            "memory for a client that does not read, HTTP/2, 100 streams",
            Ask::Http2 { streams: 100, path: path() },
            1024.0,
        ),
    ]
}

/// KiB for each connection.
struct Held {
    held: f64,
    left: f64,
}

fn held(subject: &Subject, ask: &Ask) -> anyhow::Result<Held> {
    let roots = subject.roots().context("it has no TLS")?;
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, subject.port()));
    // What the first connections cost once, for certificates and caches, is nobody's.
    drop(several(2, to, "localhost", roots, &Ask::Http1 { path: "/".to_owned() })?);
    let resident = || subject.resident_bytes();
    let before = settled(resident)?;
    let clients = several(CONNECTIONS as usize, to, "localhost", roots, ask)?;
    let held = settled(resident)?;
    drop(clients);
    let gone = Instant::now();
    let left = wait::until("the time to release it", AFTERWARDS * 2, || {
        ensure!(gone.elapsed() >= AFTERWARDS, "{:?}", gone.elapsed());
        subject.resident_bytes()
    })?;
    let each = |now: u64| kib(now.saturating_sub(before)) / f64::from(CONNECTIONS);
    Ok(Held { held: each(held), left: each(left) })
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}

const CONNECTIONS: u32 = 50;
const AFTERWARDS: Duration = Duration::from_secs(5);
