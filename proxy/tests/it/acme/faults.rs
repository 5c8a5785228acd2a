//! A CA that fails in each phase of an order, in each way a network and an overloaded server can: what follows is a certificate or a
//! failure that is remembered with its reason, held against nobody who is not at fault, and never a second order at once.

use std::time::{Duration, SystemTime};

use gatehouse::{
    certificates::OnRequest,
    config::Span,
    name::{Pattern, ServerName},
    store::{
        Engine,
        certificate_table::{IssuerKey, find_challenges},
        instant::Micros,
    },
};
use http::StatusCode;
use testbed::{
    pebble::{Pebble, failed_by_itself, problem, still_processing, with_unknown_challenge, without_replaces},
    relay::{Fault, FaultKind, Refusal, Traffic},
    wait,
};

use super::world::{Instance, World, issuer};

/// The requests of an order, as the CA gets them first.
const PHASES: [&str; 8] = [
    "directory",
    "newNonce",
    "newAccount",
    "newOrder",
    "authorization",
    "challenge",
    "finalize",
    "certificate",
];

/// What an operator is told of a fault while it lasts.
struct Told {
    kind: FaultKind,
    problem: &'static str,
}

/// Each phase under `told`, with an instance of its own: in phases before the order, the account would be known to the next.
fn check(told: &Told) {
    let world = World::create();
    let pebble = world.pebble();
    for at in PHASES {
        let instance = world.instance(&Engine::in_memory().unwrap(), &pebble);
        let name = format!("{}.allowed.example", at.to_lowercase());
        pebble.relay.set(Traffic::Fail(Fault { at, kind: told.kind.clone(), times: u32::MAX }));
        assert_fails(&instance, &name, told.problem, at);
        let before = pebble.relay.count("newOrder");
        pebble.relay.set(Traffic::Pass);
        assert_recovers(&instance, &pebble, &name, at);
        let again = pebble.relay.count("newOrder") - before;
        let is_placed = !BEFORE_THE_ORDER.contains(&at);
        assert_eq!(again, u64::from(!is_placed), "{at}: {:?}", pebble.relay.counts());
    }
}

/// In these the instance has not learnt of an order that it could go on with.
const BEFORE_THE_ORDER: [&str; 4] = ["directory", "newNonce", "newAccount", "newOrder"];

fn assert_fails(instance: &Instance, name: &str, problem: &str, at: &str) {
    let refused = instance.obtain(name).err();
    let shown = instance.show(name).unwrap_or_else(|| panic!("{at}: {refused:?}, and nothing is remembered"));
    assert!(shown.problem.contains(problem), "{at}: {refused:?}, {}", shown.problem);
    assert!(shown.retry_at.is_some(), "{at}: {shown:?}");
    assert_eq!(shown.failures, 0, "{at}: it is not the name's failure");
}

fn assert_recovers(instance: &Instance, pebble: &Pebble, name: &str, at: &str) {
    wait::until(&format!("a certificate after faults of {at}"), Duration::from_mins(1), || {
        instance.obtain(name).map(drop).map_err(anyhow::Error::from)
    })
    .unwrap_or_else(|error| panic!("{error:#}; {:?}", pebble.relay.counts()));
}

#[test]
fn a_ca_that_limits_the_account_is_left_alone_until_the_date_it_names() {
    let world = World::create();
    let pebble = world.pebble();
    let instance = world.instance(&Engine::in_memory().unwrap(), &pebble);
    let limited = FaultKind::Refuse(problem(StatusCode::TOO_MANY_REQUESTS, "rateLimited", Some(3_600)));
    pebble.relay.set(Traffic::Fail(Fault { at: "newOrder", kind: limited, times: 1 }));
    for name in ["one.allowed.example", "two.allowed.example"] {
        assert!(instance.obtain(name).is_err());
    }
    let shown = instance.show("one.allowed.example").unwrap();
    assert!(shown.problem.contains("rateLimited"), "{}", shown.problem);
    let in_half_an_hour = Micros::of(SystemTime::now() + Duration::from_mins(30));
    assert!(shown.retry_at.is_some_and(|at| at > in_half_an_hour), "{shown:?}");
    let counts = pebble.relay.counts();
    assert_eq!((counts.get("newOrder failed"), counts.get("newOrder")), (Some(&1), None), "{counts:?}");
}

/// The library sends a refused request twice more, and the order goes on from there.
#[test]
fn nonces_that_are_refused_a_few_times_cost_no_order() {
    let world = World::create();
    let pebble = world.pebble();
    for at in ["newAccount", "newOrder", "authorization", "challenge", "finalize", "certificate"] {
        let instance = world.instance(&Engine::in_memory().unwrap(), &pebble);
        let stale = FaultKind::Refuse(problem(StatusCode::BAD_REQUEST, "badNonce", None));
        pebble.relay.set(Traffic::Fail(Fault { at, kind: stale, times: 5 }));
        let outcome = instance.obtain(&format!("{}.allowed.example", at.to_lowercase()));
        assert!(outcome.is_ok(), "{at}: {outcome:?}");
        assert_eq!(pebble.relay.count(&format!("{at} failed")), 5, "{at}");
    }
}

/// RFC 8555 §8: clients ignore challenges that they do not know.
#[test]
fn a_challenge_of_an_unknown_type_is_passed_over() {
    let world = World::create();
    let pebble = world.pebble();
    let instance = world.instance(&Engine::in_memory().unwrap(), &pebble);
    pebble.relay.set(Traffic::Rewrite(with_unknown_challenge));
    instance.obtain("one.allowed.example").unwrap();
}

/// RFC 8555 §7.4: the order is the account's, which is the fleet's.
#[test]
fn an_order_of_an_instance_that_is_gone_is_gone_on_with_by_another() {
    let world = World::create();
    let pebble = world.pebble();
    for (at, kind) in [
        ("authorization", FaultKind::CutAfter),
        // Once it has this, it validates, and finds nobody.
        ("challenge", FaultKind::CutBefore),
        ("finalize", FaultKind::CutAfter),
        ("certificate", FaultKind::CutAfter),
    ] {
        let (engine, name) = (Engine::in_memory().unwrap(), format!("{at}.allowed.example"));
        let before = pebble.relay.count("newOrder");
        pebble.relay.set(Traffic::Fail(Fault { at, kind, times: u32::MAX }));
        let first = world.instance(&engine, &pebble);
        assert!(first.obtain(&name).is_err());
        drop(first);
        pebble.relay.set(Traffic::Pass);
        let second = world.instance(&engine, &pebble);
        assert_recovers(&second, &pebble, &name, at);
        assert_eq!(pebble.relay.count("newOrder") - before, 1, "{at}: {:?}", pebble.relay.counts());
        assert_eq!(second.show(&name).unwrap().failures, 0);
        let (issuers, site) =
            ([IssuerKey::of_directory(&pebble.directory())], ServerName::parse(&name).unwrap());
        let left = second.runtime().block_on(find_challenges(second.store(), &issuers, &site)).unwrap();
        assert_eq!(left, [], "{at}: nobody would remove it");
    }
}

/// Some CAs take minutes from the finalization to the certificate: each order that were given up would be one issued for nobody.
#[test]
fn an_order_that_the_ca_is_slow_to_issue_is_gone_on_with() {
    let world = World::create();
    let (pebble, engine, name) = (world.pebble(), Engine::in_memory().unwrap(), "one.allowed.example");
    pebble.relay.set(Traffic::Rewrite(still_processing));
    let instance = world.instance_changed(&engine, vec![issuer(&pebble)], |config| {
        config.certificates.order_deadline = Span::secs(5);
    });
    assert!(instance.obtain(name).is_err());
    let shown = instance.show(name).unwrap();
    assert!(shown.problem.contains("which is fetched later"), "{}", shown.problem);
    pebble.relay.set(Traffic::Pass);
    assert_recovers(&instance, &pebble, name, "issuance");
    let counts = pebble.relay.counts();
    assert_eq!((counts.get("newOrder"), counts.get("finalize")), (Some(&1), Some(&1)), "{counts:?}");
}

/// A remote perspective of the CA's that does not answer: all names fail.
#[test]
fn a_ca_that_fails_while_it_validates_counts_against_no_name() {
    let world = World::create();
    let pebble = world.pebble();
    let (instance, name) = (world.instance(&Engine::in_memory().unwrap(), &pebble), "lost.allowed.example");
    pebble.resolve(&world.network.client, name, "192.0.2.77".parse().unwrap()).unwrap();
    pebble.relay.set(Traffic::Rewrite(failed_by_itself));
    assert!(instance.obtain(name).is_err());
    let shown = instance.show(name).unwrap();
    assert!(shown.problem.contains("serverInternal"), "{}", shown.problem);
    assert_eq!((shown.failures, shown.failing_since, shown.failed_within_hour), (0, None, 0));
    assert!(instance.obtain("other.allowed.example").is_err(), "the CA is paused");
    assert_eq!(pebble.relay.count("newOrder"), 1);
}

/// Accounts may be bound to a customer's domains.
#[test]
fn a_name_that_the_account_may_not_order_does_not_pause_the_ca() {
    let world = World::create();
    let pebble = world.pebble();
    let instance = world.instance(&Engine::in_memory().unwrap(), &pebble);
    instance.obtain("ours.allowed.example").unwrap();
    let kind = FaultKind::Refuse(problem(StatusCode::FORBIDDEN, "unauthorized", None));
    pebble.relay.set(Traffic::Fail(Fault { at: "newOrder", kind, times: 1 }));
    assert!(instance.obtain("theirs.allowed.example").is_err());
    assert_eq!(instance.show("theirs.allowed.example").unwrap().failures, 1);
    instance.obtain("other.allowed.example").unwrap();
    assert_eq!(pebble.relay.count("newAccount"), 1, "the account is not lost");
}

/// It has made the order then, which nobody can find.
#[test]
fn a_ca_that_does_not_repeat_what_is_replaced_still_renews() {
    let world = World::create();
    let pebble = world.pebble();
    let instance = world.instance(&Engine::in_memory().unwrap(), &pebble);
    let name = Pattern::parse("one.allowed.example").unwrap();
    instance.obtain(&name.to_string()).unwrap();
    pebble.relay.set(Traffic::Rewrite(without_replaces));
    for orders in [3, 4] {
        let renewed = instance.certificates.order_now(&name, OnRequest::Renew);
        instance.runtime().block_on(renewed).unwrap();
        let counts = pebble.relay.counts();
        assert_eq!(
            (counts.get("newOrder"), counts.get("newOrder replaces")),
            (Some(&orders), Some(&1)),
            "it is not asked again: {counts:?}"
        );
    }
}

/// RFC 9457 §3.1.2: the status in a problem document is advisory, and some CAs leave it out.
#[test]
fn an_order_that_the_ca_knows_no_more_is_followed_by_another() {
    let world = World::create();
    let pebble = world.pebble();
    let html = |body: &str| Refusal {
        media_type: "text/html",
        body: body.to_owned(),
        ..problem(StatusCode::NOT_FOUND, "malformed", None)
    };
    let silent = Refusal {
        body: r#"{"type":"urn:ietf:params:acme:error:malformed","detail":"no such order"}"#.to_owned(),
        ..problem(StatusCode::NOT_FOUND, "malformed", None)
    };
    for (name, refusal) in [("json.allowed.example", silent), ("html.allowed.example", html("<h1>404</h1>"))]
    {
        let instance = world.instance(&Engine::in_memory().unwrap(), &pebble);
        let before = pebble.relay.count("newOrder");
        let cut = Fault { at: "authorization", kind: FaultKind::CutAfter, times: u32::MAX };
        pebble.relay.set(Traffic::Fail(cut));
        assert!(instance.obtain(name).is_err());
        let unknown = Fault { at: "order", kind: FaultKind::Refuse(refusal), times: 1 };
        pebble.relay.set(Traffic::Fail(unknown));
        // Within the pause that the first fault began, and no more.
        wait::until("a certificate", Duration::from_secs(20), || {
            instance.obtain(name).map(drop).map_err(anyhow::Error::from)
        })
        .unwrap_or_else(|error| panic!("{name}: {error:#}; {:?}", pebble.relay.counts()));
        assert_eq!(pebble.relay.count("newOrder") - before, 2, "{name}: {:?}", pebble.relay.counts());
        assert_eq!(instance.show(name).unwrap().failures, 0, "{name}");
    }
}

/// It may be wanted because the key of the first is known to somebody.
#[test]
fn a_certificate_that_is_to_replace_another_is_of_an_order_of_its_own() {
    let world = World::create();
    let pebble = world.pebble();
    let instance = world.instance(&Engine::in_memory().unwrap(), &pebble);
    let name = Pattern::parse("one.allowed.example").unwrap();
    let cut = Fault { at: "certificate", kind: FaultKind::CutBefore, times: u32::MAX };
    pebble.relay.set(Traffic::Fail(cut));
    assert!(instance.obtain(&name.to_string()).is_err());
    pebble.relay.set(Traffic::Pass);
    wait::until("another certificate", Duration::from_mins(1), || {
        let renewed = instance.certificates.order_now(&name, OnRequest::Renew);
        instance.runtime().block_on(renewed).map(drop).map_err(anyhow::Error::from)
    })
    .unwrap();
    assert_eq!(pebble.relay.count("newOrder"), 2, "{:?}", pebble.relay.counts());
}

#[test]
fn a_connection_that_is_cut_in_any_phase_delays_a_certificate_and_no_more() {
    check(&Told { kind: FaultKind::CutBefore, problem: "the CA does not answer" });
}

#[test]
fn an_answer_that_is_lost_in_any_phase_delays_a_certificate_and_no_more() {
    check(&Told { kind: FaultKind::CutAfter, problem: "the CA does not answer" });
}

#[test]
fn a_server_that_fails_in_any_phase_delays_a_certificate_and_no_more() {
    check(&Told {
        kind: FaultKind::Refuse(problem(StatusCode::INTERNAL_SERVER_ERROR, "serverInternal", None)),
        problem: "the CA",
    });
}
