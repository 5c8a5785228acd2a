//! Static list and domains table as one immutable map, which the data plane reads without a lock.

use std::{collections::HashSet, iter::once_with, sync::Arc};

use super::{DomainEntry, PermissionSource, seen_patterns::SeenPatterns, shards::Shards};
use crate::{
    config::StaticDomain,
    name::{Pattern, ServerName},
    store::{
        domain_table::{DEFAULT_TENANT, DomainRecord, DomainStatus},
        instant::Micros,
    },
};

/// Entries by what they cover. A static entry stands before a table's of the same pattern.
///
/// Cheap to clone; a change copies a small part.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    exact: Shards<ServerName, SnapshotEntry>,
    /// Entries of `exact` that speak for a pair, by the other name of it.
    pairs: Shards<ServerName, SnapshotEntry>,
    /// By what follows `*.`.
    wildcard: Shards<ServerName, SnapshotEntry>,
}

/// What a snapshot says of a name.
#[derive(Debug, Clone)]
pub(super) enum SnapshotMatch {
    Served(Arc<DomainEntry>),
    Withdrawn,
    Nothing,
}

/// By what kind of entry a name is withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Withdrawal {
    /// Suspended, or pending.
    Suspended,
    /// A tombstone.
    Removed,
}

/// Whether an entry that was reported changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applied {
    Changed,
    Known,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct SnapshotEntry {
    status: DomainStatus,
    domain_entry: Arc<DomainEntry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EntryStanding {
    Served,
    Suspended,
    Removed,
}

impl Snapshot {
    pub(super) fn of_static(list: &[StaticDomain]) -> Self {
        let mut snapshot = Self::default();
        snapshot.relist(list);
        snapshot
    }

    /// Replaces the entries of the configuration; says of which patterns it spoke before or speaks now.
    pub(super) fn relist(&mut self, list: &[StaticDomain]) -> HashSet<Pattern> {
        let is_static = |(_, entry): &(&ServerName, &SnapshotEntry)| {
            entry.domain_entry.source == PermissionSource::Static
        };
        let statics = self.entries().filter(|entry| entry.domain_entry.source == PermissionSource::Static);
        let mut concerned: HashSet<Pattern> =
            statics.map(|entry| entry.domain_entry.pattern.clone()).collect();
        concerned.extend(self.pairs.iter().filter(is_static).map(|(name, _)| Pattern::Exact(name.clone())));
        self.exact.retain(|entry| entry.domain_entry.source != PermissionSource::Static);
        self.pairs.retain(|entry| entry.domain_entry.source != PermissionSource::Static);
        self.wildcard.retain(|entry| entry.domain_entry.source != PermissionSource::Static);
        for domain in list {
            // A table's entry of the same name may have spoken for both.
            concerned.extend(self.counterpart(&domain.name));
            let domain_entry = DomainEntry {
                pattern: domain.name.clone(),
                target: domain.target.clone(),
                settings: domain.settings,
                tenant: DEFAULT_TENANT.into(),
                source: PermissionSource::Static,
                version: 0,
                changed_at_micros: 0,
            };
            concerned.insert(domain_entry.pattern.clone());
            concerned.extend(domain_entry.settings.counterpart(&domain.name).map(Pattern::Exact));
            self.insert(SnapshotEntry { status: DomainStatus::Active, domain_entry: Arc::new(domain_entry) });
        }
        concerned
    }

    /// By the first of [`Snapshot::speakers`] that is not removed. A suspended entry denies; a removed one is as none, save that the name is
    /// not asked for elsewhere.
    pub(super) fn find(&self, name: &ServerName) -> SnapshotMatch {
        let mut removed = false;
        for entry in self.speakers(name) {
            match entry.standing() {
                EntryStanding::Served => return SnapshotMatch::Served(Arc::clone(&entry.domain_entry)),
                EntryStanding::Suspended => return SnapshotMatch::Withdrawn,
                EntryStanding::Removed => removed = true,
            }
        }
        if removed { SnapshotMatch::Withdrawn } else { SnapshotMatch::Nothing }
    }

    /// The entries that speak for `name`, in the order of [`ServerName::entries`]: its own, that of its pair, and the wildcard (RFC 4592
    /// §2.2.1 has the same order).
    fn speakers(&self, name: &ServerName) -> impl Iterator<Item = &SnapshotEntry> {
        let wildcard = || name.parent().and_then(|parent| self.wildcard.get(parent));
        let pair = || self.pairs.get(name);
        let wider = once_with(pair).chain(once_with(wildcard)).flatten();
        self.exact.get(name).into_iter().chain(wider)
    }

    /// Which entry withdraws `name`, where one does.
    pub(super) fn withdrawal(&self, name: &ServerName) -> Option<Withdrawal> {
        let of = |entry: &SnapshotEntry| match entry.standing() {
            EntryStanding::Served => None,
            EntryStanding::Suspended => Some(Withdrawal::Suspended),
            EntryStanding::Removed => Some(Withdrawal::Removed),
        };
        self.speakers(name).find_map(of)
    }

    /// Takes over `record` if it says something new: a later change, or the same one with other contents, as a hand leaves it
    /// that edits an item in a console. What an index shows late is neither; what the configuration says stays.
    pub(super) fn apply(&mut self, record: &DomainRecord) -> Applied {
        if !self.lacks(record) {
            return Applied::Known;
        }
        self.insert(SnapshotEntry::of(record));
        Applied::Changed
    }

    /// The other name that the entry of `pattern` speaks for.
    pub(super) fn counterpart(&self, pattern: &Pattern) -> Option<Pattern> {
        self.entry(pattern).and_then(SnapshotEntry::counterpart).map(Pattern::Exact)
    }

    fn lacks(&self, record: &DomainRecord) -> bool {
        let Some(held) = self.entry(&record.pattern) else { return true };
        if held.domain_entry.source == PermissionSource::Static {
            return false;
        }
        let (version, changed_at) = (record.version, micros(record.changed_at));
        if (version, changed_at) == (held.domain_entry.version, held.domain_entry.changed_at_micros) {
            return !held.says(record);
        }
        version > held.domain_entry.version || changed_at > held.domain_entry.changed_at_micros
    }

    /// Forgets table entries that a full reading of the table did not show, unless they changed after `since`; says which.
    pub(super) fn retain_seen(&mut self, seen: &SeenPatterns, since: Micros) -> Vec<Pattern> {
        let gone = |entry: &&SnapshotEntry| {
            entry.domain_entry.source != PermissionSource::Static
                && entry.domain_entry.changed_at_micros < since.since_epoch()
                && !seen.contains(&entry.domain_entry.pattern)
        };
        let mut gone: Vec<_> =
            self.entries().filter(gone).map(|entry| entry.domain_entry.pattern.clone()).collect();
        let others: Vec<_> = gone.iter().filter_map(|pattern| self.counterpart(pattern)).collect();
        for pattern in &gone {
            self.forget(pattern);
        }
        gone.extend(others);
        gone
    }

    /// Forgets the entry of exactly `pattern`.
    pub(super) fn forget(&mut self, pattern: &Pattern) {
        self.unpair(pattern);
        match pattern {
            Pattern::Exact(name) => self.exact.remove(name),
            Pattern::Wildcard(suffix) => self.wildcard.remove(suffix),
        };
    }

    /// The table's entries with their statuses, save what was removed.
    pub(super) fn of_table(&self) -> impl Iterator<Item = (&Arc<DomainEntry>, DomainStatus)> {
        self.entries().filter_map(SnapshotEntry::of_table)
    }

    /// The same of exactly `pattern`.
    pub(super) fn entry_of_table(&self, pattern: &Pattern) -> Option<(&Arc<DomainEntry>, DomainStatus)> {
        self.entry(pattern)?.of_table()
    }

    /// Whether it knows the entry of exactly this pattern, served or not.
    pub(super) fn holds(&self, pattern: &Pattern) -> bool {
        self.entry(pattern).is_some()
    }

    /// Whether exactly this pattern is served: by an entry of its own, or a name as the other one of a pair.
    pub(super) fn serves(&self, pattern: &Pattern) -> bool {
        let own = self.entry(pattern).map(SnapshotEntry::standing);
        match (own, pattern) {
            (Some(EntryStanding::Served), _) => true,
            (Some(EntryStanding::Suspended), _) | (_, Pattern::Wildcard(_)) => false,
            (Some(EntryStanding::Removed) | None, Pattern::Exact(name)) => {
                self.pairs.get(name).is_some_and(|entry| entry.standing() == EntryStanding::Served)
            }
        }
    }

    /// What each entry covers, and its status and tenant; none of an entry of the settings, since the table may have another of the same pattern.
    pub(super) fn statuses(&self) -> impl Iterator<Item = (&Pattern, Option<(DomainStatus, &str)>)> {
        self.entries().map(|entry| {
            let is_static = entry.domain_entry.source == PermissionSource::Static;
            let of_table = (entry.status, &*entry.domain_entry.tenant);
            (&entry.domain_entry.pattern, (!is_static).then_some(of_table))
        })
    }

    /// Patterns that are served, perhaps some of them twice.
    pub(super) fn served(&self) -> impl Iterator<Item = Pattern> {
        let own = self.entries().map(|entry| entry.domain_entry.pattern.clone());
        let others = self.pairs.iter().map(|(name, _)| Pattern::Exact(name.clone()));
        own.chain(others).filter(|pattern| self.serves(pattern))
    }

    /// Whose the entries are that speak for names that `wildcard` covers.
    pub(super) fn below(&self, wildcard: &Pattern) -> impl Iterator<Item = &str> {
        let entries = self
            .exact
            .iter()
            .chain(self.pairs.iter())
            .filter(|(name, entry)| entry.standing() != EntryStanding::Removed && wildcard.covers(name));
        entries.map(|(_, entry)| &*entry.domain_entry.tenant)
    }

    /// The entry of `pattern` speaks for no other name any more.
    fn unpair(&mut self, pattern: &Pattern) {
        if let Some(other) = self.entry(pattern).and_then(SnapshotEntry::counterpart) {
            self.pairs.remove(&other);
        }
    }

    fn entries(&self) -> impl Iterator<Item = &SnapshotEntry> {
        self.exact.iter().chain(self.wildcard.iter()).map(|(_, entry)| entry)
    }

    fn entry(&self, pattern: &Pattern) -> Option<&SnapshotEntry> {
        match pattern {
            Pattern::Exact(name) => self.exact.get(name),
            Pattern::Wildcard(suffix) => self.wildcard.get(suffix),
        }
    }

    fn insert(&mut self, entry: SnapshotEntry) {
        self.unpair(&entry.domain_entry.pattern);
        if let Some(other) = entry.counterpart() {
            self.pairs.insert(other, entry.clone());
        }
        match entry.domain_entry.pattern.clone() {
            Pattern::Exact(name) => self.exact.insert(name, entry),
            Pattern::Wildcard(suffix) => self.wildcard.insert(suffix, entry),
        };
    }
}

impl SnapshotEntry {
    fn of(record: &DomainRecord) -> Self {
        Self { status: record.status, domain_entry: Arc::new(site_of(record)) }
    }

    fn standing(&self) -> EntryStanding {
        EntryStanding::of(self.status)
    }

    /// Unless it is of the settings, or removed.
    fn of_table(&self) -> Option<(&Arc<DomainEntry>, DomainStatus)> {
        let is_of_table = self.domain_entry.source != PermissionSource::Static;
        let is_there = self.standing() != EntryStanding::Removed;
        (is_of_table && is_there).then_some((&self.domain_entry, self.status))
    }

    /// The other name of its pair.
    fn counterpart(&self) -> Option<ServerName> {
        self.domain_entry.settings.counterpart(&self.domain_entry.pattern)
    }

    /// Whether it is what [`SnapshotEntry::of`] would make of `record`, its place in the feed apart.
    fn says(&self, record: &DomainRecord) -> bool {
        self.status == record.status
            && self.domain_entry.target == record.target
            && self.domain_entry.settings == record.settings
            && *self.domain_entry.tenant == *record.tenant
    }
}

impl EntryStanding {
    fn of(status: DomainStatus) -> Self {
        match status {
            DomainStatus::Active | DomainStatus::Failing => Self::Served,
            DomainStatus::Pending | DomainStatus::Suspended => Self::Suspended,
            DomainStatus::Removed => Self::Removed,
        }
    }
}

/// What the data plane needs of `record`.
pub(super) fn site_of(record: &DomainRecord) -> DomainEntry {
    DomainEntry {
        pattern: record.pattern.clone(),
        target: record.target.clone(),
        settings: record.settings,
        tenant: record.tenant.as_str().into(),
        source: PermissionSource::Table,
        version: record.version,
        changed_at_micros: micros(record.changed_at),
    }
}

fn micros(at: Option<Micros>) -> u64 {
    at.map_or(0, Micros::since_epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    fn record(name: &str, status: DomainStatus, version: u64) -> DomainRecord {
        let at = Some(Micros::from_epoch(version));
        DomainRecord {
            pattern: pattern(name),
            target: None,
            settings: crate::config::DomainSettings::default(),
            settings_map: crate::store::domain_table::SettingsMap::Absent,
            status,
            tenant: "default".into(),
            version,
            created_at: at,
            changed_at: at,
            expires_at: None,
            is_unproven: false,
        }
    }

    fn says(snapshot: &Snapshot, name: &str) -> String {
        match snapshot.find(&ServerName::parse(name).unwrap()) {
            SnapshotMatch::Served(domain_entry) => {
                format!("{} of {:?}", domain_entry.pattern, domain_entry.source)
            }
            SnapshotMatch::Withdrawn => "withdrawn".to_owned(),
            SnapshotMatch::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn exact_stands_before_wildcard_and_static_before_table() {
        let list = |name| StaticDomain {
            name: pattern(name),
            target: None,
            settings: crate::config::DomainSettings::default(),
        };
        let mut snapshot = Snapshot::of_static(&[list("fixed.example.com"), list("*.fixed.example")]);
        for (name, status) in [
            ("fixed.example.com", DomainStatus::Removed),
            ("*.example.com", DomainStatus::Active),
            ("failing.example.com", DomainStatus::Failing),
            ("suspended.example.com", DomainStatus::Suspended),
            ("pending.example.com", DomainStatus::Pending),
            ("removed.example.com", DomainStatus::Removed),
            ("removed.example", DomainStatus::Removed),
        ] {
            snapshot.apply(&record(name, status, 1));
        }
        for (name, answer) in [
            ("fixed.example.com", "fixed.example.com of Static"),
            ("any.example.com", "*.example.com of Table"),
            ("failing.example.com", "failing.example.com of Table"),
            ("suspended.example.com", "withdrawn"),
            ("pending.example.com", "withdrawn"),
            ("removed.example.com", "*.example.com of Table"),
            ("removed.example", "withdrawn"),
            ("a.fixed.example", "*.fixed.example of Static"),
            ("a.b.example.com", "nothing"),
            ("example.com", "nothing"),
        ] {
            assert_eq!(says(&snapshot, name), answer, "{name}");
        }
    }

    #[test]
    fn what_an_index_shows_late_undoes_nothing_and_an_edit_by_hand_is_seen() {
        let mut snapshot = Snapshot::default();
        assert_eq!(snapshot.apply(&record("a.example", DomainStatus::Active, 2)), Applied::Changed);
        for (status, version, applied) in [
            (DomainStatus::Removed, 1, Applied::Known),
            (DomainStatus::Active, 2, Applied::Known),
            (DomainStatus::Suspended, 2, Applied::Changed),
            (DomainStatus::Removed, 3, Applied::Changed),
        ] {
            let told = record("a.example", status, version);
            assert_eq!(snapshot.apply(&told), applied, "{version}");
        }
        let anew = DomainRecord { version: 1, ..record("a.example", DomainStatus::Active, 9) };
        assert_eq!(snapshot.apply(&anew), Applied::Changed, "deleted by hand and made anew: a later change");
    }

    #[test]
    fn an_entry_deleted_by_hand_goes_with_the_full_reading_and_a_fresh_one_stays() {
        let list = StaticDomain {
            name: pattern("fixed.example"),
            target: None,
            settings: crate::config::DomainSettings::default(),
        };
        let mut snapshot = Snapshot::of_static(&[list]);
        for (name, version) in
            [("seen.example", 1), ("deleted.example", 1), ("*.deleted.example", 1), ("fresh.example", 9)]
        {
            snapshot.apply(&record(name, DomainStatus::Active, version));
        }
        let mut seen = SeenPatterns::default();
        seen.insert(&pattern("seen.example"));
        let mut gone = snapshot.retain_seen(&seen, Micros::from_epoch(5));
        gone.sort();
        assert_eq!(gone, [pattern("deleted.example"), pattern("*.deleted.example")]);
        let mut left: Vec<_> = snapshot.served().map(|pattern| pattern.to_string()).collect();
        left.sort();
        assert_eq!(left, ["fixed.example", "fresh.example", "seen.example"]);
    }
}
