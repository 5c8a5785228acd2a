//! What programs are told of a change of an entry.

use serde::Serialize;

use super::{Change, Decision, Standing};
use crate::{
    config::EventKind,
    store::{
        StoreError,
        domain_table::{DomainRecord, DomainStatus},
        instant::{CLOCK_SKEW, Micros},
        state_table::Event,
    },
};

/// Why an entry was changed, as far as its event tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeCause<'a> {
    /// Somebody asked for it.
    Request,
    /// What was found out about its name, which is `why`.
    Checks {
        /// How it is to stand.
        standing: Standing,
        /// What was found.
        why: &'a str,
    },
}

/// What an event says of an entry.
#[derive(Debug, Serialize)]
struct DomainDetail<'a> {
    /// How it is now.
    status: &'static str,
    /// Which of its states this is, counted up by each change: who was told of two knows which one holds.
    version: u64,
    /// Whose it was until then, if that was another (`Event::seen_by`).
    #[serde(skip_serializing_if = "Option::is_none")]
    former_tenant: Option<&'a str>,
    /// Its own target.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// Who changed it, as in the audit.
    by: &'a str,
    /// What is not as it was.
    changes: &'a [Change],
    /// Why it is gone, or what checks found.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// What checks found, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

impl Decision {
    /// The event of it, which `by` made of `old`; none, where nothing is changed. It is dated as the entry is, behind the change before, so
    /// that events of an entry sort as its changes do, whoever's clock was behind `now`.
    pub(in crate::domains) fn event(
        &self,
        old: Option<&DomainRecord>,
        by: &str,
        cause: ChangeCause<'_>,
        now: Micros,
    ) -> Result<Option<Event>, StoreError> {
        if !self.is_change() {
            return Ok(None);
        }
        let new = &self.record;
        let Some(kind) = kind(old.map(|old| old.status), new.status) else { return Ok(None) };
        let former = old.and_then(DomainRecord::owner);
        let detail = DomainDetail {
            status: new.status.as_str(),
            version: new.version,
            former_tenant: former.filter(|former| *former != new.tenant),
            target: new.target.as_ref().map(ToString::to_string),
            by,
            changes: &self.report.changes,
            reason: (kind == EventKind::DomainRemoved).then(|| reason(cause)),
            problem: problem(kind, cause),
        };
        // Once written with a clock that was far ahead, an entry keeps its date, and its events would lie where nobody reads yet.
        let at = new.changed_at.filter(|at| *at <= now.more(CLOCK_SKEW)).unwrap_or(now);
        Event::new(kind, &new.pattern, Some(&new.tenant), &detail, at).map(Some)
    }
}

/// What has become of an entry that was `old` and is `new`; none, it was gone and stays so.
fn kind(old: Option<DomainStatus>, new: DomainStatus) -> Option<EventKind> {
    use DomainStatus::{Active, Failing, Pending, Removed, Suspended};
    Some(match (old, new) {
        (None | Some(Removed), Removed) => return None,
        (None | Some(Removed), Pending | Active | Failing | Suspended) => EventKind::DomainCreated,
        (Some(_), Removed) => EventKind::DomainRemoved,
        (Some(Pending), Active) => EventKind::DomainVerified,
        (Some(Failing), Active) => EventKind::DomainRecovered,
        (Some(Active | Pending), Failing) => EventKind::DomainFailing,
        (Some(Pending | Active | Failing), Suspended) => EventKind::DomainSuspended,
        (Some(Suspended), Pending | Active | Failing) => EventKind::DomainResumed,
        (Some(Pending | Active | Failing), Pending)
        | (Some(Active), Active)
        | (Some(Failing), Failing)
        | (Some(Suspended), Suspended) => EventKind::DomainUpdated,
    })
}

/// Why an entry is gone.
fn reason(cause: ChangeCause<'_>) -> &'static str {
    match cause {
        ChangeCause::Request => "requested",
        ChangeCause::Checks { standing: Standing::Moved, .. } => "leads_elsewhere",
        ChangeCause::Checks { standing: Standing::Abandoned, .. } => "never_verified",
        ChangeCause::Checks { standing: Standing::Verified | Standing::Failing, .. } => "checked",
    }
}

/// What checks found wrong; nothing, where they found nothing.
fn problem(kind: EventKind, cause: ChangeCause<'_>) -> Option<&str> {
    let is_problem = matches!(kind, EventKind::DomainFailing | EventKind::DomainRemoved);
    match cause {
        ChangeCause::Checks { why, .. } if is_problem && !why.is_empty() => Some(why),
        ChangeCause::Checks { .. } | ChangeCause::Request => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_transition_of_an_entry_is_one_event() {
        use DomainStatus::{Active, Failing, Pending, Removed, Suspended};
        for (old, new, told) in [
            (None, Pending, Some("domain.created")),
            (None, Active, Some("domain.created")),
            (Some(Removed), Active, Some("domain.created")),
            (Some(Pending), Active, Some("domain.verified")),
            (Some(Active), Failing, Some("domain.failing")),
            (Some(Failing), Active, Some("domain.recovered")),
            (Some(Active), Suspended, Some("domain.suspended")),
            (Some(Suspended), Active, Some("domain.resumed")),
            (Some(Active), Active, Some("domain.updated")),
            (Some(Active), Pending, Some("domain.updated")),
            (Some(Pending), Removed, Some("domain.removed")),
            (Some(Suspended), Removed, Some("domain.removed")),
            (Some(Removed), Removed, None),
            (None, Removed, None),
        ] {
            let kind = kind(old, new).map(EventKind::as_str);
            assert_eq!(kind, told, "{old:?} {new:?}");
        }
    }

    #[test]
    fn what_was_removed_says_why_and_what_was_found() {
        let checks = |standing| ChangeCause::Checks { standing, why: "leads to 203.0.113.9" };
        assert_eq!(reason(ChangeCause::Request), "requested");
        assert_eq!(reason(checks(Standing::Moved)), "leads_elsewhere");
        assert_eq!(reason(checks(Standing::Abandoned)), "never_verified");
        let found = Some("leads to 203.0.113.9");
        assert_eq!(problem(EventKind::DomainFailing, checks(Standing::Failing)), found);
        assert_eq!(problem(EventKind::DomainVerified, checks(Standing::Verified)), None);
        assert_eq!(problem(EventKind::DomainRemoved, ChangeCause::Request), None);
    }
}
