//! Adding and removing entries of the table: what the new entry is, decided purely, and the write that holds only if nobody was quicker.

use std::time::{Duration, SystemTime};

use crate::{
    name::Pattern,
    store::{
        Store, StoreError,
        domain_table::{self, DEFAULT_TENANT, DomainRecord, DomainStatus},
        instant::Micros,
    },
    target::Target,
};

/// Why a change of the table failed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// No such entry.
    #[error("domain `{0}` is not in the table; `gatehouse domain list` shows what is")]
    Absent(Pattern),
    /// The configuration decides on it.
    #[error("domain `{0}` is set in the configuration; change `domains.static` there")]
    Static(Pattern),
    /// Nothing would read the change.
    #[error("domains.table: `false`, so the table is not read; set it to `true`")]
    TableOff,
    /// Others change the same entry all the time.
    #[error("domain `{0}` is being changed at the same time by somebody else; try again")]
    Contended(Pattern),
    /// The table.
    #[error("the domains table cannot be changed now")]
    Store(#[from] StoreError),
}

/// Adds the entry of `pattern`, or gives it another target; it is active then, whatever it was.
pub async fn add(
    store: &Store,
    pattern: &Pattern,
    target: Option<&Target>,
) -> Result<DomainRecord, ChangeError> {
    change(store, pattern, |old, now| Some(added(old, pattern, target, now))).await
}

/// Withdraws the entry of `pattern`: a tombstone, which the table forgets after a week.
pub async fn remove(store: &Store, pattern: &Pattern) -> Result<DomainRecord, ChangeError> {
    change(store, pattern, removed).await
}

async fn change(
    store: &Store,
    pattern: &Pattern,
    decide: impl Fn(Option<&DomainRecord>, Micros) -> Option<DomainRecord>,
) -> Result<DomainRecord, ChangeError> {
    let mut tried = None;
    for _ in 0..MAX_TRIES {
        let old = domain_table::get(store, pattern).await?;
        // The SDK may have written it, lost the answer, and met its own write when it tried again.
        if let Some(written) = old.as_ref().filter(|old| tried.as_ref() == Some(*old)) {
            return Ok(written.clone());
        }
        let new = decide(old.as_ref(), Micros::of(SystemTime::now()))
            .ok_or_else(|| ChangeError::Absent(pattern.clone()))?;
        match domain_table::put(store, &new, old.map_or(0, |old| old.version)).await {
            Ok(()) => return Ok(new),
            Err(StoreError::Conflict) => tried = Some(new),
            Err(error) => return Err(error.into()),
        }
    }
    Err(ChangeError::Contended(pattern.clone()))
}

fn added(
    old: Option<&DomainRecord>,
    pattern: &Pattern,
    target: Option<&Target>,
    now: Micros,
) -> DomainRecord {
    let changed_at = changed(old, now);
    DomainRecord {
        pattern: pattern.clone(),
        target: target.cloned(),
        status: DomainStatus::Active,
        tenant: old.map_or_else(|| DEFAULT_TENANT.to_owned(), |old| old.tenant.clone()),
        version: old.map_or(0, |old| old.version).saturating_add(1),
        created_at: old.and_then(|old| old.created_at).or(Some(changed_at)),
        changed_at: Some(changed_at),
        expires_at: None,
    }
}

fn removed(old: Option<&DomainRecord>, now: Micros) -> Option<DomainRecord> {
    let old = old.filter(|old| old.status != DomainStatus::Removed)?;
    let changed_at = changed(Some(old), now);
    Some(DomainRecord {
        status: DomainStatus::Removed,
        version: old.version.saturating_add(1),
        changed_at: Some(changed_at),
        expires_at: Some(changed_at.since_epoch() / 1_000_000 + TOMBSTONE_LIFE.as_secs()),
        ..old.clone()
    })
}

/// Later than before, also when this clock is behind the one that wrote last.
fn changed(old: Option<&DomainRecord>, now: Micros) -> Micros {
    old.and_then(|old| old.changed_at).map_or(now, |old| now.max(old.next()))
}

const MAX_TRIES: usize = 8;
const TOMBSTONE_LIFE: Duration = Duration::from_hours(7 * 24);

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An active entry, changed in 1970.
    pub(in crate::domains) fn record(name: &str) -> DomainRecord {
        added(None, &Pattern::parse(name).unwrap(), None, Micros::from_epoch(1))
    }

    fn pattern() -> Pattern {
        Pattern::parse("a.example").unwrap()
    }

    #[test]
    fn each_change_is_later_than_the_last_whatever_the_clock_says() {
        let at = Micros::from_epoch;
        let mut record = added(None, &pattern(), None, at(100));
        for (now, changed_at) in [(200, 200), (150, 201), (201, 202)] {
            record = added(Some(&record), &pattern(), None, at(now));
            assert_eq!(record.changed_at, Some(at(changed_at)), "clock {now}");
        }
        assert_eq!((record.version, record.created_at), (4, Some(at(100))));
    }

    #[test]
    fn a_removal_leaves_a_tombstone_for_a_week_and_adding_lifts_it() {
        let target = Target::parse("http://10.0.0.1").unwrap();
        let record = added(None, &pattern(), Some(&target), Micros::from_epoch(5_000_000));
        let tombstone = removed(Some(&record), Micros::from_epoch(6_000_000)).unwrap();
        assert_eq!((tombstone.status, tombstone.version), (DomainStatus::Removed, 2));
        assert_eq!(tombstone.expires_at, Some(6 + 7 * 24 * 3600));
        assert_eq!(removed(Some(&tombstone), Micros::from_epoch(7_000_000)), None);
        assert_eq!(removed(None, Micros::from_epoch(7_000_000)), None);
        let again = added(Some(&tombstone), &pattern(), None, Micros::from_epoch(8_000_000));
        assert_eq!((again.status, again.version, again.expires_at), (DomainStatus::Active, 3, None));
    }
}
