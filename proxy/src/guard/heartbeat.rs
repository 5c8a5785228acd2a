//! Heartbeats of the workers, without which the guard stops enforcing.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// When each worker's event loop last turned.
#[derive(Debug)]
pub struct Heartbeat {
    epoch: Instant,
    beats: Box<[AtomicU64]>,
}

impl Heartbeat {
    /// For `workers` workers, none of which has reported yet.
    #[must_use]
    pub fn new(workers: usize, epoch: Instant) -> Self {
        Self { epoch, beats: (0..workers).map(|_| AtomicU64::new(0)).collect() }
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.beats.len()
    }

    /// The loop of worker `index` turned at `now`; called at least once a second.
    pub fn beat(&self, index: usize, now: Instant) {
        let millis = now.saturating_duration_since(self.epoch).as_millis();
        if let Some(beat) = self.beats.get(index) {
            beat.store(u64::try_from(millis).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
        }
    }

    /// Whether every worker turned its loop within `window` before `now`.
    #[must_use]
    pub fn is_whole(&self, now: Instant, window: Duration) -> bool {
        let oldest = self.oldest(now, window);
        self.beats.iter().map(|beat| beat.load(Ordering::Relaxed)).all(|beat| beat != 0 && beat >= oldest)
    }

    /// Whether some worker turned its loop within `window` before `now`.
    #[must_use]
    pub fn is_alive(&self, now: Instant, window: Duration) -> bool {
        let oldest = self.oldest(now, window);
        self.beats.iter().map(|beat| beat.load(Ordering::Relaxed)).any(|beat| beat != 0 && beat >= oldest)
    }

    /// The beat that is just within `window`.
    fn oldest(&self, now: Instant, window: Duration) -> u64 {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        millis(now.saturating_duration_since(self.epoch)).saturating_sub(millis(window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_living_worker_is_enough_and_a_silent_one_is_not() {
        let epoch = Instant::now();
        let at = |seconds| epoch + Duration::from_secs(seconds);
        let window = Duration::from_secs(5);
        let heartbeat = Heartbeat::new(2, epoch);
        assert!(!heartbeat.is_alive(at(0), window), "no beat yet");
        heartbeat.beat(1, at(10));
        for (now, alive) in [(10, true), (15, true), (16, false)] {
            assert_eq!(heartbeat.is_alive(at(now), window), alive, "{now} s");
        }
    }
}
