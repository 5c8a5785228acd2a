//! The one writer of the snapshot and of the names the guard is given.
//! Invariant: a set of names has a revision only once every list was read whole, so that a guard that enforces rejects no name
//! for want of reading (`names_have_no_revision_until_all_lists_were_read`).

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use prometheus::IntGauge;
use tokio::sync::watch;

use super::{
    DomainEntry, NameSet, Revision,
    change::{NamesOfOthers, Search},
    patterns::Patterns,
    seen_patterns::SeenPatterns,
    snapshot::{Applied, Snapshot, SnapshotMatch, Withdrawal},
};
use crate::{
    config::StaticDomain,
    name::{Pattern, ServerName},
    store::{domain_table::DomainRecord, instant::Micros},
};

/// Snapshot and published names. Readers never wait; writers are the control plane's.
pub(super) struct NameRegistry {
    snapshot: ArcSwap<Snapshot>,
    names: watch::Sender<NameSet>,
    state: Mutex<RegistryState>,
    known: IntGauge,
    observer: ArcSwapOption<RecordObserver>,
}

/// Who is told of the table's entries as they are read.
pub type RecordObserver = Box<dyn Fn(&[DomainRecord]) + Send + Sync>;

struct RegistryState {
    revision: Revision,
    lists: Lists,
    /// What the first full reading has taken over so far. In use at its end alone: until then a wildcard might serve a name whose own
    /// entry is suspended and not read yet.
    loading: Option<Snapshot>,
    /// Entries of a copy of former times, which the snapshot has until the table says anything of them, or was read whole.
    restored: HashSet<Pattern>,
    /// What the snapshot serves and what is remembered.
    names: Patterns,
    /// Names that no list holds and a source allowed, and until when the guard has them.
    remembered: HashMap<Pattern, Instant>,
    /// Names that left the configuration's list, and when: what the table says of them is known with the first full reading that begins
    /// later. Until then hellos for them come through, since the data plane asks the table for each.
    leaving: HashMap<Pattern, Micros>,
    /// Whether `remembered` changed since it was published.
    unpublished: bool,
}

/// Whether the lists were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lists {
    Partial,
    Whole,
}

/// Whether a name that leaves the configuration's list may have an entry elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListedElsewhere {
    /// In the table, whose entry of a listed name is not kept.
    Perhaps,
    /// There is no table.
    No,
}

impl NameRegistry {
    pub(super) fn new(snapshot: Snapshot, lists: Lists, known: IntGauge) -> Self {
        let names = snapshot.served().collect();
        let state = RegistryState {
            revision: Revision::FIRST,
            lists,
            loading: None,
            restored: HashSet::new(),
            names,
            remembered: HashMap::new(),
            leaving: HashMap::new(),
            unpublished: false,
        };
        let registry = Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            names: watch::Sender::new(state.published()),
            state: Mutex::new(state),
            known,
            observer: ArcSwapOption::empty(),
        };
        registry.count(&registry.lock());
        registry
    }

    pub(super) fn find(&self, name: &ServerName) -> SnapshotMatch {
        self.snapshot.load().find(name)
    }

    /// Whether `entry`, by which a source allowed a name that no list holds, is in a list by now: it no longer speaks for that name, which
    /// was the other one of its pair.
    pub(super) fn supersedes(&self, entry: &DomainEntry) -> bool {
        self.snapshot.load().holds(&entry.pattern)
    }

    pub(super) fn listed_count(&self) -> usize {
        self.snapshot.load().served().count()
    }

    /// The snapshot of this moment.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// How the entry of `name` came to deny it, if there is one.
    pub(super) fn withdrawal(&self, name: &ServerName) -> Option<Withdrawal> {
        self.snapshot.load().withdrawal(name)
    }

    pub(super) fn names(&self) -> watch::Receiver<NameSet> {
        self.names.subscribe()
    }

    /// Takes over what is new in `records`; returns the revision that holds them.
    pub(super) fn apply(&self, records: &[DomainRecord]) -> Revision {
        self.tell(records);
        let mut state = self.lock();
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        let mut others = Vec::new();
        state.with_loading(|loading| {
            for record in records {
                others.extend(loading.counterpart(&record.pattern));
                loading.apply(record);
            }
        });
        if state.take_over(&mut snapshot, records) == Applied::Known {
            return state.revision;
        }
        for other in &others {
            state.weigh(&snapshot, other);
        }
        self.snapshot.store(Arc::new(snapshot));
        self.publish(&mut state)
    }

    /// Takes over a part of a full reading.
    pub(super) fn take_part(&self, records: &[DomainRecord]) {
        let mut state = self.lock();
        if state.lists == Lists::Whole {
            drop(state);
            self.apply(records);
            return;
        }
        self.tell(records);
        let mut loading =
            state.loading.take().unwrap_or_else(|| state.without_restored(&self.snapshot.load()));
        state.take_over(&mut loading, records);
        state.loading = Some(loading);
    }

    /// Serves by `records`, which are a copy of former times, until the table was read whole; says whether it was not by now.
    pub(super) fn restore(&self, records: &[DomainRecord]) -> bool {
        let mut state = self.lock();
        if state.lists == Lists::Whole {
            return false;
        }
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        // What a look-up has found by now is the table's.
        let lacking: Vec<_> =
            records.iter().filter(|record| !snapshot.holds(&record.pattern)).cloned().collect();
        state.take_over(&mut snapshot, &lacking);
        state.restored.extend(lacking.into_iter().map(|record| record.pattern));
        self.snapshot.store(Arc::new(snapshot));
        self.publish(&mut state);
        true
    }

    /// Whether a copy of former times alone says what the entry of `pattern` is.
    pub(super) fn is_restored(&self, pattern: &Pattern) -> bool {
        self.lock().restored.contains(pattern)
    }

    /// Has `observer` told of each entry that is read from now on.
    pub(super) fn observe(&self, observer: RecordObserver) {
        self.observer.store(Some(Arc::new(observer)));
    }

    fn tell(&self, records: &[DomainRecord]) {
        if let Some(observer) = self.observer.load().as_deref() {
            observer(records);
        }
    }

    /// Replaces the entries of the configuration at `now`. Where there is a table, a full reading has to follow.
    pub(super) fn relist(&self, list: &[StaticDomain], table: ListedElsewhere, now: Micros) {
        let mut state = self.lock();
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        state.with_loading(|loading| drop(loading.relist(list)));
        for pattern in snapshot.relist(list) {
            if table == ListedElsewhere::Perhaps
                && state.names.contains(&pattern)
                && !snapshot.serves(&pattern)
            {
                state.leaving.insert(pattern.clone(), now);
            }
            state.weigh(&snapshot, &pattern);
        }
        self.snapshot.store(Arc::new(snapshot));
        self.publish(&mut state);
    }

    /// Ends a full reading of the table that began at `began`, and whose entries were taken over: what it has not seen is gone.
    pub(super) fn end_reading(&self, seen: &SeenPatterns, began: Micros) {
        let mut state = self.lock();
        let former = self.snapshot.load();
        let mut snapshot = state.loading.take().unwrap_or_else(|| state.without_restored(&former));
        let mut gone = snapshot.retain_seen(seen, began.less(INDEX_LAG));
        let restored = std::mem::take(&mut state.restored);
        gone.extend(restored.iter().filter_map(|pattern| former.counterpart(pattern)));
        gone.extend(restored);
        gone.extend(state.leaving.extract_if(|_, left| *left < began).map(|(gone, _)| gone));
        for pattern in &gone {
            state.weigh(&snapshot, pattern);
        }
        if !gone.is_empty() || state.lists == Lists::Partial {
            state.lists = Lists::Whole;
            self.snapshot.store(Arc::new(snapshot));
            self.publish(&mut state);
        }
    }

    /// A source allowed `pattern`, which no list holds: the guard gets it with the next [`NameRegistry::publish_remembered`].
    pub(super) fn remember(&self, pattern: Pattern, now: Instant) {
        let mut state = self.lock();
        if state.remembered.len() >= MAX_REMEMBERED && !state.remembered.contains_key(&pattern) {
            return;
        }
        state.names.insert(pattern.clone());
        state.unpublished |= state.remembered.insert(pattern, now + REMEMBERED_LIFE).is_none();
    }

    /// A source denied `pattern`.
    pub(super) fn forget(&self, pattern: &Pattern) {
        let mut state = self.lock();
        if state.remembered.remove(pattern).is_some() {
            state.weigh(&self.snapshot.load(), pattern);
            state.unpublished = true;
        }
    }

    /// Publishes what was remembered and forgotten: together, since each set of names wakes its followers.
    pub(super) fn publish_remembered(&self, now: Instant) {
        let mut state = self.lock();
        let gone: Vec<_> =
            state.remembered.extract_if(|_, until| *until <= now).map(|(gone, _)| gone).collect();
        for pattern in &gone {
            state.weigh(&self.snapshot.load(), pattern);
        }
        if state.unpublished || !gone.is_empty() {
            self.publish(&mut state);
        }
    }

    fn publish(&self, state: &mut RegistryState) -> Revision {
        state.revision = state.revision.next();
        state.unpublished = false;
        self.count(state);
        self.names.send_replace(state.published());
        state.revision
    }

    fn count(&self, state: &RegistryState) {
        self.known.set(i64::try_from(state.names.len()).unwrap_or(i64::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, RegistryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RegistryState {
    fn with_loading(&mut self, change: impl FnOnce(&mut Snapshot)) {
        if let Some(loading) = &mut self.loading {
            change(loading);
        }
    }

    /// What the table and the settings have said of `snapshot`.
    fn without_restored(&self, snapshot: &Snapshot) -> Snapshot {
        let mut snapshot = snapshot.clone();
        for pattern in &self.restored {
            snapshot.forget(pattern);
        }
        snapshot
    }

    fn published(&self) -> NameSet {
        let revision = match self.lists {
            Lists::Partial => None,
            Lists::Whole => Some(self.revision),
        };
        NameSet { revision, patterns: self.names.clone() }
    }

    /// A list that speaks of a pattern ends what was remembered of it.
    fn take_over(&mut self, snapshot: &mut Snapshot, records: &[DomainRecord]) -> Applied {
        let mut applied = Applied::Known;
        for record in records {
            let before = snapshot.counterpart(&record.pattern);
            if self.restored.remove(&record.pattern) {
                // Whatever version a copy has: the table may be one of before.
                snapshot.forget(&record.pattern);
            }
            if snapshot.apply(record) == Applied::Changed {
                applied = Applied::Changed;
                let other = before.or_else(|| snapshot.counterpart(&record.pattern));
                for pattern in [Some(record.pattern.clone()), other].into_iter().flatten() {
                    self.remembered.remove(&pattern);
                    self.leaving.remove(&pattern);
                    self.weigh(snapshot, &pattern);
                }
            }
        }
        applied
    }

    /// Puts `pattern` among the names, or takes it out.
    fn weigh(&mut self, snapshot: &Snapshot, pattern: &Pattern) {
        let is_loaded = self.loading.as_ref().is_some_and(|loading| loading.serves(pattern));
        let is_kept = self.remembered.contains_key(pattern) || self.leaving.contains_key(pattern);
        if snapshot.serves(pattern) || is_loaded || is_kept {
            self.names.insert(pattern.clone());
        } else {
            self.names.remove(pattern);
        }
    }
}

/// Generously more than an index stays behind its table.
const INDEX_LAG: Duration = Duration::from_mins(1);
const MAX_REMEMBERED: usize = 100_000;
/// A name that nobody asked about for so long is no longer let through unseen.
const REMEMBERED_LIFE: Duration = Duration::from_hours(24);

impl NamesOfOthers for NameRegistry {
    /// Of names that are served or suspended.
    fn search(&self, wildcard: &Pattern, tenant: &str) -> Search {
        if let Lists::Partial = self.lock().lists {
            return Search::NotYet;
        }
        let (snapshot, wildcard, tenant) = (self.snapshot.load_full(), wildcard.clone(), tenant.to_owned());
        Search::Yes(Box::new(move || snapshot.below(&wildcard).any(|owner| owner != tenant)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domains::change, store::domain_table::DomainStatus};

    fn says(registry: &NameRegistry, name: &str) -> &'static str {
        match registry.find(&ServerName::parse(name).unwrap()) {
            SnapshotMatch::Served(_) => "served",
            SnapshotMatch::Withdrawn => "withdrawn",
            SnapshotMatch::Nothing => "nothing",
        }
    }

    fn of_version(name: &str, version: u64, status: DomainStatus) -> DomainRecord {
        DomainRecord { version, changed_at: Some(Micros::from_epoch(version)), status, ..record(name) }
    }

    #[test]
    fn what_was_restored_is_served_until_the_table_speaks_whatever_its_version() {
        use DomainStatus::{Active, Suspended};
        let registry = registry(Lists::Partial);
        let named = |name: &str| registry.names().borrow().patterns.contains(&Pattern::parse(name).unwrap());
        // A look-up was answered before.
        registry.apply(&[of_version("looked.example", 1, Suspended)]);
        assert!(registry.restore(&[
            of_version("stays.example", 9, Active),
            of_version("removed.example", 9, Active),
            of_version("suspended.example", 9, Active),
            of_version("found.example", 9, Active),
            of_version("looked.example", 9, Active),
            of_version("*.wide.example", 9, Active),
            of_version("bad.wide.example", 9, Suspended),
            // So late that an index might not show it yet, had the table said so.
            of_version("late.example", 999_999_999, Active),
        ]));
        for (name, said) in [
            ("stays.example", "served"),
            ("removed.example", "served"),
            ("a.wide.example", "served"),
            ("bad.wide.example", "withdrawn"),
            ("looked.example", "withdrawn"),
        ] {
            assert_eq!(says(&registry, name), said, "{name} by the copy");
        }
        assert!(registry.names().borrow().revision.is_none(), "the guard enforces nothing by a copy");
        assert!(named("removed.example") && named("*.wide.example"));
        let by_copy = |text: &str| registry.is_restored(&Pattern::parse(text).unwrap());
        assert!(by_copy("found.example") && !by_copy("looked.example") && !by_copy("other.example"));
        // The table was put back to one of before: its versions are older.
        registry.apply(&[of_version("found.example", 2, Suspended)]);
        assert_eq!(says(&registry, "found.example"), "withdrawn", "by a look-up");
        assert!(!by_copy("found.example"));
        let seen = [of_version("stays.example", 2, Active), of_version("suspended.example", 2, Suspended)];
        registry.take_part(&seen);
        assert_eq!(says(&registry, "removed.example"), "served", "until all was read");
        read_whole(&registry, &seen, &[], 1_000_000_000);
        for (name, said) in [
            ("stays.example", "served"),
            ("suspended.example", "withdrawn"),
            ("removed.example", "nothing"),
            ("found.example", "nothing"),
            ("a.wide.example", "nothing"),
            ("bad.wide.example", "nothing"),
            ("late.example", "nothing"),
        ] {
            assert_eq!(says(&registry, name), said, "{name} by the table");
        }
        assert!(named("stays.example") && !named("removed.example") && !named("*.wide.example"));
        assert!(!registry.restore(&[of_version("late.example", 9, Active)]), "the table was read");
        assert_eq!(says(&registry, "late.example"), "nothing");
    }

    fn registry(lists: Lists) -> NameRegistry {
        NameRegistry::new(Snapshot::default(), lists, IntGauge::new("known", "help").unwrap())
    }

    fn record(name: &str) -> DomainRecord {
        change::tests::record(name)
    }

    /// As a full reading that began at `began_micros` does that saw these.
    fn read_whole(
        registry: &NameRegistry,
        records: &[DomainRecord],
        malformed: &[Pattern],
        began_micros: u64,
    ) {
        let mut seen = SeenPatterns::default();
        records
            .iter()
            .map(|record| &record.pattern)
            .chain(malformed)
            .for_each(|pattern| seen.insert(pattern));
        records.chunks(1).for_each(|part| registry.take_part(part));
        registry.end_reading(&seen, Micros::from_epoch(began_micros));
    }

    #[test]
    fn no_wildcard_serves_a_name_whose_own_entry_is_not_read_yet() {
        let registry = registry(Lists::Partial);
        let mut suspended = record("a.shop.example");
        suspended.status = DomainStatus::Suspended;
        let (all, name) =
            ([record("*.shop.example"), suspended], ServerName::parse("a.shop.example").unwrap());
        registry.take_part(&all[..1]);
        assert!(matches!(registry.find(&name), SnapshotMatch::Nothing), "the table is asked for it");
        // What is changed meanwhile holds at once, and at the end of the reading too.
        registry.apply(&[record("new.example")]);
        read_whole(&registry, &all, &[Pattern::parse("new.example").unwrap()], 0);
        assert!(matches!(registry.find(&name), SnapshotMatch::Withdrawn));
        let new = ServerName::parse("new.example").unwrap();
        assert!(matches!(registry.find(&new), SnapshotMatch::Served(_)));
    }

    #[test]
    fn names_have_no_revision_until_all_lists_were_read() {
        let registry = registry(Lists::Partial);
        let names = registry.names();
        let promised = registry.apply(&[record("a.example")]);
        assert_eq!((names.borrow().revision, names.borrow().patterns.len()), (None, 1));
        read_whole(&registry, &[record("a.example"), record("b.example")], &[], 0);
        assert!(names.borrow().revision >= Some(promised));
        assert_eq!(names.borrow().patterns.len(), 2);
    }

    #[test]
    fn an_item_that_became_malformed_leaves_the_entry_that_was_known() {
        let registry = registry(Lists::Whole);
        let (odd, gone) = (record("odd.example"), record("gone.example"));
        registry.apply(&[odd.clone(), gone.clone()]);
        read_whole(&registry, &[], std::slice::from_ref(&odd.pattern), LATER_SECONDS * 1_000_000);
        let names = registry.names().borrow().clone();
        assert!(names.patterns.contains(&odd.pattern) && !names.patterns.contains(&gone.pattern));
    }

    fn list(names: &[&str]) -> Vec<StaticDomain> {
        let entry = |name: &&str| StaticDomain {
            name: Pattern::parse(name).unwrap(),
            target: None,
            settings: crate::config::DomainSettings::default(),
        };
        names.iter().map(entry).collect()
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;
        use crate::config::{DomainSettings, WwwPair};

        const NAMES: [&str; 3] = ["shop.example", "www.shop.example", "*.shop.example"];
        const STATUSES: [DomainStatus; 3] =
            [DomainStatus::Active, DomainStatus::Suspended, DomainStatus::Removed];
        const PAIRS: [Option<WwwPair>; 3] = [None, Some(WwwPair::Redirect), Some(WwwPair::Serve)];

        /// What is done: which name, its status, its setting, and how it is told.
        type Step = (usize, usize, usize, u8);

        fn settings(pair: usize) -> DomainSettings {
            DomainSettings { www: PAIRS[pair], ..DomainSettings::default() }
        }

        proptest! {
            #[test]
            fn the_guard_has_what_is_served_whatever_changed(
                steps in proptest::collection::vec((0..3_usize, 0..3_usize, 0..3_usize, 0..4_u8), 1..30),
            ) {
                let registry = registry(Lists::Partial);
                let mut table = std::collections::BTreeMap::new();
                for ((name, status, pair, how), at) in steps.into_iter().zip(1_u64..) {
                    let (name, status, pair, how): Step = (name, status, pair, how);
                    let changed_at = Some(Micros::from_epoch(at));
                    let new = DomainRecord { status: STATUSES[status], settings: settings(pair), version: at, changed_at, ..record(NAMES[name]) };
                    match how {
                        0 | 1 => {
                            table.insert(new.pattern.clone(), new.clone());
                            let all: Vec<_> = table.values().cloned().collect();
                            if how == 0 {
                                registry.apply(std::slice::from_ref(&new));
                            } else {
                                read_whole(&registry, &all, &[], at);
                            }
                        }
                        2 => {
                            let listed = StaticDomain { name: new.pattern, target: None, settings: settings(pair) };
                            registry.relist(&[listed], ListedElsewhere::No, Micros::from_epoch(at));
                        }
                        _ => {
                            table.remove(&new.pattern);
                            let all: Vec<_> = table.values().cloned().collect();
                            read_whole(&registry, &all, &[], LATER_SECONDS * 1_000_000);
                        }
                    }
                    if registry.lock().lists == Lists::Partial {
                        continue;
                    }
                    let names = registry.names().borrow().patterns.clone();
                    let served: Patterns = registry.snapshot.load().served().collect();
                    let delta = names.since(&served);
                    prop_assert!(delta == crate::domains::Delta::default(), "{delta:?}");
                    for text in ["shop.example", "www.shop.example", "a.shop.example"] {
                        let name = ServerName::parse(text).unwrap();
                        let is_served = matches!(registry.find(&name), SnapshotMatch::Served(_));
                        let is_let_through = name.patterns().any(|pattern| names.contains(&pattern));
                        prop_assert!(!is_served || is_let_through, "{text} is served, and rejected");
                    }
                }
            }
        }
    }

    #[test]
    fn a_name_that_moves_from_the_list_to_the_table_is_never_missing() {
        let (registry, elsewhere) = (registry(Lists::Whole), ListedElsewhere::Perhaps);
        let (moved, dropped) = (record("moved.example"), Pattern::parse("dropped.example").unwrap());
        let holds = |pattern: &Pattern| registry.names().borrow().patterns.contains(pattern);
        let at = |seconds: u64| Micros::from_epoch(seconds * 1_000_000);
        registry.relist(&list(&["moved.example", "dropped.example"]), elsewhere, at(1));
        registry.relist(&[], elsewhere, at(LATER_SECONDS));
        assert!(holds(&moved.pattern) && holds(&dropped));
        // A reading that had begun before has passed over what was listed.
        read_whole(&registry, &[], &[], (LATER_SECONDS - 1) * 1_000_000);
        assert!(holds(&moved.pattern) && holds(&dropped));
        read_whole(&registry, std::slice::from_ref(&moved), &[], (LATER_SECONDS + 1) * 1_000_000);
        assert!(holds(&moved.pattern) && !holds(&dropped));
        // What the table says of one that is leaving holds at once.
        registry.relist(&list(&["gone.example"]), elsewhere, at(LATER_SECONDS + 2));
        registry.relist(&[], elsewhere, at(LATER_SECONDS + 3));
        let removed = DomainRecord { status: DomainStatus::Removed, ..record("gone.example") };
        registry.apply(std::slice::from_ref(&removed));
        assert!(!holds(&removed.pattern));
    }

    #[test]
    fn names_follow_the_configurations_list() {
        let registry = registry(Lists::Whole);
        let remembered = Pattern::parse("remembered.example").unwrap();
        registry.remember(remembered.clone(), Instant::now());
        let relist =
            |names: &[&str]| registry.relist(&list(names), ListedElsewhere::No, Micros::from_epoch(0));
        relist(&["a.example", "*.b.example", "remembered.example"]);
        for (names, held) in [
            (&["a.example", "*.b.example", "remembered.example"][..], 3),
            (&["a.example", "*.c.example"], 3),
            (&[], 1),
        ] {
            relist(names);
            let told = registry.names().borrow().clone();
            assert_eq!(told.patterns.len(), held, "{names:?}");
            assert!(list(names).iter().all(|entry| told.patterns.contains(&entry.name)), "{names:?}");
            assert!(told.patterns.contains(&remembered), "{names:?}");
        }
    }

    /// Later than any change of [`record`] by more than an index stays behind.
    const LATER_SECONDS: u64 = 3_600;

    #[test]
    fn what_is_known_already_makes_no_revision() {
        let registry = registry(Lists::Whole);
        let first = registry.apply(&[record("a.example")]);
        assert_eq!(registry.apply(&[record("a.example")]), first);
        read_whole(&registry, &[record("a.example")], &[], 0);
        registry.publish_remembered(Instant::now());
        assert_eq!(registry.names().borrow().revision, Some(first));
    }

    #[test]
    fn what_was_remembered_goes_with_the_entry_that_is_removed() {
        let (registry, now) = (registry(Lists::Whole), Instant::now());
        let wildcard = record("*.a.example");
        registry.remember(wildcard.pattern.clone(), now);
        registry.publish_remembered(now);
        assert!(registry.names().borrow().patterns.contains(&wildcard.pattern));
        registry.apply(&[DomainRecord { status: DomainStatus::Removed, version: 2, ..wildcard.clone() }]);
        assert!(!registry.names().borrow().patterns.contains(&wildcard.pattern));
    }

    #[test]
    fn remembered_names_come_together_and_go_after_a_day() {
        let (registry, now) = (registry(Lists::Whole), Instant::now());
        let pattern = |n: usize| Pattern::parse(&format!("n{n}.example")).unwrap();
        let before = registry.names().borrow().revision.unwrap();
        for n in 0..MAX_REMEMBERED + 10 {
            registry.remember(pattern(n), now);
        }
        registry.forget(&pattern(0));
        registry.publish_remembered(now);
        let published = registry.names().borrow().clone();
        assert_eq!((published.revision, published.patterns.len()), (Some(before.next()), MAX_REMEMBERED - 1));
        registry.publish_remembered(now + REMEMBERED_LIFE);
        assert_eq!(registry.names().borrow().patterns.len(), 0);
    }
}
