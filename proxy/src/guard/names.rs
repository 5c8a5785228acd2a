//! Keeps the kernel's map of allowed names in step with the domain set, and its map of denials with what was denied.
//! Not here: which names are allowed (`domains`); what follows when they do not fit (`enforcement`).
//! Invariant: the revision is published only after the kernel holds its names, or enforcement is told to end
//! (`a_name_is_in_the_kernel_when_its_revision_is_held`).

use std::{collections::HashSet, future, sync::Arc, time::Duration};

use aya::maps::{Array, HashMap, MapData, MapError};
use nix::errno::Errno;
use proxy_common::{
    maps::{DenialEntry, NameEntry, NameKey, map_names},
    name_hash,
};
use tokio::{
    sync::{broadcast, watch},
    task::spawn_blocking,
    time::sleep,
};
use tracing::{error, warn};

use super::{
    difference::{Difference, hash},
    enforcement::{Enforcer, KernelTime, Names},
    error::{GuardError, errno},
    maps::{failed, keys},
    metrics::GuardMetrics,
};
use crate::{
    domains::{Denied, NameSet},
    name::{Pattern, ServerName},
};

/// The maps of names and denials with what they hold.
pub(super) struct NameTable {
    key: NameKey,
    names: HashMap<MapData, u64, NameEntry>,
    denials: HashMap<MapData, u64, DenialEntry>,
    capacity: usize,
    /// Invariant: the keys of `names`.
    held: HashSet<u64>,
}

impl NameTable {
    /// Reads what a predecessor left, if anything.
    pub(super) fn open(
        key: &Array<MapData, NameKey>,
        names: HashMap<MapData, u64, NameEntry>,
        denials: HashMap<MapData, u64, DenialEntry>,
        capacity: usize,
    ) -> Result<Self, GuardError> {
        let key = key.get(&0, 0).map_err(failed(map_names::NAME_KEY, "reading"))?;
        let held = keys(&names, capacity).map_err(failed(map_names::NAMES, "reading"))?;
        Ok(Self { key, names, denials, capacity, held: held.into_iter().collect() })
    }

    /// How many names the kernel holds.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// How many it can hold.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Makes the kernel hold `wanted`, as far as it fits.
    pub(super) fn apply(&mut self, wanted: &HashSet<Pattern>) -> Names {
        let wanted = wanted.iter().map(|pattern| hash(&self.key, pattern)).collect();
        let difference = Difference::between(&self.held, &wanted);
        match self.write(&difference) {
            Ok(()) => Names::Held,
            Err(error) if errno(&error) == Some(Errno::E2BIG) => {
                let (names, capacity) = (wanted.len(), self.capacity);
                error!(names, capacity, "more names than the guard holds; raise `guard.names`");
                Names::Full
            }
            Err(error) => {
                error!(error = &error as &dyn std::error::Error, "the kernel refused a name");
                Names::Failed
            }
        }
    }

    fn write(&mut self, difference: &Difference) -> Result<(), MapError> {
        for name in &difference.remove {
            absent_is_removed(self.names.remove(name))?;
            self.held.remove(name);
        }
        for name in &difference.add {
            self.names.insert(name, NameEntry::default(), 0)?;
            self.held.insert(*name);
            absent_is_removed(self.denials.remove(name))?;
        }
        Ok(())
    }

    /// Has the kernel reject `name` for `ttl`, unless it is allowed.
    fn deny(&mut self, name: &ServerName, now: KernelTime, ttl: Duration) -> Result<(), MapError> {
        let name = name_hash::exact(&self.key, name.as_str().as_bytes());
        if self.held.contains(&name) {
            return Ok(());
        }
        self.denials.insert(name, DenialEntry { until_ns: now.plus(ttl) }, 0)
    }
}

fn absent_is_removed(removal: Result<(), MapError>) -> Result<(), MapError> {
    match removal {
        Err(error) if errno(&error) == Some(Errno::ENOENT) => Ok(()),
        done => done,
    }
}

/// The task that follows the domain set.
pub(super) struct Follower {
    pub(super) names: watch::Receiver<NameSet>,
    pub(super) denials: broadcast::Receiver<Denied>,
    pub(super) denial_ttl: Duration,
    pub(super) enforcer: Arc<Enforcer>,
    pub(super) metrics: GuardMetrics,
    /// The revision the kernel holds.
    pub(super) held: watch::Sender<u64>,
}

impl Follower {
    /// Runs until the domain set ends.
    ///
    /// # Cancel safety
    /// Dropped, it lets a difference that is being written finish on its own thread; the map then holds some revision in
    /// whole, and nothing is published.
    pub(super) async fn follow(mut self, mut table: NameTable, mut state: Names) {
        loop {
            let set = self.names.borrow_and_update().clone();
            if set.revision > 0 && (set.revision != *self.held.borrow() || state == Names::Failed) {
                let Some(applied) = apply(table, &set).await else {
                    self.enforcer.names(Names::Failed);
                    return;
                };
                (table, state) = applied;
                self.publish(&table, state, set.revision);
            }
            tokio::select! {
                changed = self.names.changed() => if changed.is_err() { return },
                denied = next(&mut self.denials) => self.deny(&mut table, &denied),
                () = retry(state) => {}
            }
        }
    }

    /// Tells enforcement, then whoever waits for the revision.
    pub(super) fn publish(&self, table: &NameTable, state: Names, revision: u64) {
        self.enforcer.names(state);
        self.metrics.names(table.len(), state);
        self.held.send_replace(revision);
    }

    fn deny(&self, table: &mut NameTable, denied: &Denied) {
        let Ok(now) = KernelTime::now() else { return };
        if let Err(error) = table.deny(&denied.name, now, self.denial_ttl) {
            warn!(error = &error as &dyn std::error::Error, "a denial could not be entered");
        }
    }
}

/// On a thread of its own, since a first difference is a million system calls.
async fn apply(mut table: NameTable, set: &NameSet) -> Option<(NameTable, Names)> {
    let patterns = Arc::clone(&set.patterns);
    let applied = spawn_blocking(move || {
        let state = table.apply(&patterns);
        (table, state)
    });
    applied.await.ok()
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
        Names::Unread | Names::Held | Names::Full => future::pending().await,
    }
}

/// After a refusal by the kernel, which is short of memory if anything.
const RETRY: Duration = Duration::from_secs(5);
