//! How many requests each token may make.
//! Invariants: a token has no more than its rate and burst, whatever others do (`each_token_has_its_own_rate`); memory is bounded by the
//! number of tokens (`who_has_not_asked_for_long_is_forgotten`).

use std::{collections::HashMap, time::Instant};

use proxy_common::budget::BudgetRate;

use crate::{api_token::TokenId, clock::BudgetClock, config::ApiConfig, store::state_table::MOST_TOKENS};

/// A token has made too many requests. Rates are at least one a second, so that another is permitted within one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooManyRequests;

/// See the module.
pub(super) struct RequestRates {
    clock: BudgetClock,
    rate: BudgetRate,
    /// As [`BudgetRate`] keeps them: when each is full again.
    full_at_ns: HashMap<TokenId, u64>,
}

impl RequestRates {
    pub(super) fn new(config: &ApiConfig, now: Instant) -> Self {
        let rate = BudgetRate { per_second: config.requests_per_second, burst: config.requests_burst };
        Self { clock: BudgetClock::new(now), rate, full_at_ns: HashMap::new() }
    }

    /// Counts a request of `token`, which is one that was made.
    pub(super) fn take(&mut self, token: &TokenId, now: Instant) -> Result<(), TooManyRequests> {
        let now_ns = self.clock.at(now);
        if self.full_at_ns.len() >= MOST_COUNTED && !self.full_at_ns.contains_key(token) {
            self.full_at_ns.retain(|_, full_at| *full_at > now_ns);
        }
        let full_at = self.full_at_ns.get(token).copied().unwrap_or_default();
        let full_at = self.rate.take(full_at, now_ns).ok_or(TooManyRequests)?;
        self.full_at_ns.insert(token.clone(), full_at);
        Ok(())
    }
}

/// Tokens that ended may have made requests a moment ago.
const MOST_COUNTED: usize = 2 * MOST_TOKENS;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    fn rates(now: Instant) -> RequestRates {
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
}
