//! What to do next for a name's certificate: computed from what was seen, without waiting for anything.
//!
//! An order is placed only when the table was read under the name's lease and held nothing better, permission was given again,
//! no back-off lasts, and the issuer's budget granted it. Whatever is not known yet is the next step.

use std::time::{Duration, SystemTime};

use super::{Refusal, pair::Life};
use crate::name::ServerName;

/// What a certificate is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Errand {
    /// To be presented: any valid one will do.
    Obtain,
    /// The same, but nothing may be ordered: permission is in doubt.
    Load,
    /// To replace one before it ends.
    Renew,
}

/// What stays the same while a certificate is obtained.
#[derive(Debug, Clone)]
pub(super) struct Goal {
    pub(super) name: ServerName,
    pub(super) errand: Errand,
    pub(super) issuers: usize,
    /// When waiting for another instance's order ends.
    pub(super) give_up_at: SystemTime,
}

/// What was seen so far.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) reading: Option<Reading>,
    pub(super) standing: Option<Standing>,
    pub(super) lease: Lease,
    /// The issuer whose turn it is.
    pub(super) issuer: usize,
    /// Whether its budget granted it an order.
    pub(super) granted: bool,
    pub(super) progress: Progress,
}

/// What the table held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) certificate: Option<Life>,
    pub(super) retry_at: Option<SystemTime>,
    pub(super) under_lease: bool,
}

/// Permission, asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Allow,
    Deny,
    Unknown,
}

/// The fleet's lease on the name's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lease {
    Unasked,
    Held,
    Elsewhere,
}

/// How far the order has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// None was placed, or none that succeeded; whether any failed.
    Ordering { failed: bool },
    /// There is a certificate, not yet in the table.
    Obtained,
    /// Somebody else wrote first: theirs is taken, when it is any good.
    Overtaken,
    /// The failure is in the table.
    Recorded,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Read,
    Serve,
    AskPermission,
    TakeLease,
    AwaitHolder,
    Spend { issuer: usize },
    Order { issuer: usize },
    Commit,
    RecordFailure,
    Refuse(Refusal),
}

impl Seen {
    pub(super) fn nothing() -> Self {
        Self {
            reading: None,
            standing: None,
            lease: Lease::Unasked,
            issuer: 0,
            granted: false,
            progress: Progress::Ordering { failed: false },
        }
    }

    /// The issuer failed, or may not be asked: the next one's turn.
    pub(super) fn pass_on(&mut self, failed: bool) {
        let failed = failed || self.progress == Progress::Ordering { failed: true };
        (self.issuer, self.granted, self.progress) = (self.issuer + 1, false, Progress::Ordering { failed });
    }
}

impl Goal {
    pub(super) fn next(&self, now: SystemTime, seen: &Seen) -> Step {
        let Some(reading) = seen.reading else { return Step::Read };
        match seen.progress {
            Progress::Obtained => Step::Commit,
            Progress::Recorded => Step::Refuse(Refusal::Failed),
            _ if self.is_met(reading.certificate, now) => Step::Serve,
            Progress::Overtaken => Step::Refuse(Refusal::Failed),
            Progress::Ordering { failed } => self.order(now, seen, reading, failed),
        }
    }

    fn order(&self, now: SystemTime, seen: &Seen, reading: Reading, failed: bool) -> Step {
        match seen.standing {
            _ if self.errand == Errand::Load => return Step::Refuse(Refusal::Unknown),
            None => return Step::AskPermission,
            Some(Standing::Deny) => return Step::Refuse(Refusal::Denied),
            Some(Standing::Unknown) => return Step::Refuse(Refusal::Unknown),
            Some(Standing::Allow) => {}
        }
        if reading.retry_at.is_some_and(|retry_at| now < retry_at) {
            return Step::Refuse(Refusal::BackingOff);
        }
        match seen.lease {
            Lease::Unasked => return Step::TakeLease,
            Lease::Elsewhere if now >= self.give_up_at => return Step::Refuse(Refusal::Slow),
            Lease::Elsewhere => return Step::AwaitHolder,
            Lease::Held if !reading.under_lease => return Step::Read,
            Lease::Held => {}
        }
        match seen.issuer {
            issuer if issuer < self.issuers && seen.granted => Step::Order { issuer },
            issuer if issuer < self.issuers => Step::Spend { issuer },
            _ if failed => Step::RecordFailure,
            _ => Step::Refuse(Refusal::BackingOff),
        }
    }

    fn is_met(&self, certificate: Option<Life>, now: SystemTime) -> bool {
        certificate.is_some_and(|life| match self.errand {
            Errand::Obtain | Errand::Load => now < life.not_after,
            Errand::Renew => now < life.renew_at(&self.name),
        })
    }
}

/// When the next order may be placed after `failures` in a row, the last of which the CA may have dated (RFC 8555 §6.6).
/// Steps as Let's Encrypt's integration guide has them; a CA's own date only ever makes it later, and by a day at most.
pub(super) fn retry_at(now: SystemTime, failures: u32, retry_after: Option<SystemTime>) -> SystemTime {
    let steps = match failures {
        0 | 1 => 1,
        2 => 10,
        3 => 100,
        _ => 24 * 60,
    };
    let ours = now + Duration::from_mins(steps);
    retry_after.map_or(ours, |theirs| theirs.min(now + Duration::from_hours(24)).max(ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
    }

    fn goal(errand: Errand) -> Goal {
        let name = ServerName::parse("a.example").unwrap();
        Goal { name, errand, issuers: 2, give_up_at: now() + MINUTE }
    }

    fn life(before: u64, after: u64) -> Life {
        Life {
            not_before: now() - Duration::from_mins(before),
            not_after: now() + Duration::from_mins(after),
        }
    }

    fn reading(certificate: Option<Life>, under_lease: bool) -> Reading {
        Reading { certificate, retry_at: None, under_lease }
    }

    /// Everything an order needs.
    fn ready() -> Seen {
        Seen {
            reading: Some(reading(None, true)),
            standing: Some(Standing::Allow),
            lease: Lease::Held,
            granted: true,
            ..Seen::nothing()
        }
    }

    fn check(cases: &[(&str, Errand, Seen, Step)]) {
        for (case, errand, seen, step) in cases {
            assert_eq!(goal(*errand).next(now(), seen), *step, "{case}");
        }
    }

    #[test]
    fn a_valid_certificate_is_served_whatever_else_is_true() {
        use Errand::{Load, Obtain, Renew};
        let with = |certificate| Seen { reading: Some(reading(certificate, false)), ..Seen::nothing() };
        let denied = Seen { standing: Some(Standing::Deny), ..with(Some(life(10, 5))) };
        check(&[
            ("nothing is known", Obtain, Seen::nothing(), Step::Read),
            ("valid", Obtain, with(Some(life(10, 5))), Step::Serve),
            ("valid, permission in doubt", Load, with(Some(life(10, 5))), Step::Serve),
            ("expired", Obtain, with(Some(Life { not_after: now(), ..life(10, 5) })), Step::AskPermission),
            ("expired, permission in doubt", Load, with(None), Step::Refuse(Refusal::Unknown)),
            ("fresh enough", Renew, with(Some(life(10, 50))), Step::Serve),
            ("in its last third", Renew, with(Some(life(50, 10))), Step::AskPermission),
            ("read while allowed", Obtain, denied, Step::Serve),
        ]);
    }

    #[test]
    fn order_without_lease_is_refused() {
        let seen = ready();
        let unread = Seen { reading: Some(reading(None, false)), ..seen.clone() };
        check(&[
            ("all is there", Errand::Obtain, seen.clone(), Step::Order { issuer: 0 }),
            ("no lease", Errand::Obtain, Seen { lease: Lease::Unasked, ..seen.clone() }, Step::TakeLease),
            (
                "elsewhere",
                Errand::Obtain,
                Seen { lease: Lease::Elsewhere, ..seen.clone() },
                Step::AwaitHolder,
            ),
            ("read before the lease", Errand::Obtain, unread, Step::Read),
            (
                "no budget asked",
                Errand::Obtain,
                Seen { granted: false, ..seen.clone() },
                Step::Spend { issuer: 0 },
            ),
            (
                "found under the lease",
                Errand::Obtain,
                Seen { reading: Some(reading(Some(life(1, 9)), true)), ..seen },
                Step::Serve,
            ),
        ]);
        let late = Seen { lease: Lease::Elsewhere, ..ready() };
        assert_eq!(goal(Errand::Obtain).next(now() + MINUTE, &late), Step::Refuse(Refusal::Slow));
    }

    #[test]
    fn nothing_is_ordered_without_permission_or_before_its_time() {
        let early = Reading { certificate: None, retry_at: Some(now() + MINUTE), under_lease: true };
        let due = Reading { retry_at: Some(now()), ..early };
        let seen = ready();
        for (case, seen, step) in [
            (
                "denied",
                Seen { standing: Some(Standing::Deny), ..seen.clone() },
                Step::Refuse(Refusal::Denied),
            ),
            (
                "unknown",
                Seen { standing: Some(Standing::Unknown), ..seen.clone() },
                Step::Refuse(Refusal::Unknown),
            ),
            ("backing off", Seen { reading: Some(early), ..seen.clone() }, Step::Refuse(Refusal::BackingOff)),
            ("back-off ended", Seen { reading: Some(due), ..seen }, Step::Order { issuer: 0 }),
        ] {
            check(&[(case, Errand::Obtain, seen.clone(), step.clone()), (case, Errand::Renew, seen, step)]);
        }
    }

    #[test]
    fn issuers_are_tried_in_order_and_a_failure_of_all_is_recorded() {
        let mut seen = ready();
        seen.pass_on(true);
        check(&[("second", Errand::Obtain, seen.clone(), Step::Spend { issuer: 1 })]);
        seen.pass_on(false);
        check(&[("none left", Errand::Obtain, seen.clone(), Step::RecordFailure)]);
        seen.progress = Progress::Recorded;
        check(&[("recorded", Errand::Obtain, seen, Step::Refuse(Refusal::Failed))]);
        let mut spent = ready();
        spent.pass_on(false);
        spent.pass_on(false);
        check(&[("no budget at all", Errand::Obtain, spent, Step::Refuse(Refusal::BackingOff))]);
    }

    #[test]
    fn what_was_obtained_is_committed_and_who_is_overtaken_serves_the_others() {
        let obtained = Seen { progress: Progress::Obtained, ..ready() };
        let overtaken = Seen { progress: Progress::Overtaken, ..ready() };
        let theirs = Seen { reading: Some(reading(Some(life(1, 9)), true)), ..overtaken.clone() };
        check(&[
            ("obtained", Errand::Obtain, obtained, Step::Commit),
            ("overtaken, unread", Errand::Obtain, Seen { reading: None, ..overtaken.clone() }, Step::Read),
            ("overtaken by nothing", Errand::Obtain, overtaken, Step::Refuse(Refusal::Failed)),
            ("overtaken", Errand::Obtain, theirs, Step::Serve),
        ]);
    }

    #[test]
    fn back_off_grows_and_heeds_the_ca() {
        let minutes = |n: u64| now() + Duration::from_mins(n);
        for (failures, after, expected) in [
            (1, None, 1),
            (2, None, 10),
            (3, None, 100),
            (4, None, 1440),
            (9, None, 1440),
            (1, Some(5), 5),
            (2, Some(5), 10),
            (1, Some(10_000), 1440),
        ] {
            let at = retry_at(now(), failures, after.map(minutes));
            assert_eq!(at, minutes(expected), "{failures} failures, Retry-After {after:?} min");
        }
    }
}
