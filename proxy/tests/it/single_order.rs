//! Many first handshakes at once, at more than one instance.

use std::net::IpAddr;

use testbed::gatehouse::Place;

use crate::fixture::{SHOP, edge, on_both_back_ends, start};

on_both_back_ends!(fifty_first_handshakes_at_two_instances_cost_one_order);

fn fifty_first_handshakes_at_two_instances_cost_one_order(io: &str) {
    let edge = edge();
    let mut instances = Vec::new();
    for place in [Place::A, Place::B] {
        let mut settings = edge.shared_settings(place, io);
        settings.domain(SHOP).environment("GATEHOUSE_STORE_FAULTS", "seed=5,stale=2s,throttle=10");
        instances.push(start(&edge, settings));
    }
    let url = format!("https://{SHOP}/");
    let running: Vec<_> = (0..25)
        .flat_map(|_| [Place::A, Place::B])
        .map(|place| edge.curl(&url).at(IpAddr::V4(place.v4())).spawn().unwrap())
        .collect();
    for request in running {
        let reply = request.reply().unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    assert_eq!(edge.ca.relay.count("newOrder"), 1, "{:?}", edge.ca.relay.counts());
    assert_eq!(edge.ca.relay.count("finalize"), 1, "{:?}", edge.ca.relay.counts());
    assert_eq!(edge.ca.relay.count("newAccount"), 1, "one account for the fleet");
}
