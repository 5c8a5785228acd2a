//! Names that memory does not know: table, then ask endpoint, one look-up at a time for a name, within the budgets.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, PoisonError},
    time::Instant,
};

use tracing::debug;

use super::{
    Denial, Denied, Doubt, Inner, Permission, Site, Source,
    answers::{Age, Answer},
    ask::Reply,
    budget::Admission,
    flight::Role,
    metrics::Looked,
    snapshot::{Found, Snapshot},
};
use crate::{
    name::{Pattern, ServerName},
    store::domain_table::{self, DEFAULT_TENANT, Record},
};

impl Inner {
    /// What memory says. A withdrawn name is denied from memory too, but only once the guard was told of it.
    pub(super) fn known(&self, name: &ServerName, now: Instant) -> Option<(Permission, Age)> {
        let remembered = || self.answers.get(name, now);
        match self.ledger.find(name) {
            Found::Served(site) => Some((Permission::Allow(site), Age::Fresh)),
            Found::Withdrawn => remembered()
                .filter(|(answer, _)| matches!(answer, Answer::Deny(_)))
                .map(|(_, age)| (Permission::Deny(Denial::Withdrawn), age)),
            Found::Nothing => remembered().map(|(answer, age)| (answer.into(), age)),
        }
    }

    /// Asks in the background for a name whose answer is stale, so that no handshake waits for it. It was allowed, hence its
    /// look-up is charged to nobody; how many are under way is bounded.
    pub(super) fn revalidate(self: &Arc<Self>, name: &ServerName, now: Instant) {
        let Ok(permit) = Arc::clone(&self.revalidations).try_acquire_owned() else { return };
        self.answers.postpone(name, now);
        let (inner, name) = (Arc::clone(self), name.clone());
        self.control.spawn(async move {
            let admit = || Ok::<(), Infallible>(());
            if let Ok(Role::Lead(flight)) = inner.flights.join(&name, admit) {
                flight.land(inner.look_up(&name).await);
            }
            drop(permit);
        });
    }

    /// What memory or else the sources say.
    pub(super) async fn permission(&self, name: &ServerName, from: IpAddr) -> Permission {
        let now = Instant::now();
        if let Some((known, _)) = self.known(name, now) {
            return known;
        }
        if let Found::Withdrawn = self.ledger.find(name) {
            return self.settle(name, Answer::Deny(Denial::Withdrawn));
        }
        if self.table.is_none() && self.ask.load().is_none() {
            return self.settle(name, Answer::Deny(Denial::Foreign));
        }
        match self.flights.join(name, || self.admit(from, now)) {
            Err(_) => Permission::Unknown(Doubt::BudgetSpent),
            Ok(Role::Follow(mut answer)) => match answer.wait_for(Option::is_some).await {
                Ok(answer) => answer.clone().unwrap_or(Permission::Unknown(Doubt::SourceDown)),
                Err(_) => Permission::Unknown(Doubt::SourceDown),
            },
            Ok(Role::Lead(flight)) => {
                // The last flight may have landed between memory's answer and this one's start.
                let permission = match self.known(name, Instant::now()) {
                    Some((known, _)) => known,
                    None => self.look_up(name).await,
                };
                flight.land(permission.clone());
                permission
            }
        }
    }

    /// Charges one look-up to the budgets.
    pub(super) fn admit(&self, from: IpAddr, now: Instant) -> Result<(), Admission> {
        match self.budgets.lock().unwrap_or_else(PoisonError::into_inner).admit(from, now) {
            Admission::Admit => Ok(()),
            spent @ (Admission::SourceSpent | Admission::TotalSpent) => Err(spent),
        }
    }

    /// Whether a look-up would be admitted.
    pub(super) fn has_lookup_left(&self, from: IpAddr, now: Instant) -> bool {
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner).would_admit(from, now)
    }

    async fn look_up(&self, name: &ServerName) -> Permission {
        match self.look_in_table(name).await {
            Table::Listed(site) => Permission::Allow(site),
            Table::Unlisted(site) => self.settle(name, Answer::Allow(site)),
            Table::Withdrawn => self.settle(name, Answer::Deny(Denial::Withdrawn)),
            Table::Down => self.settle(name, Answer::SourceDown),
            Table::Nothing => {
                let answer = self.ask_endpoint(name).await;
                self.settle(name, answer)
            }
        }
    }

    async fn look_in_table(&self, name: &ServerName) -> Table {
        let Some(store) = &self.table else { return Table::Nothing };
        let patterns: Vec<_> = std::iter::once(Pattern::Exact(name.clone())).chain(name.wildcard()).collect();
        let records = match domain_table::find(store, &patterns).await {
            Ok(records) => records,
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                debug!(server_name = %name, error, "the domains table does not say whether a name is served");
                self.metrics.looked.bump(Looked::TableFailed);
                return Table::Down;
            }
        };
        // What is in the feed stays; what was made by hand is believed for a while.
        let (listed, by_hand): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| record.version > 0 && record.changed_at.is_some());
        self.ledger.apply(&listed);
        let (table, looked) = match found_in(listed.iter().chain(&by_hand), name) {
            Found::Served(site) if site.version > 0 && site.changed_at_micros > 0 => {
                (Table::Listed(site), Looked::TableFound)
            }
            Found::Served(site) => (Table::Unlisted(site), Looked::TableFound),
            Found::Withdrawn => (Table::Withdrawn, Looked::TableWithdrawn),
            Found::Nothing => (Table::Nothing, Looked::TableNothing),
        };
        self.metrics.looked.bump(looked);
        table
    }

    async fn ask_endpoint(&self, name: &ServerName) -> Answer {
        let Some(ask) = self.ask.load_full() else { return Answer::Deny(Denial::Foreign) };
        let reply = ask.ask(name).await;
        self.metrics.looked.bump(Looked::of(reply));
        self.metrics.ask_up.set(i64::from(!matches!(reply, Reply::Silence(_))));
        match reply {
            Reply::Allow => Answer::Allow(Arc::new(asked_site(name))),
            Reply::Deny => Answer::Deny(Denial::Foreign),
            Reply::Silence(_) => Answer::AskDown,
        }
    }

    /// Remembers `answer`; the guard hears of names allowed and denied, never of those in doubt.
    fn settle(&self, name: &ServerName, answer: Answer) -> Permission {
        let now = Instant::now();
        match &answer {
            Answer::Allow(site) => {
                self.last_known.keep(site);
                self.ledger.remember(site.pattern.clone(), now);
            }
            Answer::Deny(denial) => {
                self.last_known.forget(name);
                self.ledger.forget(&Pattern::Exact(name.clone()));
                // No source knows of it, so the wildcard that once allowed it is gone too.
                if let (Denial::Foreign, Some(wildcard)) = (denial, name.wildcard()) {
                    self.ledger.forget(&wildcard);
                }
                let denied = Denied { name: name.clone(), ttl: *self.config.deny_ttl };
                // Nobody listens where the guard is off.
                let _ = self.denials.send(denied);
            }
            Answer::SourceDown | Answer::AskDown => {}
        }
        self.answers.remember(name.clone(), answer.clone(), now);
        answer.into()
    }
}

/// What the table says of a name.
enum Table {
    /// Served, and in the feed.
    Listed(Arc<Site>),
    /// Served, and known to this look-up only.
    Unlisted(Arc<Site>),
    Withdrawn,
    Nothing,
    Down,
}

fn found_in<'a>(records: impl Iterator<Item = &'a Record>, name: &ServerName) -> Found {
    let mut snapshot = Snapshot::default();
    for record in records {
        snapshot.apply(record);
    }
    snapshot.find(name)
}

/// An entry that the ask endpoint stands for.
pub(super) fn asked_site(name: &ServerName) -> Site {
    Site {
        pattern: Pattern::Exact(name.clone()),
        target: None,
        tenant: DEFAULT_TENANT.into(),
        source: Source::Ask,
        version: 0,
        changed_at_micros: 0,
    }
}
