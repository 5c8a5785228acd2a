//! One order per name in the fleet: many first handshakes at once, and instances that die or sleep in the middle of one.

use std::{net::IpAddr, time::Duration};

use anyhow::ensure;
use nix::sys::signal::Signal;
use testbed::{
    curl::Running,
    edge::Edge,
    gatehouse::{Gatehouse, Place},
    keep_alive_client::Kept,
    relay::Traffic,
    wait,
};

use crate::fixture::{SHOP, assert_served_at, edge, faulty_settings, on_both_back_ends, scrape_until, start};

on_both_back_ends!(fifty_first_handshakes_at_two_instances_cost_one_order);

fn fifty_first_handshakes_at_two_instances_cost_one_order(io: &str) {
    let edge = edge();
    let instances = PLACES.map(|place| start(&edge, faulty_settings(&edge, place, io)));
    instances[0].command(&["domain", "add", SHOP]).unwrap();
    // While the CA says nothing none of them can end: all are first handshakes, and at once.
    edge.ca.relay.set(Traffic::Hold);
    let running: Vec<_> = (0..25)
        .flat_map(|_| PLACES)
        .map(|place| edge.curl(&format!("https://{SHOP}/")).at(IpAddr::V4(place.v4())).spawn().unwrap())
        .collect();
    for instance in &instances {
        scrape_until(instance, "25 handshakes to wait", Duration::from_secs(20), |metrics| {
            metrics.sum("gatehouse_connections_open", &[]) > 24.5
        });
    }
    assert_eq!(edge.upstream.requests(), 0, "one was served before there was a certificate");
    edge.ca.relay.set(Traffic::Pass);
    for request in running {
        let reply = request.reply().unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    for step in ["newOrder", "finalize", "certificate", "newAccount"] {
        assert_eq!(edge.ca.relay.count(step), 1, "{step} in {:?}", edge.ca.relay.counts());
    }
}

#[test]
fn an_order_whose_instance_is_killed_is_gone_on_with_by_another_after_the_lease() {
    let edge = edge();
    let (mut a, b) = hasty_fleet(&edge);
    let lost = begin_and_hold(&edge, "finalize");
    a.process.signal(Signal::SIGKILL).unwrap();
    a.wait().unwrap();
    assert_eq!(lost.reply().unwrap().status, 0);
    // Else the CA may get what the killed one has asked for, and nobody counts it, since its answer has nobody to go to.
    wait_for_count(&edge, "finalize gone");
    edge.ca.relay.set(Traffic::Pass);

    // A handshake may meet a table that does not answer in time; no handshake makes a second order.
    wait::until("the other instance to serve it", Duration::from_mins(1), || {
        let reply = edge.curl(&format!("https://{SHOP}/")).at(IpAddr::V4(Place::B.v4())).run()?;
        ensure!(reply.status == 200, "{reply:?}");
        Ok(())
    })
    .unwrap();
    let counts = edge.ca.relay.counts();
    assert_eq!(
        (counts["newOrder"], counts["finalize"]),
        (1, 1),
        "the killed one's order, finalized by another: {counts:?}"
    );
    a.start_again().unwrap();
    assert_eq!(presented(&edge, Place::A), presented(&edge, Place::B), "in the table lies one whole pair");
    assert_eq!(edge.ca.relay.count("newOrder"), 1, "the restarted one reads it");
    drop(b);
}

/// The lease saves orders, the commit's condition saves the certificate: an instance that comes too late overwrites nothing.
#[test]
fn an_instance_that_sleeps_through_its_lease_serves_what_another_obtained() {
    let edge = edge();
    let (a, b) = hasty_fleet(&edge);
    let patient = begin_and_hold(&edge, "finalize");
    a.process.signal(Signal::SIGSTOP).unwrap();
    edge.ca.relay.set(Traffic::Pass);
    assert_served_at(&edge, Place::B, SHOP);
    let obtained = presented(&edge, Place::B);

    a.process.signal(Signal::SIGCONT).unwrap();
    let reply = patient.reply().unwrap();
    assert_eq!(reply.status, 200, "the handshake that began the late order: {reply:?}");
    let overtaken =
        a.metrics().unwrap().sum("gatehouse_certificate_orders_total", &["outcome=\"overtaken\""]);
    assert!(overtaken > 0.5, "{}", a.metrics().unwrap());
    assert_eq!(presented(&edge, Place::A), obtained);
    assert_eq!(edge.ca.relay.count("newOrder"), 1, "{:?}", edge.ca.relay.counts());
    drop(b);
}

/// Two instances whose leases end soon; the CA finds the name at B, which lives on.
fn hasty_fleet(edge: &Edge) -> (Gatehouse, Gatehouse) {
    edge.ca.resolve(&edge.network.client, SHOP, IpAddr::V4(Place::B.v4())).unwrap();
    let [a, b] = PLACES.map(|place| {
        let mut settings = faulty_settings(edge, place, "auto");
        settings.domain(SHOP).text("store", "timeout", "1s").text("certificates", "lease", "3s");
        start(edge, settings)
    });
    (a, b)
}

/// A first handshake at A, whose order has come to `request`, which the CA does not get.
fn begin_and_hold(edge: &Edge, request: &'static str) -> Running {
    edge.ca.relay.set(Traffic::HoldOnly(request));
    let client = edge.curl(&format!("https://{SHOP}/")).spawn().unwrap();
    wait_for_count(edge, &format!("{request} held"));
    client
}

fn wait_for_count(edge: &Edge, name: &str) {
    wait::until(name, Duration::from_secs(30), || {
        let counts = edge.ca.relay.counts();
        ensure!(counts.contains_key(name), "{counts:?}");
        Ok(())
    })
    .unwrap();
}

/// The certificate a client is shown.
fn presented(edge: &Edge, place: Place) -> Vec<u8> {
    let to = Edge::https(place);
    Kept::connect(&edge.network.client, to, SHOP, edge.ca.roots()).unwrap().certificate().unwrap()
}

const PLACES: [Place; 2] = [Place::A, Place::B];
