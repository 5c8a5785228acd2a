//! The certificate that is presented for a name, shared by all connections that present it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use rustls::sign::CertifiedKey;

use crate::store::{PrivateKeyPem, instant::epoch_millis};

/// A certificate with its key, ready to be presented.
#[derive(Debug)]
pub struct Certificate {
    /// Chain and signing key.
    pub key: Arc<CertifiedKey>,
    /// Beginning of its life: of two the later one is presented.
    pub not_before: SystemTime,
    /// End of its life.
    pub not_after: SystemTime,
}

/// The key of a certificate as a copy of it needs it.
#[derive(Debug)]
pub(super) struct RetainedKey {
    pub(super) of: Arc<Certificate>,
    pub(super) key: Arc<PrivateKeyPem>,
}

/// Holds a name's current certificate. Workers keep the slot; renewal replaces its content, withdrawal empties it, and a certificate
/// that the table has not confirmed for a minute is not in it (`follow`).
#[derive(Debug, Default)]
pub struct Slot {
    pub(super) current: ArcSwapOption<Certificate>,
    /// When the table last held it, in seconds since the epoch.
    pub(super) confirmed_at_seconds: AtomicU64,
    /// Whether it was presented since that was last looked for.
    pub(super) is_used: AtomicBool,
    /// Whether it could not be written to the table, which has not been seen to hold it or another since.
    pub(super) is_unwritten: AtomicBool,
    /// Whether it is of a copy on this machine, and the table has not been seen to hold it or another since.
    pub(super) is_restored: AtomicBool,
    /// Its key, where certificates are copied.
    pub(super) retained: ArcSwapOption<RetainedKey>,
}

impl Slot {
    /// The certificate to present, if there is one that is valid at `now`, and that the table is known to hold still.
    #[must_use]
    pub fn current(&self, now: SystemTime) -> Option<Arc<Certificate>> {
        let current = self.valid(now).filter(|_| self.since_confirmed(now) < CONFIRMED_FOR)?;
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
        Some(current)
    }

    pub(super) fn valid(&self, now: SystemTime) -> Option<Arc<Certificate>> {
        self.current.load_full().filter(|certificate| now < certificate.not_after)
    }

    pub(super) fn since_confirmed(&self, now: SystemTime) -> Duration {
        let confirmed_at = Duration::from_secs(self.confirmed_at_seconds.load(Ordering::Relaxed));
        let now = Duration::from_secs(epoch_millis(now) / 1000);
        match now.checked_sub(confirmed_at) {
            Some(since) => since,
            // A clock that was set back by more than that says nothing of when it was.
            None if confirmed_at.saturating_sub(now) > CONFIRMED_FOR => Duration::MAX,
            None => Duration::ZERO,
        }
    }

    /// When the table was last seen to hold it.
    pub(super) fn confirmed_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.confirmed_at_seconds.load(Ordering::Relaxed))
    }

    pub(super) fn confirm(&self, now: SystemTime) {
        self.confirmed_at_seconds.store(epoch_millis(now) / 1000, Ordering::Relaxed);
    }
}

/// How long a certificate is presented without having been seen in the table.
pub(super) const CONFIRMED_FOR: Duration = Duration::from_mins(1);
