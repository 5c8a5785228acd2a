//! When the CA would have a certificate renewed (ARI, RFC 9773): the date in the table follows the window that the CA names.

use std::time::{Duration, SystemTime};

use anyhow::ensure;
use gatehouse::{
    certificates::listing::Summary,
    name::{Pattern, ServerName},
    store::{
        Engine,
        instant::Micros,
        state_table::{self, RenewalInfo},
    },
};
use testbed::{
    pebble::{self, Pebble},
    relay::Traffic,
    wait,
};

use super::world::{Instance, World, leaf};

const NAME: &str = "one.allowed.example";
const HOUR: Duration = Duration::from_hours(1);
/// Instances look for what is due every few seconds, each at its own time, and on a machine that others use.
const WITHIN: Duration = Duration::from_mins(3);

/// The CA answers by the window between these times.
fn say(pebble: &Pebble, start: SystemTime, end: SystemTime) {
    let text = |at| Micros::of(at).to_string();
    pebble.relay.set(pebble::renewal_window(&text(start), &text(end), 6 * 3600));
}

fn asked(pebble: &Pebble) -> u64 {
    pebble.relay.count("renewalInfo failed") + pebble.relay.count("renewalInfo refused")
}

fn info(instance: &Instance) -> RenewalInfo {
    let name = Pattern::parse(NAME).unwrap();
    let found = instance.runtime().block_on(state_table::find_renewal_info(instance.store(), &name));
    found.unwrap().unwrap()
}

fn renew_at(shown: Option<Summary>) -> SystemTime {
    shown.unwrap().certificate.unwrap().renew_at.unwrap().at()
}

/// The CA is asked now, and may have the certificate renewed: as if it were hours old.
fn ask_now(instance: &Instance) {
    let aged = RenewalInfo { renew_from: SystemTime::now() - HOUR, ..info(instance) };
    let store = instance.store();
    instance.runtime().block_on(async {
        // What is to be asked about stays as it is, whoever writes it.
        state_table::stop_renewal_info(store, &aged.name).await.unwrap();
        state_table::put_renewal_info(store, &aged, SystemTime::now(), None).await.unwrap();
    });
}

fn until_date(instance: &Instance, what: &str, holds: impl Fn(SystemTime) -> bool) {
    wait::until(what, WITHIN, || {
        let at = renew_at(instance.show(NAME));
        let asked = instance.counted("gatehouse_certificate_renewal_info_total");
        ensure!(holds(at), "it is {:?} ahead, after {asked} questions", at.duration_since(SystemTime::now()));
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_date_follows_the_cas_window_and_a_past_one_renews_at_once_and_once() {
    let world = World::create();
    let (pebble, engine) = (world.pebble(), Engine::in_memory().unwrap());
    let fleet = [world.instance(&engine, &pebble), world.instance(&engine, &pebble)];
    let now = SystemTime::now();
    say(&pebble, now + HOUR * 3000, now + HOUR * 3100);
    let first = fleet[0].obtain(NAME).unwrap();
    let before = leaf(&first);
    until_date(&fleet[1], "the date within the window", |at| {
        (now + HOUR * 3000..now + HOUR * 3100).contains(&at)
    });
    assert_eq!(asked(&pebble), 1, "one instance asks");

    // The CA says the same again: another place in the same window is no other date.
    let date = renew_at(fleet[0].show(NAME));
    ask_now(&fleet[0]);
    wait::until("the second question", WITHIN, || {
        ensure!(asked(&pebble) == 2);
        Ok(())
    })
    .unwrap();
    say(&pebble, now + HOUR * 300, now + HOUR * 301);
    assert_eq!(renew_at(fleet[0].show(NAME)), date);
    ask_now(&fleet[0]);
    until_date(&fleet[0], "a later date", |at| (now + HOUR * 300..now + HOUR * 301).contains(&at));
    assert_eq!(pebble.relay.count("newOrder"), 1);

    // It revokes many certificates.
    say(&pebble, now - HOUR * 2, now - HOUR);
    ask_now(&fleet[0]);
    wait::until("the renewal", WITHIN, || {
        let slot = fleet[1].certificates.cached(&ServerName::parse(NAME)?);
        let presented = [Some(fleet[0].obtain(NAME)?), slot].into_iter().flatten();
        ensure!(presented.map(|slot| leaf(&slot)).any(|leaf| leaf != before), "still the old one");
        Ok(())
    })
    .unwrap();
    assert_eq!((pebble.relay.count("newOrder"), pebble.relay.count("newOrder replaces")), (2, 1));
    // What it says of the new one is the same, and yet that lives for a twentieth of its time first.
    until_date(&fleet[0], "the date of the new certificate", |at| {
        let RenewalInfo { renew_from, not_after, .. } = info(&fleet[0]);
        let first = renew_from + not_after.duration_since(renew_from).unwrap() / 20;
        (first - HOUR / 2..first + HOUR / 2).contains(&at)
    });
    assert_eq!((asked(&pebble), pebble.relay.count("newOrder")), (5, 2));
}

#[test]
fn a_ca_that_does_not_say_it_changes_no_date() {
    let world = World::create();
    let pebble = world.pebble();
    let ahead = |hours| Micros::of(SystemTime::now() + HOUR * hours).to_string();
    for (what, traffic, questions) in [
        ("no such resource", Traffic::Rewrite(pebble::without_renewal_info), 0),
        ("404", Traffic::Pass, 1),
        ("a window that ends before it begins", pebble::renewal_window(&ahead(100), &ahead(50), 60), 1),
        ("no date", pebble::renewal_window("soon", "later", 60), 1),
    ] {
        let engine = Engine::in_memory().unwrap();
        let instance = world.instance(&engine, &pebble);
        pebble.relay.set(traffic);
        let before = asked(&pebble);
        let slot = instance.obtain(NAME).unwrap();
        let current = slot.current(SystemTime::now()).unwrap();
        let life = current.not_after.duration_since(current.not_before).unwrap();
        wait::until(what, WITHIN, || {
            let ended = instance.counted("gatehouse_certificate_renewal_info_total");
            ensure!(ended > 0.5, "{ended} questions have ended");
            Ok(())
        })
        .unwrap();
        assert_eq!(asked(&pebble) - before, questions, "{what}");
        let by_its_life = current.not_before + life * 3 / 5..current.not_before + life * 7 / 10;
        let at = renew_at(instance.show(NAME));
        assert!(by_its_life.contains(&at), "{what}: {at:?}");
    }
}
