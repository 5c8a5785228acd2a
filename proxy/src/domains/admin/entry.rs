//! An entry as a change leaves it: its version, its dates, what stays of it.

use std::time::Duration;

use crate::{
    config::DomainSettings,
    name::Pattern,
    store::{
        domain_table::{DEFAULT_TENANT, DomainRecord, DomainStatus, SettingsMap},
        instant::Micros,
    },
    target::Target,
};

/// The entry of `pattern` as it is when it is added over `old`: active, of `tenant` or else of whose it was. A tombstone
/// says nothing of a tenant.
pub(in crate::domains) fn added(
    old: Option<&DomainRecord>,
    pattern: &Pattern,
    target: Option<&Target>,
    tenant: Option<&str>,
    now: Micros,
) -> DomainRecord {
    let changed_at = changed(old, now);
    let living = old.filter(|old| old.owner().is_some());
    let tenant = tenant.or(old.and_then(DomainRecord::owner)).unwrap_or(DEFAULT_TENANT);
    // Since when others had it is not this tenant's business.
    let own = living.filter(|old| old.tenant == tenant);
    DomainRecord {
        pattern: pattern.clone(),
        target: target.cloned(),
        settings: living.map(|old| old.settings).unwrap_or_default(),
        settings_map: old.map(|old| old.settings_map).unwrap_or_default(),
        status: DomainStatus::Active,
        tenant: tenant.to_owned(),
        version: old.map_or(0, |old| old.version).saturating_add(1),
        created_at: own.and_then(|old| old.created_at).or(Some(changed_at)),
        changed_at: Some(changed_at),
        expires_at: None,
        is_unproven: false,
    }
}

/// The entry with the rates of requests that `old` had, where it was the same tenant's: who removes an entry and adds it anew has them
/// still.
pub(in crate::domains) fn with_rates_of(old: Option<&DomainRecord>, record: DomainRecord) -> DomainRecord {
    let Some(old) = old.filter(|old| old.tenant == record.tenant) else { return record };
    let DomainSettings { request_rate, client_request_rate, .. } = old.settings;
    let rates = DomainSettings { request_rate, client_request_rate, ..DomainSettings::default() };
    with_settings(record, rates)
}

/// The entry with these `settings`, and what they leave out as it was.
pub(in crate::domains) fn with_settings(record: DomainRecord, settings: DomainSettings) -> DomainRecord {
    if settings == DomainSettings::default() {
        return record;
    }
    let settings = settings.over(record.settings);
    DomainRecord { settings, settings_map: SettingsMap::Present, ..record }
}

/// A tombstone, which the table forgets after a week.
pub(in crate::domains) fn removed(old: &DomainRecord, now: Micros) -> DomainRecord {
    let new = with_status(old, DomainStatus::Removed, now);
    let expires_at = new.changed_at.map(|at| at.seconds() + TOMBSTONE_LIFE.as_secs());
    DomainRecord { expires_at, ..new }
}

/// The entry with another status.
pub(in crate::domains) fn with_status(old: &DomainRecord, status: DomainStatus, now: Micros) -> DomainRecord {
    DomainRecord { status, is_unproven: stays_unproven(old, status), ..changed_by(old, now) }
}

/// Whether the entry goes on waiting for its proof while it is suspended, and is known by it.
pub(super) fn stays_unproven(old: &DomainRecord, status: DomainStatus) -> bool {
    let waits = match old.status {
        DomainStatus::Pending => true,
        DomainStatus::Suspended => old.is_unproven,
        // Whoever has it served has it proven, also a program that leaves the mark there.
        DomainStatus::Active | DomainStatus::Failing | DomainStatus::Removed => false,
    };
    status == DomainStatus::Suspended && waits
}

/// The entry as a change at `now` leaves it, before anything else is changed.
pub(in crate::domains) fn changed_by(old: &DomainRecord, now: Micros) -> DomainRecord {
    let version = old.version.saturating_add(1);
    DomainRecord { version, changed_at: Some(changed(Some(old), now)), ..old.clone() }
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

const TOMBSTONE_LIFE: Duration = Duration::from_hours(7 * 24);

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern() -> Pattern {
        Pattern::parse("a.example").unwrap()
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
        assert_eq!(again.created_at, again.changed_at, "nor is since when");
    }
}
