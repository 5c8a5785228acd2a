//! What clients should not send, and what they may.

use std::time::Duration;

use testbed::{
    edge::Edge,
    gatehouse::{Gatehouse, Place},
    hello::{Ending, Hello, KeyShare},
    kept::Kept,
};

use crate::fixture::{SHOP, assert_served, edge, on_both_back_ends, scrape_until, send, start_with};

on_both_back_ends!(odd_hellos_are_answered_and_counted, requests_that_could_be_read_in_two_ways_are_refused);

fn odd_hellos_are_answered_and_counted(io: &str) {
    let edge = edge();
    let mut gatehouse = start_with(&edge, io, &[SHOP]);
    assert_served(&edge, SHOP);

    let nameless = Hello::nameless().unwrap();
    let mut malformed = nameless.clone();
    // RFC 8446 §4.1.2: the session identifier is at most 32 bytes long; its length follows version and random.
    malformed[43] = 255;
    for (what, segments, outcome) in [
        ("no server name", vec![nameless], "no_server_name"),
        ("a malformed hello", vec![malformed], "malformed"),
        ("an alert for a hello", vec![vec![21, 3, 3, 0, 2, 1, 0]], "malformed"),
        ("plain HTTP", vec![b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()], "plain_http"),
    ] {
        let ending = send(&edge, Place::A, segments).ending;
        let answered = match &ending {
            Ending::Alert(description) => outcome != "no_server_name" || *description == 112,
            Ending::Bytes(bytes) => outcome == "plain_http" && bytes.starts_with(b"HTTP/1.1 400 "),
            Ending::Closed => outcome == "malformed",
            Ending::Answered | Ending::Reset | Ending::Silence => false,
        };
        assert!(answered, "{what}: {ending:?}");
        assert_counted(&gatehouse, "gatehouse_tls_connections_total", &format!("outcome=\"{outcome}\""));
    }
    for behind in [0, 1, 7, SHOP.len()] {
        let hello = Hello::new(SHOP, KeyShare::Classic, |_| true).unwrap();
        let ending = send(&edge, Place::A, hello.cut(behind)).ending;
        assert_eq!(ending, Ending::Answered, "cut {behind} bytes into the name");
    }
    gatehouse.process.ensure_alive().unwrap();
    assert_served(&edge, SHOP);
}

fn requests_that_could_be_read_in_two_ways_are_refused(io: &str) {
    let edge = edge();
    let mut gatehouse = start_with(&edge, io, &[SHOP]);
    assert_served(&edge, SHOP);
    let before = edge.upstream.requests();
    for (fields, status, offence) in [
        ("Host: other.customer.test", 421, "misdirected"),
        ("X: 1", 400, "no_host"),
        ("Host: shop.customer.test\r\nHost: shop.customer.test", 400, "many_hosts"),
        ("Host: shop.customer.test\r\nTransfer-Encoding: gzip, chunked", 400, "transfer_encoding"),
        ("Host: shop.customer.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400, ""),
        ("Host: shop.customer.test\r\nContent-Length: 3\r\nContent-Length: 4", 400, ""),
        ("Host: shop.customer.test\r\nContent_Length: 3", 400, "shadow_field"),
        ("Host: shop.customer.test\r\nTransfer_Encoding: chunked", 400, "shadow_field"),
    ] {
        let request = format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n");
        let answered = keep(&edge).send(request.as_bytes());
        assert_eq!(answered.unwrap_or_else(|error| panic!("{fields}: {error:#}")), status, "{fields}");
        // What hyper itself refuses has no offence of ours.
        if !offence.is_empty() {
            assert_counted(&gatehouse, "gatehouse_requests_refused_total", &format!("offence=\"{offence}\""));
        }
    }
    assert_eq!(edge.upstream.requests(), before, "none of them reached the upstream");
    gatehouse.process.ensure_alive().unwrap();
    assert_served(&edge, SHOP);
}

/// hyper resolves the two framings before anyone sees both (RFC 9112 §6.3: `Transfer-Encoding` wins, the connection ends).
/// The length must not come out again: the upstream sees one request, framed by its body alone.
#[test]
fn a_length_beside_a_transfer_encoding_reaches_nobody() {
    let edge = edge();
    let _gatehouse = start_with(&edge, "auto", &[SHOP]);
    assert_served(&edge, SHOP);
    let (length, encoding) = ("Content-Length: 3", "Transfer-Encoding: chunked");
    for [first, second] in [[length, encoding], [encoding, length]] {
        let before = (edge.upstream.requests(), edge.upstream.body_bytes());
        let head = format!("POST / HTTP/1.1\r\nHost: {SHOP}\r\n{first}\r\n{second}\r\n\r\n");
        let body = "28\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n\r\n0\r\n\r\n";
        let mut kept = keep(&edge);
        assert_eq!(kept.send(format!("{head}{body}").as_bytes()).unwrap(), 200, "{first} first");
        assert!(kept.get("/").is_err(), "{first} first: the connection has to end");
        let after = (edge.upstream.requests(), edge.upstream.body_bytes());
        assert_eq!((after.0 - before.0, after.1 - before.1), (1, 40), "{first} first");
    }
}

fn keep(edge: &Edge) -> Kept {
    Kept::connect(&edge.network.client, Edge::https(Place::A), SHOP, edge.ca.roots()).unwrap()
}

/// A refusal is counted when its answer has been sent, so the client may be ahead of the counter.
fn assert_counted(gatehouse: &Gatehouse, name: &str, label: &str) {
    let what = format!("a count of {name} with {label}");
    scrape_until(gatehouse, &what, Duration::from_secs(3), |metrics| metrics.sum(name, &[label]) >= 1.0);
}
