//! Names rejected in the kernel, as a sign that somebody wants something here: user space sees no connection of theirs.

use std::{sync::Arc, time::Instant};

use proxy_common::maps::Verdict;

use super::maps::Verdicts;
use crate::domains::LastUse;

/// Marks a use for each turn in which names were rejected.
pub(super) struct Rejections {
    verdicts: Arc<Verdicts>,
    last_use: LastUse,
    seen: u64,
}

impl Rejections {
    pub(super) fn new(verdicts: Arc<Verdicts>, last_use: LastUse) -> Self {
        Self { verdicts, last_use, seen: 0 }
    }

    pub(super) fn check(&mut self, now: Instant) {
        // A counter that cannot be read is no sign.
        let packets = REJECTED.iter().filter_map(|verdict| self.verdicts.tally(*verdict).ok());
        let rejected = packets.fold(0_u64, |sum, tally| sum.wrapping_add(tally.packets));
        if rejected != std::mem::replace(&mut self.seen, rejected) {
            self.last_use.mark(now);
        }
    }
}

const REJECTED: [Verdict; 6] = [
    Verdict::RejectForeignServer,
    Verdict::RejectForeignClient,
    Verdict::RejectForeignDrop,
    Verdict::RejectDeniedServer,
    Verdict::RejectDeniedClient,
    Verdict::RejectDeniedDrop,
];
