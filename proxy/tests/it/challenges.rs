//! Validations that reach another instance than the one that ordered.

use std::{net::IpAddr, time::Duration};

use anyhow::ensure;
use testbed::{
    edge::Edge,
    gatehouse::{Gatehouse, Place},
    pebble::only_tls_alpn,
    relay::Traffic,
    wait,
};

use crate::fixture::{FLEET_DELAY, SHOP, edge, is_enforcing, on_both_back_ends, scrape_until, start};

on_both_back_ends!(
    http_01_is_answered_by_an_instance_that_did_not_order,
    tls_alpn_01_is_answered_by_an_instance_that_did_not_order,
);

fn http_01_is_answered_by_an_instance_that_did_not_order(io: &str) {
    let edge = edge();
    let (a, b) = fleet(&edge, io);
    wait_for_certificate(&edge, Duration::from_secs(30));
    let answered = |gatehouse: &Gatehouse| {
        gatehouse.metrics().unwrap().sum("gatehouse_requests_total", &["outcome=\"challenge_answered\""])
    };
    assert!(answered(&b) >= 1.0, "{}", b.metrics().unwrap());
    assert!(answered(&a) < 0.5, "{}", a.metrics().unwrap());
}

fn tls_alpn_01_is_answered_by_an_instance_that_did_not_order(io: &str) {
    let edge = edge();
    edge.ca.relay.set(Traffic::Rewrite(only_tls_alpn));
    let (a, b) = fleet(&edge, io);
    // tls-alpn-01 waits until the name is old enough for every instance to know it.
    wait_for_certificate(&edge, Duration::from_mins(1));
    let answered = |gatehouse: &Gatehouse| {
        let outcome = ["outcome=\"challenge_answered\""];
        gatehouse.metrics().unwrap().sum("gatehouse_tls_connections_total", &outcome)
    };
    assert!(answered(&b) >= 1.0, "{}", b.metrics().unwrap());
    assert!(answered(&a) < 0.5, "{}", a.metrics().unwrap());
}

/// A, which is asked for the name, and B behind a strict guard, which the CA's DNS leads to. The name is new to both.
fn fleet(edge: &Edge, io: &str) -> (Gatehouse, Gatehouse) {
    let a = start(edge, edge.shared_settings(Place::A, io));
    let mut settings = edge.shared_settings(Place::B, io);
    edge.guard(&mut settings, "strict").unwrap();
    let b = start(edge, settings);
    edge.ca.resolve(&edge.network.client, SHOP, IpAddr::V4(Place::B.v4())).unwrap();
    a.command(&["domain", "add", SHOP]).unwrap();
    // Both addresses are behind B's guard, so B has to know the name before A can be asked.
    scrape_until(&b, "B to know the name and to enforce", FLEET_DELAY * 2, |metrics| {
        metrics.sum("gatehouse_domains_known", &[]) > 0.5 && is_enforcing(metrics)
    });
    (a, b)
}

fn wait_for_certificate(edge: &Edge, within: Duration) {
    wait::until("a certificate", within, || {
        let reply = edge.curl(&format!("https://{SHOP}/")).run()?;
        ensure!(reply.status == 200, "{reply:?}");
        Ok(())
    })
    .unwrap();
}
