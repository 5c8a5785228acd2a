//! What a failed order means for the next one: whether the name, the issuer or neither is at fault, and until when nothing is ordered.

use std::time::{Duration, SystemTime};

use crate::{
    backoff::Backoff,
    name::Pattern,
    random::fraction_of,
    store::state_table::{FAILED_AT, OrderRecord},
};

/// Why no certificate was obtained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OrderFailure {
    pub(super) fault: OrderFault,
    pub(super) problem: String,
}

/// Whose fault a failed order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrderFault {
    /// The CA found a fault with the name: it counts, and after [`STOP_AFTER`] nothing is tried.
    Name,
    /// Unknown: the name backs off, and it does not count.
    Nobody,
    /// This side's: the name backs off for some minutes, and it does not count.
    Ours,
    /// The CA limits the name or its registered domain, until then.
    Limit(SystemTime),
    /// Only issuers behind one that has said nothing of the name have found fault with it, and that one may be asked again from then on: it does
    /// not count, since what a later CA says (that a CAA record does not permit it) need not be so of the first.
    Fallback(SystemTime),
    /// The issuer's, which is not asked for any name until then. Twice in a row it may be this name alone that the issuer fails at: it
    /// backs off for some minutes, so that others try the issuer next.
    Issuer(SystemTime),
}

impl OrderFault {
    /// Of two faults the one with the lower rank decides.
    fn rank(self) -> (u8, Option<SystemTime>) {
        match self {
            Self::Name => (0, None),
            Self::Nobody => (1, None),
            Self::Ours => (2, None),
            Self::Limit(until) | Self::Issuer(until) | Self::Fallback(until) => (3, Some(until)),
        }
    }
}

impl OrderFailure {
    /// A certificate was issued and could not be written.
    pub(super) fn not_kept() -> Self {
        let problem = "the certificate was issued, but could not be written to the table".to_owned();
        // Not as an outage of ours: one more order may be one more certificate of the same name, of which CAs give a few a week.
        Self { fault: OrderFault::Nobody, problem }
    }

    /// What two issuers together say of a name: a verdict of the first outweighs all else, and one of the second only goes with one of the first;
    /// of two dates the earlier one lets it go on.
    pub(super) fn of_both(first: Option<Self>, second: Self) -> Self {
        let Some(first) = first else { return second };
        match (first.fault, second.fault) {
            (
                OrderFault::Limit(until) | OrderFault::Issuer(until) | OrderFault::Fallback(until),
                OrderFault::Name,
            ) => second.behind(until),
            (OrderFault::Nobody | OrderFault::Ours, OrderFault::Name) => {
                Self { fault: first.fault, ..second }
            }
            (one, other) if one.rank() <= other.rank() => first,
            _ => second,
        }
    }

    /// The same of an issuer that was asked since one before it may not be asked until then.
    pub(super) fn behind(self, until: SystemTime) -> Self {
        match self.fault {
            OrderFault::Name => Self { fault: OrderFault::Fallback(until), ..self },
            OrderFault::Nobody
            | OrderFault::Ours
            | OrderFault::Limit(_)
            | OrderFault::Issuer(_)
            | OrderFault::Fallback(_) => self,
        }
    }
}

/// `record` after `failure` at `now`.
pub(super) fn after(record: &OrderRecord, failure: &OrderFailure, now: SystemTime) -> OrderRecord {
    let mut record = record.clone();
    let had_failed = record.problem.is_some();
    record.problem = Some(failure.problem.chars().take(MAX_PROBLEM).collect());
    record.retry_at = Some(match failure.fault {
        OrderFault::Name | OrderFault::Nobody => {
            record.unjudged = 0;
            record.failures = record.failures.saturating_add(1);
            now + back_off(&record.name, record.failures)
        }
        OrderFault::Ours => now + unjudged(&mut record),
        OrderFault::Issuer(until) if had_failed => (now + unjudged(&mut record)).max(until),
        OrderFault::Limit(until) | OrderFault::Issuer(until) => until,
        // The fallback is asked less and less often, and the first as soon as it may be.
        OrderFault::Fallback(until) => {
            record.fallback_failures = record.fallback_failures.saturating_add(1);
            let fallback_at = now + back_off(&record.name, record.fallback_failures);
            record.fallback_at = Some(fallback_at);
            fallback_at.min(until).max(now + SHORTEST_BEHIND)
        }
    });
    // Whoever found fault with the name counts that for an hour.
    if matches!(failure.fault, OrderFault::Name | OrderFault::Fallback(_)) {
        record.failed_at = within_hour(&record.failed_at, now).chain([now]).collect();
        let more = record.failed_at.len().saturating_sub(FAILED_AT);
        record.failed_at.drain(..more);
    }
    if failure.fault == OrderFault::Name {
        let since = record.failing_since.filter(|since| *since <= now).unwrap_or(now);
        record.failing_since = Some(since);
        if now.duration_since(since).is_ok_and(|failing| failing >= STOP_AFTER) {
            (record.stopped_at, record.retry_at) = (Some(now), None);
        }
    }
    record
}

/// Until when the issuer at the place `issuer` is not asked for the name: those behind the first have a back-off of their own, whatever keeps
/// the first from judging it.
pub(super) fn fallback_until(
    record: Option<&OrderRecord>,
    issuer: usize,
    now: SystemTime,
) -> Option<SystemTime> {
    record.filter(|_| issuer > 0)?.fallback_at.filter(|until| is_ahead(*until, now))
}

/// How long a name waits whose orders fail for nothing that counts against it: as after so many failures, up to [`MOST_UNJUDGED`]. Those of
/// its own stay as they are, and decide what it may spend.
fn unjudged(record: &mut OrderRecord) -> Duration {
    record.unjudged = record.unjudged.saturating_add(1);
    back_off(&record.name, record.unjudged.min(MOST_UNJUDGED))
}

/// How long a name waits after `failures` in a row: the steps of Let's Encrypt's integration guide, and up to a fifth more, so that names
/// that failed together are not tried together. The same on every instance.
fn back_off(name: &Pattern, failures: u32) -> Duration {
    let step = Duration::from_mins(match failures {
        0 | 1 => 1,
        2 => 10,
        3 => 100,
        _ => 24 * 60,
    });
    step + (step / 5).mul_f64(fraction_of(&name.to_string()))
}

/// Until when the CA's limit of failed orders of one name holds, `most` of which it takes in an hour.
pub(super) fn failed_enough_until(
    failed_at: &[SystemTime],
    most: u32,
    now: SystemTime,
) -> Option<SystemTime> {
    let recent: Vec<_> = within_hour(failed_at, now).collect();
    let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
    let oldest = recent.len().checked_sub(most).and_then(|first| recent.get(first).copied())?;
    Some(oldest + HOUR)
}

/// Those of the last hour; a wrong clock has written what lies ahead.
pub(super) fn within_hour(failed_at: &[SystemTime], now: SystemTime) -> impl Iterator<Item = SystemTime> {
    failed_at.iter().copied().filter(move |at| *at <= now && now < *at + HOUR)
}

/// Until when an issuer is not asked after `failures` in a row. If its last answer named a date, that one is used: that of a limit in
/// full (RFC 8555 §6.6), but for no longer than the longest limit of a CA, since clocks can be years off; that of a server that fails
/// for an hour at most, since what answers so may be a page for maintenance.
pub(super) fn paused_until(now: SystemTime, failures: u32, named: Option<NamedDate>) -> SystemTime {
    let ours = now + PAUSES.after(failures.max(1));
    match named {
        Some(NamedDate::Limit(theirs)) => theirs.clamp(ours, now + LONGEST_LIMIT),
        Some(NamedDate::Fault(theirs)) => theirs.clamp(ours, now + LONGEST_FAULT),
        None => ours,
    }
}

/// When an issuer may be asked again, as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NamedDate {
    /// Since it limits the account.
    Limit(SystemTime),
    /// Since it fails.
    Fault(SystemTime),
}

/// Whether something waits until `until`: a date beyond the longest limit was written with a wrong clock, and is ignored.
pub(super) fn is_ahead(until: SystemTime, now: SystemTime) -> bool {
    now < until && until <= now + LONGEST_LIMIT
}

/// Until when a name is not ordered after the CA's rate limit.
pub(super) fn limited_until(now: SystemTime, retry_after: Option<SystemTime>) -> SystemTime {
    let theirs = retry_after.unwrap_or(now + UNDATED_LIMIT);
    theirs.clamp(now + Duration::from_mins(1), now + LONGEST_LIMIT)
}

/// A name that has failed for this long is tried again only on request: Let's Encrypt pauses clients that go on.
pub(super) const STOP_AFTER: Duration = Duration::from_hours(30 * 24);
const PAUSES: Backoff = Backoff::doubling(Duration::from_secs(5), Duration::from_mins(10));
/// Let's Encrypt's limits are over seven days at most.
const LONGEST_LIMIT: Duration = Duration::from_hours(8 * 24);
/// Six times the longest pause that has no date.
const LONGEST_FAULT: Duration = Duration::from_hours(1);
/// Ten minutes' worth: as long as the longest pause.
const MOST_UNJUDGED: u32 = 2;
/// A pause of seconds is no reason to ask the fallback again in seconds.
const SHORTEST_BEHIND: Duration = Duration::from_mins(1);
const UNDATED_LIMIT: Duration = Duration::from_hours(1);
const HOUR: Duration = Duration::from_hours(1);
const MAX_PROBLEM: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
    }

    fn minutes(n: u64) -> SystemTime {
        now() + Duration::from_mins(n)
    }

    fn failure(fault: OrderFault) -> OrderFailure {
        OrderFailure { fault, problem: "why".to_owned() }
    }

    #[test]
    fn only_a_verdict_on_the_name_counts_towards_its_end() {
        let record = OrderRecord::new(&Pattern::parse("a.example").unwrap());
        let first = now() + back_off(&record.name, 1);
        for (fault, failures, retry_at, counts) in [
            (OrderFault::Name, 1, first, true),
            (OrderFault::Nobody, 1, first, false),
            (OrderFault::Limit(minutes(9_000)), 0, minutes(9_000), false),
            (OrderFault::Issuer(minutes(7)), 0, minutes(7), false),
            (OrderFault::Ours, 0, first, false),
            (OrderFault::Fallback(minutes(9_000)), 0, first, false),
        ] {
            let after = after(&record, &failure(fault), now());
            let seen = (after.failures, after.retry_at, after.failing_since.is_some(), after.stopped_at);
            assert_eq!(seen, (failures, Some(retry_at), counts, None), "{fault:?}");
            assert_eq!(after.problem.as_deref(), Some("why"));
        }
    }

    #[test]
    fn a_name_backs_off_in_growing_steps_and_stops_after_thirty_days() {
        let (mut record, mut at, mut tries) =
            (OrderRecord::new(&Pattern::parse("a.example").unwrap()), now(), 0);
        let mut steps = Vec::new();
        while record.stopped_at.is_none() {
            record = after(&record, &failure(OrderFault::Name), at);
            steps.extend(record.retry_at.map(|retry_at| retry_at.duration_since(at).unwrap().as_secs() / 60));
            at = record.retry_at.unwrap_or(at);
            tries += 1;
            assert!(tries < 100);
        }
        for (step, least) in steps[..5].iter().zip([1, 10, 100, 1440, 1440]) {
            assert!((least..=least + least / 5).contains(step), "{step} minutes instead of {least}");
        }
        assert!((28..=34).contains(&tries), "{tries} orders in 30 days");
        assert!(record.stopped_at.unwrap() - STOP_AFTER >= now());
        assert_eq!(record.retry_at, None);
    }

    #[test]
    fn an_outage_of_ours_or_of_the_ca_keeps_no_name_waiting_for_long() {
        for fault in [OrderFault::Ours, OrderFault::Issuer(now())] {
            let mut record = OrderRecord::new(&Pattern::parse("a.example").unwrap());
            for _ in 0..20 {
                record = after(&record, &failure(fault), now());
                assert!(record.retry_at.unwrap() <= minutes(12), "{fault:?} {record:?}");
            }
            assert!(record.retry_at.unwrap() >= minutes(10), "{fault:?} {record:?}");
            // So it is no retry, and has the room of those that do not fail.
            assert_eq!(record.failures, 0, "{fault:?} {record:?}");
            let judged = OrderRecord { failures: 7, ..record };
            let judged = after(&judged, &failure(fault), now());
            assert_eq!(judged.failures, 7, "what the name has failed by itself stays");
            assert!(judged.retry_at.unwrap() <= minutes(12), "{fault:?} {judged:?}");
        }
    }

    /// A name that the CA cannot bear is not the one that tries it each time.
    #[test]
    fn who_has_asked_a_ca_in_vain_twice_lets_others_ask_it_next() {
        let record = OrderRecord::new(&Pattern::parse("a.example").unwrap());
        let pauses = [5, 10].map(|seconds| now() + Duration::from_secs(seconds));
        let once = after(&record, &failure(OrderFault::Issuer(pauses[0])), now());
        assert_eq!((once.failures, once.retry_at), (0, Some(pauses[0])));
        let twice = after(&once, &failure(OrderFault::Issuer(pauses[1])), now());
        assert!(twice.retry_at.unwrap() > pauses[1] + Duration::from_secs(30), "{twice:?}");
        let limited = after(&once, &failure(OrderFault::Issuer(minutes(90))), now());
        assert_eq!(limited.retry_at, Some(minutes(90)), "no earlier than the issuer is asked");
    }

    /// A customer whose CAA record permits the first CA alone, while that one limits the account.
    #[test]
    fn what_a_fallback_says_of_a_name_keeps_it_from_no_issuer() {
        let mut record = OrderRecord::new(&Pattern::parse("a.example").unwrap());
        let (until, mut at, mut tries) = (minutes(180), now(), 0);
        while at < until {
            record = after(&record, &failure(OrderFault::Fallback(until)), at);
            at = record.retry_at.unwrap();
            tries += 1;
        }
        assert!(at <= until, "{:?} later", at.duration_since(until));
        assert!((3..=5).contains(&tries), "{tries} orders at the fallback");
        assert_eq!((record.failures, record.failing_since), (0, None));
        assert_eq!(failed_enough_until(&record.failed_at, 5, at), None, "it may be ordered at once");
        let paused = after(&record, &failure(OrderFault::Fallback(at + Duration::from_secs(5))), at);
        assert_eq!(paused.retry_at, Some(at + Duration::from_mins(1)));
        // The fallback counts, too.
        for _ in 0..9 {
            record = after(&record, &failure(OrderFault::Fallback(at)), at);
        }
        assert!(failed_enough_until(&record.failed_at, 5, at).is_some());
    }

    /// Its server has been down since yesterday, or its key of the operator's account was revoked a month ago.
    #[test]
    fn a_fallback_is_asked_no_more_often_because_the_first_is_paused_for_minutes_at_a_time() {
        let mut record = OrderRecord::new(&Pattern::parse("a.example").unwrap());
        let (mut at, mut tries) = (now(), 0);
        while at < now() + DAY {
            let until = at + Duration::from_mins(10);
            if fallback_until(Some(&record), 1, at).is_none() {
                record = after(&record, &failure(OrderFault::Fallback(until)), at);
                assert!(record.retry_at.unwrap() <= until, "the first is asked as soon as it may be");
                tries += 1;
            }
            at = record.retry_at.filter(|retry_at| *retry_at > at).unwrap_or(until);
        }
        assert!((4..=5).contains(&tries), "{tries} orders in a day");
        assert_eq!((record.failures, record.failures_of_any()), (0, tries), "it spends as a name that fails");
        assert_eq!(fallback_until(Some(&record), 0, record.fallback_at.unwrap() - HOUR), None, "the first");
        assert_eq!(fallback_until(Some(&record.without_failures()), 1, at), None);
    }

    #[test]
    fn names_that_failed_together_are_not_tried_together() {
        let waits: std::collections::HashSet<_> =
            (0..100).map(|n| back_off(&Pattern::parse(&format!("n{n}.example")).unwrap(), 4)).collect();
        assert!(waits.len() > 90 && waits.iter().all(|wait| (DAY..=DAY * 6 / 5).contains(wait)), "{waits:?}");
    }

    /// Let's Encrypt: five in an hour for a name and account.
    #[test]
    fn no_more_orders_of_a_name_fail_in_an_hour_than_the_ca_takes_whatever_is_forgotten() {
        let (mut record, mut at) = (OrderRecord::new(&Pattern::parse("a.example").unwrap()), now());
        let mut failed = Vec::new();
        for _ in 0..40 {
            // Somebody asks for it again each minute.
            record = after(&record.without_failures(), &failure(OrderFault::Name), at);
            failed.push(at);
            at = record.retry_at.unwrap().max(failed_enough_until(&record.failed_at, 5, at).unwrap_or(at));
        }
        for (n, first) in failed.iter().enumerate() {
            let within = failed[n..].iter().filter(|at| **at < *first + HOUR).count();
            assert!(within <= 5, "{within} within an hour");
        }
        assert!(record.failed_at.len() <= FAILED_AT);
        let ahead = [now() + DAY; 9];
        assert_eq!(failed_enough_until(&ahead, 5, now()), None, "dates of a wrong clock");
    }

    #[test]
    fn a_date_of_a_clock_that_was_wrong_holds_nobody_up() {
        for (until, expected) in [
            (now() - DAY, false),
            (now(), false),
            (minutes(1), true),
            (now() + DAY * 8, true),
            (now() + DAY * 9, false),
            (now() + DAY * 365, false),
        ] {
            assert_eq!(is_ahead(until, now()), expected, "{until:?}");
        }
    }

    #[test]
    fn a_date_of_failures_that_lies_ahead_is_not_believed() {
        let ahead = OrderRecord {
            failing_since: Some(now() + DAY * 365),
            ..OrderRecord::new(&Pattern::parse("a.example").unwrap())
        };
        assert_eq!(after(&ahead, &failure(OrderFault::Name), now()).failing_since, Some(now()));
    }

    #[test]
    fn an_issuers_pause_doubles_and_the_date_of_a_limit_is_kept_in_full() {
        let seconds = |n: u64| now() + Duration::from_secs(n);
        let (limit, fault) = (|at| Some(NamedDate::Limit(at)), |at| Some(NamedDate::Fault(at)));
        for (failures, after, expected) in [
            (1, None, seconds(5)),
            (2, None, seconds(10)),
            (3, None, seconds(20)),
            (8, None, seconds(600)),
            (u32::MAX, None, seconds(600)),
            (1, limit(seconds(1)), seconds(5)),
            (1, limit(now() - DAY), seconds(5)),
            (1, limit(now() + DAY * 7), now() + DAY * 7),
            (9, limit(now() + DAY * 365), now() + DAY * 8),
            (1, fault(now() - DAY), seconds(5)),
            (1, fault(seconds(120)), seconds(120)),
            (1, fault(now() + DAY * 7), seconds(3_600)),
        ] {
            assert_eq!(paused_until(now(), failures, after), expected, "{failures} {after:?}");
        }
        assert_eq!(limited_until(now(), Some(now() + DAY * 3)), now() + DAY * 3);
        assert_eq!(limited_until(now(), None), minutes(60));
    }

    #[test]
    fn of_two_issuers_a_verdict_of_the_first_outweighs_the_rest_and_else_the_earlier_date() {
        use OrderFault::{Fallback, Issuer, Limit, Name, Nobody, Ours};
        for (first, second, expected) in [
            (Issuer(minutes(1)), Name, Fallback(minutes(1))),
            (Limit(minutes(1)), Name, Fallback(minutes(1))),
            (Fallback(minutes(1)), Name, Fallback(minutes(1))),
            (Nobody, Name, Nobody),
            (Name, Name, Name),
            (Name, Issuer(minutes(1)), Name),
            (Nobody, Limit(minutes(1)), Nobody),
            (Issuer(minutes(1)), Nobody, Nobody),
            (Issuer(minutes(2)), Limit(minutes(1)), Limit(minutes(1))),
            (Issuer(minutes(1)), Issuer(minutes(2)), Issuer(minutes(1))),
            (Issuer(minutes(1)), Ours, Ours),
            (Ours, Nobody, Nobody),
        ] {
            let both = OrderFailure::of_both(Some(failure(first)), failure(second));
            assert_eq!(both.fault, expected, "{first:?} {second:?}");
        }
        let told = |problem: &str, fault| OrderFailure { problem: problem.to_owned(), fault };
        let both = OrderFailure::of_both(Some(told("down", Issuer(minutes(1)))), told("caa", Name));
        assert_eq!(both.problem, "caa", "what somebody can mend is told");
    }
}
