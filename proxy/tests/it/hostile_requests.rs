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
        ("Host: shop.customer.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 3", 400, ""),
        ("Host: shop.customer.test\r\nTransfer-Encoding: gzip, chunked", 400, "transfer_encoding"),
        ("Host: shop.customer.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400, ""),
        ("Host: shop.customer.test\r\nContent-Length: 3\r\nContent-Length: 4", 400, ""),
        ("Host: shop.customer.test\r\nContent_Length: 3", 400, "shadow_field"),
        ("Host: shop.customer.test\r\nTransfer_Encoding: chunked", 400, "shadow_field"),
    ] {
        let request = format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n");
        let mut kept =
            Kept::connect(&edge.network.client, Edge::https(Place::A), SHOP, edge.ca.roots()).unwrap();
        assert_eq!(kept.send(request.as_bytes()).unwrap(), status, "{fields}");
        // What hyper itself refuses has no offence of ours.
        if !offence.is_empty() {
            assert_counted(&gatehouse, "gatehouse_requests_refused_total", &format!("offence=\"{offence}\""));
        }
    }
    assert_eq!(edge.upstream.requests(), before, "none of them reached the upstream");
    gatehouse.process.ensure_alive().unwrap();
    assert_served(&edge, SHOP);
}

/// A refusal is counted when its answer has been sent, so the client may be ahead of the counter.
fn assert_counted(gatehouse: &Gatehouse, name: &str, label: &str) {
    let what = format!("a count of {name} with {label}");
    scrape_until(gatehouse, &what, Duration::from_secs(3), |metrics| metrics.sum(name, &[label]) >= 1.0);
}
