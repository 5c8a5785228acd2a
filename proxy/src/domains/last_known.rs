//! The entry that last allowed a pattern, for when its sources cannot be asked: it says where requests may go meanwhile.
//! Not here: entries of the snapshot, which stay until a list says otherwise.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;

use super::DomainEntry;
use crate::name::{Pattern, ServerName};

/// A bounded cache by pattern, so that made-up names under one wildcard take one place; synchronous for the data plane.
pub(super) struct LastKnown(Cache<Pattern, Arc<DomainEntry>>);

impl LastKnown {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(MAX_ENTRIES).time_to_live(LIFE).build())
    }

    /// The entry that speaks for `name`, in their order.
    pub(super) fn get(&self, name: &ServerName) -> Option<Arc<DomainEntry>> {
        name.entries().filter_map(|pattern| self.0.get(&pattern)).find(|entry| entry.speaks_for(name))
    }

    pub(super) fn keep(&self, domain_entry: &Arc<DomainEntry>) {
        self.0.insert(domain_entry.pattern.clone(), Arc::clone(domain_entry));
    }

    /// A source denied `name`. Whatever spoke for it goes: it may be what was withdrawn, and is read again with its next name.
    pub(super) fn forget(&self, name: &ServerName) {
        for pattern in name.entries() {
            if self.0.get(&pattern).is_some_and(|entry| entry.speaks_for(name)) {
                self.0.invalidate(&pattern);
            }
        }
    }
}

/// About 300 bytes each.
const MAX_ENTRIES: u64 = 100_000;
/// Longer than a source may be down unnoticed; an entry that was deleted in the meantime is not followed for ever.
const LIFE: Duration = Duration::from_hours(7 * 24);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{DomainSettings, WwwPair},
        domains::{PermissionSource, lookup::asked_site},
    };

    fn domain_entry(pattern: &str) -> Arc<DomainEntry> {
        let pattern = Pattern::parse(pattern).unwrap();
        let asked = asked_site(&ServerName::parse("a.example").unwrap());
        Arc::new(DomainEntry { pattern, source: PermissionSource::Table, ..asked })
    }

    fn says(known: &LastKnown, name: &str) -> Option<String> {
        known.get(&ServerName::parse(name).unwrap()).map(|domain_entry| domain_entry.pattern.to_string())
    }

    #[test]
    fn an_entry_is_kept_until_one_of_its_names_is_denied() {
        let known = LastKnown::new();
        for pattern in ["a.example", "*.b.example", "x.b.example"] {
            known.keep(&domain_entry(pattern));
        }
        let pair = Arc::unwrap_or_clone(domain_entry("pair.example"));
        let settings = DomainSettings { www: Some(WwwPair::Serve), ..pair.settings };
        known.keep(&Arc::new(DomainEntry { settings, ..pair }));
        for (name, pattern) in [
            ("a.example", Some("a.example")),
            ("x.b.example", Some("x.b.example")),
            ("y.b.example", Some("*.b.example")),
            ("b.example", None),
            ("pair.example", Some("pair.example")),
            ("www.pair.example", Some("pair.example")),
            ("www.a.example", None),
            ("z.y.b.example", None),
        ] {
            assert_eq!(says(&known, name).as_deref(), pattern, "{name}");
        }
        known.forget(&ServerName::parse("y.b.example").unwrap());
        assert_eq!(says(&known, "y.b.example"), None);
        assert_eq!(says(&known, "x.b.example").as_deref(), Some("x.b.example"));
        for name in ["www.a.example", "www.pair.example"] {
            known.forget(&ServerName::parse(name).unwrap());
        }
        assert_eq!(
            says(&known, "a.example").as_deref(),
            Some("a.example"),
            "it never spoke for the other name"
        );
        assert_eq!(says(&known, "pair.example"), None, "it may be what no longer speaks for both");
    }

    #[test]
    fn what_sources_allow_is_bounded() {
        let known = LastKnown::new();
        for n in 0..MAX_ENTRIES + 20_000 {
            known.keep(&domain_entry(&format!("n{n}.example")));
        }
        known.0.run_pending_tasks();
        assert!(known.0.entry_count() <= MAX_ENTRIES);
    }
}
