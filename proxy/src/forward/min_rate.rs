//! Whether a body is sent or read at the minimum rate.

use std::{
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use crate::{clock::now, lazy_timer::LazyTimer};

/// A window of waiting in which at least some bytes must come. Only time spent waiting for the sender counts: a receiver that
/// does not read makes no sender slow.
#[derive(Debug)]
pub(crate) struct MinRate {
    window: Duration,
    least: u64,
    waited: Duration,
    bytes: u64,
    waiting_since: Option<Instant>,
}

impl MinRate {
    /// At least one byte in `window`, and `rate` bytes per second averaged over it.
    pub(crate) fn new(window: Duration, rate: u64) -> Self {
        Self { window, least: least(window, rate), waited: Duration::ZERO, bytes: 0, waiting_since: None }
    }

    /// Nothing is there yet.
    pub(crate) fn wait(&mut self, now: Instant) {
        self.waiting_since.get_or_insert(now);
    }

    /// `bytes` have come.
    pub(crate) fn arrived(&mut self, bytes: u64, now: Instant) {
        self.waited += self.waiting_since.take().map_or(Duration::ZERO, |since| now - since);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.waited >= self.window && self.bytes >= self.least {
            (self.waited, self.bytes) = (Duration::ZERO, 0);
        }
    }

    /// Whether the sender has had its time; else when to look again.
    fn judge(&mut self, now: Instant) -> Result<Instant, TooSlow> {
        self.arrived(0, now);
        self.wait(now);
        match self.window.checked_sub(self.waited) {
            Some(left) if !left.is_zero() => Ok(now + left),
            Some(_) | None => Err(TooSlow),
        }
    }
}

/// Bytes that `window` must see at `rate` per second; silence is too slow at any rate.
pub(crate) fn least(window: Duration, rate: u64) -> u64 {
    rate.saturating_mul(window.as_secs()).max(1)
}

/// The sender was too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooSlow;

/// A [`MinRate`] with a clock.
#[derive(Debug)]
pub(crate) struct ProgressTimer {
    pub(crate) min_rate: MinRate,
    timer: LazyTimer,
}

impl ProgressTimer {
    pub(crate) fn new(min_rate: MinRate) -> Self {
        Self { min_rate, timer: LazyTimer::default() }
    }

    /// Called while nothing is there; ready when the sender has had its time.
    pub(crate) fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<TooSlow> {
        loop {
            let Ok(look_again) = self.min_rate.judge(now()) else { return Poll::Ready(TooSlow) };
            ready!(self.timer.poll(cx, look_again));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_mins(1);

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_silent_sender_has_one_window() {
        let start = now();
        let mut min_rate = MinRate::new(WINDOW, 0);
        assert_eq!(min_rate.judge(start), Ok(after(start, 60)));
        assert_eq!(min_rate.judge(after(start, 59)), Ok(after(start, 60)));
        assert_eq!(min_rate.judge(after(start, 60)), Err(TooSlow));
    }

    #[test]
    fn a_trickle_below_the_rate_is_cut_and_one_above_goes_on() {
        for (bytes_per_second, cut) in [(239, true), (240, false)] {
            let start = now();
            let mut min_rate = MinRate::new(WINDOW, 240);
            let mut verdicts = (0..300).map(|second| {
                min_rate.arrived(bytes_per_second, after(start, second));
                min_rate.judge(after(start, second)).is_err()
            });
            assert_eq!(verdicts.any(|lost| lost), cut, "{bytes_per_second} B/s");
        }
    }

    #[test]
    fn time_in_which_nobody_waits_does_not_count() {
        let start = now();
        let mut min_rate = MinRate::new(WINDOW, 240);
        min_rate.arrived(1, after(start, 1000));
        assert_eq!(min_rate.judge(after(start, 2000)), Ok(after(start, 2060)));
        min_rate.arrived(1, after(start, 2010));
        assert_eq!(min_rate.judge(after(start, 9000)), Ok(after(start, 9050)));
    }
}
