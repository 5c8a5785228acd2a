//! The one writer of the snapshot and of the names the guard is given.
//! Invariant: a set of names has a revision above 0 only once every list was read whole, so that a guard that enforces rejects no name
//! for want of reading (`names_have_no_revision_until_all_lists_were_read`).

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use prometheus::IntGauge;
use tokio::sync::watch;

use super::{
    NameSet,
    snapshot::{Applied, Found, Snapshot},
};
use crate::{
    config::StaticDomain,
    name::{Pattern, ServerName},
    store::{domain_table::Record, instant::Micros},
};

/// Snapshot and published names. Readers never wait; writers are the control plane's.
pub(super) struct Ledger {
    snapshot: ArcSwap<Snapshot>,
    names: watch::Sender<NameSet>,
    state: Mutex<State>,
    known: IntGauge,
}

struct State {
    revision: u64,
    lists: Lists,
    /// Names that no list holds and a source allowed, until when the guard is told of them.
    remembered: HashMap<Pattern, Instant>,
    /// Whether `remembered` changed since it was published.
    unpublished: bool,
}

/// Whether the lists were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lists {
    Partial,
    Whole,
}

impl Ledger {
    pub(super) fn new(snapshot: Snapshot, lists: Lists, known: IntGauge) -> Self {
        let state = State { revision: 0, lists, remembered: HashMap::new(), unpublished: false };
        let ledger = Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            names: watch::Sender::new(NameSet::default()),
            state: Mutex::new(state),
            known,
        };
        ledger.publish(&mut ledger.lock());
        ledger
    }

    pub(super) fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    pub(super) fn find(&self, name: &ServerName) -> Found {
        self.snapshot.load().find(name)
    }

    pub(super) fn names(&self) -> watch::Receiver<NameSet> {
        self.names.subscribe()
    }

    /// Takes over what is new in `records`; returns the revision that holds them.
    pub(super) fn apply(&self, records: &[Record]) -> u64 {
        let mut state = self.lock();
        let held = self.snapshot.load_full();
        let news: Vec<_> = records.iter().filter(|record| held.lacks(record)).collect();
        if news.is_empty() {
            return state.revision;
        }
        let mut snapshot = Snapshot::clone(&held);
        for record in news {
            snapshot.apply(record);
        }
        self.snapshot.store(Arc::new(snapshot));
        self.publish(&mut state)
    }

    /// Replaces the entries of the configuration. What the table says of a name that was listed is found with its next
    /// hello, or with the next full reading.
    pub(super) fn relist(&self, list: &[StaticDomain]) {
        let mut state = self.lock();
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        snapshot.relist(list);
        self.snapshot.store(Arc::new(snapshot));
        self.publish(&mut state);
    }

    /// Takes over a full reading of the table that began at `began`.
    pub(super) fn reconcile(&self, records: &[Record], began: Micros) {
        let mut state = self.lock();
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        let mut changed = Applied::Known;
        for record in records {
            if snapshot.apply(record) == Applied::Changed {
                changed = Applied::Changed;
            }
        }
        let seen: HashSet<_> = records.iter().map(|record| record.pattern.clone()).collect();
        if snapshot.retain_seen(&seen, began.less(INDEX_LAG)) == Applied::Changed {
            changed = Applied::Changed;
        }
        if changed == Applied::Changed || state.lists == Lists::Partial {
            state.lists = Lists::Whole;
            self.snapshot.store(Arc::new(snapshot));
            self.publish(&mut state);
        }
    }

    /// A source allowed `pattern`, which no list holds: the guard is told with the next [`Ledger::publish_remembered`].
    pub(super) fn remember(&self, pattern: Pattern, now: Instant) {
        let mut state = self.lock();
        if state.remembered.len() >= MAX_REMEMBERED && !state.remembered.contains_key(&pattern) {
            return;
        }
        state.unpublished |= state.remembered.insert(pattern, now + REMEMBERED_LIFE).is_none();
    }

    /// A source denied `pattern`.
    pub(super) fn forget(&self, pattern: &Pattern) {
        let mut state = self.lock();
        state.unpublished |= state.remembered.remove(pattern).is_some();
    }

    /// Publishes what was remembered and forgotten: together, since a set of names is copied whole.
    pub(super) fn publish_remembered(&self, now: Instant) {
        let mut state = self.lock();
        let before = state.remembered.len();
        state.remembered.retain(|_, until| *until > now);
        if state.unpublished || state.remembered.len() != before {
            self.publish(&mut state);
        }
    }

    fn publish(&self, state: &mut State) -> u64 {
        state.revision += 1;
        state.unpublished = false;
        let snapshot = self.snapshot.load();
        let patterns: HashSet<_> =
            snapshot.served().cloned().chain(state.remembered.keys().cloned()).collect();
        self.known.set(i64::try_from(patterns.len()).unwrap_or(i64::MAX));
        let revision = match state.lists {
            Lists::Partial => 0,
            Lists::Whole => state.revision,
        };
        self.names.send_replace(NameSet { revision, patterns: Arc::new(patterns) });
        state.revision
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Generously more than an index stays behind its table.
const INDEX_LAG: Duration = Duration::from_mins(1);
const MAX_REMEMBERED: usize = 100_000;
/// A name that nobody asked about for so long is no longer let through unseen.
const REMEMBERED_LIFE: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domains::change;

    fn ledger(lists: Lists) -> Ledger {
        Ledger::new(Snapshot::default(), lists, IntGauge::new("known", "help").unwrap())
    }

    fn record(name: &str) -> Record {
        change::tests::record(name)
    }

    #[test]
    fn names_have_no_revision_until_all_lists_were_read() {
        let ledger = ledger(Lists::Partial);
        let names = ledger.names();
        let promised = ledger.apply(&[record("a.example")]);
        assert_eq!((names.borrow().revision, names.borrow().patterns.len()), (0, 1));
        ledger.reconcile(&[record("a.example"), record("b.example")], Micros::from_epoch(0));
        assert!(names.borrow().revision >= promised);
        assert_eq!(names.borrow().patterns.len(), 2);
    }

    #[test]
    fn what_is_known_already_makes_no_revision() {
        let ledger = ledger(Lists::Whole);
        let first = ledger.apply(&[record("a.example")]);
        assert_eq!(ledger.apply(&[record("a.example")]), first);
        ledger.reconcile(&[record("a.example")], Micros::from_epoch(0));
        ledger.publish_remembered(Instant::now());
        assert_eq!(ledger.names().borrow().revision, first);
    }

    #[test]
    fn remembered_names_come_together_and_go_after_a_day() {
        let (ledger, now) = (ledger(Lists::Whole), Instant::now());
        let pattern = |n: usize| Pattern::parse(&format!("n{n}.example")).unwrap();
        let before = ledger.names().borrow().revision;
        for n in 0..MAX_REMEMBERED + 10 {
            ledger.remember(pattern(n), now);
        }
        ledger.forget(&pattern(0));
        ledger.publish_remembered(now);
        let published = ledger.names().borrow().clone();
        assert_eq!((published.revision, published.patterns.len()), (before + 1, MAX_REMEMBERED - 1));
        ledger.publish_remembered(now + REMEMBERED_LIFE);
        assert_eq!(ledger.names().borrow().patterns.len(), 0);
    }
}
