//! Names rejected in the kernel: a sign that somebody wants something here, since user space sees no connection of theirs; and, of a
//! sample, which they were.
//! Invariant: a name is a stranger's text, and is escaped wherever it is written
//! (`the_most_frequent_names_and_sources_come_first`).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use aya::maps::{MapData, RingBuf};
use prometheus::IntCounter;
use proxy_common::maps::{RejectedName, Verdict};
use tracing::{debug, info};

use super::{
    maps::Verdicts,
    recent_rejections::{RecentRejections, Rejection},
};
use crate::{domains::LastUse, telemetry::admit_line};

/// Reads what the kernel counts and tells of rejected names, four times a second.
pub(super) struct Rejections {
    pub(super) verdicts: Arc<Verdicts>,
    /// Marked for each turn in which names were rejected.
    pub(super) last_use: LastUse,
    /// Invariant: of the program that this process loaded; nobody else reads it.
    pub(super) told: RingBuf<MapData>,
    pub(super) recent: Arc<Mutex<RecentRejections>>,
    pub(super) sampled: IntCounter,
    pub(super) seen: u64,
}

impl Rejections {
    pub(super) fn check(&mut self, now: Instant) {
        // A counter that cannot be read is no sign.
        let rejecting = Verdict::ALL.iter().filter(|verdict| verdict.rejects());
        let packets = rejecting.filter_map(|verdict| self.verdicts.tally(*verdict).ok());
        let rejected = packets.fold(0_u64, |sum, tally| sum.wrapping_add(tally.packets));
        if rejected != std::mem::replace(&mut self.seen, rejected) {
            self.last_use.mark(now);
        }
        self.read_names(now);
    }

    /// What the ring holds by now. It is bounded, since the thread that calls has a lease to renew.
    fn read_names(&mut self, now: Instant) {
        for _ in 0..MOST_AT_ONCE {
            let Some(item) = self.told.next() else { return };
            let Some(told) = RejectedName::read(&item) else { continue };
            let rejection = Rejection::of(&told);
            let (name, source, cause) = (rejection.name(), rejection.source(), rejection.cause());
            debug!(name, %source, ?cause, "the guard rejected a name");
            if let Some(left_out) = admit_line("guard_rejected", "") {
                info!(name, %source, ?cause, left_out, "the guard rejects names; `gatehouse guard top` shows which");
            }
            self.sampled.inc();
            self.recent.lock().unwrap_or_else(PoisonError::into_inner).add(rejection, now);
        }
    }
}

/// More than the ring holds.
const MOST_AT_ONCE: usize = 512;
