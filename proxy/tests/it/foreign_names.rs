//! Names that are not served here, and what is left of their connections.

use std::time::Duration;

use anyhow::ensure;
use testbed::{
    edge::Edge,
    gatehouse::{Gatehouse, Place},
    hello::{Ending, Hello, KeyShare, attempt},
    network::{CLIENT, EDGE_A_V6},
    wait,
};

use crate::fixture::{
    FOREIGN, SHOP, assert_served, connections, edge, greet, greet_until, is_enforcing, scrape_until, send,
    start,
};

#[test]
fn a_foreign_name_in_one_segment_is_reset_and_leaves_no_socket() {
    let hello = Hello::new(FOREIGN, KeyShare::Classic, |_| true).unwrap();
    check_strict(&hello.whole());
}

#[test]
fn a_foreign_name_in_the_first_of_two_segments_is_reset_and_leaves_no_socket() {
    let hello = Hello::new(FOREIGN, KeyShare::PostQuantum, |name| name.end < 1_200).unwrap();
    check_strict(&hello.cut_behind_name());
}

#[test]
fn a_foreign_name_over_ipv6_is_reset() {
    let edge = edge();
    let _gatehouse = guarded(&edge, "strict");
    let hello = Hello::new(FOREIGN, KeyShare::Classic, |_| true).unwrap();
    let to = (EDGE_A_V6, 443).into();
    let seen = attempt(&edge.network.client, to, hello.whole(), Duration::from_secs(1)).unwrap();
    assert_eq!(seen.ending, Ending::Reset, "{seen:?}");
}

#[test]
fn adaptive_answers_a_foreign_name_once_by_alert_112_and_then_resets_it() {
    let edge = edge();
    let gatehouse = guarded(&edge, "adaptive");
    // RFC 6066 §3: unrecognized_name.
    assert_eq!(greet(&edge, Place::A, FOREIGN).ending, Ending::Alert(112));
    greet_until(&edge, FOREIGN, &Ending::Reset, Duration::from_secs(5));
    let metrics = gatehouse.metrics().unwrap();
    assert!(metrics.verdicts("pass_unknown") >= 1.0, "{metrics}");
    assert!(metrics.verdicts("reject_denied") >= 1.0, "{metrics}");
    assert_served(&edge, SHOP);
}

#[test]
fn observe_counts_a_foreign_name_and_lets_user_space_answer() {
    let edge = edge();
    let gatehouse = guarded(&edge, "observe");
    for _ in 0..3 {
        assert_eq!(greet(&edge, Place::A, FOREIGN).ending, Ending::Alert(112));
    }
    let metrics = gatehouse.metrics().unwrap();
    assert!(metrics.verdicts("pass_observed") >= 3.0, "{metrics}");
    assert!(metrics.verdicts("reject_") < 0.5, "{metrics}");
}

fn check_strict(segments: &[Vec<u8>]) {
    let edge = edge();
    let gatehouse = guarded(&edge, "strict");
    for _ in 0..5 {
        let seen = send(&edge, Place::A, segments.to_vec());
        assert_eq!(seen.ending, Ending::Reset, "a second is enough: {seen:?}");
    }
    wait::until("no socket of it at the edge", Duration::from_secs(3), || no_socket_left(&edge)).unwrap();
    let metrics = gatehouse.metrics().unwrap();
    assert!(connections(&metrics) < 0.5, "user space saw a connection: {metrics}");
    assert!(metrics.verdicts("reject_foreign_server") >= 5.0, "{metrics}");
    if segments.len() == 1 {
        // With two, the second meets no socket any more, and the kernel itself resets the client.
        assert!(metrics.verdicts("reject_foreign_client") >= 5.0, "{metrics}");
    }
    assert_served(&edge, SHOP);
}

fn no_socket_left(edge: &Edge) -> anyhow::Result<()> {
    let filter = format!("dst {CLIENT} and sport = :443");
    let listed = edge.network.edge.run("ss", &["-Htan", &filter])?;
    let states = ["SYN-RECV", "ESTAB", "CLOSE-WAIT"];
    ensure!(!states.iter().any(|state| listed.contains(state)), "{listed}");
    Ok(())
}

/// An instance that serves one name behind an enforcing guard.
fn guarded(edge: &Edge, mode: &str) -> Gatehouse {
    let mut settings = edge.settings(Place::A, "auto");
    settings.domain(SHOP);
    edge.guard(&mut settings, mode).unwrap();
    let gatehouse = start(edge, settings);
    scrape_until(&gatehouse, "the guard to enforce", Duration::from_secs(5), is_enforcing);
    gatehouse
}
