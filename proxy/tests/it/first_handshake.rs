//! The first request to an allowed name, and the ones after it.

use testbed::{curl::Reply, gatehouse::Place};

use crate::fixture::{
    SHOP, assert_served, assert_served_at, edge, faulty_settings, on_both_back_ends, start, start_with,
};

on_both_back_ends!(the_first_request_gets_its_certificate_in_the_handshake, a_certificate_is_ordered_once);

fn the_first_request_gets_its_certificate_in_the_handshake(io: &str) {
    let edge = edge();
    let _gatehouse = start_with(&edge, io, &[SHOP]);
    assert_eq!(edge.ca.relay.count("newOrder"), 0, "nothing is ordered before somebody asks");
    let forged = FORGED.map(|field| ["-H", field]);
    let hop = ["-H", "Connection: X-Hop", "-H", "X-Hop: 1"];
    // RFC 9113 §8.2.2: HTTP/2 has no Connection.
    for (version, more) in [("--http1.1", &hop[..]), ("--http2", &[])] {
        let request = [&[version, "-d", "four"], forged.as_flattened(), more].concat();
        let reply = edge.curl(&format!("https://{SHOP}/a/b?c=d")).with(&request).run().unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_seen_as_specified(&reply);
    }
    assert_eq!(edge.ca.relay.count("newOrder"), 1);
}

fn assert_seen_as_specified(reply: &Reply) {
    for (header, seen) in [
        ("host", &["127.0.0.1:9000"][..]),
        ("user-custom-domain", &[SHOP]),
        ("x-forwarded-for", &["192.0.2.100"]),
        ("x-forwarded-proto", &["https"]),
        ("x-forwarded-host", &[SHOP]),
        ("x-forwarded-port", &["443"]),
        ("x-hop", &[]),
        ("connection", &[]),
    ] {
        assert_eq!(reply.seen(header), seen, "{header} in {}", reply.body);
    }
    let described = reply.json().unwrap();
    for (fact, seen) in [("method", "POST"), ("path", "/a/b?c=d")] {
        assert_eq!(described[fact], seen, "{}", reply.body);
    }
    assert_eq!(described["body_bytes"], 4, "{}", reply.body);
}

fn a_certificate_is_ordered_once(io: &str) {
    let edge = edge();
    let mut settings = faulty_settings(&edge, Place::A, io);
    settings.domain(SHOP);
    let mut a = start(&edge, settings);
    assert_served(&edge, SHOP);
    assert_served(&edge, SHOP);
    assert_eq!(edge.ca.relay.count("newOrder"), 1, "the second request");

    a.stop().unwrap();
    a.start_again().unwrap();
    assert_served(&edge, SHOP);
    assert_eq!(edge.ca.relay.count("newOrder"), 1, "after a restart");

    let mut settings = faulty_settings(&edge, Place::B, io);
    settings.domain(SHOP);
    let _b = start(&edge, settings);
    assert_served_at(&edge, Place::B, SHOP);
    assert_eq!(edge.ca.relay.count("newOrder"), 1, "at a second instance");
}

#[test]
fn a_target_behind_tls_is_verified_and_asked_by_its_own_name() {
    let edge = edge();
    let (right, wrong) = ("right.customer.test", "wrong.customer.test");
    let mut settings = edge.settings(Place::A, "auto");
    settings.domain_to(right, &edge.upstream.tls_target());
    settings.domain_to(wrong, &edge.upstream.tls_target().replace("upstream.test", "localhost"));
    let _gatehouse = start(&edge, settings);
    let reply = assert_served(&edge, right);
    assert_eq!(reply.seen("host"), ["upstream.test:9443"], "{}", reply.body);
    assert_eq!(reply.seen("user-custom-domain"), [right], "{}", reply.body);
    let reply = edge.curl(&format!("https://{wrong}/")).run().unwrap();
    assert_eq!(reply.status, 502, "its certificate is for another name: {reply:?}");
}

/// Of AWS the settings say nothing but that it is where the store is; region, credentials and endpoint are the environment's.
#[test]
fn a_store_at_aws_is_found_by_the_environment_as_the_sdk_reads_it() {
    let edge = edge();
    let mut settings = edge.settings(Place::A, "auto");
    settings.domain(SHOP).text("store", "endpoint", "aws");
    settings.environment("AWS_REGION", "eu-central-1");
    settings.environment("AWS_ENDPOINT_URL_DYNAMODB", &edge.table.endpoint());
    let mut gatehouse = start(&edge, settings);
    assert_served(&edge, SHOP);
    let (orders, counts) = (edge.ca.relay.count("newOrder"), edge.table.relay.counts());
    assert_eq!(orders, 1);
    for call in ["CreateTable gatehouse-domains", "TransactWriteItems gatehouse-certificates"] {
        assert!(counts.contains_key(call), "{call} is not among {counts:?}");
    }
    gatehouse.stop().unwrap();
    gatehouse.start_again().unwrap();
    assert_served(&edge, SHOP);
    assert_eq!(edge.ca.relay.count("newOrder"), 1, "it came from the table");
}

/// What a client may claim of itself and must not be believed.
const FORGED: [&str; 5] = [
    "User-Custom-Domain: other.test",
    "X-Forwarded-For: 203.0.113.9",
    "X-Forwarded-Proto: http",
    "X-Forwarded-Host: other.test",
    "X-Forwarded-Port: 80",
];
