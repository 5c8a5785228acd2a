//! Packets that are dropped for their source: networks of `guard.deny`, and SYNs beyond a budget, changed while clients come from them.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use testbed::{
    edge::Edge,
    gatehouse::{Gatehouse, Place},
    network::{CLIENT, CLIENT_V6},
};

use crate::fixture::{SHOP, edge, is_enforcing, scrape_until, start};

#[test]
fn a_denied_network_is_refused_by_a_reload_observed_in_observe_and_served_again_without_it() {
    let edge = edge();
    let mut settings = edge.settings(Place::A, "auto");
    edge.guard(&mut settings, "adaptive").unwrap();
    settings.domain(SHOP);
    let mut gatehouse = start(&edge, settings);
    scrape_until(&gatehouse, "the guard to enforce", Duration::from_secs(5), is_enforcing);
    let (v4, v6) = (Place::A.v4().into(), Place::A.v6().into());
    assert_eq!((status(&edge, v4), status(&edge, v6)), (200, 200));

    reload_with(&mut gatehouse, "deny", &format!("[\"{CLIENT}/32\"]"));
    assert!(!connects(&edge, v4), "the denied network");
    assert_eq!(status(&edge, v6), 200, "IPv6 is another network");
    let metrics = gatehouse.metrics().unwrap();
    assert!(metrics.verdicts("drop_denied_source") > 0.5, "{metrics}");

    // A client has two addresses over IPv6, and the kernel chooses.
    reload_with(&mut gatehouse, "deny", &format!("[\"{CLIENT_V6}/120\"]"));
    assert_eq!(status(&edge, v4), 200);
    assert!(!connects(&edge, v6), "the denied network over IPv6");

    gatehouse.settings().raw("guard", "deny", "[\"192.0.2.300/24\"]");
    let told = format!("{:#}", gatehouse.reload().unwrap_err());
    assert!(told.contains("guard.deny") && told.contains("192.0.2.300"), "{told}");
    assert!(!connects(&edge, v6), "wrong settings change nothing");

    gatehouse.settings().raw("guard", "deny", &format!("[\"{CLIENT}/32\"]"));
    reload_with(&mut gatehouse, "mode", "\"observe\"");
    assert_eq!(status(&edge, v4), 200, "observed");
    let metrics = gatehouse.metrics().unwrap();
    assert!(metrics.verdicts("pass_denied_source") > 0.5, "{metrics}");

    reload_with(&mut gatehouse, "mode", "\"strict\"");
    assert!(!connects(&edge, v4), "no longer observed");
    reload_with(&mut gatehouse, "deny", "[]");
    assert_eq!((status(&edge, v4), status(&edge, v6)), (200, 200));
}

#[test]
fn a_source_connects_within_its_budget_of_syns_and_an_exempt_one_without() {
    let edge = edge();
    let mut settings = edge.settings(Place::A, "auto");
    edge.guard(&mut settings, "adaptive").unwrap();
    settings.domain(SHOP).raw("guard", "syns_per_source_burst", "3");
    let mut gatehouse = start(&edge, settings);
    scrape_until(&gatehouse, "the guard to enforce", Duration::from_secs(5), is_enforcing);
    let (v4, v6) = (Place::A.v4().into(), Place::A.v6().into());
    assert!((0..9).all(|_| connects(&edge, v4)), "no limit by default");

    reload_with(&mut gatehouse, "syns_per_source_per_second", "1");
    let connected = (0..9).filter(|_| connects(&edge, v4)).count();
    assert!((3..9).contains(&connected), "{connected} of 9");
    assert!(connects(&edge, v6), "another source");
    let metrics = gatehouse.metrics().unwrap();
    assert!(metrics.verdicts("drop_syn_excess") > 0.5, "{metrics}");

    reload_with(&mut gatehouse, "exempt", &format!("[\"{CLIENT}/32\"]"));
    assert!((0..9).all(|_| connects(&edge, v4)), "exempt");
    gatehouse.settings().raw("guard", "syns_per_source_burst", "0");
    let told = format!("{:#}", gatehouse.reload().unwrap_err());
    assert!(told.contains("guard.syns_per_source_burst"), "{told}");
}

fn reload_with(gatehouse: &mut Gatehouse, key: &str, value: &str) {
    gatehouse.settings().raw("guard", key, value);
    gatehouse.reload().unwrap();
}

fn status(edge: &Edge, at: IpAddr) -> u16 {
    edge.curl(&format!("https://{SHOP}/")).at(at).run().unwrap().status
}

/// Whether a connection comes about within a second.
fn connects(edge: &Edge, at: IpAddr) -> bool {
    let address = SocketAddr::new(at, 443);
    let connect = move || std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok();
    edge.network.client.await_inside(connect).unwrap()
}
