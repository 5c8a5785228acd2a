//! Whether a name may be served, and where its requests go: static list, domains table, ask endpoint, in this order.
//! Not here: certificates; how items are stored (`store`).
//! Invariants: an answer from memory never waits (`known` is synchronous); look-ups of other names draw on one budget per process and one
//! per source (`a_flood_of_names_costs_the_budget_and_no_more`); correctness does not depend on the feed: a missed name is found by its
//! first ClientHello (`a_name_the_feed_has_not_shown_is_found_on_its_first_hello`); a source that is down denies nothing
//! (`a_table_that_is_down_denies_nothing`), and its names keep their last entries
//! (`the_last_entry_of_a_name_is_kept_while_its_source_cannot_be_asked`).

pub mod admin;
mod administration;
mod ask;
pub mod ask_answer;
mod budget;
pub mod change;
pub mod entry_count;
mod feed;
mod full_reading;
pub mod import;
mod last_known;
mod last_use;
mod local_copy;
mod lookup;
mod metrics;
mod name_registry;
mod outage;
mod patterns;
mod permission;
mod permission_cache;
mod refused;
pub mod revision;
mod search;
mod seen_patterns;
mod shards;
mod snapshot;
mod table_permission;

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use prometheus::Registry;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, broadcast, watch},
};

pub use ask::{AskError, AskState, Probed as AskProbed, Silence as AskSilence, probe as probe_ask};
pub(crate) use budget::LookupBudgets;
pub use change::ChangeError;
pub(crate) use change::follow_checks;
pub use last_use::LastUse;
pub use local_copy::CopiedNames;
pub use patterns::{Delta, Patterns};
pub use permission::{Denial, DomainEntry, Permission, PermissionSource, UnknownReason};
pub use revision::Revision;
pub use search::Sought;
pub(crate) use search::search_in_turn;
pub use table_permission::permission_by_table;

use crate::{
    clock, config,
    name::ServerName,
    single_flight::SingleFlight,
    store::{Store, instant::Micros},
};
use ask::Ask;
use feed::Feed;
use last_known::LastKnown;
use metrics::{DomainMetrics, PermissionResult};
pub use name_registry::RecordObserver;
use name_registry::{ListedElsewhere, Lists, NameRegistry};
use outage::Outage;
use permission_cache::{CacheLifetimes, Freshness, PermissionCache};
use snapshot::{Snapshot, SnapshotMatch};

/// On whose account a look-up is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// A client, which has a budget of its own (IPv4 /32, IPv6 /64) within the total.
    Client(IpAddr),
    /// This process, for a certificate that is to be renewed or ordered: the total alone bounds it.
    Internal,
}

/// All names allowed at one moment, for the guard.
#[derive(Debug, Clone, Default)]
pub struct NameSet {
    /// Grows with each change; none until every list was read completely: until then there is nothing to enforce.
    pub revision: Option<Revision>,
    /// Static, table and remembered ask names.
    pub patterns: Patterns,
}

/// A name denied after a look-up; never sent for `Permission::Unknown`.
#[derive(Debug, Clone)]
pub struct Denied {
    /// The name.
    pub name: ServerName,
    /// How long it stays denied.
    pub ttl: Duration,
}

/// How far the lists were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListingProgress {
    /// The table is being read for the first time.
    Loading,
    /// Every list was read completely.
    Loaded,
    /// Every list was read completely, and the table has not answered for a while: names in memory are served, others are unknown.
    Degraded,
    /// The table could not be read yet: the static list is served, other names are unknown; it is tried again all the time.
    SourceDown,
    /// The same, and a copy of former times is served until the table was read.
    Restored,
}

/// Why permission cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum DomainsStartError {
    /// The ask endpoint.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// A metric is registered already.
    #[error("metrics of `domains` cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

/// Permission and routing of the process; cheap to clone, callable from any runtime.
#[derive(Clone)]
pub struct Domains {
    inner: Arc<DomainsInner>,
    _feed: Option<Arc<Feed>>,
}

struct DomainsInner {
    config: config::DomainsConfig,
    /// The list of the settings; it may be replaced.
    listed: ArcSwap<Vec<config::StaticDomain>>,
    /// Whether that list was replaced since the table was last read completely.
    relisted: AtomicBool,
    control: Handle,
    table: Option<Store>,
    ask: ArcSwapOption<Ask>,
    registry: NameRegistry,
    answers: PermissionCache,
    last_known: LastKnown,
    last_use: LastUse,
    lookups: Arc<SingleFlight<ServerName, Permission>>,
    revalidations: Arc<Semaphore>,
    budgets: Mutex<LookupBudgets>,
    /// Of their own, so that look-ups of unknown names take none from a CA.
    challenge_budgets: Mutex<LookupBudgets>,
    /// Again of their own, so that a flood of unknown names takes none from a CA that validates a known one.
    unknown_challenge_budgets: Mutex<LookupBudgets>,
    denials: broadcast::Sender<Denied>,
    progress: watch::Sender<ListingProgress>,
    outage: Mutex<Outage>,
    metrics: DomainMetrics,
}

/// Registers this room's metrics for a list of all.
pub(crate) fn declare_metrics(registry: &Registry) -> Result<(), prometheus::Error> {
    DomainMetrics::register(registry).map(drop)
}

impl Domains {
    /// Serves the static list at once and reads the table in the background, on `control`.
    pub fn start(
        config: &config::DomainsConfig,
        store: &Store,
        control: &Handle,
        registry: &Registry,
    ) -> Result<Self, DomainsStartError> {
        let metrics = DomainMetrics::register(registry)?;
        let table = config.table.then(|| store.clone());
        let (lists, progress) = match table {
            Some(_) => (Lists::Partial, ListingProgress::Loading),
            None => (Lists::Whole, ListingProgress::Loaded),
        };
        metrics.loaded.set(i64::from(progress == ListingProgress::Loaded));
        let ask = config.ask.as_ref().map(|url| Ask::new(url, *config.ask_timeout)).transpose()?;
        let budgets = || {
            let each = config.lookups_per_source_per_second;
            Mutex::new(LookupBudgets::new(config.lookups_per_second, each, clock::now()))
        };
        let inner = Arc::new(DomainsInner {
            registry: NameRegistry::new(Snapshot::of_static(&config.r#static), lists, metrics.known.clone()),
            answers: PermissionCache::new(CacheLifetimes {
                allow: *config.allow_ttl,
                stale: *config.stale_ttl,
                deny: *config.deny_ttl,
            }),
            last_known: LastKnown::new(),
            last_use: LastUse::begin(clock::now()),
            listed: ArcSwap::from_pointee(config.r#static.clone()),
            relisted: AtomicBool::new(false),
            config: config.clone(),
            control: control.clone(),
            table: table.clone(),
            ask: ArcSwapOption::from(ask.map(Arc::new)),
            // Bounded by the budgets that admit them, and by the connections of those who wait.
            lookups: Arc::new(SingleFlight::new(usize::MAX, usize::MAX)),
            revalidations: Arc::new(Semaphore::new(REVALIDATIONS)),
            budgets: budgets(),
            challenge_budgets: budgets(),
            unknown_challenge_budgets: budgets(),
            denials: broadcast::Sender::new(DENIALS_HELD),
            progress: watch::Sender::new(progress),
            outage: Mutex::default(),
            metrics,
        });
        let feed = Feed::follow(Arc::clone(&inner), table);
        Ok(Self { inner, _feed: Some(Arc::new(feed)) })
    }

    /// The answer in memory for `name` (snapshot, then answer cache); `None` asks for [`Domains::permission`]. What is stale is used
    /// once more and asked for again in the background.
    #[must_use]
    pub fn known(&self, name: &ServerName) -> Option<Permission> {
        self.known_at(name, clock::now())
    }

    fn known_at(&self, name: &ServerName, now: Instant) -> Option<Permission> {
        let (permission, age) = self.inner.known(name, now)?;
        if age == Freshness::Stale {
            self.inner.revalidate(name, now);
        }
        Some(permission)
    }

    /// The answer in memory, else of the sources, within the budgets. The look-up runs on the control runtime.
    ///
    /// # Cancel safety
    /// The look-up goes on, and its answer is remembered.
    pub async fn permission(&self, name: &ServerName, caller: Caller) -> Permission {
        let now = clock::now();
        if let Caller::Client(_) = caller {
            self.inner.last_use.mark(now);
        }
        let permission = match self.known_at(name, now) {
            Some(known) => known,
            // Boxed: seldom needed, and else a part of the future of each connection.
            None => Box::pin(self.look_up(name, caller)).await,
        };
        if let (Permission::Deny(_), Caller::Client(client)) = (&permission, caller) {
            self.tell_refused(name, &permission, client);
        }
        permission
    }

    async fn look_up(&self, name: &ServerName, caller: Caller) -> Permission {
        let (inner, name) = (Arc::clone(&self.inner), name.clone());
        let asked = self.inner.control.spawn(async move {
            let permission = inner.permission(&name, caller).await;
            inner.metrics.said.bump(PermissionResult::of(&permission));
            permission
        });
        // It ends without an answer when the control runtime does.
        asked.await.unwrap_or(Permission::Unknown(UnknownReason::SourceDown))
    }

    /// By which entry a name is served while [`Permission::Unknown`] is all that can be said of it: the one that last allowed it.
    /// `None` where no entry is known; then its requests must not reach any target.
    #[must_use]
    pub fn last_known(&self, name: &ServerName, unknown_reason: UnknownReason) -> Option<Arc<DomainEntry>> {
        let remembered =
            || self.inner.last_known.get(name).filter(|entry| !self.inner.registry.supersedes(entry));
        match (self.inner.registry.find(name), unknown_reason) {
            (SnapshotMatch::Served(domain_entry), _) => Some(domain_entry),
            (SnapshotMatch::Withdrawn, _) => None,
            (SnapshotMatch::Nothing, UnknownReason::SourceDown | UnknownReason::BudgetSpent) => remembered(),
            // The table was read and holds no entry: whatever the endpoint would say, it names no target.
            (SnapshotMatch::Nothing, UnknownReason::AskDown) => {
                Some(remembered().unwrap_or_else(|| Arc::new(lookup::asked_site(name))))
            }
        }
    }

    /// Charges another module's look-up for an unknown name to the same budgets; returns whether it may be made.
    #[must_use]
    pub fn admits_lookup(&self, caller: Caller) -> bool {
        self.inner.admit(caller, clock::now()).is_ok()
    }

    /// Charges `client` for a look-up of challenges of a name with this permission; returns whether it may be made. Where look-ups are
    /// spent the name may be one that another instance has had allowed, and has validated.
    #[must_use]
    pub fn admits_challenge(&self, permission: &Permission, client: IpAddr) -> bool {
        !matches!(permission, Permission::Deny(_))
            && self.inner.admit_challenge(permission, client, clock::now()).is_ok()
    }

    /// Whether a look-up for `caller` would be admitted now; nothing is charged.
    #[must_use]
    pub fn has_lookup_left(&self, caller: Caller) -> bool {
        self.inner.has_lookup_left(caller, clock::now())
    }

    /// When a client last asked for a name here; updated wherever a client is noticed.
    #[must_use]
    pub fn last_use(&self) -> LastUse {
        self.inner.last_use.clone()
    }

    /// The state of the ask endpoint.
    #[must_use]
    pub fn ask_state(&self) -> AskState {
        match (self.inner.ask.load().is_some(), self.inner.metrics.ask_up.get()) {
            (false, _) => AskState::Off,
            (true, 0) => AskState::Silent,
            (true, _) => AskState::Answers,
        }
    }

    /// The allowed names, and each change of them.
    #[must_use]
    pub fn names(&self) -> watch::Receiver<NameSet> {
        self.inner.registry.names()
    }

    /// How many names and wildcards the lists allow; what the ask endpoint allowed is not among them. Counts them all.
    #[must_use]
    pub fn listed_count(&self) -> usize {
        self.inner.registry.listed_count()
    }

    /// Denials as they happen.
    #[must_use]
    pub fn denials(&self) -> broadcast::Receiver<Denied> {
        self.inner.denials.subscribe()
    }

    /// How far the lists were read, and each change of it.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<ListingProgress> {
        self.inner.progress.subscribe()
    }

    /// Waits until the lists were read or are known to be out of reach, for at most `limit`.
    pub async fn settled(&self, limit: Duration) -> ListingProgress {
        let mut progress = self.progress();
        let settled = progress.wait_for(|progress| *progress != ListingProgress::Loading);
        match tokio::time::timeout(limit, settled).await {
            Ok(Ok(progress)) => *progress,
            Ok(Err(_)) | Err(_) => ListingProgress::Loading,
        }
    }

    /// The entries of the configuration.
    #[must_use]
    pub fn static_entries(&self) -> Arc<Vec<config::StaticDomain>> {
        self.inner.listed.load_full()
    }

    /// Calls `observer` with the table's entries as they are read: with all of them every hour, and with each change, once or more. It must
    /// not block.
    pub fn observe(&self, observer: RecordObserver) {
        self.inner.registry.observe(observer);
    }

    /// Has the whole table read soon, whatever the hour.
    pub fn read_anew(&self) {
        self.inner.relisted.store(true, Ordering::Release);
    }

    /// Follows `config` in what may change while it is in use: the static list and the ask endpoint.
    pub fn reconfigure(&self, config: &config::DomainsConfig) -> Result<(), AskError> {
        let ask = config.ask.as_ref().map(|url| Ask::new(url, *config.ask_timeout)).transpose()?;
        self.inner.ask.store(ask.map(Arc::new));
        if **self.inner.listed.load() != config.r#static {
            let elsewhere =
                if self.inner.table.is_some() { ListedElsewhere::Perhaps } else { ListedElsewhere::No };
            self.inner.registry.relist(&config.r#static, elsewhere, Micros::of(clock::wall()));
            self.inner.relisted.store(true, Ordering::Release);
            self.inner.listed.store(Arc::new(config.r#static.clone()));
        }
        Ok(())
    }
}

/// Denials a slow listener may lag behind by; beyond it the oldest are lost, and told again when asked again.
const DENIALS_HELD: usize = 1024;
/// Stale answers asked for at once; beyond it the others wait for their next hello.
const REVALIDATIONS: usize = 64;

#[cfg(test)]
mod tests;
