//! A budget of events per second with a burst, kept in one number: the generic cell rate algorithm (ITU-T I.371 §A).
//! Not here: where the number lies, and what is done when nothing is left.
//! Invariants: never more than `burst` at once, nor more than `burst + rate * t` in any time `t`
//! (`no_window_exceeds_burst_and_rate`); an untouched budget is full (`an_idle_budget_is_full_again`); a change of rate or
//! burst holds at once (`a_state_of_other_settings_refills_at_the_new_rate`).

/// How fast a budget refills and how much it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BudgetRate {
    /// Events per second; 0 allows none.
    pub per_second: u32,
    /// Events at once; 0 allows none.
    pub burst: u32,
}

/// What became of a budget that was asked for one event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Its new state, to be written back whatever the answer.
    pub arrival_ns: u64,
    /// Whether the event is within it.
    pub granted: bool,
}

impl BudgetRate {
    /// Takes one event from a budget whose state does not outlive its settings: its new state, or nothing when it is spent.
    #[must_use]
    pub fn take(self, arrival_ns: u64, now_ns: u64) -> Option<u64> {
        let asked = self.ask(arrival_ns, now_ns);
        asked.granted.then_some(asked.arrival_ns)
    }

    /// Asks the budget for one event at `now_ns`.
    ///
    /// `arrival_ns` is the state: the instant at which the budget will be full again; 0 is a full one. A state further ahead
    /// than this budget can be is that of another rate or burst: it is taken for a spent one, which refills at this rate.
    #[must_use]
    #[inline]
    pub const fn ask(self, arrival_ns: u64, now_ns: u64) -> Asked {
        let refused = Asked { arrival_ns, granted: false };
        let Some(interval) = NANOSECONDS.checked_div(self.per_second as u64) else { return refused };
        // A rate beyond one per nanosecond is that one.
        let interval = if interval == 0 { 1 } else { interval };
        // At most 10^9 * 2^32, which is below 2^62.
        let horizon = interval * self.burst as u64;
        let spent = now_ns.saturating_add(horizon);
        let begin = if arrival_ns > now_ns { arrival_ns } else { now_ns };
        if begin > spent {
            return Asked { arrival_ns: spent, granted: false };
        }
        let next = begin.saturating_add(interval);
        if next - now_ns > horizon { refused } else { Asked { arrival_ns: next, granted: true } }
    }

    /// How many events a budget in this state grants at once.
    #[must_use]
    pub fn left(self, arrival_ns: u64, now_ns: u64) -> u32 {
        let Some(interval) = NANOSECONDS.checked_div(self.per_second.into()) else { return 0 };
        let owed = arrival_ns.saturating_sub(now_ns).div_ceil(interval.max(1));
        self.burst.saturating_sub(u32::try_from(owed).unwrap_or(u32::MAX))
    }

    /// The state of a budget that grants `left` events at once.
    #[must_use]
    pub fn arrival_with(self, left: u32, now_ns: u64) -> u64 {
        let interval = NANOSECONDS.checked_div(self.per_second.into()).unwrap_or(0).max(1);
        now_ns.saturating_add(interval * u64::from(self.burst.saturating_sub(left)))
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
            let asked = rate.ask(arrival, now_ms * 1_000_000);
            assert_eq!(asked.granted, allowed, "at {now_ms} ms");
            arrival = asked.arrival_ns;
        }
    }

    #[test]
    fn an_idle_budget_is_full_again() {
        let rate = BudgetRate { per_second: 1, burst: 1 };
        let arrival = rate.ask(0, 5).arrival_ns;
        assert!(!rate.ask(arrival, 6).granted);
        assert!(rate.ask(arrival, NANOSECONDS + 5).granted);
    }

    #[test]
    fn a_rate_or_burst_of_zero_allows_nothing() {
        for rate in [
            BudgetRate { per_second: 0, burst: 5 },
            BudgetRate { per_second: 5, burst: 0 },
            BudgetRate { per_second: u32::MAX, burst: 0 },
        ] {
            assert!(!rate.ask(0, 7).granted, "{rate:?}");
        }
    }

    #[test]
    fn a_state_of_other_settings_refills_at_the_new_rate() {
        let (mut arrival, mut now) = (0, NANOSECONDS);
        for _ in 0..10_000 {
            let asked = BudgetRate { per_second: 1, burst: 10_000 }.ask(arrival, now);
            assert!(asked.granted);
            arrival = asked.arrival_ns;
        }
        let rate = BudgetRate { per_second: 100, burst: 50 };
        let mut granted = 0;
        for _ in 0..200 {
            let asked = rate.ask(arrival, now);
            (arrival, granted) = (asked.arrival_ns, granted + u32::from(asked.granted));
            now += NANOSECONDS / 100;
        }
        assert_eq!(granted, 199, "the first finds it spent, not for 10,000 s");
    }

    mod properties {
        use super::*;

        proptest! {
            #[test]
            fn what_is_left_is_granted_and_no_more(
                per_second in 0..2_000u32, burst in 0..50u32, taken in 0..60u32, later in 0..100_000_000u64,
            ) {
                let rate = BudgetRate { per_second, burst };
                let (mut arrival, now) = (0, NANOSECONDS);
                for _ in 0..taken {
                    arrival = rate.ask(arrival, now).arrival_ns;
                }
                let now = now + later;
                let left = rate.left(arrival, now);
                prop_assert_eq!(rate.left(rate.arrival_with(left, now), now), left);
                for _ in 0..left {
                    let asked = rate.ask(arrival, now);
                    prop_assert!(asked.granted);
                    arrival = asked.arrival_ns;
                }
                prop_assert!(!rate.ask(arrival, now).granted, "{} left", left);
            }

            #[test]
            fn no_window_exceeds_burst_and_rate(
                per_second in 1..2_000u32, burst in 1..50u32,
                steps in proptest::collection::vec(0..50_000_000u64, 1..200),
            ) {
                let rate = BudgetRate { per_second, burst };
                let (mut now, mut arrival, mut taken) = (1, 0, 0u64);
                for step in &steps {
                    now += step;
                    let asked = rate.ask(arrival, now);
                    arrival = asked.arrival_ns;
                    taken += u64::from(asked.granted);
                }
                let interval = NANOSECONDS / u64::from(per_second);
                prop_assert!(taken <= u64::from(burst) + now / interval);
            }

            #[test]
            fn any_numbers_are_answered(per_second: u32, burst: u32, arrival: u64, now: u64) {
                let asked = (BudgetRate { per_second, burst }).ask(arrival, now);
                if asked.granted {
                    prop_assert!(asked.arrival_ns > now || now > u64::MAX - NANOSECONDS);
                }
            }
        }
    }
}
