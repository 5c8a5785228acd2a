//! Keeps the kernel's map of allowed names equal to the domain set, and its map of denials equal to the recent denials.
//! Not here: which names are allowed (`domains`); what follows when they do not fit (`enforcement`).
//! Invariants: the revision is published only after the kernel holds its names, or enforcement is ended
//! (`a_name_is_in_the_kernel_when_its_revision_is_held`); the cost of a change depends on its size, not on the size of the map; once
//! another start's program runs in the links, nothing is written any more (`a_guard_that_was_replaced_writes_nothing`).

use std::{
    future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aya::maps::{Array, HashMap, MapData, MapError};
use nix::errno::Errno;
use proxy_common::{
    maps::{DenialEntry, NameEntry, NameKey, map_names},
    name_hash,
};
use tokio::{
    sync::{broadcast, watch},
    task::spawn_blocking,
    time::{interval, sleep, sleep_until},
};
use tracing::{error, warn};

use super::{
    attachment::Standing,
    difference::{Difference, Hashes, hash},
    enforcer::Enforcer,
    error::{GuardError, absent_is_removed, errno},
    following::{Following, Stood},
    kernel_time::KernelTime,
    lingering::Lingering,
    maps::{failed, keys},
    metrics::GuardMetrics,
    names_state::{Names, NamesCell},
    policy::Policy,
};
use crate::{
    clock,
    domains::{Denied, NameSet, Patterns, Revision},
    name::ServerName,
};

/// The maps of names and denials with what they hold, and the policy that fits it.
pub(super) struct NameTable {
    key: NameKey,
    names: HashMap<MapData, u64, NameEntry>,
    denials: HashMap<MapData, u64, DenialEntry>,
    policy: Arc<Mutex<Policy>>,
    capacity: usize,
    state: NamesCell,
    /// Invariant: with `lingering`, the keys of `names`, unless `state` is [`Names::Full`] or [`Names::Failed`].
    held: Hashes,
    lingering: Lingering,
    /// The set whose hashes `held` counts; none before the first, and after a failure.
    applied: Option<Patterns>,
}

impl NameTable {
    /// Reads what a predecessor left, if anything; `state` says whether that was a complete set of names.
    pub(super) fn open(
        key: &Array<MapData, NameKey>,
        names: HashMap<MapData, u64, NameEntry>,
        denials: HashMap<MapData, u64, DenialEntry>,
        policy: Arc<Mutex<Policy>>,
        capacity: usize,
        state: NamesCell,
    ) -> Result<Self, GuardError> {
        let key = key.get(&0, 0).map_err(failed(map_names::NAME_KEY, "reading"))?;
        let held = keys(&names, capacity).map_err(failed(map_names::NAMES, "reading"))?;
        let held = held.into_iter().collect();
        let lingering = Lingering::default();
        Ok(Self { key, names, denials, policy, capacity, state, held, lingering, applied: None })
    }

    /// How many names the kernel holds.
    pub(super) fn len(&self) -> usize {
        self.held.len().saturating_add(self.lingering.len()).min(self.capacity)
    }

    /// How many it can hold.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// How far it is from the domain set.
    pub(super) fn state(&self) -> Names {
        self.state.get()
    }

    /// The same, as it changes.
    pub(super) fn cell(&self) -> NamesCell {
        self.state.clone()
    }

    /// Makes the kernel hold `set` at `now`, as far as it fits; before the lists are read, in addition to a predecessor's names.
    pub(super) fn follow(&mut self, set: &NameSet, now: Instant) {
        let followed = match (set.revision, self.state()) {
            (None, Names::Inherited) => self.inherit(&set.patterns).map(|()| Names::Inherited),
            (None, state) => Ok(state),
            (Some(_), _) => self.apply(&set.patterns, now).map(|()| Names::Held),
        };
        if let Err(error) = followed.and_then(|state| self.fit_policy(state)) {
            let failed = self.fail(&error);
            self.state.set(failed);
        }
    }

    fn fit_policy(&self, state: Names) -> Result<(), MapError> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner).fit(state)
    }

    /// Has the next [`NameTable::follow`] compare all that the map holds: somebody else may have written.
    fn compare_next(&mut self) {
        self.applied = None;
    }

    /// Writes what changed; all that differs when it is not known what the map holds.
    fn apply(&mut self, wanted: &Patterns, now: Instant) -> Result<(), MapError> {
        let hash = |pattern: &_| hash(&self.key, pattern);
        let mut difference = if let Some(applied) = self.applied.take() {
            self.held.change(&wanted.since(&applied), hash)
        } else {
            let there: Hashes = keys(&self.names, self.capacity)?.into_iter().collect();
            self.held = wanted.iter().map(hash).collect();
            // What a list holds by now is in neither half of the difference.
            self.lingering.retain(|hash| !self.held.contains(hash));
            self.compare(&there, now)
        };
        let room = self.capacity.saturating_sub(self.held.len());
        difference.remove.extend(self.lingering.end(&difference.add, room, now));
        self.write(&difference)?;
        self.applied = Some(wanted.clone());
        Ok(())
    }

    /// What makes the map, which holds `there`, hold what it should.
    fn compare(&mut self, there: &Hashes, now: Instant) -> Difference {
        let mut difference = there.towards(&self.held);
        if self.state() == Names::Inherited {
            self.lingering = Lingering::begin(std::mem::take(&mut difference.remove), now);
            return difference;
        }
        difference.remove.retain(|hash| !self.lingering.contains(*hash));
        let (missing, superfluous) = (difference.add.len(), difference.remove.len());
        if self.state() == Names::Held && (missing, superfluous) != (0, 0) {
            warn!(missing, superfluous, "the kernel's names were not those of the domain set, and are now");
        }
        difference
    }

    /// Adds what is known already, and removes nothing.
    fn inherit(&mut self, known: &Patterns) -> Result<(), MapError> {
        let news =
            known.iter().map(|pattern| hash(&self.key, pattern)).filter(|hash| !self.held.contains(*hash));
        let add: Vec<_> = news.collect();
        self.write(&Difference { remove: Vec::new(), add: add.clone() })?;
        for hash in add {
            self.held.count(hash);
        }
        Ok(())
    }

    fn fail(&mut self, error: &MapError) -> Names {
        if errno(error) == Some(Errno::E2BIG) {
            let (names, capacity) = (self.held.len(), self.capacity);
            error!(names, capacity, "more names than the guard can hold; raise `guard.names`");
            return Names::Full;
        }
        error!(error = error as &dyn std::error::Error, "the kernel refused a name");
        Names::Failed
    }

    /// What is allowed before and after, by another name of the difference, is allowed meanwhile: additions come first, as long as there is
    /// room for them.
    fn write(&mut self, Difference { remove, add }: &Difference) -> Result<(), MapError> {
        let mut removals = remove.iter();
        for name in add {
            while let Err(error) = self.names.insert(name, NameEntry::default(), 0) {
                let superfluous = removals.next().filter(|_| errno(&error) == Some(Errno::E2BIG));
                absent_is_removed(self.names.remove(superfluous.ok_or(error)?))?;
            }
            absent_is_removed(self.denials.remove(name))?;
        }
        removals.try_for_each(|name| absent_is_removed(self.names.remove(name)))
    }

    /// Makes the kernel reject `name` for `ttl`, unless it is allowed.
    fn deny(&mut self, name: &ServerName, now: KernelTime, ttl: Duration) -> Result<(), MapError> {
        let name = name_hash::exact(&self.key, name.as_str().as_bytes());
        if self.held.contains(name) {
            return Ok(());
        }
        if self.lingering.remove(name) {
            absent_is_removed(self.names.remove(&name))?;
        }
        self.denials.insert(name, DenialEntry { until_ns: now.plus(ttl).0 }, 0)
    }
}

/// The task that follows the domain set.
pub(super) struct NamesFollower {
    pub(super) names: watch::Receiver<NameSet>,
    pub(super) denials: broadcast::Receiver<Denied>,
    /// Absent, as long as user space uses the denial.
    pub(super) denial_ttl: Option<Duration>,
    pub(super) enforcer: Arc<Enforcer>,
    pub(super) metrics: GuardMetrics,
    /// The revision the kernel holds.
    pub(super) held: watch::Sender<Option<Revision>>,
    /// Whether to follow.
    pub(super) following: Following,
}

impl NamesFollower {
    /// Runs until the domain set ends.
    ///
    /// # Cancel safety
    /// Dropped, it lets a difference that is being written finish on its own thread; the map then holds one complete
    /// revision, and nothing is published.
    pub(super) async fn follow(mut self, mut table: NameTable) {
        let mut told = true;
        let mut comparisons = interval(COMPARISON);
        comparisons.reset();
        loop {
            if self.following.stand_still().await == Stood::Still {
                table.compare_next();
                told = true;
            }
            let is_new = told || self.names.has_changed().unwrap_or(false);
            let set = self.names.borrow_and_update().clone();
            if is_new || set.revision != *self.held.borrow() || table.state() == Names::Failed {
                match self.enforcer.standing() {
                    Standing::InForce => {}
                    Standing::Contested => {
                        told = true;
                        sleep(LOOK).await;
                        continue;
                    }
                    Standing::Over => return,
                }
                let Some(followed) = follow(table, set.clone()).await else {
                    self.enforcer.fail_names();
                    return;
                };
                table = followed;
                self.publish(&table, set.revision);
            }
            told = tokio::select! {
                changed = self.names.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    true
                }
                denied = next(&mut self.denials) => {
                    self.deny(&mut table, &denied);
                    false
                }
                () = retry(table.state()) => false,
                () = end(&table.lingering) => true,
                _ = comparisons.tick() => {
                    table.compare_next();
                    true
                }
                () = self.following.interrupted() => false,
            };
        }
    }

    /// Informs enforcement, then those that wait for the revision.
    pub(super) fn publish(&self, table: &NameTable, revision: Option<Revision>) {
        self.enforcer.wake();
        self.metrics.names(table.len(), table.state());
        self.held.send_replace(revision);
    }

    /// Not for longer than user space uses the denial itself.
    fn deny(&self, table: &mut NameTable, denied: &Denied) {
        // The maps are another program's, or may be; a denial that is lost is found again.
        if self.enforcer.standing() != Standing::InForce {
            return;
        }
        let Ok(now) = KernelTime::now() else { return };
        if let Err(error) =
            table.deny(&denied.name, now, self.denial_ttl.map_or(denied.ttl, |ttl| ttl.min(denied.ttl)))
        {
            warn!(error = &error as &dyn std::error::Error, "a denial could not be written");
        }
        self.metrics.names(table.len(), table.state());
    }
}

/// On a thread of its own, since a first difference is a million system calls.
async fn follow(mut table: NameTable, set: NameSet) -> Option<NameTable> {
    let followed = spawn_blocking(move || {
        table.follow(&set, clock::now());
        table
    });
    followed.await.ok()
}

/// The next denial. Those that were missed meanwhile are found again when they are asked for again.
async fn next(denials: &mut broadcast::Receiver<Denied>) -> Denied {
    loop {
        match denials.recv().await {
            Ok(denied) => return denied,
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => future::pending().await,
        }
    }
}

async fn retry(state: Names) {
    match state {
        Names::Failed => sleep(RETRY).await,
        Names::Unread | Names::Inherited | Names::Held | Names::Full => future::pending().await,
    }
}

async fn end(lingering: &Lingering) {
    match lingering.until() {
        Some(until) => sleep_until(until.into()).await,
        None => future::pending().await,
    }
}

/// How often the whole map is compared with what it should hold: whoever may write it may have written something else.
const COMPARISON: Duration = Duration::from_hours(1);
/// How often it is looked who has the links, while that is open.
const LOOK: Duration = Duration::from_millis(250);
/// After a refusal by the kernel, which is short of memory if anything.
const RETRY: Duration = Duration::from_secs(5);
