//! A budget of events per second with a burst, kept in one number: the generic cell rate algorithm (ITU-T I.371 §A).
//! Not here: where the number lies, and what is done when nothing is left.
//! Invariants: never more than `burst` at once, nor more than `burst + rate * t` in any time `t`
//! (`no_window_exceeds_burst_and_rate`); an untouched budget is full (`an_idle_budget_is_full_again`).

/// How fast a budget refills and how much it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BudgetRate {
    /// Events per second; 0 allows none.
    pub per_second: u32,
    /// Events at once; 0 allows none.
    pub burst: u32,
}

impl BudgetRate {
    /// Takes one event from the budget at `now_ns`: its new state, or nothing when it is spent.
    ///
    /// `arrival_ns` is the state: the instant at which the budget will be full again; 0 is a full one.
    #[must_use]
    #[inline]
    pub const fn take(self, arrival_ns: u64, now_ns: u64) -> Option<u64> {
        let Some(interval) = NANOSECONDS.checked_div(self.per_second as u64) else { return None };
        // A rate beyond one per nanosecond is that one.
        let interval = if interval == 0 { 1 } else { interval };
        // At most 10^9 * 2^32, which is below 2^62.
        let horizon = interval * self.burst as u64;
        let begin = if arrival_ns > now_ns { arrival_ns } else { now_ns };
        let next = begin.saturating_add(interval);
        if next - now_ns > horizon { None } else { Some(next) }
    }
}

const NANOSECONDS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_spent_budget_refills_at_its_rate() {
        let rate = BudgetRate { per_second: 10, burst: 3 };
        let mut arrival = 0;
        for (now_ms, allowed) in [
            (1000, true),
            (1000, true),
            (1000, true),
            (1000, false),
            (1099, false),
            (1100, true),
            (1100, false),
        ] {
            let taken = rate.take(arrival, now_ms * 1_000_000);
            assert_eq!(taken.is_some(), allowed, "at {now_ms} ms");
            arrival = taken.unwrap_or(arrival);
        }
    }

    #[test]
    fn an_idle_budget_is_full_again() {
        let rate = BudgetRate { per_second: 1, burst: 1 };
        let arrival = rate.take(0, 5).unwrap();
        assert_eq!(rate.take(arrival, 6), None);
        assert!(rate.take(arrival, NANOSECONDS + 5).is_some());
    }

    #[test]
    fn a_rate_or_burst_of_zero_allows_nothing() {
        for rate in [
            BudgetRate { per_second: 0, burst: 5 },
            BudgetRate { per_second: 5, burst: 0 },
            BudgetRate { per_second: u32::MAX, burst: 0 },
        ] {
            assert_eq!(rate.take(0, 7), None, "{rate:?}");
        }
    }

    mod properties {
        use super::*;

        proptest! {
            #[test]
            fn no_window_exceeds_burst_and_rate(
                per_second in 1..2_000u32, burst in 1..50u32,
                steps in proptest::collection::vec(0..50_000_000u64, 1..200),
            ) {
                let rate = BudgetRate { per_second, burst };
                let (mut now, mut arrival, mut taken) = (1, 0, 0u64);
                for step in &steps {
                    now += step;
                    if let Some(next) = rate.take(arrival, now) {
                        arrival = next;
                        taken += 1;
                    }
                }
                let interval = NANOSECONDS / u64::from(per_second);
                prop_assert!(taken <= u64::from(burst) + now / interval);
            }

            #[test]
            fn any_numbers_are_answered(per_second: u32, burst: u32, arrival: u64, now: u64) {
                if let Some(next) = (BudgetRate { per_second, burst }).take(arrival, now) {
                    prop_assert!(next > now || now > u64::MAX - NANOSECONDS);
                }
            }
        }
    }
}
