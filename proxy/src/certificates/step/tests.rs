use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    certificates::{
        failure::OrderFault,
        keyed_chain::{KeyedChain, tests::pems},
        order_permits::OrderPermits,
    },
    name::Pattern,
};

const MINUTE: Duration = Duration::from_mins(1);
const SITE: &str = "a.example";

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
}

fn goal(purpose: Purpose) -> Goal {
    let name = Pattern::parse(SITE).unwrap();
    Goal {
        name,
        purpose,
        superseded: None,
        issuers: 2,
        give_up_at: now() + MINUTE,
        give_up_permit_at: now() + MINUTE,
    }
}

/// A certificate that began and ends so many minutes from now.
fn lasting(before: u64, after: i64) -> Candidate {
    let (begins, ends) =
        (now() - MINUTE * u32::try_from(before).unwrap(), i64::try_from(before).unwrap() + after);
    let (chain, key) = pems(&[SITE], begins, Duration::from_mins(u64::try_from(ends).unwrap()));
    let pattern = Pattern::parse(SITE).unwrap();
    let pair = KeyedChain::read(chain.as_bytes(), key.as_bytes(), &pattern).unwrap();
    Candidate { pair, issuer: IssuerKey::internal(), pattern }
}

fn reading(certificate: Option<Candidate>, under_lease: bool) -> TableReading {
    TableReading { certificate, scheduled: None, back_off: BackOff::None, under_lease }
}

fn allowed() -> PermissionStanding {
    let pattern = Pattern::parse(SITE).unwrap();
    PermissionStanding::Allow(Arc::new(DomainEntry::for_tests(pattern)))
}

fn held() -> LeaseState {
    LeaseState::Held(Lock::untaken(&Pattern::parse(SITE).unwrap()))
}

fn permit() -> PermitState {
    let permits = OrderPermits::new(1, 1, prometheus::IntGauge::new("waiting", "for tests").unwrap());
    PermitState::Held { _permit: permits.ask("a").unwrap().granted().unwrap() }
}

/// Everything an order needs.
fn ready() -> OrderFacts {
    OrderFacts {
        reading: Some(reading(None, true)),
        standing: Some(allowed()),
        permit: permit(),
        lease: held(),
        grant: Some(Grant::default()),
        ..OrderFacts::nothing()
    }
}

fn obtained() -> Obtained {
    let issued = Issued { chain: String::new(), key: Vec::new().into(), url: None, account: None };
    Obtained { issuer: 0, issued, candidate: lasting(1, 9) }
}

fn failure(fault: OrderFault) -> OrderFailure {
    OrderFailure { fault, problem: "why".to_owned() }
}

#[test]
fn on_request_a_certificate_is_replaced_whatever_its_date_and_once() {
    let (held, expired) = (lasting(1, 60 * 24 * 60), lasting(10, 0));
    let serial = Some(held.pair.serial.clone());
    for (held, superseded, is_ordered) in [
        (&held, None, false),
        (&held, Some("another's".to_owned()), false),
        (&held, serial, true),
        (&expired, Some("another's".to_owned()), true),
    ] {
        let goal = Goal { superseded: superseded.clone(), ..goal(Purpose::Replace) };
        let seen = OrderFacts { reading: Some(reading(Some(held.clone()), true)), ..ready() };
        let step = goal.next(now(), &seen);
        assert_eq!(matches!(step, Step::Order { .. }), is_ordered, "{superseded:?}: {step:?}");
    }
}

/// A step as the tables below write it.
fn text(step: &Step) -> String {
    match step {
        Step::Read => "read".to_owned(),
        Step::Serve(_) => "serve".to_owned(),
        Step::AskPermission => "ask".to_owned(),
        Step::AwaitPermit => "await a permit".to_owned(),
        Step::TakeLease => "take the lease".to_owned(),
        Step::AwaitHolder => "await its holder".to_owned(),
        Step::Spend { issuer } => format!("spend {issuer}"),
        Step::Order { issuer, .. } => format!("order {issuer}"),
        Step::Commit(_) => "commit".to_owned(),
        Step::RecordFailure(failure, None) => format!("record {:?}", failure.fault),
        Step::RecordFailure(failure, Some(_)) => format!("record {:?} and serve", failure.fault),
        Step::Refuse(refusal) => format!("refuse {refusal:?}"),
    }
}

fn check(cases: &[(&str, Purpose, OrderFacts, &str)]) {
    for (case, purpose, seen, step) in cases {
        assert_eq!(text(&goal(*purpose).next(now(), seen)), *step, "{case}");
    }
}

#[test]
fn a_valid_certificate_is_served_whatever_else_is_true() {
    use Purpose::{Load, Obtain, Renew};
    let with =
        |certificate| OrderFacts { reading: Some(reading(certificate, false)), ..OrderFacts::nothing() };
    let scheduled = |before, after, minutes| {
        let reading = reading(Some(lasting(before, after)), false);
        let scheduled = Some(now() + MINUTE * minutes);
        OrderFacts { reading: Some(TableReading { scheduled, ..reading }), ..OrderFacts::nothing() }
    };
    let denied = OrderFacts { standing: Some(PermissionStanding::Deny), ..with(Some(lasting(10, 5))) };
    let failed = OrderFacts { progress: OrderProgress::Recorded, ..with(Some(lasting(10, 5))) };
    let done = OrderFacts { progress: OrderProgress::Done(lasting(1, 9)), ..OrderFacts::nothing() };
    check(&[
        ("nothing is known", Obtain, OrderFacts::nothing(), "read"),
        ("written", Obtain, done, "serve"),
        ("valid", Obtain, with(Some(lasting(10, 5))), "serve"),
        ("valid, permission in doubt", Load, with(Some(lasting(10, 5))), "serve"),
        ("expired", Obtain, with(Some(lasting(10, 0))), "ask"),
        ("expired, permission in doubt", Load, with(None), "refuse Unknown"),
        ("fresh enough", Renew, with(Some(lasting(10, 50))), "serve"),
        ("in its last third", Renew, with(Some(lasting(50, 10))), "ask"),
        ("scheduled before that", Renew, scheduled(10, 50, 0), "ask"),
        ("scheduled for later", Renew, scheduled(10, 50, 1), "serve"),
        ("scheduled for later, in its last third", Renew, scheduled(50, 10, 1), "ask"),
        ("read while allowed", Obtain, denied, "serve"),
        ("after a failure", Obtain, failed, "serve"),
    ]);
}

#[test]
fn an_own_certificate_is_renewed_by_nobody_while_it_is_valid() {
    let own = |before, after| {
        let candidate = Candidate { issuer: IssuerKey::own(), ..lasting(before, after) };
        OrderFacts { reading: Some(reading(Some(candidate), false)), ..OrderFacts::nothing() }
    };
    check(&[
        ("fresh", Purpose::Renew, own(10, 50), "serve"),
        ("in its last third", Purpose::Renew, own(50, 10), "serve"),
        ("expired", Purpose::Renew, own(10, 0), "ask"),
    ]);
}

#[test]
fn order_without_lease_is_refused() {
    use Purpose::Obtain;
    let seen = ready();
    let unread = OrderFacts { reading: Some(reading(None, false)), ..seen.clone() };
    let found = OrderFacts { reading: Some(reading(Some(lasting(1, 9)), true)), ..seen.clone() };
    check(&[
        ("all is there", Obtain, seen.clone(), "order 0"),
        ("no lease", Obtain, OrderFacts { lease: LeaseState::Unasked, ..seen.clone() }, "take the lease"),
        (
            "elsewhere",
            Obtain,
            OrderFacts { lease: LeaseState::Elsewhere, ..seen.clone() },
            "await its holder",
        ),
        ("read before the lease", Obtain, unread, "read"),
        ("no budget asked", Obtain, OrderFacts { grant: None, ..seen }, "spend 0"),
        ("found under the lease", Obtain, found, "serve"),
    ]);
    let late = OrderFacts { lease: LeaseState::Elsewhere, ..ready() };
    check(&[("elsewhere, to be renewed", Purpose::Renew, late.clone(), "refuse Busy")]);
    assert_eq!(text(&goal(Obtain).next(now() + MINUTE, &late)), "refuse Slow");
}

#[test]
fn a_lease_that_leads_to_an_order_for_a_client_is_taken_with_a_permit() {
    use Purpose::{Obtain, Renew, Replace};
    let without = OrderFacts { lease: LeaseState::Unasked, permit: PermitState::Wanted, ..ready() };
    check(&[
        ("for a client", Obtain, without.clone(), "await a permit"),
        ("claimed before", Renew, without.clone(), "take the lease"),
        ("for the operator", Replace, without.clone(), "take the lease"),
        (
            "too many wait",
            Obtain,
            OrderFacts { permit: PermitState::Refused, ..without.clone() },
            "refuse Busy",
        ),
    ]);
    assert_eq!(text(&goal(Obtain).next(now() + MINUTE, &without)), "refuse Slow");
    let mut lost = OrderFacts { permit: permit(), ..without };
    check(&[("there is one", Obtain, lost.clone(), "take the lease")]);
    lost.lose_lease();
    assert!(matches!(lost.permit, PermitState::Wanted), "whoever has the lease orders");
    check(&[("another orders", Obtain, lost, "await its holder")]);
}

#[test]
fn nothing_is_ordered_without_permission_or_before_its_time() {
    let after =
        |back_off| OrderFacts { reading: Some(TableReading { back_off, ..reading(None, true) }), ..ready() };
    for (case, seen, step) in [
        ("denied", OrderFacts { standing: Some(PermissionStanding::Deny), ..ready() }, "refuse Denied"),
        ("unknown", OrderFacts { standing: Some(PermissionStanding::Unknown), ..ready() }, "refuse Unknown"),
        ("backing off", after(BackOff::Until(now() + MINUTE)), "refuse BackingOff"),
        ("back-off ended", after(BackOff::Until(now())), "order 0"),
        ("stopped", after(BackOff::Stopped), "refuse BackingOff"),
        (
            "budgets spent",
            OrderFacts { standing: Some(PermissionStanding::Spent), ..ready() },
            "refuse BackingOff",
        ),
    ] {
        check(&[(case, Purpose::Obtain, seen.clone(), step), (case, Purpose::Renew, seen, step)]);
    }
}

#[test]
fn issuers_are_tried_in_order_and_the_table_is_read_again_before_a_failure_is_recorded() {
    use Purpose::Obtain;
    let mut seen = ready();
    seen.fail(failure(OrderFault::Name), true);
    check(&[("failed", Obtain, seen.clone(), "read")]);
    seen.reading = Some(reading(None, true));
    check(&[("second", Obtain, seen.clone(), "spend 1")]);
    let mut both = seen.clone();
    both.fail(failure(OrderFault::Nobody), true);
    both.reading = Some(reading(None, true));
    check(&[("the second says less", Obtain, both, "record Name")]);
    seen.pass_on();
    check(&[("none left", Obtain, seen.clone(), "record Name")]);
    seen.reading = Some(TableReading { back_off: BackOff::Until(now() + MINUTE), ..reading(None, true) });
    check(&[("its issuer is left alone since", Obtain, seen.clone(), "record Name")]);
    seen.reading = Some(reading(Some(lasting(1, 9)), true));
    check(&[("somebody else succeeded", Obtain, seen.clone(), "serve")]);
    (seen.progress, seen.reading) = (OrderProgress::Recorded, Some(reading(None, true)));
    check(&[("recorded", Obtain, seen, "refuse Failed")]);
    let mut spent = ready();
    spent.pass_over(now() + MINUTE);
    spent.pass_over(now() + MINUTE);
    check(&[("no budget at all", Obtain, spent, "refuse BackingOff")]);
}

#[test]
fn a_fallbacks_verdict_is_the_names_only_where_the_issuers_before_it_gave_one() {
    use Purpose::Obtain;
    let hour = Duration::from_hours(1);
    let mut passed_over = ready();
    passed_over.pass_over(now() + hour);
    passed_over.fail(failure(OrderFault::Name), true);
    passed_over.reading = Some(reading(None, true));
    let expected = format!("record {:?}", OrderFault::Fallback(now() + hour));
    check(&[("the first was paused", Obtain, passed_over, &expected)]);
    let mut both = ready();
    both.fail(failure(OrderFault::Name), true);
    both.pass_over(now() + hour);
    both.reading = Some(reading(None, true));
    check(&[("the second was paused", Obtain, both, "record Name")]);
}

#[test]
fn what_fails_here_is_tried_with_one_issuer() {
    let mut seen = ready();
    seen.fail(failure(OrderFault::Ours), true);
    seen.reading = Some(reading(None, true));
    check(&[("the table failed", Purpose::Obtain, seen, "record Ours")]);
}

#[test]
fn who_has_lost_the_lease_when_an_order_fails_waits_for_what_its_taker_obtains() {
    use Purpose::Obtain;
    let mut seen = OrderFacts { issuer: Some(1), ..ready() };
    seen.fail(failure(OrderFault::Nobody), false);
    check(&[("lost", Obtain, seen.clone(), "read")]);
    seen.reading = Some(reading(None, false));
    check(&[("read", Obtain, seen.clone(), "take the lease")]);
    seen.lease = LeaseState::Elsewhere;
    check(&[("taken by another", Obtain, seen.clone(), "await its holder")]);
    check(&[("and to be renewed", Purpose::Renew, seen.clone(), "await its holder")]);
    assert_eq!(text(&goal(Obtain).next(now() + MINUTE, &seen)), "record Nobody", "and held for long");
    seen.look_again();
    check(&[("looked at again", Obtain, seen.clone(), "read")]);
    seen.reading = Some(reading(None, false));
    check(&[("and still not there", Obtain, seen.clone(), "ask")]);
    seen.standing = Some(allowed());
    check(&[("and still allowed", Obtain, seen.clone(), "take the lease")]);
    seen.reading = Some(reading(Some(lasting(1, 9)), false));
    check(&[("obtained by another", Obtain, seen.clone(), "serve")]);
    (seen.lease, seen.reading, seen.standing) = (held(), Some(reading(None, true)), Some(allowed()));
    check(&[("given up by another", Obtain, seen, "record Nobody")]);
}

#[test]
fn what_was_obtained_is_written_again_unless_another_is_there_and_presented_all_the_same() {
    use Purpose::Obtain;
    let mut seen = ready();
    seen.obtain(obtained());
    check(&[("obtained", Obtain, seen.clone(), "commit")]);
    check(&[("and not read since", Obtain, OrderFacts { reading: None, ..seen.clone() }, "commit")]);
    let OrderProgress::Obtained(certificate, _) = seen.progress.clone() else { panic!("it was obtained") };
    seen.fail_to_commit(Arc::clone(&certificate));
    check(&[("changed by another", Obtain, seen.clone(), "read")]);
    seen.reading = Some(reading(None, true));
    check(&[("to something that is no good", Obtain, seen.clone(), "commit")]);
    seen.reading = Some(reading(Some(lasting(1, 9)), true));
    check(&[("to a good one", Obtain, seen.clone(), "serve")]);
    seen.fail_to_commit(certificate);
    seen.reading = Some(reading(None, true));
    check(&[("changed twice", Obtain, seen, "record Nobody and serve")]);
}

/// What the outside world does next, by chance.
fn happen(seen: &mut OrderFacts, step: Step, chance: u8) -> bool {
    match step {
        Step::Read => {
            let certificate = (chance > 240).then(|| lasting(1, 9));
            seen.reading = Some(reading(certificate, matches!(seen.lease, LeaseState::Held(_))));
        }
        Step::AskPermission => seen.standing = Some(allowed()),
        Step::AwaitPermit if chance > 250 => seen.permit = PermitState::Refused,
        Step::AwaitPermit if chance > 200 => seen.look_again(),
        Step::AwaitPermit => seen.permit = permit(),
        Step::TakeLease if chance > 200 => seen.lose_lease(),
        Step::TakeLease => seen.lease = held(),
        Step::AwaitHolder => seen.look_again(),
        Step::Spend { .. } if chance > 200 => seen.pass_over(now()),
        Step::Spend { .. } => seen.grant = Some(Grant::default()),
        Step::Order { .. } if chance.is_multiple_of(3) => seen.obtain(obtained()),
        Step::Order { .. } => seen.fail(failure(OrderFault::Name), chance.is_multiple_of(2)),
        Step::Commit(obtained) if chance.is_multiple_of(4) => {
            seen.progress = OrderProgress::Done(obtained.candidate.clone());
        }
        Step::Commit(obtained) => seen.fail_to_commit(obtained),
        Step::RecordFailure(_, instead) => {
            seen.progress = instead.map_or(OrderProgress::Recorded, OrderProgress::Done);
        }
        Step::Serve(_) | Step::Refuse(_) => return true,
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_happens_a_flight_ends_and_orders_once_an_issuer(
        chances in proptest::collection::vec(any::<u8>(), 300),
    ) {
        let (goal, mut seen) = (goal(Purpose::Obtain), OrderFacts::nothing());
        let (mut orders, mut has_ended) = (Vec::new(), false);
        for (n, chance) in chances.into_iter().enumerate() {
            let at = now() + Duration::from_secs(n.try_into().unwrap());
            let step = goal.next(at, &seen);
            if let Step::Order { issuer, .. } = step {
                orders.push(issuer);
            }
            has_ended = happen(&mut seen, step, chance);
            if has_ended {
                break;
            }
        }
        prop_assert!(has_ended, "{:?}", seen);
        prop_assert!(orders.is_empty() || orders == [0] || orders == [1] || orders == [0, 1], "{:?}", orders);
    }
}
