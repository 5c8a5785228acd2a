//! May this name be served, and where does it go: static list, domains table, ask endpoint, in this order.
//! Not here: certificates; how items are kept (`store`).
//! Invariants: what is answered from memory never waits (`known` is synchronous); names that must be looked up draw on one budget
//! per process and per source; correctness never depends on the feed: a missed name is found on its first hello.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::sync::{broadcast, watch};

use crate::{
    name::{Pattern, ServerName},
    target::Target,
};

/// Whether a name may be served.
#[derive(Debug, Clone)]
pub enum Permission {
    /// It may.
    Allow(Arc<Site>),
    /// It may not.
    Deny(Denial),
    /// Its source is down or the budget of look-ups is spent: a valid certificate may be served, nothing ordered.
    Unknown(Doubt),
}

/// A domain entry as the data plane needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// What it covers.
    pub pattern: Pattern,
    /// Its own target; absent, the default.
    pub target: Option<Target>,
    /// Whose it is.
    pub tenant: Arc<str>,
    /// Where it is from.
    pub source: Source,
    /// The table's optimistic lock; 0 for other sources.
    pub version: u64,
    /// `changed_at` of its item, microseconds since the epoch, so that a name new to the fleet can be told from an old one; 0 for other sources.
    pub changed_at_micros: u64,
}

/// Sources of permission in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The configuration.
    Static,
    /// The domains table.
    Table,
    /// The ask endpoint.
    Ask,
}

/// Why a name is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// No source knows it.
    Foreign,
    /// Its entry is suspended or removed.
    Withdrawn,
}

/// Why nothing can be said of a name now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// The table or the ask endpoint did not answer.
    SourceDown,
    /// Too many unknown names at once.
    BudgetSpent,
}

/// All names allowed at one moment, for the guard.
#[derive(Debug, Clone, Default)]
pub struct NameSet {
    /// Grows with each change.
    pub revision: u64,
    /// Static, table and remembered ask names.
    pub patterns: Arc<std::collections::HashSet<Pattern>>,
}

/// A name denied after a look-up; never sent for `Permission::Unknown`.
#[derive(Debug, Clone)]
pub struct Denied {
    /// The name.
    pub name: ServerName,
    /// How long it stays denied.
    pub ttl: Duration,
}

/// Permission and routing of the process; cheap to clone, callable from any runtime.
#[derive(Clone)]
pub struct Domains {
    // store room's helper fills this in
}

impl Domains {
    /// What memory says of `name` (snapshot, then answer cache); `None` asks for [`Domains::permission`].
    #[must_use]
    pub fn known(&self, _name: &ServerName) -> Option<Permission> {
        todo!()
    }

    /// What memory or else the sources say, within the budgets; `from` is the client. The look-up runs on the control runtime.
    pub async fn permission(&self, _name: &ServerName, _from: IpAddr) -> Permission {
        todo!()
    }

    /// The allowed names, and each change of them.
    #[must_use]
    pub fn names(&self) -> watch::Receiver<NameSet> {
        todo!()
    }

    /// Denials as they happen.
    #[must_use]
    pub fn denials(&self) -> broadcast::Receiver<Denied> {
        todo!()
    }

    /// Adds or replaces an entry of the table; returns the revision whose [`NameSet`] holds it.
    pub async fn add(&self, _pattern: Pattern, _target: Option<Target>) -> Result<u64, ChangeError> {
        todo!()
    }

    /// Removes an entry of the table (a tombstone); returns the revision whose [`NameSet`] lacks it.
    pub async fn remove(&self, _pattern: &Pattern) -> Result<u64, ChangeError> {
        todo!()
    }
}

/// Why a change of the table failed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// No such entry.
    #[error("domain `{0}` is not in the table; `gatehouse domain list` shows what is")]
    Absent(Pattern),
}
