//! Ending under load.

use std::time::Duration;

use nix::sys::signal::Signal;
use testbed::{
    edge::Edge,
    gatehouse::Place,
    load::{Load, Plan, Protocol},
    wait,
};

use crate::fixture::{SHOP, assert_served, edge, on_both_back_ends, start_with};

on_both_back_ends!(sigterm_under_load_fails_no_request);

fn sigterm_under_load_fails_no_request(io: &str) {
    let edge = edge();
    let mut gatehouse = start_with(&edge, io, &[SHOP]);
    assert_served(&edge, SHOP);
    let before = edge.upstream.requests();
    let loads = [Protocol::Http1, Protocol::Http2].map(|protocol| load(&edge, protocol));
    wait::until("load on all connections", Duration::from_secs(20), || {
        let served: Vec<u64> = loads.iter().map(|load| load.seen().served).collect();
        anyhow::ensure!(served.iter().all(|served| *served > 200), "{served:?}");
        Ok(())
    })
    .unwrap();

    // It takes longer than listening goes on: two seconds from the last connection.
    let slow = edge.curl(&format!("https://{SHOP}/slow/8000")).spawn().unwrap();
    wait::until("a request in flight", Duration::from_secs(5), || {
        let in_flight = edge.upstream.slow_in_flight();
        anyhow::ensure!(in_flight == 1, "{in_flight}");
        Ok(())
    })
    .unwrap();
    gatehouse.process.signal(Signal::SIGTERM).unwrap();
    wait::until("health to say 503", Duration::from_secs(1), || {
        let health = gatehouse.health()?;
        anyhow::ensure!(health == 503, "{health}");
        Ok(())
    })
    .unwrap();
    // The load balancer's lag: it goes on sending new connections for a while.
    let mut served = 0;
    for (load, protocol) in loads.into_iter().zip(["HTTP/1.1", "HTTP/2"]) {
        let connections = load.seen().connections;
        let seen = load.stop_after(Duration::from_secs(1)).unwrap();
        assert!(seen.failures.is_empty(), "{protocol}: {seen:?}");
        assert!(seen.connections > connections, "{protocol}: none was opened after 503: {seen:?}");
        // `Connection: close`, or GOAWAY; each connection would have carried fifty requests.
        assert!(seen.told > 0, "{protocol}: no connection was told to end: {seen:?}");
        served += seen.served;
    }
    let slow = slow.reply().unwrap();
    assert_eq!(slow.status, 200, "the request in flight: {slow:?}");
    // What a client sends again must not have been taken before: the upstream would have done it twice.
    assert_eq!(edge.upstream.requests(), before + served + 1, "requests that began at the upstream");
    let status = gatehouse.wait().unwrap();
    assert!(status.success(), "{status}");
}

fn load(edge: &Edge, protocol: Protocol) -> Load {
    let plan = Plan {
        to: Edge::https(Place::A),
        name: SHOP.to_owned(),
        path: "/".to_owned(),
        protocol,
        connections: 8,
        requests_per_connection: 50,
    };
    Load::start(&edge.network.client, edge.ca.roots(), plan).unwrap()
}
