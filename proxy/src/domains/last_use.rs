//! When a client last asked this instance for a name: an instance without clients need not learn of changes within a second.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Shared by all threads without a lock; clones are one.
#[derive(Debug, Clone)]
pub struct LastUse(Arc<Marks>);

#[derive(Debug)]
struct Marks {
    start: Instant,
    /// Milliseconds since the start.
    last: AtomicU64,
}

impl LastUse {
    /// A start counts as use: what comes next is likely to want something.
    #[must_use]
    pub fn begin(start: Instant) -> Self {
        Self(Arc::new(Marks { start, last: AtomicU64::new(0) }))
    }

    /// A client asks for a name, or was rejected in the kernel.
    pub fn mark(&self, now: Instant) {
        let now = self.millis(now);
        // Read by all workers, and written once in a while: a line of the cache that all write would be slow.
        if now.saturating_sub(self.0.last.load(Ordering::Relaxed)) >= STEP_MILLIS {
            self.0.last.store(now, Ordering::Relaxed);
        }
    }

    /// How long ago that was, to within a tenth of a second.
    pub(super) fn since(&self, now: Instant) -> Duration {
        let last = self.0.last.load(Ordering::Relaxed);
        Duration::from_millis(self.millis(now).saturating_sub(last))
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.0.start).as_millis()).unwrap_or(u64::MAX)
    }
}

const STEP_MILLIS: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_seen_by_every_clone() {
        let start = Instant::now();
        let (use_, at) = (LastUse::begin(start), |millis| start + Duration::from_millis(millis));
        assert_eq!(use_.since(at(500)), Duration::from_millis(500));
        use_.clone().mark(at(1_000));
        use_.mark(at(1_050));
        assert_eq!(use_.since(at(1_500)), Duration::from_millis(500));
        assert_eq!(use_.since(at(900)), Duration::ZERO, "a clock read earlier by another thread");
    }
}
