//! Successors that take over under load; `cargo xtask upgrades` takes as many as are wanted.

use std::{path::Path, time::Duration};

use testbed::{
    edge::Edge,
    gatehouse::Place,
    hello::Ending,
    upgrades::{Wanted, run},
};

use crate::fixture::{
    BINARY, FOREIGN, SHOP, assert_served, edge, is_enforcing, on_both_back_ends, report, scrape_until,
    send_client_hello, start,
};

on_both_back_ends!(upgrades_and_reloads_under_load_fail_no_request);

fn upgrades_and_reloads_under_load_fail_no_request(io: &str) {
    let seen = run(Path::new(BINARY), io, Wanted { upgrades: 3, reloads: 15 }).unwrap();
    report(&format!("{io}: {seen}"));
}

#[test]
fn a_guarded_instance_rejects_what_it_should_before_during_and_after_an_upgrade() {
    let edge = edge();
    let mut settings = edge.shared_settings(Place::A, "auto");
    edge.guard(&mut settings, "strict").unwrap();
    settings.domain(SHOP);
    let mut gatehouse = start(&edge, settings);
    scrape_until(&gatehouse, "the guard to enforce", PATIENCE, is_enforcing);
    assert_served(&edge, SHOP);
    let link = link(&gatehouse);
    for _ in 0..2 {
        let mut predecessor = gatehouse.upgrade(&[]).unwrap();
        // The successor's workers have turned, its guard has decided once a quarter of a second later: nothing passes meanwhile.
        for _ in 0..20 {
            rejected(&edge);
        }
        assert_served(&edge, SHOP);
        assert!(predecessor.wait(PATIENCE).unwrap().success());
        rejected(&edge);
        scrape_until(&gatehouse, "the guard to enforce", PATIENCE, is_enforcing);
        assert_eq!(self::link(&gatehouse), link, "the link is updated, not made again");
    }
}

fn rejected(edge: &Edge) {
    assert_eq!(send_client_hello(edge, Place::A, FOREIGN).ending, Ending::Reset);
}

fn link(gatehouse: &testbed::gatehouse::Gatehouse) -> serde_json::Value {
    let status: serde_json::Value =
        serde_json::from_str(&gatehouse.command(&["status", "--json"]).unwrap()).unwrap();
    status["guard"]["interfaces"][0]["link"].clone()
}

const PATIENCE: Duration = Duration::from_secs(40);
