//! Names that are not served here, and what is left of their connections.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::ensure;
use testbed::{
    edge::Edge,
    gatehouse::{Gatehouse, Place},
    hello::{Ending, Hello, KeyShare, attempt},
    keep_alive_client::Kept,
    network::CLIENT,
    wait,
};

use crate::fixture::{
    FOREIGN, SHOP, assert_served, connections, edge, greet_until, is_enforcing, scrape_until,
    send_client_hello, start,
};

#[test]
fn a_foreign_name_is_reset_within_a_second_and_leaves_nothing_at_the_edge() {
    let edge = edge();
    let gatehouse = guarded(&edge, "strict");
    let whole = Hello::new(FOREIGN, KeyShare::Classic, |_| true).unwrap().whole();
    let large = Hello::new(FOREIGN, KeyShare::PostQuantum, |name| name.end < 1_200).unwrap();
    let cut = large.cut_behind_name();
    for (what, address, segments) in [
        ("one segment", Place::A.v4().into(), &whole),
        ("two segments", Place::A.v4().into(), &cut),
        ("one segment, IPv6", Place::A.v6().into(), &whole),
        ("two segments, IPv6", Place::A.v6().into(), &cut),
    ] {
        check_strict(&edge, what, SocketAddr::new(address, 443), segments);
        let metrics = gatehouse.metrics().unwrap();
        // A connection is counted when it ends, so one that was only taken shows as open.
        let open = metrics.sum("gatehouse_connections_open", &[]);
        assert!(connections(&metrics) + open < 0.5, "{what}: user space saw a connection: {metrics}");
    }
    let metrics = gatehouse.metrics().unwrap();
    // Each name once; a second segment meets no socket any more, and the kernel itself resets the client.
    assert!(metrics.verdicts("reject_foreign_server") > 19.5, "{metrics}");
    // After one segment the client sends it again.
    assert!(metrics.verdicts("reject_foreign_client") > 9.5, "{metrics}");
    assert!(metrics.verdicts("pass_unenforced") + metrics.verdicts("pass_allowed") < 0.5, "{metrics}");
    assert_served(&edge, SHOP);
    let kept = Kept::connect(&edge.network.client, Edge::https(Place::A), SHOP, edge.ca.roots()).unwrap();
    assert!(no_socket_left(&edge).is_err(), "what is there is seen");
    drop(kept);
}

/// The first segment has a socket by the time the second one is judged.
#[test]
fn a_foreign_name_in_a_second_segment_is_reset_within_a_second_and_leaves_nothing_at_the_edge() {
    let edge = edge();
    let gatehouse = guarded(&edge, "strict");
    let large =
        |name, behind| Hello::new(name, KeyShare::PostQuantum, |at| at.start > 1_200).unwrap().cut(behind);
    for (what, address, behind) in [
        ("the name in the second", IpAddr::from(Place::A.v4()), 0),
        ("the name in both", Place::A.v4().into(), 3),
        ("the name in the second, IPv6", Place::A.v6().into(), 0),
        ("the name in both, IPv6", Place::A.v6().into(), 3),
    ] {
        check_strict(&edge, what, SocketAddr::new(address, 443), &large(FOREIGN, behind));
    }
    let metrics = gatehouse.metrics().unwrap();
    assert!(metrics.verdicts("pass_incomplete") > 19.5, "{metrics}");
    assert!(metrics.verdicts("reject_foreign_server") > 19.5, "{metrics}");
    for behind in [0, 3] {
        let to = Edge::https(Place::A);
        let seen = attempt(&edge.network.client, to, large(SHOP, behind), Duration::from_secs(5)).unwrap();
        assert_eq!(seen.ending, Ending::Answered, "an allowed name is served: {seen:?}");
    }
    let metrics = gatehouse.metrics().unwrap();
    assert!(metrics.verdicts("pass_allowed") > 1.5, "{metrics}");
    assert!(metrics.verdicts("pass_out_of_order") + metrics.verdicts("pass_forgotten") < 0.5, "{metrics}");
}

/// The kernel keeps no request then: only a segment that acknowledges its cookie makes a socket.
#[test]
fn a_foreign_name_leaves_nothing_at_the_edge_while_it_answers_by_cookies() {
    let edge = edge();
    edge.network.edge.run("sysctl", &["-qw", "net.ipv4.tcp_syncookies=2"]).unwrap();
    let gatehouse = guarded(&edge, "strict");
    let whole = Hello::new(FOREIGN, KeyShare::Classic, |_| true).unwrap().whole();
    let large =
        |behind| Hello::new(FOREIGN, KeyShare::PostQuantum, |at| at.start > 1_200).unwrap().cut(behind);
    let first =
        Hello::new(FOREIGN, KeyShare::PostQuantum, |name| name.end < 1_200).unwrap().cut_behind_name();
    for (what, segments) in [
        ("one segment", &whole),
        ("two segments", &first),
        ("two segments, the name in the second", &large(0)),
        ("two segments, the name in both", &large(3)),
    ] {
        check_strict(&edge, what, SocketAddr::new(Place::A.v4().into(), 443), segments);
    }
    let metrics = gatehouse.metrics().unwrap();
    assert!(metrics.verdicts("reject_foreign") > 19.5, "{metrics}");
    assert_served(&edge, SHOP);
}

#[test]
fn adaptive_answers_a_foreign_name_once_by_alert_112_and_then_resets_it() {
    let edge = edge();
    let gatehouse = guarded(&edge, "adaptive");
    // RFC 6066 §3: unrecognized_name.
    assert_eq!(send_client_hello(&edge, Place::A, FOREIGN).ending, Ending::Alert(112));
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
        assert_eq!(send_client_hello(&edge, Place::A, FOREIGN).ending, Ending::Alert(112));
    }
    let metrics = gatehouse.metrics().unwrap();
    assert!(metrics.verdicts("pass_observed") >= 3.0, "{metrics}");
    assert!(metrics.verdicts("reject_") < 0.5, "{metrics}");
}

/// Five connections, one after the other.
fn check_strict(edge: &Edge, what: &str, to: SocketAddr, segments: &[Vec<u8>]) {
    for _ in 0..5 {
        let seen = attempt(&edge.network.client, to, segments.to_vec(), Duration::from_secs(1)).unwrap();
        assert_eq!(seen.ending, Ending::Reset, "{what}: a second is enough: {seen:?}");
    }
    wait::until("no socket of it at the edge", Duration::from_secs(3), || no_socket_left(edge))
        .unwrap_or_else(|error| panic!("{what}: {error:#}"));
}

/// Neither half open nor accepted, nor in any other state.
fn no_socket_left(edge: &Edge) -> anyhow::Result<()> {
    let left = edge.network.edge.run("ss", &["-Htan", "exclude", "listening", "sport = :443"])?;
    ensure!(left.trim().is_empty(), "{left}");
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

#[test]
fn the_guard_explains_a_name_by_its_kernel_and_shows_what_it_rejected() {
    let edge = edge();
    let gatehouse = guarded(&edge, "strict");
    let hello = Hello::new(FOREIGN, KeyShare::Classic, |_| true).unwrap().whole();
    check_strict(&edge, "one segment", Edge::https(Place::A), &hello);
    for (name, told) in [
        (SHOP, format!("ClientHello  passes (pass_allowed) by step 8, name: the kernel has it by `{SHOP}`")),
        (
            FOREIGN,
            format!(
                "rejected (reject_foreign_server) by step 12, unknown: `{FOREIGN}` is not in the kernel, nor among the \
                 instance's names, and mode `strict` rejects such names"
            ),
        ),
    ] {
        let said = gatehouse.command(&["guard", "explain", "--name", name]).unwrap();
        assert!(
            said.contains("known from   the instance here and its kernel") && said.contains(&told),
            "{said}"
        );
    }
    wait::until("the name to be told of", Duration::from_secs(5), || {
        let said = gatehouse.command(&["guard", "top"])?;
        ensure!(said.contains(FOREIGN) && said.contains(&CLIENT.to_string()), "{said}");
        Ok(())
    })
    .unwrap();
}
