//! Endpoints that have as many requests as they may.

use std::time::Duration;

use anyhow::ensure;
use testbed::{curl::Running, gatehouse::Place, wait};

use crate::fixture::{SHOP, assert_served, edge, get, on_both_back_ends, start};

on_both_back_ends!(an_endpoint_has_no_more_requests_than_it_may);

fn an_endpoint_has_no_more_requests_than_it_may(io: &str) {
    let edge = edge();
    let hasty = "hasty.customer.test";
    let target = edge.upstream.target();
    let mut settings = edge.settings(Place::A, io);
    settings.domain_to(SHOP, &format!("{target};max_requests=2;max_connections=3"));
    settings.domain_to(hasty, &format!("{target};max_requests=1;max_pending=0"));
    settings.raw("worker", "threads", "2").text("upstream", "pending_timeout", "30s");
    let gatehouse = start(&edge, settings);
    assert_served(&edge, SHOP);
    assert_served(&edge, hasty);

    // Both workers together have two at once, whoever asks for how many.
    let answered = edge.upstream.answered();
    let slow = || edge.curl(&format!("https://{SHOP}/slow/500")).spawn().unwrap();
    let running: Vec<Running> = (0..9).map(|_| slow()).collect();
    let mut most = 0;
    wait::until("all to be answered", Duration::from_mins(1), || {
        most = most.max(edge.upstream.slow_in_flight());
        let done = edge.upstream.answered() - answered;
        ensure!(done == 9, "{done} are answered");
        Ok(())
    })
    .unwrap();
    for reply in running {
        let reply = reply.reply().unwrap();
        assert_eq!(reply.status, 200, "{reply:?}\n{}", gatehouse.process.output());
    }
    assert_eq!(most, 2);
    let metrics = gatehouse.metrics().unwrap();
    assert!(metrics.sum("gatehouse_upstream_pending_total", &["end=\"admitted\""]) > 0.5, "{metrics}");
    assert!(metrics.sum("gatehouse_upstream_pending", &[]) < 0.5, "{metrics}");

    // Where nobody may wait, one more is refused at once, and told when to come again.
    let first = edge.curl(&format!("https://{hasty}/slow/3000")).spawn().unwrap();
    wait::until("a request to be there", Duration::from_secs(10), || {
        ensure!(edge.upstream.slow_in_flight() == 1, "none is");
        Ok(())
    })
    .unwrap();
    let refused = get(&edge, hasty);
    assert_eq!((refused.status, refused.header("retry-after").as_deref()), (503, Some("1")), "{refused:?}");
    assert_served(&edge, SHOP);
    assert_eq!(first.reply().unwrap().status, 200);
    assert_served(&edge, hasty);
    let metrics = gatehouse.metrics().unwrap();
    let full = metrics.sum("gatehouse_requests_total", &["outcome=\"upstream_endpoint_full\""]);
    assert!((full - 1.0).abs() < 0.5, "{metrics}");
}
