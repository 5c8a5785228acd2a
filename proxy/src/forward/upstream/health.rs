//! Whether a destination answers, by what its requests have shown. Pure: who asks, and on which clock, is the caller's.

use std::time::{Duration, Instant};

use crate::backoff::Backoff;

/// What is known of one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Health {
    /// In a row.
    failures: u32,
    /// In a row, each with a longer pause.
    ejections: u32,
    ejected_until: Option<Instant>,
    failed_at: Option<Instant>,
    answers_again_since: Option<Instant>,
}

/// What a failure has led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Kept,
    /// No request is to go there for so long, if it can go elsewhere.
    Ejected(Duration),
}

impl Health {
    /// Whether requests are to go elsewhere.
    pub(super) fn is_ejected(&self, now: Instant) -> bool {
        self.ejected_until.is_some_and(|until| now < until)
    }

    /// The part of its share of the requests that it gets: little after an ejection, when its caches are cold, and soon all.
    pub(super) fn share(&self, now: Instant) -> f64 {
        match (self.ejected_until, self.answers_again_since) {
            (Some(_), _) => LEAST_SHARE,
            (None, Some(since)) => {
                let part = now.saturating_duration_since(since).as_secs_f64() / SLOW_START.as_secs_f64();
                part.clamp(LEAST_SHARE, 1.0)
            }
            (None, None) => 1.0,
        }
    }

    /// Whether it has not failed for so long that there is nothing to remember, whether or not anybody has asked it since.
    pub(super) fn is_forgotten(&self, now: Instant) -> bool {
        self.failed_at.is_none_or(|at| now >= at + FORGOTTEN)
    }

    /// It has answered a request, whatever it said.
    pub(super) fn answered(&mut self, now: Instant) {
        // The answer to a request from before an ejection says nothing new.
        if self.is_ejected(now) {
            return;
        }
        self.failures = 0;
        if self.ejected_until.take().is_some() {
            self.answers_again_since = Some(now);
        }
        if self.answers_again_since.is_some_and(|since| now >= since + FORGOTTEN) {
            *self = Self::default();
        }
    }

    /// It has not answered a request.
    pub(super) fn failed(&mut self, now: Instant) -> Verdict {
        if self.is_ejected(now) {
            return Verdict::Kept;
        }
        self.failures += 1;
        self.failed_at = Some(now);
        // The first request after an ejection is a trial.
        if self.failures < FAILURES && self.ejected_until.is_none() {
            return Verdict::Kept;
        }
        self.ejections = self.ejections.saturating_add(1);
        let pause = PAUSES.after(self.ejections);
        (self.failures, self.ejected_until, self.answers_again_since) = (0, Some(now + pause), None);
        Verdict::Ejected(pause)
    }
}

/// Failures in a row that eject.
const FAILURES: u32 = 3;
const PAUSES: Backoff = Backoff::doubling(Duration::from_secs(5), Duration::from_mins(1));
const SLOW_START: Duration = Duration::from_secs(10);
const LEAST_SHARE: f64 = 0.1;
/// After so long without a failure, the next ejection is as short as the first.
const FORGOTTEN: Duration = Duration::from_mins(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_eject_for_longer_each_time() {
        let (mut health, mut now) = (Health::default(), Instant::now());
        assert_eq!([health.failed(now), health.failed(now)], [Verdict::Kept; 2]);
        health.answered(now);
        assert_eq!([health.failed(now), health.failed(now)], [Verdict::Kept; 2], "not in a row");
        for pause in [5, 10, 20, 40, 60, 60].map(Duration::from_secs) {
            assert_eq!(health.failed(now), Verdict::Ejected(pause));
            assert!(health.is_ejected(now + pause * 9 / 10));
            // What was on the way when it was ejected changes nothing.
            let before = health;
            health.answered(now);
            assert_eq!((health.failed(now), health), (Verdict::Kept, before));
            now += pause;
            assert!(!health.is_ejected(now), "one request tries");
        }
    }

    #[test]
    fn what_answers_again_gets_its_share_little_by_little() {
        let (mut health, now) = (Health::default(), Instant::now());
        while health.failed(now) == Verdict::Kept {}
        let again = now + Duration::from_secs(5);
        assert!(health.share(again) < 0.11);
        health.answered(again);
        let share = |seconds| (health.share(again + Duration::from_secs(seconds)) * 10.0).round().to_string();
        assert_eq!([0, 5, 10, 60].map(share), ["1", "5", "10", "10"]);
        health.answered(again + FORGOTTEN);
        assert_eq!(health, Health::default());
    }

    #[test]
    fn time_heals_what_nobody_asks() {
        let (mut health, now) = (Health::default(), Instant::now());
        assert!(health.is_forgotten(now));
        for failed_at in [now, now + FORGOTTEN / 2] {
            health.failed(failed_at);
            assert!(!health.is_forgotten(failed_at + FORGOTTEN * 9 / 10));
            assert!(health.is_forgotten(failed_at + FORGOTTEN));
        }
    }
}
