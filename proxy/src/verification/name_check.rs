//! One entry: what is found of its name is written beside it, and says how the entry is to stand.
//! Not here: when a name is looked at (`schedule`, `pass`), and the change of the entry itself (`domains`).

use std::time::Duration;

use tracing::info;

use super::{
    course::{Course, CourseRules},
    look::{LookedAt, Looker},
};
use crate::{
    clock,
    domains::admin::{Action, Report, Standing},
    name::Pattern,
    store::{
        Store, StoreError,
        domain_table::{
            DomainRecord, DomainStatus,
            checks::{Checks, get_checked, put_checks},
        },
        instant::Micros,
    },
};

/// Looks at names of entries.
#[derive(Clone)]
pub(super) struct NameCheck {
    pub(super) looker: Looker,
    pub(super) rules: CourseRules,
    pub(super) store: Store,
}

/// An entry before its name is looked at.
pub(super) struct Unchecked {
    pub(super) record: DomainRecord,
    /// What was found the last time.
    pub(super) old: Option<Checks>,
}

impl NameCheck {
    /// The entry of `pattern`; none where it is gone, or in a state that no look changes.
    pub(super) async fn read(&self, pattern: &Pattern) -> Result<Option<Unchecked>, StoreError> {
        let found = get_checked(&self.store, pattern).await?;
        let looked_at = found.filter(|(record, _)| is_looked_at(record.status));
        Ok(looked_at.map(|(record, old)| Unchecked { record, old }))
    }

    /// Looks at the name and writes what is found, unless the entry was changed meanwhile. `identities` are those of our CAs, if known.
    pub(super) async fn look(
        &self,
        entry: &Unchecked,
        identities: Option<&[String]>,
    ) -> Result<(Checks, Option<Standing>), StoreError> {
        let DomainRecord { pattern, settings, tenant, status, version, .. } = &entry.record;
        let looked_at = LookedAt { pattern, settings: *settings, tenant, status: *status };
        let findings = self.looker.look(looked_at, identities).await;
        let now = Micros::of(clock::wall());
        let Course { checks, standing } = self.rules.follow(&entry.record, entry.old.as_ref(), findings, now);
        // Before the status, so that who sees the new one sees why.
        match put_checks(&self.store, pattern, *version, &checks).await {
            Ok(()) | Err(StoreError::Conflict) => Ok((checks, standing)),
            Err(error) => Err(error),
        }
    }
}

pub(super) fn is_looked_at(status: DomainStatus) -> bool {
    match status {
        DomainStatus::Pending | DomainStatus::Active | DomainStatus::Failing => true,
        DomainStatus::Suspended | DomainStatus::Removed => false,
    }
}

/// Says in the log what checks have changed, if they have, and `why`; returns whether.
pub(super) fn say_changed(pattern: &Pattern, report: &Report, why: &str) -> bool {
    let is_changed = report.action != Action::Keep;
    if is_changed {
        let (from, to) = (report.from(), report.to());
        info!(name = %pattern, from, to, tenant = report.tenant, why, "domain changed by its checks");
    }
    is_changed
}

/// The lease for it, of which the fleet has one.
pub(super) const JOB: &str = "domain-checks";
/// How long the fleet is without checks when their instance dies.
pub(super) const LEASE: Duration = Duration::from_secs(90);
pub(super) const RENEW: Duration = Duration::from_secs(30);
