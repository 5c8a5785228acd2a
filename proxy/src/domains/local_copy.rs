//! Entries for a copy on this machine, and from one: what has to be known of names to serve them while their sources do not answer.
//! Not here: the copy itself (`store::local_copy`), when it is written and read (`run`).
//! Invariants: with a wildcard entry come all entries that speak for names below it, or it would serve what is suspended
//! (`with_an_entry_comes_what_denies_names_that_it_would_serve`), and with one of a pair that of its other name; what a copy says ends with what the table says
//! (`what_was_restored_is_served_until_the_table_speaks_whatever_its_version`).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use super::{
    DomainEntry, Domains, DomainsInner, ListingProgress, Permission, PermissionSource,
    permission_cache::CachedPermission,
    snapshot::{Snapshot, SnapshotMatch},
};
use crate::{
    clock,
    name::{Pattern, ServerName},
    store::{
        domain_table::{DomainRecord, DomainStatus, SettingsMap},
        instant::Micros,
        local_copy::{CopiedEntry, CopiedSource},
        probe::DomainsTableUse,
    },
};

/// What a copy needs to know of the names of certificates.
#[derive(Debug, Default)]
pub struct CopiedNames {
    /// Of each certificate, whether its name is served.
    pub are_served: Vec<bool>,
    /// The entries by which they are; none of those in the settings.
    pub entries: Vec<CopiedEntry>,
}

impl Domains {
    /// The entries by which names of certificates for `patterns` are served; `former` are those of the copy before, for names that no list
    /// holds and nobody has asked for since. Looks at each entry of the table if one is for a wildcard.
    #[must_use]
    pub fn copied_names(&self, patterns: &[Pattern], former: &[CopiedEntry]) -> CopiedNames {
        self.inner.copied_names(patterns, former, clock::now())
    }

    /// Serves by `entries` of a copy until the sources answer; says how many are used.
    #[must_use]
    pub fn restore(&self, entries: &[CopiedEntry]) -> usize {
        self.inner.restore(entries, clock::now())
    }

    /// Whether `permission` may be what a copy says, by which nothing is ordered and nothing ends.
    #[must_use]
    pub fn is_by_copy(&self, permission: &Permission) -> bool {
        if *self.inner.progress.borrow() != ListingProgress::Restored {
            return false;
        }
        match permission {
            Permission::Allow(entry) => match entry.source {
                PermissionSource::Static => false,
                PermissionSource::Table if entry.version > 0 => {
                    self.inner.registry.is_restored(&entry.pattern)
                }
                PermissionSource::Table | PermissionSource::Ask => true,
            },
            Permission::Deny(_) => true,
            Permission::Unknown(_) => false,
        }
    }

    /// Whether there is a table that was not read whole since the start.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        match *self.inner.progress.borrow() {
            ListingProgress::Loading | ListingProgress::SourceDown | ListingProgress::Restored => true,
            ListingProgress::Loaded | ListingProgress::Degraded => false,
        }
    }

    /// Whether there is a table of names.
    #[must_use]
    pub fn table_use(&self) -> DomainsTableUse {
        if self.inner.table.is_some() { DomainsTableUse::Needed } else { DomainsTableUse::Unused }
    }

    /// Whether the table, if there is one, was read and can be.
    #[must_use]
    pub fn is_listed_now(&self) -> bool {
        *self.inner.progress.borrow() == ListingProgress::Loaded
    }
}

impl DomainsInner {
    fn copied_names(&self, patterns: &[Pattern], former: &[CopiedEntry], now: Instant) -> CopiedNames {
        let snapshot = self.registry.snapshot();
        let former: HashMap<_, _> =
            former.iter().filter(|entry| !is_listed(entry)).map(|entry| (&entry.domain, entry)).collect();
        let unlisted = |name: &ServerName| {
            let known = self.last_known.get(name).filter(|entry| !snapshot.holds(&entry.pattern));
            if let Some(known) = known {
                return Some(copied(&known, DomainStatus::Active));
            }
            let is_denied = matches!(self.answers.get(name, now), Some((CachedPermission::Deny(_), _)));
            former.get(&Pattern::Exact(name.clone())).filter(|_| !is_denied).map(|&entry| entry.clone())
        };
        let (mut entries, mut suffixes) = (HashMap::new(), HashSet::new());
        let mut are_served = Vec::with_capacity(patterns.len());
        for pattern in patterns {
            let found = match pattern {
                Pattern::Exact(name) => snapshot.find(name),
                Pattern::Wildcard(suffix) => {
                    suffixes.insert(suffix.clone());
                    are_served.push(true);
                    continue;
                }
            };
            let entry = match found {
                SnapshotMatch::Served(entry) if entry.source == PermissionSource::Static => {
                    are_served.push(true);
                    continue;
                }
                SnapshotMatch::Served(entry) => Some(copied(&entry, DomainStatus::Active)),
                SnapshotMatch::Withdrawn => None,
                SnapshotMatch::Nothing => unlisted(pattern.name()),
            };
            are_served.push(entry.is_some());
            if let Some(CopiedEntry { domain: Pattern::Wildcard(suffix), .. }) = &entry {
                suffixes.insert(suffix.clone());
            }
            entries.extend(entry.map(|entry| (entry.domain.clone(), entry)));
        }
        if !suffixes.is_empty() {
            entries.extend(below(&snapshot, &suffixes));
        }
        let others: Vec<_> = entries.values().filter_map(|entry| other_of_pair(&snapshot, entry)).collect();
        entries.extend(others.into_iter().map(|entry| (entry.domain.clone(), entry)));
        let mut entries: Vec<_> = entries.into_values().collect();
        entries.sort_by(|a, b| a.domain.cmp(&b.domain));
        CopiedNames { are_served, entries }
    }

    fn restore(&self, entries: &[CopiedEntry], now: Instant) -> usize {
        let (listed, unlisted): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| is_listed(entry));
        let records: Vec<_> = listed.into_iter().map(record).collect();
        // Stale, so that the first who asks has the source asked; a machine that began a moment ago knows no such time.
        let long_ago = now.checked_sub(*self.config.allow_ttl).unwrap_or(now);
        let listed = if self.registry.restore(&records) { records.len() } else { 0 };
        for entry in &unlisted {
            let entry = Arc::new(site(entry));
            self.last_known.keep(&entry);
            if let Pattern::Exact(name) = &entry.pattern {
                self.answers.remember(name.clone(), CachedPermission::Allow(Arc::clone(&entry)), long_ago);
            }
        }
        let used = listed + unlisted.len();
        if used > 0 {
            self.progress.send_if_modified(ListingProgress::restore);
        }
        used
    }
}

/// Whether a feed has shown it.
fn is_listed(entry: &CopiedEntry) -> bool {
    entry.source == CopiedSource::Table && entry.version > 0 && entry.changed_at_micros > 0
}

/// The table's entries that speak for names below `suffixes`, whatever they say of them, and those of the wildcards themselves.
fn below(snapshot: &Snapshot, suffixes: &HashSet<ServerName>) -> HashMap<Pattern, CopiedEntry> {
    let is_below = |name: &ServerName| name.parent().is_some_and(|parent| suffixes.contains(parent));
    let speaks = |entry: &DomainEntry| match &entry.pattern {
        Pattern::Wildcard(suffix) => suffixes.contains(suffix),
        Pattern::Exact(name) => {
            is_below(name) || entry.settings.counterpart(&entry.pattern).is_some_and(|other| is_below(&other))
        }
    };
    let found = snapshot.of_table().filter(|(entry, _)| speaks(entry));
    found.map(|(entry, status)| (entry.pattern.clone(), copied(entry, status))).collect()
}

/// The table's entry of the other name that `entry` speaks for, which stands before it.
fn other_of_pair(snapshot: &Snapshot, entry: &CopiedEntry) -> Option<CopiedEntry> {
    let other = Pattern::Exact(entry.settings.counterpart(&entry.domain)?);
    snapshot.entry_of_table(&other).map(|(entry, status)| copied(entry, status))
}

fn copied(entry: &DomainEntry, status: DomainStatus) -> CopiedEntry {
    CopiedEntry {
        domain: entry.pattern.clone(),
        target: entry.target.clone(),
        settings: entry.settings,
        tenant: entry.tenant.to_string(),
        status,
        source: match entry.source {
            PermissionSource::Ask => CopiedSource::Ask,
            PermissionSource::Static | PermissionSource::Table => CopiedSource::Table,
        },
        version: entry.version,
        changed_at_micros: entry.changed_at_micros,
    }
}

fn record(entry: &CopiedEntry) -> DomainRecord {
    DomainRecord {
        pattern: entry.domain.clone(),
        target: entry.target.clone(),
        settings: entry.settings,
        settings_map: SettingsMap::Absent,
        status: entry.status,
        tenant: entry.tenant.clone(),
        version: entry.version,
        created_at: None,
        changed_at: Some(Micros::from_epoch(entry.changed_at_micros)),
        expires_at: None,
        is_unproven: false,
    }
}

fn site(entry: &CopiedEntry) -> DomainEntry {
    DomainEntry {
        pattern: entry.domain.clone(),
        target: entry.target.clone(),
        settings: entry.settings,
        tenant: entry.tenant.as_str().into(),
        source: match entry.source {
            CopiedSource::Table => PermissionSource::Table,
            CopiedSource::Ask => PermissionSource::Ask,
        },
        version: entry.version,
        changed_at_micros: entry.changed_at_micros,
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use tokio::runtime::Handle;

    use super::*;
    use crate::{
        config::{self, DomainSettings, StaticDomain, WwwPair},
        domains::Caller,
        store::{Engine, FaultPlan, Faults, Store, tables},
    };

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    fn listed(domain: &str, status: DomainStatus) -> CopiedEntry {
        CopiedEntry {
            domain: pattern(domain),
            target: None,
            settings: DomainSettings::default(),
            tenant: "t".to_owned(),
            status,
            source: CopiedSource::Table,
            version: 3,
            changed_at_micros: 1_700_000_000_000_000,
        }
    }

    fn asked(domain: &str) -> CopiedEntry {
        let listed = listed(domain, DomainStatus::Active);
        CopiedEntry { source: CopiedSource::Ask, version: 0, changed_at_micros: 0, ..listed }
    }

    fn pair(domain: &str) -> CopiedEntry {
        let settings = DomainSettings { www: Some(WwwPair::Serve), ..DomainSettings::default() };
        CopiedEntry { settings, ..listed(domain, DomainStatus::Active) }
    }

    /// An instance whose table does not answer, and which lists `fixed.example` in its settings.
    async fn cut_off(faults: &Arc<Faults>) -> Domains {
        let engine = Engine::in_memory().unwrap();
        tables::create(&Store::on(engine.clone(), &config::StoreConfig::default())).await.unwrap();
        faults.set_outage(true);
        let store = Store::on_faulty(engine, &config::StoreConfig::default(), Arc::clone(faults));
        let name = pattern("fixed.example");
        let list = vec![StaticDomain { name, target: None, settings: DomainSettings::default() }];
        let config = config::DomainsConfig {
            r#static: list,
            poll: config::Span::millis(50),
            ..config::DomainsConfig::default()
        };
        Domains::start(&config, &store, &Handle::current(), &Registry::new()).unwrap()
    }

    async fn says(domains: &Domains, name: &str) -> &'static str {
        let permission = domains.permission(&ServerName::parse(name).unwrap(), Caller::Internal).await;
        match (&permission, domains.is_by_copy(&permission)) {
            (Permission::Allow(_), false) => "served",
            (Permission::Allow(_), true) => "served by the copy",
            (Permission::Deny(_), false) => "denied",
            (Permission::Deny(_), true) => "denied by the copy",
            (Permission::Unknown(_), _) => "unknown",
        }
    }

    /// What is copied for certificates of these patterns: whether each is served, and of what there are entries.
    fn copied_for(domains: &Domains, patterns: &[&str], former: &[CopiedEntry]) -> (Vec<bool>, Vec<String>) {
        let patterns: Vec<_> = patterns.iter().map(|text| pattern(text)).collect();
        let names = domains.copied_names(&patterns, former);
        let entries = names.entries.iter().map(|entry| format!("{} {}", entry.domain, entry.status.as_str()));
        (names.are_served, entries.collect())
    }

    #[tokio::test]
    async fn what_was_restored_is_served_while_the_table_is_down_and_ends_with_its_answer() {
        let faults = Faults::new(FaultPlan::default());
        let domains = cut_off(&faults).await;
        domains.settled(std::time::Duration::from_secs(20)).await;
        assert_eq!(*domains.progress().borrow(), ListingProgress::SourceDown);
        assert_eq!(domains.restore(&[]), 0);
        assert_eq!(*domains.progress().borrow(), ListingProgress::SourceDown, "nothing was restored");
        let used = domains.restore(&[
            listed("shop.example", DomainStatus::Active),
            listed("*.wide.example", DomainStatus::Failing),
            listed("bad.wide.example", DomainStatus::Suspended),
            asked("asked.example"),
        ]);
        assert_eq!((used, *domains.progress().borrow()), (4, ListingProgress::Restored));
        for (name, said) in [
            ("shop.example", "served by the copy"),
            ("a.wide.example", "served by the copy"),
            ("asked.example", "served by the copy"),
            ("fixed.example", "served"),
            ("bad.wide.example", "denied by the copy"),
            ("other.example", "unknown"),
        ] {
            assert_eq!(says(&domains, name).await, said, "{name}");
        }
        faults.set_outage(false);
        let mut progress = domains.progress();
        let read = progress.wait_for(|progress| *progress == ListingProgress::Loaded);
        tokio::time::timeout(std::time::Duration::from_secs(20), read).await.unwrap().unwrap();
        for (name, said) in
            [("shop.example", "denied"), ("a.wide.example", "denied"), ("fixed.example", "served")]
        {
            assert_eq!(says(&domains, name).await, said, "{name}");
        }
        assert_eq!(domains.restore(&[listed("shop.example", DomainStatus::Active)]), 0, "the table was read");
        assert_eq!(says(&domains, "shop.example").await, "denied");
    }

    #[tokio::test]
    async fn with_an_entry_comes_what_denies_names_that_it_would_serve() {
        let domains = cut_off(&Faults::new(FaultPlan::default())).await;
        let _ = domains.restore(&[
            listed("shop.example", DomainStatus::Active),
            listed("gone.example", DomainStatus::Suspended),
            listed("*.wide.example", DomainStatus::Active),
            listed("good.wide.example", DomainStatus::Active),
            listed("bad.wide.example", DomainStatus::Suspended),
            listed("removed.wide.example", DomainStatus::Removed),
            listed("deep.bad.wide.example", DomainStatus::Active),
            pair("two.example"),
            listed("www.two.example", DomainStatus::Suspended),
            listed("unused.example", DomainStatus::Active),
            asked("asked.example"),
        ]);
        let former = [asked("before.example"), listed("listed.example", DomainStatus::Active)];
        for (patterns, are_served, entries) in [
            (vec!["shop.example"], vec![true], vec!["shop.example active"]),
            (vec!["fixed.example"], vec![true], vec![]),
            (vec!["gone.example", "nobody.example"], vec![false, false], vec![]),
            (
                vec!["x.wide.example"],
                vec![true],
                vec!["*.wide.example active", "bad.wide.example suspended", "good.wide.example active"],
            ),
            (vec!["good.wide.example"], vec![true], vec!["good.wide.example active"]),
            (
                vec!["*.wide.example"],
                vec![true],
                vec!["*.wide.example active", "bad.wide.example suspended", "good.wide.example active"],
            ),
            (vec!["two.example"], vec![true], vec!["two.example active", "www.two.example suspended"]),
            (vec!["asked.example"], vec![true], vec!["asked.example active"]),
            (vec!["before.example", "listed.example"], vec![true, false], vec!["before.example active"]),
        ] {
            let mut found = copied_for(&domains, &patterns, &former);
            found.1.sort();
            let mut entries: Vec<_> = entries.into_iter().map(ToOwned::to_owned).collect();
            entries.sort();
            assert_eq!(found, (are_served, entries), "{patterns:?}");
        }
    }
}
