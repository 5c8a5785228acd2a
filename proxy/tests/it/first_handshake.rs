//! The first request to an allowed name, and the ones after it.

use std::net::IpAddr;

use testbed::gatehouse::Place;

use crate::fixture::{SHOP, assert_served, edge, on_both_back_ends, start, start_with};

on_both_back_ends!(the_first_request_gets_its_certificate_in_the_handshake, a_certificate_is_ordered_once);

fn the_first_request_gets_its_certificate_in_the_handshake(io: &str) {
    let edge = edge();
    let _gatehouse = start_with(&edge, io, &[SHOP]);
    let forged = ["-H", "X-Forwarded-For: 203.0.113.9", "-H", "User-Custom-Domain: other.test"];
    let hop = ["--http1.1", "-H", "Connection: X-Hop", "-H", "X-Hop: 1", "-d", "four"];
    let url = format!("https://{SHOP}/a/b?c=d");
    let reply = edge.curl(&url).with(&forged).with(&hop).run().unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(edge.ca.relay.count("newOrder"), 1);

    for (header, seen) in [
        ("host", &["127.0.0.1:9000"][..]),
        ("user-custom-domain", &[SHOP]),
        ("x-forwarded-for", &["192.0.2.100"]),
        ("x-forwarded-proto", &["https"]),
        ("x-forwarded-host", &[SHOP]),
        ("x-forwarded-port", &["443"]),
        ("x-hop", &[]),
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
    let mut settings = edge.shared_settings(Place::A, io);
    settings.domain(SHOP).environment("GATEHOUSE_STORE_FAULTS", FAULTS);
    let mut a = start(&edge, settings);
    assert_served(&edge, SHOP);
    assert_served(&edge, SHOP);
    assert_eq!(edge.ca.relay.count("newOrder"), 1, "the second request");

    a.stop().unwrap();
    a.start_again().unwrap();
    assert_served(&edge, SHOP);
    assert_eq!(edge.ca.relay.count("newOrder"), 1, "after a restart");

    let mut settings = edge.shared_settings(Place::B, io);
    settings.domain(SHOP).environment("GATEHOUSE_STORE_FAULTS", FAULTS);
    let _b = start(&edge, settings);
    let reply = edge.curl(&format!("https://{SHOP}/")).at(IpAddr::V4(Place::B.v4())).run().unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
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

const FAULTS: &str = "seed=3,stale=2s,throttle=20,conflict=20,unprocessed=50";
