//! From a server name to a key pair rustls can present: cache, single flight, issuance, renewal, challenges.
//! Not here: whether a name may be served (`domains`), how items are kept (`store`).
//! Invariants: an order is placed only under the name's lease; serving never awaits a renewal; waiters are bounded; the order outlives the handshake.

use std::{sync::Arc, time::SystemTime};

use arc_swap::ArcSwapOption;
use rustls::sign::CertifiedKey;

use crate::{domains::Permission, name::ServerName};

/// A certificate with its key, ready to be presented.
#[derive(Debug)]
pub struct Certificate {
    /// Chain and signing key.
    pub key: Arc<CertifiedKey>,
    /// End of its life.
    pub not_after: SystemTime,
}

/// Where a name's current certificate is found; workers keep it, renewal replaces what is in it, withdrawal empties it.
#[derive(Debug, Default)]
pub struct Slot {
    current: ArcSwapOption<Certificate>,
}

impl Slot {
    /// The certificate to present, if there is one that is valid at `now`.
    #[must_use]
    pub fn current(&self, now: SystemTime) -> Option<Arc<Certificate>> {
        self.current.load_full().filter(|certificate| now < certificate.not_after)
    }
}

/// Why there is no certificate for a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Permission was denied.
    #[error("the name is not allowed")]
    Denied,
    /// Permission is unknown and the table holds no valid certificate.
    #[error("whether the name is allowed cannot be said now")]
    Unknown,
    /// Too many handshakes wait already.
    #[error("too many handshakes wait for certificates")]
    Busy,
    /// The order did not end within the wait.
    #[error("the certificate was not ready in time")]
    Slow,
    /// The last order failed, and its back-off lasts.
    #[error("the last order failed; the next is tried later")]
    BackingOff,
    /// The order failed.
    #[error("no certificate could be obtained")]
    Failed,
}

/// Certificates of the process; cheap to clone, callable from any runtime.
#[derive(Clone)]
pub struct Certificates {
    // certificates room's helper fills this in
}

impl Certificates {
    /// What the process cache holds for `name`: exact, else the wildcard that covers it. Never waits.
    #[must_use]
    pub fn cached(&self, _name: &ServerName) -> Option<Arc<Slot>> {
        todo!()
    }

    /// Cache, then table, then an order, as `permission` lets. Bounded by `certificates.wait`.
    ///
    /// # Cancel safety
    /// The order goes on when the handshake that began it is gone.
    pub async fn obtain(&self, _name: &ServerName, _permission: &Permission) -> Result<Arc<Slot>, Refusal> {
        todo!()
    }

    /// The certificate that answers a tls-alpn-01 validation of `name` (RFC 8737 §3), from memory or the table.
    pub async fn tls_alpn_answer(&self, _name: &ServerName) -> Option<Arc<CertifiedKey>> {
        todo!()
    }

    /// The key authorization that answers an http-01 validation (RFC 8555 §8.3), from memory or the table.
    pub async fn http_answer(&self, _name: &ServerName, _token: &str) -> Option<String> {
        todo!()
    }
}
