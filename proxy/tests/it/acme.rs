//! Whole orders against a real CA, without workers and guard: what the module `certificates` does by itself.

mod accounts;
mod commands;
mod faults;
mod offers;
mod renewal_info;
mod world;

use std::time::{Duration, Instant};

use gatehouse::{
    certificates::CertificateRefusal,
    config::{Config, Span},
    store::Engine,
};
use testbed::{relay::Traffic, wait};

use self::world::{World, entry, issuer, leaf};

#[test]
fn an_order_is_placed_once_and_its_certificate_is_the_fleets() {
    let world = World::create();
    let (pebble, engine) = (world.pebble(), Engine::in_memory().unwrap());
    let first = world.instance(&engine, &pebble);
    let began = Instant::now();
    let slot = first.obtain("one.allowed.example").unwrap();
    eprintln!("first certificate: {:?}, of it {:.3} s the CA's", began.elapsed(), first.order_seconds());
    let second = world.instance(&engine, &pebble);
    assert_eq!(leaf(&second.obtain("one.allowed.example").unwrap()), leaf(&slot));
    assert_eq!(pebble.relay.count("newOrder"), 1);
    let shown = second.show("one.allowed.example").unwrap();
    assert_eq!((shown.certificate.unwrap().issuer.as_str(), shown.failures), ("ca.test-14000-dir", 0));
    second.obtain("two.allowed.example").unwrap();
    assert_eq!((pebble.relay.count("newOrder"), pebble.relay.count("newAccount")), (2, 1));
}

/// The bill of `cargo xtask cost` is made of these calls, too.
#[test]
fn an_order_makes_as_many_calls_of_the_tables_as_the_page_of_operations_says() {
    let world = World::create();
    let (pebble, engine) = (world.pebble(), Engine::in_memory().unwrap());
    let names = ["two.customer.test", "three.customer.test", "four.customer.test"];
    let change = |config: &mut Config| {
        // What is done now and then is far away.
        config.certificates.renewal_period = Span::secs(24 * 3_600);
        config.certificates.lease = Span::secs(3_600);
        config.domains.r#static.extend(names.map(entry));
    };
    let instance = world.instance_changed(&engine, vec![issuer(&pebble)], change);
    instance.obtain("fresh.customer.test").unwrap();
    let calls = || instance.counted("gatehouse_store_calls_total");
    let mut fewest = f64::MAX;
    for name in names {
        let before = calls();
        instance.obtain(name).unwrap();
        fewest = fewest.min(calls() - before);
    }
    let page = include_str!("../../../docs/operations.md");
    assert!(page.contains(&format!("{fewest} calls for a new name")), "{fewest} calls");
}

#[test]
fn an_account_the_ca_has_forgotten_is_registered_anew() {
    let world = World::create();
    let (pebble, engine) = (world.pebble(), Engine::in_memory().unwrap());
    let instance = world.instance(&engine, &pebble);
    instance.obtain("before.allowed.example").unwrap();
    drop(pebble);
    let pebble = world.pebble();
    instance.obtain("after.allowed.example").unwrap();
    assert_eq!((pebble.relay.count("newAccount"), pebble.relay.count("newOrder")), (1, 1));
    let restarted = world.instance(&engine, &pebble);
    restarted.obtain("later.allowed.example").unwrap();
    assert_eq!(pebble.relay.count("newAccount"), 1, "the new account is in the table");
}

#[test]
fn a_name_the_ca_cannot_reach_backs_off_with_the_reason() {
    let world = World::create();
    let (pebble, engine) = (world.pebble(), Engine::in_memory().unwrap());
    let instance = world.instance(&engine, &pebble);
    let nowhere = "192.0.2.77".parse().unwrap();
    pebble.resolve(&world.network.client, "lost.allowed.example", nowhere).unwrap();
    assert_eq!(instance.obtain("lost.allowed.example").err(), Some(CertificateRefusal::Failed));
    let shown = instance.show("lost.allowed.example").unwrap();
    assert_eq!(shown.failures, 1);
    assert!(shown.problem.contains("could not validate"), "{}", shown.problem);
    assert!(shown.retry_at.is_some());
    assert_eq!(pebble.relay.count("newOrder"), 1);
}

/// Labels under a wildcard are made up as easily as unknown names.
#[test]
fn one_client_under_a_wildcard_leaves_the_fleets_orders_to_other_names() {
    let world = World::create();
    let (pebble, engine) = (world.pebble(), Engine::in_memory().unwrap());
    let instances = [world.instance(&engine, &pebble), world.instance(&engine, &pebble)];
    let served =
        (0..24).filter(|n| instances[n % 2].obtain(&format!("r{n}.allowed.example")).is_ok()).count();
    assert_eq!((served, pebble.relay.count("newOrder")), (10, 10), "the budget of one client address");
    instances[0].obtain("fresh.customer.test").unwrap();
}

#[test]
fn a_ca_that_was_away_locks_no_name_out() {
    let world = World::create();
    let (pebble, engine) = (world.pebble(), Engine::in_memory().unwrap());
    let instance = world.instance(&engine, &pebble);
    pebble.relay.set(Traffic::Cut);
    for text in ["one.allowed.example", "two.allowed.example"] {
        assert!(instance.obtain(text).is_err());
        let failures = instance.show(text).map_or(0, |shown| shown.failures);
        assert_eq!(failures, 0, "{text}: it is not the name's failure");
    }
    pebble.relay.set(Traffic::Pass);
    for text in ["one.allowed.example", "two.allowed.example"] {
        wait::until("a certificate", Duration::from_secs(30), || {
            instance.obtain(text).map(drop).map_err(anyhow::Error::from)
        })
        .unwrap();
    }
}
