//! How many requests each token may make, or with each setup link be made.
//! Invariants: a token has no more than its rate and burst, whatever others do (`each_token_has_its_own_rate`); memory is bounded
//! (`who_has_not_asked_for_long_is_forgotten`, `of_more_than_are_counted_at_once_the_last_wait`).

use std::{collections::HashMap, hash::Hash, time::Instant};

use proxy_common::budget::BudgetRate;

use crate::{clock::BudgetClock, config::ApiConfig, store::state_table::MOST_TOKENS};

/// A token has made too many requests. Rates are at least one a second, so that another is permitted within one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooManyRequests;

/// See the module. By `K` requests are told apart: keys that somebody has made, so that no stranger can make them up.
pub(super) struct RequestRates<K> {
    clock: BudgetClock,
    rate: BudgetRate,
    /// As [`BudgetRate`] keeps them: when each is full again.
    full_at_ns: HashMap<K, u64>,
}

impl<K: Eq + Hash + Clone> RequestRates<K> {
    pub(super) fn new(config: &ApiConfig, now: Instant) -> Self {
        let rate = BudgetRate { per_second: config.requests_per_second, burst: config.requests_burst };
        Self { clock: BudgetClock::new(now), rate, full_at_ns: HashMap::new() }
    }

    /// Counts a request by `key`.
    pub(super) fn take(&mut self, key: &K, now: Instant) -> Result<(), TooManyRequests> {
        let now_ns = self.clock.at(now);
        if self.full_at_ns.len() >= MOST_COUNTED && !self.full_at_ns.contains_key(key) {
            self.full_at_ns.retain(|_, full_at| *full_at > now_ns);
            if self.full_at_ns.len() >= MOST_COUNTED {
                return Err(TooManyRequests);
            }
        }
        let full_at = self.full_at_ns.get(key).copied().unwrap_or_default();
        let full_at = self.rate.take(full_at, now_ns).ok_or(TooManyRequests)?;
        self.full_at_ns.insert(key.clone(), full_at);
        Ok(())
    }
}

/// Tokens that ended may have made requests a moment ago. Of links there may be more; as many at once are none of people.
const MOST_COUNTED: usize = 2 * MOST_TOKENS;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{api_token::TokenId, clock};

    fn rates(now: Instant) -> RequestRates<TokenId> {
        let config = ApiConfig { requests_per_second: 2, requests_burst: 3, ..ApiConfig::default() };
        RequestRates::new(&config, now)
    }

    fn token(number: usize) -> TokenId {
        format!("{number:012x}").parse().unwrap()
    }

    #[test]
    fn each_token_has_its_own_rate() {
        let begin = clock::now();
        let mut rates = rates(begin);
        for (after_ms, who, permitted) in [
            (0, 1, true),
            (0, 1, true),
            (0, 1, true),
            (0, 1, false),
            (0, 2, true),
            (499, 1, false),
            (500, 1, true),
            (500, 1, false),
        ] {
            let taken = rates.take(&token(who), begin + Duration::from_millis(after_ms));
            assert_eq!(taken.is_ok(), permitted, "token {who} after {after_ms} ms");
        }
    }

    #[test]
    fn who_has_not_asked_for_long_is_forgotten() {
        let begin = clock::now();
        let mut rates = rates(begin);
        for number in 0..MOST_COUNTED {
            rates.take(&token(number), begin).unwrap();
        }
        rates.take(&token(MOST_COUNTED), begin + Duration::from_secs(2)).unwrap();
        assert_eq!(rates.full_at_ns.len(), 1);
    }
    #[test]
    fn of_more_than_are_counted_at_once_the_last_wait() {
        let begin = clock::now();
        let mut rates = rates(begin);
        for number in 0..MOST_COUNTED {
            rates.take(&token(number), begin).unwrap();
        }
        assert!(rates.take(&token(MOST_COUNTED), begin).is_err());
        assert!(rates.take(&token(0), begin).is_ok(), "who is counted goes on");
        assert_eq!(rates.full_at_ns.len(), MOST_COUNTED);
    }
}
