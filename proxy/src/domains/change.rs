//! Changing entries of the table: what the new entry is, and the write that holds only if nobody was quicker.
//! Not here: whether a change is to be made (`admin`).

use std::time::Duration;

use super::admin::{self, Decision, Refusal, Request, Rules, Sources, Standing};
use crate::{
    clock,
    config::DomainSettings,
    name::Pattern,
    store::{
        Store, StoreError,
        domain_table::{self, DEFAULT_TENANT, DomainRecord, DomainStatus, SettingsMap},
        instant::Micros,
    },
    target::Target,
};

/// Why a change of the table failed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It is not to be made.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Others change the same entry all the time.
    #[error("domain `{0}` is being changed at the same time by somebody else; try again")]
    Contended(Pattern),
    /// The table.
    #[error("the domains table cannot be changed now")]
    Store(#[from] StoreError),
}

/// Does what `request` asks for, unless the entry that is there, `sources` or `rules` forbid it.
pub async fn administer(
    store: &Store,
    request: &Request,
    sources: Sources<'_>,
    rules: &Rules,
) -> Result<Decision, ChangeError> {
    change(store, &request.pattern, |old, now| admin::decide(request, old, sources, rules, now)).await
}

/// What [`administer`] would do; nothing is written.
pub async fn preview(
    store: &Store,
    request: &Request,
    sources: Sources<'_>,
    rules: &Rules,
) -> Result<Decision, ChangeError> {
    let old = domain_table::get(store, &request.pattern).await?;
    Ok(admin::decide(request, old.as_ref(), sources, rules, Micros::of(clock::wall()))?)
}

/// Has the entry of `pattern` stand as `standing` says, if it is of version `seen` still.
pub async fn follow_checks(
    store: &Store,
    pattern: &Pattern,
    seen: u64,
    standing: Standing,
) -> Result<Decision, ChangeError> {
    let absent = || Refusal::Absent(pattern.clone());
    let decide = |old: Option<&DomainRecord>, now| {
        let old = old.filter(|old| old.version == seen).ok_or_else(absent)?;
        Ok(admin::follow_checks(old, standing, now))
    };
    change(store, pattern, decide).await
}

async fn change(
    store: &Store,
    pattern: &Pattern,
    decide: impl Fn(Option<&DomainRecord>, Micros) -> Result<Decision, Refusal>,
) -> Result<Decision, ChangeError> {
    let mut tried: Option<Decision> = None;
    for _ in 0..MAX_TRIES {
        let old = domain_table::get(store, pattern).await?;
        // The SDK may have written it, lost the answer, and met its own write when it tried again.
        if let Some(written) = tried.take_if(|tried| old.as_ref() == Some(&tried.record)) {
            return Ok(written);
        }
        let new = decide(old.as_ref(), Micros::of(clock::wall()))?;
        if !new.is_change() {
            return Ok(new);
        }
        match domain_table::replace(store, &new.record, old.as_ref()).await {
            Ok(()) => return Ok(new),
            Err(StoreError::Conflict) => tried = Some(new),
            Err(error) => return Err(error.into()),
        }
    }
    Err(ChangeError::Contended(pattern.clone()))
}

/// The entry of `pattern` as it is when it is added over `old`: active, of `tenant` or else of whose it was. A tombstone
/// says nothing of a tenant.
pub(super) fn added(
    old: Option<&DomainRecord>,
    pattern: &Pattern,
    target: Option<&Target>,
    tenant: Option<&str>,
    now: Micros,
) -> DomainRecord {
    let changed_at = changed(old, now);
    let living = old.filter(|old| old.status != DomainStatus::Removed);
    let tenant = tenant.or(living.map(|old| old.tenant.as_str())).unwrap_or(DEFAULT_TENANT);
    DomainRecord {
        pattern: pattern.clone(),
        target: target.cloned(),
        settings: living.map(|old| old.settings).unwrap_or_default(),
        settings_map: old.map(|old| old.settings_map).unwrap_or_default(),
        status: DomainStatus::Active,
        tenant: tenant.to_owned(),
        version: old.map_or(0, |old| old.version).saturating_add(1),
        created_at: old.and_then(|old| old.created_at).or(Some(changed_at)),
        changed_at: Some(changed_at),
        expires_at: None,
    }
}

/// The entry with these `settings`, and what they leave out as it was.
pub(super) fn with_settings(record: DomainRecord, settings: DomainSettings) -> DomainRecord {
    if settings == DomainSettings::default() {
        return record;
    }
    let settings = settings.over(record.settings);
    DomainRecord { settings, settings_map: SettingsMap::Present, ..record }
}

/// A tombstone, which the table forgets after a week.
pub(super) fn removed(old: &DomainRecord, now: Micros) -> DomainRecord {
    let new = with_status(old, DomainStatus::Removed, now);
    let expires_at = new.changed_at.map(|at| at.since_epoch() / 1_000_000 + TOMBSTONE_LIFE.as_secs());
    DomainRecord { expires_at, ..new }
}

/// The entry with another status.
pub(super) fn with_status(old: &DomainRecord, status: DomainStatus, now: Micros) -> DomainRecord {
    let version = old.version.saturating_add(1);
    DomainRecord { status, version, changed_at: Some(changed(Some(old), now)), ..old.clone() }
}

/// Later than before, also when this clock is behind the one that wrote last.
fn changed(old: Option<&DomainRecord>, now: Micros) -> Micros {
    old.and_then(|old| old.changed_at).map_or(now, |old| now.max(old.next()))
}

/// An active entry of the default tenant, changed in 1970.
#[cfg(test)]
pub(crate) fn added_for_tests(pattern: &Pattern) -> DomainRecord {
    added(None, pattern, None, None, Micros::from_epoch(1))
}

const MAX_TRIES: usize = 8;
const TOMBSTONE_LIFE: Duration = Duration::from_hours(7 * 24);

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An active entry, changed in 1970.
    pub(in crate::domains) fn record(name: &str) -> DomainRecord {
        added(None, &Pattern::parse(name).unwrap(), None, None, Micros::from_epoch(1))
    }

    fn pattern() -> Pattern {
        Pattern::parse("a.example").unwrap()
    }

    const TABLE: Sources<'static> = Sources { listed: &[], table: admin::Table::Read };

    /// Rules that nothing stands in the way of.
    pub(in crate::domains) fn lenient() -> Rules {
        Rules {
            default_target: Target::parse("http://10.0.0.9").ok(),
            listeners: Vec::new(),
            issuance: admin::Issuance::Internal,
            permits: std::sync::Arc::new(|_| true),
            entry_tls: std::collections::BTreeSet::new(),
            required: crate::config::RequiredProof::None,
        }
    }

    pub(in crate::domains) fn addition(pattern: &Pattern, target: Option<Target>) -> Request {
        let wanted = admin::Wanted::Present {
            target,
            settings: DomainSettings::default(),
            tenant: None,
            existing: admin::Existing::Replace,
            proof: admin::Proof::Needed,
        };
        Request { pattern: pattern.clone(), wanted }
    }

    pub(in crate::domains) async fn add(store: &Store, pattern: &Pattern, target: Option<&Target>) {
        administer(store, &addition(pattern, target.cloned()), TABLE, &lenient()).await.unwrap();
    }

    pub(in crate::domains) async fn remove(store: &Store, pattern: &Pattern) {
        let request = Request { pattern: pattern.clone(), wanted: admin::Wanted::Absent };
        administer(store, &request, TABLE, &lenient()).await.unwrap();
    }

    #[test]
    fn each_change_is_later_than_the_last_whatever_the_clock_says() {
        let at = Micros::from_epoch;
        let mut record = added(None, &pattern(), None, None, at(100));
        for (now, changed_at) in [(200, 200), (150, 201), (201, 202)] {
            record = added(Some(&record), &pattern(), None, None, at(now));
            assert_eq!(record.changed_at, Some(at(changed_at)), "clock {now}");
        }
        assert_eq!((record.version, record.created_at), (4, Some(at(100))));
    }

    #[test]
    fn a_removal_leaves_a_tombstone_for_a_week_and_adding_lifts_it() {
        let target = Target::parse("http://10.0.0.1").unwrap();
        let at = Micros::from_epoch;
        let record = added(None, &pattern(), Some(&target), Some("acme"), at(5_000_000));
        let tombstone = removed(&record, at(6_000_000));
        assert_eq!((tombstone.status, tombstone.version), (DomainStatus::Removed, 2));
        assert_eq!(tombstone.expires_at, Some(6 + 7 * 24 * 3600));
        let again = added(Some(&tombstone), &pattern(), None, None, at(8_000_000));
        assert_eq!((again.status, again.version, again.expires_at), (DomainStatus::Active, 3, None));
        assert_eq!(again.tenant, DEFAULT_TENANT, "whose it was before is nobody's business");
    }
}
