//! The service as its unit runs it: not root, with the unit's capabilities.

use std::{fs, path::Path, time::Duration};

use testbed::{
    gatehouse::{Gatehouse, Place},
    hello::Ending,
};

use crate::fixture::{
    FOREIGN, SHOP, assert_served, edge, is_enforcing, scrape_until, send_client_hello, start,
};

/// Attached, handed over to a successor at a restart and at an upgrade, and enforcing: whoever listed programs or links in between would need
/// `CAP_SYS_ADMIN`.
#[test]
fn the_capabilities_of_the_unit_are_enough() {
    let edge = edge();
    let pins = edge.pins();
    let shown = pins.to_str().unwrap();
    edge.network.edge.run("mkdir", &[shown]).unwrap();
    edge.network.edge.run("mount", &["-t", "bpf", "-o", "mode=0700", "bpf", shown]).unwrap();
    edge.network.edge.run("chown", &["65534:65534", shown]).unwrap();
    let mut settings = edge.shared_settings(Place::A, "auto");
    edge.guard(&mut settings, "strict").unwrap();
    settings.domain(SHOP).restrict(&unit("AmbientCapabilities="));
    let mut gatehouse = start(&edge, settings);
    serves_and_rejects(&edge, &gatehouse);
    gatehouse.stop().unwrap();
    gatehouse.start_again().unwrap();
    serves_and_rejects(&edge, &gatehouse);
    let mut predecessor = gatehouse.upgrade(&[]).unwrap();
    assert!(predecessor.wait(Duration::from_secs(45)).unwrap().success());
    serves_and_rejects(&edge, &gatehouse);
}

fn serves_and_rejects(edge: &testbed::edge::Edge, gatehouse: &Gatehouse) {
    scrape_until(gatehouse, "the guard to enforce", Duration::from_secs(5), is_enforcing);
    assert_served(edge, SHOP);
    assert_eq!(send_client_hello(edge, Place::A, FOREIGN).ending, Ending::Reset);
}

/// A setting of the unit that the package installs.
fn unit(key: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packer/package/gatehouse.service");
    let text = fs::read_to_string(file).unwrap();
    text.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned()
}
