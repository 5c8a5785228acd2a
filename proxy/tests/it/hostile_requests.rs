//! What clients should not send, and what they may.

use std::time::Duration;

use testbed::{
    edge::Edge,
    gatehouse::{Gatehouse, Place},
    hello::{Ending, Hello, KeyShare},
    keep_alive_client::Kept,
    metrics::Metrics,
};

use crate::fixture::{
    SHOP, assert_served, edge, is_enforcing, on_both_back_ends, scrape_until, send, start, start_with,
};

on_both_back_ends!(odd_hellos_are_answered_and_counted, requests_that_could_be_read_in_two_ways_are_refused);

/// Behind a strict guard: what it cannot judge must pass, be counted, and be answered by user space.
fn odd_hellos_are_answered_and_counted(io: &str) {
    let edge = edge();
    let mut settings = edge.settings(Place::A, io);
    settings.domain(SHOP);
    edge.guard(&mut settings, "strict").unwrap();
    let mut gatehouse = start(&edge, settings);
    scrape_until(&gatehouse, "the guard to enforce", Duration::from_secs(5), is_enforcing);
    assert_served(&edge, SHOP);

    for Odd { what, segment, endings, outcome, verdict } in odd_hellos() {
        let before = gatehouse.metrics().unwrap();
        let ended = send(&edge, Place::A, vec![segment]).ending;
        assert!(endings.contains(&ended), "{what}: {ended:?}");
        scrape_until(&gatehouse, &format!("{what} to be counted once"), Duration::from_secs(3), |metrics| {
            let outcome = format!("outcome=\"{outcome}\"");
            let ended = |metrics: &Metrics| metrics.sum("gatehouse_tls_connections_total", &[&outcome]);
            (ended(metrics) - ended(&before) - 1.0).abs() < 0.5
                && metrics.verdicts(verdict) > before.verdicts(verdict) + 0.5
        });
    }
    check_hellos_in_two_segments(&edge, &gatehouse);
    gatehouse.process.ensure_alive().unwrap();
    assert_served(&edge, SHOP);
}

/// What is sent for a hello, how that may end, and what user space and the guard count it as.
struct Odd {
    what: &'static str,
    segment: Vec<u8>,
    endings: Vec<Ending>,
    outcome: &'static str,
    verdict: &'static str,
}

fn odd_hellos() -> Vec<Odd> {
    let odd = |what, segment, endings: &[Ending], outcome, verdict| Odd {
        what,
        segment,
        endings: endings.to_vec(),
        outcome,
        verdict,
    };
    let nameless = Hello::nameless().unwrap();
    let mut malformed = nameless.clone();
    // RFC 8446 §4.1.2: the session identifier is at most 32 bytes long; its length follows version and random.
    malformed[43] = 255;
    let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    let post = b"POST /x HTTP/1.0\r\n\r\nx=y".to_vec();
    // RFC 6066 §3 and RFC 8446 §6.2 name the alerts.
    let broken = [Ending::Alert(50), Ending::Alert(47)];
    vec![
        odd("no server name", nameless, &[Ending::Alert(112)], "no_server_name", "pass_no_name"),
        odd("a malformed hello", malformed, &broken, "malformed", "pass_malformed"),
        odd("an alert", vec![21, 3, 3, 0, 2, 1, 0], &[Ending::Closed], "malformed", "pass_no_hello"),
        odd("plain HTTP", get, &[plain_http()], "plain_http", "pass_no_hello"),
        odd("other plain HTTP", post, &[plain_http()], "plain_http", "pass_no_hello"),
    ]
}

fn check_hellos_in_two_segments(edge: &Edge, gatehouse: &Gatehouse) {
    let before = gatehouse.metrics().unwrap();
    for behind in [0, 1, 7, SHOP.len()] {
        let hello = Hello::new(SHOP, KeyShare::Classic, |_| true).unwrap();
        let ending = send(edge, Place::A, hello.cut(behind)).ending;
        assert_eq!(ending, Ending::Answered, "cut {behind} bytes into the name");
    }
    let metrics = gatehouse.metrics().unwrap();
    let grown = |verdict| metrics.verdicts(verdict) - before.verdicts(verdict);
    // The last one is cut behind the name.
    assert!(grown("pass_incomplete") > 2.5 && grown("pass_allowed") > 0.5, "{metrics}");
    assert!(metrics.verdicts("reject_") < 0.5, "{metrics}");
}

/// The one answer to plain HTTP on a TLS port, whatever was asked.
fn plain_http() -> Ending {
    let text = "This port speaks HTTPS only. Begin the address with https.\n";
    let head = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain";
    let length = text.len();
    Ending::Bytes(format!("{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}").into())
}

fn requests_that_could_be_read_in_two_ways_are_refused(io: &str) {
    let edge = edge();
    let mut gatehouse = start_with(&edge, io, &[SHOP]);
    assert_served(&edge, SHOP);
    let before = edge.upstream.requests();
    for (request, status, offence) in REFUSED {
        let label = offence.map(|offence| format!("offence=\"{offence}\""));
        let refused = |metrics: &Metrics| match &label {
            Some(label) => metrics.sum("gatehouse_requests_refused_total", &[label]),
            None => metrics.sum("gatehouse_requests_unparsed_total", &[]),
        };
        let counted = refused(&gatehouse.metrics().unwrap());
        let answered = keep(&edge).send(request.replace("HERE", SHOP).as_bytes());
        assert_eq!(answered.unwrap_or_else(|error| panic!("{request:?}: {error:#}")), *status, "{request:?}");
        // It is counted when its answer has been sent, so the client may be ahead of the counter.
        let what = format!("{request:?} to be counted as {label:?}");
        scrape_until(&gatehouse, &what, Duration::from_secs(3), |metrics| refused(metrics) > counted + 0.5);
    }
    assert_eq!(edge.upstream.requests(), before, "none of them reached the upstream");
    gatehouse.process.ensure_alive().unwrap();
    assert_served(&edge, SHOP);
}

fn keep(edge: &Edge) -> Kept {
    Kept::connect(&edge.network.client, Edge::https(Place::A), SHOP, edge.ca.roots()).unwrap()
}

/// A request, its answer, and the offence it is counted under: none for what is no request at all, which is counted apart.
const REFUSED: &[(&str, u16, Option<&str>)] = &[
    ("GET / HTTP/1.1\r\nHost: other.customer.test\r\n\r\n", 421, Some("misdirected")),
    ("GET / HTTP/1.1\r\nX: 1\r\n\r\n", 400, Some("no_host")),
    ("GET / HTTP/1.0\r\n\r\n", 400, Some("no_host")),
    ("GET / HTTP/1.1\r\nHost: HERE\r\nHost: HERE\r\n\r\n", 400, Some("many_hosts")),
    ("GET / HTTP/1.1\r\nHost: a@HERE\r\n\r\n", 400, Some("bad_host")),
    ("GET https://other.test/ HTTP/1.1\r\nHost: HERE\r\n\r\n", 400, Some("host_differs")),
    ("GET http://HERE/ HTTP/1.1\r\nHost: HERE\r\n\r\n", 400, Some("request_scheme")),
    ("CONNECT HERE:443 HTTP/1.1\r\nHost: HERE\r\n\r\n", 400, Some("connect")),
    ("GET * HTTP/1.1\r\nHost: HERE\r\n\r\n", 400, Some("request_target")),
    (
        "POST / HTTP/1.1\r\nHost: HERE\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        400,
        Some("transfer_encoding"),
    ),
    (
        "POST / HTTP/1.1\r\nHost: HERE\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        400,
        Some("transfer_encoding"),
    ),
    (
        "POST / HTTP/1.1\r\nHost: HERE\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
        Some("transfer_encoding_repeated"),
    ),
    ("POST / HTTP/1.1\r\nHost: HERE\r\nContent_Length: 3\r\n\r\n", 400, Some("shadow_field")),
    ("POST / HTTP/1.1\r\nHost: HERE\r\nTransfer_Encoding: chunked\r\n\r\n", 400, Some("shadow_field")),
    (
        "POST / HTTP/1.0\r\nHost: HERE\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
        Some("transfer_encoding_version"),
    ),
    ("POST / HTTP/1.1\r\nHost: HERE\r\nTransfer-Encoding: xchunked\r\n\r\n", 400, Some("transfer_encoding")),
    (
        "POST / HTTP/1.1\r\nHost: HERE\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        Some("two_framings"),
    ),
    (
        "POST / HTTP/1.1\r\nHost: HERE\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        400,
        Some("two_framings"),
    ),
    ("POST / HTTP/1.1\r\nHost: HERE\r\nTransfer-Encoding : chunked\r\n\r\n", 400, None),
    (
        "POST / HTTP/1.1\r\nHost: HERE\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        400,
        Some("content_length_repeated"),
    ),
    ("POST / HTTP/1.1\r\nHost: HERE\r\nContent-Length: 3, 3\r\n\r\nabc", 400, Some("content_length")),
    ("POST / HTTP/1.1\r\nHost: HERE\r\nContent-Length: +3\r\n\r\nabc", 400, Some("content_length")),
    ("GET / HTTP/1.1\r\nHost: HERE\r\nX: a\r\n b\r\n\r\n", 400, None),
    ("GET / HTTP/1.1\r\nHost: HERE\r\nX\t: a\r\n\r\n", 400, None),
    ("GET / HTTP/1.1\r\nHost: HERE\r\nX: a\rb\r\n\r\n", 400, None),
];
