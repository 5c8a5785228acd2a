//! Session tickets: what resumes a session without a new key exchange of certificates, on any instance that has the key.
//! Not here: where shared keys are kept (`store::state_table`), who reads and replaces them (`run`).
//! Invariants: a ticket of one name, or of another least version, opens for no other (`a_ticket_opens_for_its_name_alone`); no key seals longer than a period, and
//! none that another instance cannot know yet (`fifty_instances_with_skewed_clocks_open_each_others_tickets`); no secret is shown
//! (`no_secret_is_shown`).

mod key;
mod rotation;

use std::{fmt, sync::Arc, time::Duration};

use prometheus::Registry;
use rustls::server::ProducesTickets;

use self::key::TicketScope;
pub use self::{
    key::{KeyName, TicketKey, TicketSecret},
    rotation::{KeySet, Rotation, RotationStep},
};
use crate::{
    clock,
    config::{Reloadable, TlsVersion},
    label,
    name::ServerName,
    telemetry::metrics::Counters,
};

label! {
    /// What was done with a ticket.
    pub enum TicketUse["ticket"] {
        /// Made with a key that instances share.
        SealShared = "sealed_shared",
        /// Made with a key of this process: there was no shared one.
        SealLocal = "sealed_local",
        /// Not made: there was no key, or the session is too long.
        SealNone = "not_sealed",
        /// A session resumes by a key that instances share.
        OpenShared = "opened_shared",
        /// A session resumes by a key of this process.
        OpenLocal = "opened_local",
        /// Its key is not known here, or is too old.
        UnknownKey = "unknown_key",
        /// It is of another name, was changed, or is no ticket of ours.
        Invalid = "invalid",
    }
}

/// The keys of a process: those it shares, and its own for when there is none of those. Clones are the same keys.
#[derive(Clone)]
pub struct TicketKeys {
    shared: Reloadable<KeySet>,
    local: Reloadable<KeySet>,
    rotation: Rotation,
    uses: Arc<Counters<TicketUse>>,
}

/// What tickets are sealed with at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TicketKeySource {
    /// A key of the fleet.
    Shared,
    /// A key of this process.
    Local,
}

impl TicketKeys {
    /// With keys of this process alone, each of which seals for `period`.
    pub fn new(period: Duration, registry: &Registry) -> Result<Self, TicketKeysError> {
        let keys = Self {
            shared: Reloadable::new(KeySet::default()),
            local: Reloadable::new(KeySet::default()),
            rotation: Rotation::local(period),
            uses: Arc::new(register_metrics(registry)?),
        };
        keys.rotate_local()?;
        Ok(keys)
    }

    /// Puts the keys that instances share in force.
    pub fn share(&self, keys: KeySet) {
        self.shared.replace(keys);
    }

    /// Wipes shared keys that open no ticket any more (RFC 9325 §3.4), for when they cannot be read anew.
    pub fn drop_expired(&self) {
        let keys = self.shared.load_full();
        if let Some(live) = keys.without_expired(clock::wall()) {
            self.shared.replace(live);
        }
    }

    /// The keys that instances share, as they were read last.
    #[must_use]
    pub fn shared(&self) -> Arc<KeySet> {
        self.shared.load_full()
    }

    /// Makes this process's own keys that are due, and wipes those that are over; to be called several times a period.
    pub fn rotate_local(&self) -> Result<(), TicketKeysError> {
        // The current one and the next.
        for _ in 0..2 {
            let (now, keys) = (clock::wall(), self.local.load_full());
            // A clock that was put back would leave keys that do not seal yet.
            let keys = if keys.sealing(now).is_some() { keys } else { Arc::default() };
            let RotationStep::Publish { seals_from, seals_until, opens_until } =
                self.rotation.step(&keys, now)
            else {
                return Ok(());
            };
            let key = TicketKey::random(seals_from, seals_until, opens_until);
            self.local.replace(keys.followed_by(key.map_err(|_| TicketKeysError::Random)?, now));
        }
        Ok(())
    }

    /// What tickets are sealed with now.
    #[must_use]
    pub fn source(&self) -> TicketKeySource {
        match self.shared.load().sealing(clock::wall()) {
            Some(_) => TicketKeySource::Shared,
            None => TicketKeySource::Local,
        }
    }

    /// What makes and opens tickets for sessions with `name`, as long as it is served from version `minimum` on.
    pub(super) fn ticketer(&self, name: &ServerName, minimum: TlsVersion) -> Arc<dyn ProducesTickets> {
        Arc::new(Ticketer { keys: self.clone(), scope: TicketScope::of(name, minimum) })
    }

    fn seal(&self, scope: &TicketScope, session: &[u8]) -> (TicketUse, Option<Vec<u8>>) {
        let now = clock::wall();
        let (shared, local) = (self.shared.load(), self.local.load());
        let found = shared.sealing(now).map(|key| (TicketUse::SealShared, key));
        let found = found.or_else(|| local.sealing(now).map(|key| (TicketUse::SealLocal, key)));
        let sealed = found.and_then(|(how, key)| Some((how, key.seal(scope, session)?)));
        sealed.map_or((TicketUse::SealNone, None), |(how, ticket)| (how, Some(ticket)))
    }

    fn open(&self, scope: &TicketScope, ticket: &[u8]) -> Result<(TicketUse, Vec<u8>), TicketUse> {
        let now = clock::wall();
        let (name, rest) = KeyName::split(ticket).ok_or(TicketUse::Invalid)?;
        let (shared, local) = (self.shared.load(), self.local.load());
        let found = shared.opening(name, now).map(|key| (TicketUse::OpenShared, key));
        let found = found.or_else(|| local.opening(name, now).map(|key| (TicketUse::OpenLocal, key)));
        let (how, key) = found.ok_or(TicketUse::UnknownKey)?;
        let session = key.open(scope, rest).ok_or(TicketUse::Invalid)?;
        Ok((how, session))
    }

    /// How long a ticket that is sealed now can be opened wherever its key is.
    fn life(&self) -> Duration {
        let now = clock::wall();
        let (shared, local) = (self.shared.load(), self.local.load());
        let key = shared.sealing(now).or_else(|| local.sealing(now));
        key.map_or(Duration::ZERO, |key| self.rotation.life(key, now))
    }
}

/// Registers what is counted of tickets.
pub fn register_metrics(registry: &Registry) -> Result<Counters<TicketUse>, prometheus::Error> {
    Counters::register(
        registry,
        "gatehouse_tls_tickets_total",
        "Session tickets, by what was done with them and whose key it was.",
    )
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum TicketKeysError {
    /// The kernel gave no random numbers.
    #[error("the system gives no random numbers for ticket keys")]
    Random,
    /// A metric is declared twice or wrongly.
    #[error("a metric cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

/// What rustls calls for the sessions of one name.
struct Ticketer {
    keys: TicketKeys,
    scope: TicketScope,
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.keys.life().as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        let (how, ticket) = self.keys.seal(&self.scope, session);
        self.keys.uses.bump(how);
        ticket
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let opened = self.keys.open(&self.scope, ticket);
        self.keys.uses.bump(opened.as_ref().map_or_else(|refused| *refused, |(how, _)| *how));
        opened.ok().map(|(_, session)| session)
    }
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticketer({:?})", self.scope)
    }
}

#[cfg(test)]
mod tests;
