//! How many table reads names without a clear permission, and challenges, may cause per second. Pure: `now` is an argument.

use std::time::{Duration, Instant};

/// A budget per second.
#[derive(Debug)]
pub(super) struct Lookups {
    per_second: u32,
    second: Option<Instant>,
    spent: u32,
}

impl Lookups {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, second: None, spent: 0 }
    }

    /// Takes one, if there is one left.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        if self.second.is_none_or(|second| now.duration_since(second) >= Duration::from_secs(1)) {
            (self.second, self.spent) = (Some(now), 0);
        }
        let admitted = self.spent < self.per_second;
        self.spent += u32::from(admitted);
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_costs_the_budget_of_each_second_and_no_more() {
        let (mut lookups, start) = (Lookups::new(50), Instant::now());
        let admitted =
            (0..30_000_u64).filter(|n| lookups.admit(start + Duration::from_micros(n * 100))).count();
        assert_eq!(admitted, 150);
        let mut none = Lookups::new(0);
        assert!(!none.admit(start));
    }
}
