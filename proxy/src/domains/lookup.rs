//! Names that memory does not know: table, then ask endpoint, one look-up at a time for a name, within the budgets.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, PoisonError},
    time::Instant,
};

use tracing::{debug, warn};

use super::{
    Caller, Denial, Denied, DomainEntry, DomainsInner, Permission, PermissionSource, UnknownReason,
    ask::Reply,
    budget::Spent,
    metrics::LookupResult,
    outage::Outage,
    permission_cache::{CachedPermission, Freshness},
    snapshot::SnapshotMatch,
    table_permission::{found_in, is_of},
};
use crate::{
    clock,
    config::DomainSettings,
    name::{Pattern, ServerName},
    store::{
        StoreError,
        domain_table::{self, DEFAULT_TENANT, DomainRecord, Found},
    },
    telemetry::admit_line,
};

impl DomainsInner {
    /// What memory says. A withdrawn name is denied from memory too, but only once the guard has it.
    pub(super) fn known(&self, name: &ServerName, now: Instant) -> Option<(Permission, Freshness)> {
        let remembered = || self.answers.get(name, now);
        match self.registry.find(name) {
            SnapshotMatch::Served(domain_entry) => Some((Permission::Allow(domain_entry), Freshness::Fresh)),
            SnapshotMatch::Withdrawn => remembered()
                .filter(|(answer, _)| matches!(answer, CachedPermission::Deny(_)))
                .map(|(_, age)| (Permission::Deny(Denial::Withdrawn), age)),
            SnapshotMatch::Nothing => {
                let remembered = remembered().filter(|(answer, _)| match answer {
                    CachedPermission::Allow(entry) => !self.registry.supersedes(entry),
                    CachedPermission::Deny(_) | CachedPermission::SourceDown | CachedPermission::AskDown => {
                        true
                    }
                });
                remembered.map(|(answer, age)| (answer.into(), age))
            }
        }
    }

    /// Asks in the background for a name whose answer is stale, so that no handshake waits for it. It was allowed, hence its
    /// look-up is charged to nobody; how many are under way is bounded.
    pub(super) fn revalidate(self: &Arc<Self>, name: &ServerName, now: Instant) {
        let Ok(permit) = Arc::clone(&self.revalidations).try_acquire_owned() else { return };
        self.answers.postpone(name, now);
        let (inner, name) = (Arc::clone(self), name.clone());
        self.control.spawn(async move {
            let (admit, mut begun) = (|| Ok::<(), Infallible>(()), None);
            if let Ok(_waiter) = inner.lookups.join(&name, admit, |completion| begun = Some(completion))
                && let Some(completion) = begun
            {
                completion.complete(inner.look_up(&name).await);
            }
            drop(permit);
        });
    }

    /// What the sources say of a name that memory did not know.
    pub(super) async fn permission(&self, name: &ServerName, caller: Caller) -> Permission {
        if let SnapshotMatch::Withdrawn = self.registry.find(name) {
            return self.settle(name, CachedPermission::Deny(Denial::Withdrawn));
        }
        if self.table.is_none() && self.ask.load().is_none() {
            return self.settle(name, CachedPermission::Deny(Denial::NoEntry));
        }
        let mut begun = None;
        let admit = || self.admit(caller, clock::now());
        let Ok(waiter) = self.lookups.join(name, admit, |completion| begun = Some(completion)) else {
            return Permission::Unknown(UnknownReason::BudgetSpent);
        };
        let Some(completion) = begun else {
            return waiter.outcome().await.unwrap_or(Permission::Unknown(UnknownReason::SourceDown));
        };
        // The last look-up may have ended between memory's answer and the start of this one.
        let permission = match self.known(name, clock::now()) {
            Some((known, _)) => known,
            None => self.look_up(name).await,
        };
        completion.complete(permission.clone());
        permission
    }

    /// Charges one look-up to the budgets.
    pub(super) fn admit(&self, caller: Caller, now: Instant) -> Result<(), Spent> {
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner).admit(caller, now)
    }

    /// Charges one look-up of challenges.
    pub(super) fn admit_challenge(
        &self,
        permission: &Permission,
        client: IpAddr,
        now: Instant,
    ) -> Result<(), Spent> {
        let budgets =
            if permission.allows_reads() { &self.challenge_budgets } else { &self.unknown_challenge_budgets };
        let mut budgets = budgets.lock().unwrap_or_else(PoisonError::into_inner);
        budgets.admit(Caller::Client(client), now)
    }

    /// Whether a look-up would be admitted.
    pub(super) fn has_lookup_left(&self, caller: Caller, now: Instant) -> bool {
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner).would_admit(caller, now)
    }

    async fn look_up(&self, name: &ServerName) -> Permission {
        match self.look_in_table(name).await {
            Table::Listed(domain_entry) => Permission::Allow(domain_entry),
            Table::Unlisted(domain_entry) => self.settle(name, CachedPermission::Allow(domain_entry)),
            Table::Withdrawn => self.settle(name, CachedPermission::Deny(Denial::Withdrawn)),
            Table::Down => self.settle(name, CachedPermission::SourceDown),
            Table::Nothing => {
                let answer = self.ask_endpoint(name).await;
                self.settle(name, answer)
            }
        }
    }

    pub(super) fn with_outage<T>(&self, f: impl FnOnce(&mut Outage) -> T) -> T {
        f(&mut self.outage.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn look_in_table(&self, name: &ServerName) -> Table {
        let Some(store) = &self.table else { return Table::Nothing };
        let patterns: Vec<_> = name.entries().collect();
        let found = domain_table::find(store, &patterns).await;
        self.with_outage(|outage| outage.looked_up(found.is_err(), clock::now()));
        let found = found.map(|found| self.read_records(found, name));
        let records = match found {
            Ok(Ok(records)) => records,
            Ok(Err(error)) | Err(error) => {
                let error: &dyn std::error::Error = &error;
                debug!(server_name = %name, error, "the domains table does not say whether a name is served");
                self.metrics.looked.bump(LookupResult::TableFailed);
                return Table::Down;
            }
        };
        // An entry in the feed stays; one made by hand is used for a while.
        let (listed, by_hand): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| record.version > 0 && record.changed_at.is_some());
        self.registry.apply(&listed);
        let (table, looked) = match found_in(listed.iter().chain(&by_hand), name) {
            SnapshotMatch::Served(domain_entry)
                if domain_entry.version > 0 && domain_entry.changed_at_micros > 0 =>
            {
                (Table::Listed(domain_entry), LookupResult::TableFound)
            }
            SnapshotMatch::Served(domain_entry) => (Table::Unlisted(domain_entry), LookupResult::TableFound),
            SnapshotMatch::Withdrawn => (Table::Withdrawn, LookupResult::TableWithdrawn),
            SnapshotMatch::Nothing => (Table::Nothing, LookupResult::TableNothing),
        };
        self.metrics.looked.bump(looked);
        table
    }

    /// The entries of what was `found`; the fault of the item of `name` itself, if it has one.
    fn read_records(&self, found: Found, name: &ServerName) -> Result<Vec<DomainRecord>, StoreError> {
        let Found { records, faults } = found;
        for fault in &faults {
            if let StoreError::Misshapen { key, .. } = fault
                && let Some(left_out) = admit_line("misshapen", key)
            {
                self.metrics.malformed.inc();
                warn!(%fault, left_out, "an item of the domains table is not served");
            }
        }
        faults.into_iter().find(|fault| is_of(fault, name)).map_or(Ok(records), Err)
    }

    async fn ask_endpoint(&self, name: &ServerName) -> CachedPermission {
        let Some(ask) = self.ask.load_full() else { return CachedPermission::Deny(Denial::NoEntry) };
        let reply = ask.ask(name).await;
        self.metrics.looked.bump(LookupResult::of(reply));
        self.metrics.ask_up.set(i64::from(!matches!(reply, Reply::Silence(_))));
        match reply {
            Reply::Allow => CachedPermission::Allow(Arc::new(asked_site(name))),
            Reply::Deny => CachedPermission::Deny(Denial::NoEntry),
            Reply::Silence(_) => CachedPermission::AskDown,
        }
    }

    /// Remembers `answer`; the guard gets allowed and denied names, never unknown ones.
    fn settle(&self, name: &ServerName, answer: CachedPermission) -> Permission {
        let now = clock::now();
        match &answer {
            CachedPermission::Allow(domain_entry) => {
                self.last_known.keep(domain_entry);
                self.registry.remember(domain_entry.pattern_for(name), now);
            }
            CachedPermission::Deny(denial) => {
                self.last_known.forget(name);
                self.registry.forget(&Pattern::Exact(name.clone()));
                // No source knows of it, so the wildcard that once allowed it is gone too.
                if let (Denial::NoEntry, Some(wildcard)) = (denial, name.wildcard()) {
                    self.registry.forget(&wildcard);
                }
                let denied = Denied { name: name.clone(), ttl: *self.config.deny_ttl };
                // Nobody listens where the guard is off.
                let _ = self.denials.send(denied);
            }
            CachedPermission::SourceDown | CachedPermission::AskDown => {}
        }
        self.answers.remember(name.clone(), answer.clone(), now);
        answer.into()
    }
}

/// What the table says of a name.
enum Table {
    /// Served, and in the feed.
    Listed(Arc<DomainEntry>),
    /// Served, and known to this look-up only.
    Unlisted(Arc<DomainEntry>),
    Withdrawn,
    Nothing,
    Down,
}

/// An entry that the ask endpoint stands for.
pub(super) fn asked_site(name: &ServerName) -> DomainEntry {
    DomainEntry {
        pattern: Pattern::Exact(name.clone()),
        target: None,
        settings: DomainSettings::default(),
        tenant: DEFAULT_TENANT.into(),
        source: PermissionSource::Ask,
        version: 0,
        changed_at_micros: 0,
    }
}
