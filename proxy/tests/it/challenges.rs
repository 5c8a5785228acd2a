//! Validations that reach another instance than the one that ordered.

use std::net::IpAddr;

use testbed::{gatehouse::Place, hello::Ending, metrics::Metrics, pebble::only_tls_alpn, relay::Traffic};

use crate::fixture::{
    FLEET_DELAY, FOREIGN, SHOP, assert_served, edge, faulty_settings, is_enforcing, on_both_back_ends,
    scrape_until, send_client_hello, start,
};

on_both_back_ends!(
    http_01_is_answered_by_an_instance_that_did_not_order,
    tls_alpn_01_is_answered_by_an_instance_that_did_not_order,
);

fn http_01_is_answered_by_an_instance_that_did_not_order(io: &str) {
    check(io, Traffic::Pass, "gatehouse_requests_total");
}

fn tls_alpn_01_is_answered_by_an_instance_that_did_not_order(io: &str) {
    check(io, Traffic::Rewrite(only_tls_alpn), "gatehouse_tls_connections_total");
}

/// A is asked for a name that is new to the fleet; B, behind a strict guard, is where the CA's DNS leads to.
fn check(io: &str, offered: Traffic, counted_in: &str) {
    let edge = edge();
    edge.ca.relay.set(offered);
    edge.ca.resolve(&edge.network.client, SHOP, IpAddr::V4(Place::B.v4())).unwrap();
    let a = start(&edge, faulty_settings(&edge, Place::A, io));
    let mut settings = faulty_settings(&edge, Place::B, io);
    edge.guard(&mut settings, "strict").unwrap();
    let b = start(&edge, settings);
    a.command(&["domain", "add", SHOP]).unwrap();
    // Both addresses are behind B's guard, so B has to know the name before A can be asked.
    scrape_until(&b, "B to know the name and to enforce", FLEET_DELAY * 2, |metrics| {
        metrics.sum("gatehouse_domains_known", &[]) > 0.5 && is_enforcing(metrics)
    });
    assert_eq!(send_client_hello(&edge, Place::B, FOREIGN).ending, Ending::Reset, "B's guard is strict");

    assert_served(&edge, SHOP);
    let (at_a, at_b) = (a.metrics().unwrap(), b.metrics().unwrap());
    let validations = |metrics: &Metrics| metrics.sum(counted_in, &["outcome=\"challenge_answered\""]);
    let orders = |metrics: &Metrics| metrics.sum("gatehouse_certificate_orders_total", &[]);
    assert!(validations(&at_b) >= 1.0 && validations(&at_a) < 0.5, "A:\n{at_a}\nB:\n{at_b}");
    assert!(orders(&at_a) > 0.5 && orders(&at_b) < 0.5, "A:\n{at_a}\nB:\n{at_b}");
}
