//! Clients that take their answer slowly, and those that do not take it at all.

use std::time::Duration;

use testbed::{edge::Edge, gatehouse::Place, keep_alive_client::Kept};

use crate::fixture::{SHOP, assert_served, edge, on_both_back_ends, scrape_until, start};

on_both_back_ends!(a_client_that_does_not_read_loses_its_connection_and_a_slow_one_does_not);

fn a_client_that_does_not_read_loses_its_connection_and_a_slow_one_does_not(io: &str) {
    let edge = edge();
    let mut settings = edge.settings(Place::A, io);
    settings.domain(SHOP).text("limits", "idle", "5s").raw("limits", "minimum_rate", "1000");
    let gatehouse = start(&edge, settings);
    assert_served(&edge, SHOP);
    let mut stuck =
        Kept::connect(&edge.network.client, Edge::https(Place::A), SHOP, edge.ca.roots()).unwrap();
    stuck.ask(&format!("/stream/{}", 1 << 30)).unwrap();
    for version in ["--http1.1", "--http2"] {
        let url = format!("https://{SHOP}/stream/3000000");
        let slow = ["--limit-rate", "300K", "--max-time", "100", version];
        let honest = edge.curl(&url).discarding_body().with(&slow).run().unwrap();
        assert_eq!((honest.exit, honest.status), (0, 200), "{version}: {honest:?}");
    }
    scrape_until(&gatehouse, "the cut to be counted", Duration::from_mins(1), |metrics| {
        metrics.sum("gatehouse_requests_total", &["outcome=\"client_not_reading\""]) >= 1.0
            && metrics.sum("gatehouse_connections_ended_total", &["limit=\"not_reading\""]) >= 1.0
            && metrics.sum("gatehouse_connections_open", &[]) < 0.5
    });
    assert_served(&edge, SHOP);
}
