//! Entries by what their names begin with, of whichever tenant, or by their status, found in memory: no index of the table has that order, and who
//! walked through all of them in search of a few would make a call for each two hundred.
//! Not here: the entries as they are in the table now (`store::domain_table::named`).

use std::collections::BinaryHeap;

use tokio::{
    sync::Semaphore,
    task::{JoinError, spawn_blocking},
};

use super::{Domains, ListingProgress, snapshot::Snapshot};
use crate::{name::Pattern, store::domain_table::DomainStatus};

/// Which entries are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sought {
    /// What their names begin with, as [`beginning`](crate::name::beginning) writes it; empty, with anything.
    pub prefix: String,
    /// With this status; absent, with any but `removed`.
    pub status: Option<DomainStatus>,
    /// Of this tenant; absent, of any.
    pub tenant: Option<String>,
}

impl Domains {
    /// The first `most` entries of the table behind `behind` that are `sought`, in order, as memory knows them: a moment old, and entries of
    /// the settings among them. `None` where memory does not hold the table. Looks at each entry: some ten milliseconds for 100,000.
    #[must_use]
    pub fn search(&self, sought: &Sought, behind: Option<&Pattern>, most: usize) -> Option<Vec<Pattern>> {
        let is_read = match *self.inner.progress.borrow() {
            ListingProgress::Loaded | ListingProgress::Degraded => true,
            ListingProgress::Loading | ListingProgress::SourceDown | ListingProgress::Restored => false,
        };
        let is_held = is_read && self.inner.table.is_some();
        is_held.then(|| sought.find(&self.inner.registry.snapshot(), behind, most))
    }
}

/// Runs `search`, which looks at each entry, on a thread that others do not wait for: programs may ask for many searches at once, and of the
/// machine they get one thread.
pub(crate) async fn search_in_turn<T: Send + 'static>(
    search: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    let _turn = SEARCHES.acquire().await;
    spawn_blocking(search).await
}

static SEARCHES: Semaphore = Semaphore::const_new(1);

impl Sought {
    /// The first `most` behind `behind` of those in `snapshot`, in order; others may be among them that the settings list. It looks at each
    /// entry, and holds `most`.
    fn find(&self, snapshot: &Snapshot, behind: Option<&Pattern>, most: usize) -> Vec<Pattern> {
        let mut first = BinaryHeap::with_capacity(most.saturating_add(1));
        for (pattern, of_table) in snapshot.statuses() {
            if of_table.is_none_or(|(status, tenant)| self.means(status, tenant))
                && behind.is_none_or(|behind| pattern > behind)
                && first.peek().is_none_or(|last| first.len() < most || pattern < *last)
                && self.begins(pattern)
            {
                first.push(pattern);
                if first.len() > most {
                    first.pop();
                }
            }
        }
        first.into_sorted_vec().into_iter().cloned().collect()
    }

    fn means(&self, status: DomainStatus, tenant: &str) -> bool {
        self.status.map_or(status != DomainStatus::Removed, |wanted| wanted == status)
            && self.tenant.as_ref().is_none_or(|wanted| wanted == tenant)
    }

    fn begins(&self, pattern: &Pattern) -> bool {
        let prefix = self.prefix.as_str();
        match pattern {
            Pattern::Exact(name) => name.as_str().starts_with(prefix),
            Pattern::Wildcard(suffix) => match prefix.strip_prefix(WILDCARD) {
                Some(rest) => suffix.as_str().starts_with(rest),
                None => WILDCARD.starts_with(prefix),
            },
        }
    }
}

const WILDCARD: &str = "*.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{DomainSettings, StaticDomain},
        store::domain_table::{DomainRecord, SettingsMap},
    };

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    fn snapshot() -> Snapshot {
        let listed = StaticDomain {
            name: pattern("shop.listed.example"),
            target: None,
            settings: DomainSettings::default(),
        };
        let mut snapshot = Snapshot::of_static(&[listed]);
        for (name, status) in [
            ("shop.a.example", DomainStatus::Active),
            ("shop.b.example", DomainStatus::Pending),
            ("shop.c.example", DomainStatus::Suspended),
            ("shop.d.example", DomainStatus::Failing),
            ("shop.e.example", DomainStatus::Removed),
            ("other.example", DomainStatus::Active),
            ("*.shop.example", DomainStatus::Active),
        ] {
            snapshot.apply(&DomainRecord {
                pattern: pattern(name),
                target: None,
                settings: DomainSettings::default(),
                settings_map: SettingsMap::Absent,
                status,
                tenant: "default".to_owned(),
                version: 1,
                created_at: None,
                changed_at: None,
                expires_at: None,
                is_unproven: false,
            });
        }
        snapshot
    }

    #[test]
    fn a_search_finds_what_begins_so_or_has_the_status_and_what_the_settings_list() {
        let snapshot = snapshot();
        for (prefix, status, found) in [
            ("shop.", None, "a b c d listed"),
            ("shop.c", None, "c"),
            ("", Some(DomainStatus::Pending), "b listed"),
            ("", Some(DomainStatus::Failing), "d listed"),
            ("", Some(DomainStatus::Removed), "e listed"),
            ("shop.", Some(DomainStatus::Active), "a listed"),
            ("shops", None, ""),
        ] {
            let sought = Sought { prefix: prefix.to_owned(), status, tenant: None };
            let wanted: Vec<_> =
                found.split_whitespace().map(|label| pattern(&format!("shop.{label}.example"))).collect();
            assert_eq!(sought.find(&snapshot, None, 100), wanted, "{sought:?}");
        }
        for prefix in ["*", "*.", "*.sh", "*.shop.example"] {
            let sought = Sought { prefix: prefix.to_owned(), ..Sought::default() };
            assert_eq!(sought.find(&snapshot, None, 100), [pattern("*.shop.example")], "{prefix}");
        }
        for (tenant, found) in [
            ("default", vec!["shop.a.example", "shop.listed.example"]),
            ("acme", vec!["shop.listed.example"]),
        ] {
            let status = Some(DomainStatus::Active);
            let sought = Sought { prefix: "shop.".to_owned(), status, tenant: Some(tenant.to_owned()) };
            let wanted: Vec<_> = found.into_iter().map(pattern).collect();
            assert_eq!(sought.find(&snapshot, None, 100), wanted, "{tenant}");
        }
    }

    #[test]
    fn parts_of_a_search_hold_each_entry_once_whatever_their_size() {
        let (snapshot, sought) = (snapshot(), Sought::default());
        let whole = sought.find(&snapshot, None, 100);
        assert_eq!(whole.len(), 7);
        for most in 1..=8 {
            let mut parts: Vec<Pattern> = Vec::new();
            loop {
                let part = sought.find(&snapshot, parts.last(), most);
                assert!(part.len() <= most, "{part:?}");
                let is_last = part.len() < most;
                parts.extend(part);
                if is_last {
                    break;
                }
            }
            assert_eq!(parts, whole, "by {most}");
        }
    }
}
