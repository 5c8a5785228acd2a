//! What every case begins with.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use testbed::{
    cleartext,
    curl::Reply,
    edge::Edge,
    gatehouse::{Gatehouse, Place, Settings},
    hello::{Attempt, Ending, Hello, KeyShare, attempt},
    metrics::Metrics,
    network::LOOPBACK,
    wait,
};

/// Makes a test of `case(io)` for each back end, as `uring::case` and `epoll::case`.
macro_rules! on_both_back_ends {
    ($($case:ident),+ $(,)?) => {
        mod uring { $(#[test] fn $case() { super::$case("uring"); })+ }
        mod epoll { $(#[test] fn $case() { super::$case("epoll"); })+ }
    };
}
pub(crate) use on_both_back_ends;

pub(crate) fn edge() -> Edge {
    Edge::start().unwrap()
}

pub(crate) fn start(edge: &Edge, settings: Settings) -> Gatehouse {
    Gatehouse::start(&edge.network, Path::new(BINARY), settings).unwrap()
}

/// An instance at A that serves `names` from its static list.
pub(crate) fn start_with(edge: &Edge, io: &str, names: &[&str]) -> Gatehouse {
    let mut settings = edge.settings(Place::A, io);
    for name in names {
        settings.domain(name);
    }
    start(edge, settings)
}

/// Settings on the shared table, through a store that stumbles at each place in a way of its own: throttles, conflicts, keys
/// left unprocessed, reads of own writes that are old. (The table is old for whoever reads it without insisting, anyway.)
pub(crate) fn faulty_settings(edge: &Edge, place: Place, io: &str) -> Settings {
    let seed = match place {
        Place::A => 3,
        Place::B => 5,
        Place::Successor => 7,
    };
    let faults = format!("seed={seed},stale=2s,throttle=20,conflict=20,unprocessed=50");
    let mut settings = edge.shared_settings(place, io);
    settings.environment("GATEHOUSE_STORE_FAULTS", &faults);
    settings
}

/// A figure for whoever reads the run: libtest keeps to itself what a case that passes prints.
pub(crate) fn report(figure: &str) {
    let _ = writeln!(std::io::stderr(), "{figure}");
}

/// GET / of a name at A.
pub(crate) fn get(edge: &Edge, name: &str) -> Reply {
    edge.curl(&format!("https://{name}/")).run().unwrap()
}

/// A name's first handshake or a later one: it must be served.
pub(crate) fn assert_served(edge: &Edge, name: &str) -> Reply {
    assert_served_at(edge, Place::A, name)
}

/// The same at another place.
pub(crate) fn assert_served_at(edge: &Edge, place: Place, name: &str) -> Reply {
    let reply = edge.curl(&format!("https://{name}/")).at(IpAddr::V4(place.v4())).run().unwrap();
    assert_eq!(reply.status, 200, "{name} at {place:?}: {reply:?}");
    reply
}

/// A hello for `name` whose name lies within the first segment, sent whole.
pub(crate) fn send_client_hello(edge: &Edge, place: Place, name: &str) -> Attempt {
    let hello = Hello::new(name, KeyShare::Classic, |_| true).unwrap();
    send(edge, place, hello.whole())
}

/// Segments to a place's TLS port, and what comes within a second.
pub(crate) fn send(edge: &Edge, place: Place, segments: Vec<Vec<u8>>) -> Attempt {
    attempt(&edge.network.client, Edge::https(place), segments, Duration::from_secs(1)).unwrap()
}

/// Sends hellos for `name` until one ends in `ending`; a listener that is away counts as not yet.
pub(crate) fn greet_until(edge: &Edge, name: &str, ending: &Ending, within: Duration) -> Attempt {
    let hello = Hello::new(name, KeyShare::Classic, |_| true).unwrap();
    wait::until(&format!("{name} to end in {ending:?}"), within, || {
        let patience = Duration::from_millis(500);
        let seen = attempt(&edge.network.client, Edge::https(Place::A), hello.whole(), patience)?;
        ensure!(seen.ending == *ending, "{seen:?}");
        Ok(seen)
    })
    .unwrap()
}

/// Scrapes until `holds` of the metrics.
pub(crate) fn scrape_until(
    gatehouse: &Gatehouse,
    what: &str,
    within: Duration,
    holds: impl Fn(&Metrics) -> bool,
) -> Metrics {
    wait::until(what, within, || {
        let metrics = gatehouse.metrics()?;
        ensure!(holds(&metrics), "{metrics}");
        Ok(metrics)
    })
    .unwrap()
}

/// Whether names would be rejected if the mode says so.
pub(crate) fn is_enforcing(metrics: &Metrics) -> bool {
    let is = |state: &str| metrics.sum("gatehouse_guard_enforcement", &[&format!("state=\"{state}\"")]) > 0.5;
    is("on") || is("inherited")
}

/// Connections to the TLS port that reached user space, however they ended.
pub(crate) fn connections(metrics: &Metrics) -> f64 {
    metrics.sum("gatehouse_tls_connections_total", &[])
}

/// What the table answers to `operation`. The engine looks at no signature, but wants one.
pub(crate) fn table(edge: &Edge, operation: &str, body: &Value) -> Value {
    let body = body.to_string();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: table\r\nConnection: close\r\nX-Amz-Target: DynamoDB_20120810.{operation}\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=testbed/20260101/eu-central-1/dynamodb/aws4_request, \
         SignedHeaders=host, Signature=00\r\nX-Amz-Date: 20260101T000000Z\r\n\
         Content-Type: application/x-amz-json-1.0\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let table: SocketAddr = (LOOPBACK, 8_000).into();
    let answer = cleartext::send(&edge.network.edge, table, request).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).context("the table's answer").unwrap()
}

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_gatehouse");
pub(crate) const SHOP: &str = "shop.customer.test";
pub(crate) const FOREIGN: &str = "foreign.example.net";
/// What a feed that is read every second, stale reads of up to two, and a busy machine add up to.
pub(crate) const FLEET_DELAY: Duration = Duration::from_secs(5);
