//! What becomes of a name that was claimed: computed from its record and from what permission says of it now.

use std::time::{Duration, SystemTime};

use crate::{certificates::failure::is_ahead, domains::Permission, store::state_table::OrderRecord};

/// What to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Renew its certificate.
    Renew,
    /// Nothing: it is due again when the claim ends, and is served until then.
    Leave,
    /// It is looked at again at that time; denied since the other, if it is.
    Postpone { at: SystemTime, denied_since: Option<SystemTime> },
    /// It has been denied for long, and its certificate has ended: both are removed.
    Remove,
}

/// One denial ends nothing: an entry may be suspended for a day, and an endpoint may be wrong.
pub(super) fn turn(record: &OrderRecord, permission: &Permission, now: SystemTime) -> Turn {
    match permission {
        Permission::Unknown(_) => Turn::Leave,
        Permission::Allow(_) => match record.renew_at {
            // The index was wrong, or its item was changed by hand.
            Some(at) if now < at => Turn::Postpone { at, denied_since: None },
            Some(_) | None => match record.retry_at.filter(|at| is_ahead(*at, now)) {
                Some(at) => Turn::Postpone { at, denied_since: None },
                None => Turn::Renew,
            },
        },
        Permission::Deny(_) => {
            let since = record.denied_since.filter(|since| *since <= now).unwrap_or(now);
            let denied_for = now.duration_since(since).unwrap_or_default();
            if denied_for >= DENIED_FOR && record.not_after.is_none_or(|ends| ends <= now) {
                return Turn::Remove;
            }
            let at = now + denied_for.clamp(FIRST_LOOK, LAST_LOOK);
            Turn::Postpone { at, denied_since: Some(since) }
        }
    }
}

/// How long a name must have been denied before its certificate is removed.
const DENIED_FOR: Duration = Duration::from_hours(7 * 24);
/// When permission is asked again: soon at first, then less and less often.
const FIRST_LOOK: Duration = Duration::from_mins(10);
const LAST_LOOK: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        domains::{Denial, DomainEntry, UnknownReason},
        name::Pattern,
    };

    const DAY: Duration = Duration::from_hours(24);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
    }

    fn record(days_left: u32) -> OrderRecord {
        let name = Pattern::parse("a.example").unwrap();
        OrderRecord {
            renew_at: Some(now() - DAY),
            not_after: Some(now() + DAY * days_left),
            ..OrderRecord::new(&name)
        }
    }

    fn allowed() -> Permission {
        Permission::Allow(Arc::new(DomainEntry::for_tests(Pattern::parse("a.example").unwrap())))
    }

    #[test]
    fn one_denial_ends_no_renewal() {
        let denied = Permission::Deny(Denial::NoEntry);
        let (mut record, mut at, mut looks) = (record(20), now(), 0);
        loop {
            match turn(&record, &denied, at) {
                Turn::Postpone { at: again, denied_since } => {
                    assert!(again > at && denied_since == Some(now()));
                    (record.denied_since, at) = (denied_since, again);
                }
                turn => {
                    assert_eq!(turn, Turn::Remove);
                    break;
                }
            }
            looks += 1;
            assert!(looks < 40, "{looks} looks");
            assert_eq!(turn(&record, &allowed(), at), Turn::Renew, "allowed again");
        }
        let days = at.duration_since(now()).unwrap().as_secs_f64() / DAY.as_secs_f64();
        assert!(
            (20.0..21.1).contains(&days),
            "removed once the certificate has ended, not after {days} days"
        );
    }

    #[test]
    fn what_is_not_known_or_not_due_is_left_alone() {
        let unknown = Permission::Unknown(UnknownReason::SourceDown);
        let later = now() + DAY;
        for (record, permission, expected) in [
            (record(9), &unknown, Turn::Leave),
            (OrderRecord { denied_since: Some(now() - DAY * 90), ..record(0) }, &unknown, Turn::Leave),
            (record(9), &allowed(), Turn::Renew),
            (
                OrderRecord { renew_at: Some(later), ..record(9) },
                &allowed(),
                Turn::Postpone { at: later, denied_since: None },
            ),
            (
                OrderRecord { retry_at: Some(later), ..record(9) },
                &allowed(),
                Turn::Postpone { at: later, denied_since: None },
            ),
            (OrderRecord { retry_at: Some(now() + DAY * 365), ..record(9) }, &allowed(), Turn::Renew),
        ] {
            assert_eq!(turn(&record, permission, now()), expected, "{record:?} {permission:?}");
        }
    }
}
