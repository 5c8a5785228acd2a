//! The clock of the kernel program.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC` in nanoseconds: the program's `bpf_ktime_get_ns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KernelTime(pub(super) u64);

impl KernelTime {
    pub(super) fn now() -> nix::Result<Self> {
        let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
        Ok(Self(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The instant `after` this one.
    pub(super) fn plus(self, after: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)))
    }
}
