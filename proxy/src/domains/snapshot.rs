//! Static list and domains table as one immutable map, which the data plane reads without a lock.

use std::{collections::HashSet, sync::Arc};

use super::{Site, Source, shards::Shards};
use crate::{
    config::StaticDomain,
    name::{Pattern, ServerName},
    store::{
        domain_table::{DEFAULT_TENANT, Record, Status},
        instant::Micros,
    },
};

/// Entries by what they cover. A static entry stands before a table's of the same pattern.
///
/// Cheap to clone; a change copies a small part.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    exact: Shards<ServerName, Entry>,
    /// By what follows `*.`.
    wildcard: Shards<ServerName, Entry>,
}

/// What a snapshot says of a name.
#[derive(Debug, Clone)]
pub(super) enum Found {
    Served(Arc<Site>),
    Withdrawn,
    Nothing,
}

/// Whether an entry that was told changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applied {
    Changed,
    Known,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    standing: Standing,
    site: Arc<Site>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
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
        let statics = self.entries().filter(|entry| entry.site.source == Source::Static);
        let mut concerned: HashSet<Pattern> = statics.map(|entry| entry.site.pattern.clone()).collect();
        self.exact.retain(|entry| entry.site.source != Source::Static);
        self.wildcard.retain(|entry| entry.site.source != Source::Static);
        for domain in list {
            let site = Site {
                pattern: domain.name.clone(),
                target: domain.target.clone(),
                tenant: DEFAULT_TENANT.into(),
                source: Source::Static,
                version: 0,
                changed_at_micros: 0,
            };
            concerned.insert(site.pattern.clone());
            self.insert(Entry { standing: Standing::Served, site: Arc::new(site) });
        }
        concerned
    }

    /// The exact entry before the wildcard (RFC 4592 §2.2.1 has the same order). A suspended entry denies; a removed one is
    /// as none, save that the name is not asked for elsewhere.
    pub(super) fn find(&self, name: &ServerName) -> Found {
        let exact = self.exact.get(name);
        let wildcard = name.parent().and_then(|parent| self.wildcard.get(parent));
        let mut removed = false;
        for entry in [exact, wildcard].into_iter().flatten() {
            match entry.standing {
                Standing::Served => return Found::Served(Arc::clone(&entry.site)),
                Standing::Suspended => return Found::Withdrawn,
                Standing::Removed => removed = true,
            }
        }
        if removed { Found::Withdrawn } else { Found::Nothing }
    }

    /// Takes over `record` if it says something new: a later change, or the same one with other contents, as a hand leaves it
    /// that edits an item in a console. What an index shows late is neither; what the configuration says stays.
    pub(super) fn apply(&mut self, record: &Record) -> Applied {
        if !self.lacks(record) {
            return Applied::Known;
        }
        self.insert(Entry::of(record));
        Applied::Changed
    }

    fn lacks(&self, record: &Record) -> bool {
        let Some(held) = self.entry(&record.pattern) else { return true };
        if held.site.source == Source::Static {
            return false;
        }
        let (version, changed_at) = (record.version, micros(record.changed_at));
        if (version, changed_at) == (held.site.version, held.site.changed_at_micros) {
            return !held.says(record);
        }
        version > held.site.version || changed_at > held.site.changed_at_micros
    }

    /// Forgets table entries that a full reading of the table did not show, unless they changed after `since`; says which.
    pub(super) fn retain_seen(&mut self, seen: &HashSet<&Pattern>, since: Micros) -> Vec<Pattern> {
        let gone = |entry: &&Entry| {
            entry.site.source != Source::Static
                && entry.site.changed_at_micros < since.since_epoch()
                && !seen.contains(&entry.site.pattern)
        };
        let gone: Vec<_> = self.entries().filter(gone).map(|entry| entry.site.pattern.clone()).collect();
        for pattern in &gone {
            match pattern {
                Pattern::Exact(name) => self.exact.remove(name),
                Pattern::Wildcard(suffix) => self.wildcard.remove(suffix),
            };
        }
        gone
    }

    /// Whether the configuration holds an entry of exactly this pattern.
    pub(super) fn is_static(&self, pattern: &Pattern) -> bool {
        self.entry(pattern).is_some_and(|entry| entry.site.source == Source::Static)
    }

    /// Whether the entry of exactly this pattern is served.
    pub(super) fn serves(&self, pattern: &Pattern) -> bool {
        self.entry(pattern).is_some_and(|entry| entry.standing == Standing::Served)
    }

    /// Patterns that are served.
    pub(super) fn served(&self) -> impl Iterator<Item = &Pattern> {
        self.entries().filter(|entry| entry.standing == Standing::Served).map(|entry| &entry.site.pattern)
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.exact.iter().chain(self.wildcard.iter()).map(|(_, entry)| entry)
    }

    fn entry(&self, pattern: &Pattern) -> Option<&Entry> {
        match pattern {
            Pattern::Exact(name) => self.exact.get(name),
            Pattern::Wildcard(suffix) => self.wildcard.get(suffix),
        }
    }

    fn insert(&mut self, entry: Entry) {
        match entry.site.pattern.clone() {
            Pattern::Exact(name) => self.exact.insert(name, entry),
            Pattern::Wildcard(suffix) => self.wildcard.insert(suffix, entry),
        };
    }
}

impl Entry {
    fn of(record: &Record) -> Self {
        Self { standing: Standing::of(record.status), site: Arc::new(site_of(record)) }
    }

    /// Whether it is what [`Entry::of`] would make of `record`, its place in the feed apart.
    fn says(&self, record: &Record) -> bool {
        self.standing == Standing::of(record.status)
            && self.site.target == record.target
            && *self.site.tenant == *record.tenant
    }
}

impl Standing {
    fn of(status: Status) -> Self {
        match status {
            Status::Active | Status::Failing => Self::Served,
            Status::Pending | Status::Suspended => Self::Suspended,
            Status::Removed => Self::Removed,
        }
    }
}

/// What the data plane needs of `record`.
pub(super) fn site_of(record: &Record) -> Site {
    Site {
        pattern: record.pattern.clone(),
        target: record.target.clone(),
        tenant: record.tenant.as_str().into(),
        source: Source::Table,
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

    fn record(name: &str, status: Status, version: u64) -> Record {
        let at = Some(Micros::from_epoch(version));
        Record {
            pattern: pattern(name),
            target: None,
            status,
            tenant: "default".into(),
            version,
            created_at: at,
            changed_at: at,
            expires_at: None,
        }
    }

    fn says(snapshot: &Snapshot, name: &str) -> String {
        match snapshot.find(&ServerName::parse(name).unwrap()) {
            Found::Served(site) => format!("{} of {:?}", site.pattern, site.source),
            Found::Withdrawn => "withdrawn".to_owned(),
            Found::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn exact_stands_before_wildcard_and_static_before_table() {
        let list = |name| StaticDomain { name: pattern(name), target: None };
        let mut snapshot = Snapshot::of_static(&[list("fixed.example.com"), list("*.fixed.example")]);
        for (name, status) in [
            ("fixed.example.com", Status::Removed),
            ("*.example.com", Status::Active),
            ("failing.example.com", Status::Failing),
            ("suspended.example.com", Status::Suspended),
            ("pending.example.com", Status::Pending),
            ("removed.example.com", Status::Removed),
            ("removed.example", Status::Removed),
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
        assert_eq!(snapshot.apply(&record("a.example", Status::Active, 2)), Applied::Changed);
        for (status, version, applied) in [
            (Status::Removed, 1, Applied::Known),
            (Status::Active, 2, Applied::Known),
            (Status::Suspended, 2, Applied::Changed),
            (Status::Removed, 3, Applied::Changed),
        ] {
            let told = record("a.example", status, version);
            assert_eq!(snapshot.apply(&told), applied, "{version}");
        }
        let anew = Record { version: 1, ..record("a.example", Status::Active, 9) };
        assert_eq!(snapshot.apply(&anew), Applied::Changed, "deleted by hand and made anew: a later change");
    }

    #[test]
    fn an_entry_deleted_by_hand_goes_with_the_full_reading_and_a_fresh_one_stays() {
        let list = StaticDomain { name: pattern("fixed.example"), target: None };
        let mut snapshot = Snapshot::of_static(&[list]);
        for (name, version) in
            [("seen.example", 1), ("deleted.example", 1), ("*.deleted.example", 1), ("fresh.example", 9)]
        {
            snapshot.apply(&record(name, Status::Active, version));
        }
        let seen = pattern("seen.example");
        let mut gone = snapshot.retain_seen(&HashSet::from([&seen]), Micros::from_epoch(5));
        gone.sort();
        assert_eq!(gone, [pattern("deleted.example"), pattern("*.deleted.example")]);
        let mut left: Vec<_> = snapshot.served().map(ToString::to_string).collect();
        left.sort();
        assert_eq!(left, ["fixed.example", "fresh.example", "seen.example"]);
    }
}
