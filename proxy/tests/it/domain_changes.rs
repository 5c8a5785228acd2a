//! Names that are added and removed while Gatehouse runs.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::ensure;
use testbed::{
    edge::Edge,
    gatehouse::{Gatehouse, Place},
    hello::Ending,
    keep_alive_client::Kept,
    metrics::Metrics,
    wait,
};

use crate::fixture::{
    FLEET_DELAY, SHOP, assert_served, edge, faulty_settings, get, greet_until, is_enforcing, report,
    scrape_until, send_client_hello, start,
};

#[test]
fn a_name_added_behind_a_strict_guard_is_served_as_the_command_returns() {
    check("strict", &[Ending::Reset]);
}

#[test]
fn a_name_added_behind_an_adaptive_guard_is_served_as_the_command_returns() {
    check("adaptive", &[Ending::Alert(112), Ending::Reset]);
}

#[test]
fn a_removed_name_is_refused_at_the_other_instance_within_five_seconds() {
    let edge = edge();
    let (a, b) = (instance(&edge, Place::A, None), instance(&edge, Place::B, None));
    a.command(&["domain", "add", SHOP]).unwrap();
    let url = format!("https://{SHOP}/");
    let at_b = || edge.curl(&url).at(IpAddr::V4(Place::B.v4())).run();
    let served = at_b().unwrap();
    assert_eq!(
        served.status, 200,
        "a name the feed has not told yet is found on its first hello: {served:?}"
    );
    let mut kept = keep(&edge, Place::B);
    assert_eq!(kept.get("/").unwrap(), 200);

    a.command(&["domain", "remove", SHOP]).unwrap();
    wait::until("a refusal at B", FLEET_DELAY, || {
        let reply = at_b()?;
        ensure!(reply.status == 0, "{reply:?}");
        Ok(())
    })
    .unwrap();
    assert_eq!(kept.get("/").unwrap(), 421, "on the kept connection");
    drop(b);
}

/// Nobody comes to A, so that it reads changes seldom; the first hello for a new name is rejected in the kernel, and is the sign.
#[test]
fn an_instance_that_nobody_used_follows_within_seconds_of_the_first_hello() {
    let edge = edge();
    let mut settings = edge.shared_settings(Place::A, "auto");
    settings.text("domains", "idle_poll", "15s");
    edge.guard(&mut settings, "strict").unwrap();
    let a = start(&edge, settings);
    let b = instance(&edge, Place::B, None);
    scrape_until(&a, "the guard to enforce", Duration::from_secs(5), is_enforcing);
    let lag = |metrics: &Metrics| metrics.sum("gatehouse_domains_feed_lag_seconds", &[]);
    scrape_until(&a, "changes to be read seldom", Duration::from_mins(1), |metrics| lag(metrics) > 4.5);
    let metrics =
        scrape_until(&a, "the next of those readings", Duration::from_secs(20), |metrics| lag(metrics) < 2.5);
    let reads = metrics.sum("gatehouse_domains_feed_reads_total", &[]);
    b.command(&["domain", "add", SHOP]).unwrap();
    assert_eq!(send_client_hello(&edge, Place::A, SHOP).ending, Ending::Reset);
    let since = Instant::now();
    greet_until(&edge, SHOP, &Ending::Answered, Duration::from_secs(5));
    report(&format!(
        "a name added elsewhere was let in {:.1} s after the first hello for it",
        since.elapsed().as_secs_f64()
    ));
    assert!(a.metrics().unwrap().sum("gatehouse_domains_feed_reads_total", &[]) > reads, "it was not read");
}

#[test]
fn a_reload_adds_and_removes_names_behind_a_strict_guard() {
    let edge = edge();
    let mut settings = edge.settings(Place::A, "auto");
    edge.guard(&mut settings, "strict").unwrap();
    settings.domain(SHOP);
    let gatehouse = start(&edge, settings);
    scrape_until(&gatehouse, "the guard to enforce", Duration::from_secs(5), is_enforcing);
    assert_served(&edge, SHOP);
    assert_eq!(send_client_hello(&edge, Place::A, ADDED).ending, Ending::Reset);

    let settings = std::fs::read_to_string(gatehouse.config()).unwrap();
    std::fs::write(gatehouse.config(), settings.replace(SHOP, ADDED)).unwrap();
    gatehouse.command(&["reload"]).unwrap();
    greet_until(&edge, ADDED, &Ending::Answered, Duration::from_secs(20));
    assert_served(&edge, ADDED);
    greet_until(&edge, SHOP, &Ending::Reset, Duration::from_secs(5));
}

fn check(mode: &str, refusals: &[Ending]) {
    let edge = edge();
    let gatehouse = instance(&edge, Place::A, Some(mode));
    scrape_until(&gatehouse, "the guard to enforce", Duration::from_secs(5), is_enforcing);
    let before = send_client_hello(&edge, Place::A, SHOP).ending;
    assert!(refusals.contains(&before), "before: {before:?}");

    gatehouse.command(&["domain", "add", SHOP]).unwrap();
    assert_served(&edge, SHOP);
    let mut kept = keep(&edge, Place::A);
    assert_eq!(kept.get("/").unwrap(), 200);

    gatehouse.command(&["domain", "remove", SHOP]).unwrap();
    assert_eq!(kept.get("/").unwrap(), 421, "on the kept connection");
    let after = send_client_hello(&edge, Place::A, SHOP).ending;
    assert!(refusals.contains(&after), "after: {after:?}");
    assert_eq!(get(&edge, SHOP).status, 0);

    gatehouse.command(&["domain", "add", SHOP]).unwrap();
    assert_served(&edge, SHOP);
    assert_eq!(edge.ca.relay.count("newOrder"), 1, "its certificate was still in the table");
}

fn instance(edge: &Edge, place: Place, guard: Option<&str>) -> Gatehouse {
    let mut settings = faulty_settings(edge, place, "auto");
    if let Some(mode) = guard {
        edge.guard(&mut settings, mode).unwrap();
    }
    start(edge, settings)
}

fn keep(edge: &Edge, place: Place) -> Kept {
    Kept::connect(&edge.network.client, Edge::https(place), SHOP, edge.ca.roots()).unwrap()
}

const ADDED: &str = "added.customer.test";
