//! Pauses that grow from one failure to the next, up to a longest one. Pure: who waits, and on which clock, is the caller's.
//! Not here: dates that the other side names (`certificates::failure`), and a source asked at a fixed interval.

use std::time::Duration;

/// How long to wait after so many failures in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    first: Duration,
    growth: Growth,
    longest: Duration,
}

/// By how much a pause is longer than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Growth {
    Twice,
    Half,
}

impl Backoff {
    /// For what has failed: each pause is twice the one before.
    pub(crate) const fn doubling(first: Duration, longest: Duration) -> Self {
        Self { first, growth: Growth::Twice, longest }
    }

    /// For what is not ready yet, and waited for: each pause is half as long again as the one before, so that its end is seen soon.
    pub(crate) const fn polling(first: Duration, longest: Duration) -> Self {
        Self { first, growth: Growth::Half, longest }
    }

    /// The pause after `failures` in a row: none after none.
    pub(crate) fn after(self, failures: u32) -> Duration {
        let Some(more) = failures.checked_sub(1) else { return Duration::ZERO };
        let mut pause = self.first.min(self.longest);
        for _ in 0..more.min(MOST_STEPS) {
            pause = self.growth.of(pause).min(self.longest);
        }
        pause
    }
}

impl Growth {
    fn of(self, pause: Duration) -> Duration {
        match self {
            Self::Twice => pause.saturating_mul(2),
            Self::Half => pause.saturating_add(pause / 2),
        }
    }
}

/// From a microsecond to a day at either growth.
const MOST_STEPS: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(backoff: Backoff, failures: std::ops::RangeInclusive<u32>) -> Vec<u128> {
        failures.map(|failures| backoff.after(failures).as_millis()).collect()
    }

    #[test]
    fn pauses_grow_to_the_longest_and_no_further() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_millis(700));
        let doubling = Backoff::doubling(first, longest);
        assert_eq!(millis(doubling, 0..=5), [0, 100, 200, 400, 700, 700]);
        let polling = Backoff::polling(first, longest);
        assert_eq!(millis(polling, 0..=6), [0, 100, 150, 225, 337, 506, 700]);
        for backoff in [doubling, polling] {
            assert_eq!(backoff.after(u32::MAX), longest, "{backoff:?}");
        }
    }

    #[test]
    fn the_longest_pause_is_kept_whatever_the_first() {
        for (first, longest) in
            [(Duration::MAX, Duration::from_secs(1)), (Duration::from_secs(2), Duration::ZERO)]
        {
            assert_eq!(Backoff::doubling(first, longest).after(1), longest);
        }
        let endless = Backoff::doubling(Duration::from_secs(1), Duration::MAX);
        assert_eq!(endless.after(u32::MAX), Duration::MAX);
        assert_eq!(Backoff::doubling(Duration::ZERO, Duration::MAX).after(u32::MAX), Duration::ZERO);
    }
}
