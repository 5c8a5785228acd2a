//! How many requests may be sent again, so that an outage does not double its own load. Pure.

use std::time::{Duration, Instant};

/// One retry for every [`EARNED_BY`] requests and for every [`EARNED_IN`], of which at most [`MOST`] are saved.
#[derive(Debug, Clone, Copy)]
pub(super) struct RetryBudget {
    /// In parts of a retry.
    parts: u32,
    since: Instant,
}

impl RetryBudget {
    pub(super) fn new(now: Instant) -> Self {
        Self { parts: MOST * EARNED_BY, since: now }
    }

    /// A request has come.
    pub(super) fn earn(&mut self) {
        self.parts = (self.parts + 1).min(MOST * EARNED_BY);
    }

    /// Whether a request may be sent again.
    pub(super) fn spend(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.since).as_millis() / EARNED_IN.as_millis();
        let earned = u32::try_from(earned).unwrap_or(MOST).min(MOST);
        if earned > 0 {
            self.since = now;
            self.parts = (self.parts + earned * EARNED_BY).min(MOST * EARNED_BY);
        }
        match self.parts.checked_sub(EARNED_BY) {
            Some(left) => {
                self.parts = left;
                true
            }
            None => false,
        }
    }
}

const EARNED_BY: u32 = 5;
const EARNED_IN: Duration = Duration::from_millis(100);
const MOST: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_part_of_the_requests() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(now);
        let spent = (0..1000).filter(|_| budget.spend(now)).count();
        assert_eq!(spent, 50, "saved");
        let spent = (0..1000).filter(|_| {
            budget.earn();
            budget.spend(now)
        });
        assert_eq!(spent.count(), 200, "one of five");
        let later = now + Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| budget.spend(later)).count(), 10, "ten a second");
        assert_eq!((0..100).filter(|_| budget.spend(now + Duration::from_hours(1))).count(), 50);
    }
}
