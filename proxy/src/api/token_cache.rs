//! Tokens as the table had them a moment ago, and a bound on how often it is asked for others.
//! Invariants: nothing is known of a token for longer than [`FRESH_FOR`], whether it permits something or not
//! (`nothing_is_known_of_a_token_for_longer_than_promised`); tokens that nobody has made cost the table a fixed budget, of which one client
//! has a part (`one_client_with_made_up_tokens_leaves_others_their_share`), and those that were seen none of it, however many were made
//! up since (`made_up_tokens_cost_a_budget_that_others_do_not_need`).

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    api_token::TokenHash,
    domains::{Caller, LookupBudgets},
    store::state_table::{MOST_TOKENS, TokenRecord},
};

/// What the table said of a token, and from which moment on it may have said something else.
#[derive(Debug, Clone)]
pub(super) struct Looked {
    /// Absent, there is none.
    pub(super) record: Option<Arc<TokenRecord>>,
    /// When the table was asked.
    pub(super) asked_at: Instant,
}

/// What is to be done about a token.
#[derive(Debug)]
pub(super) enum Known {
    /// The table said this a moment ago.
    Fresh(Looked),
    /// The table has to be asked.
    Unknown,
}

/// The table is asked for too many tokens that nobody has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooManyLookUps;

/// See the module.
pub(super) struct TokenCache {
    seen: HashMap<TokenHash, Looked>,
    budgets: LookupBudgets,
}

impl Looked {
    /// Whether it still holds at `now`.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.asked_at) < FRESH_FOR
    }
}

impl TokenCache {
    pub(super) fn new(now: Instant) -> Self {
        let budgets = LookupBudgets::new(LOOKUPS_PER_SECOND, LOOKUPS_PER_SOURCE, now);
        Self { seen: HashMap::new(), budgets }
    }

    /// What is known of the token of `hash`.
    pub(super) fn find(&self, hash: &TokenHash, now: Instant) -> Known {
        match self.seen.get(hash).filter(|looked| looked.is_fresh(now)) {
            Some(looked) => Known::Fresh(looked.clone()),
            None => Known::Unknown,
        }
    }

    /// Whether the table may be asked for it, which `caller` has sent: a token that was there is always asked for, others within budgets.
    pub(super) fn admit(
        &mut self,
        hash: &TokenHash,
        caller: Caller,
        now: Instant,
    ) -> Result<(), TooManyLookUps> {
        if self.seen.get(hash).is_some_and(|looked| looked.record.is_some()) {
            return Ok(());
        }
        self.budgets.admit(caller, now).map_err(|_| TooManyLookUps)
    }

    /// Keeps what the table said.
    pub(super) fn learn(&mut self, hash: TokenHash, looked: Looked, now: Instant) {
        if self.seen.len() >= MOST_SEEN && !self.seen.contains_key(&hash) {
            // Of those that are there are never more than half as many.
            self.seen.retain(|_, looked| looked.record.is_some() || looked.is_fresh(now));
            if self.seen.len() >= MOST_SEEN {
                return;
            }
        }
        self.seen.insert(hash, looked);
    }
}

/// A token is revoked within ten seconds (`gatehouse token revoke` says so): this, and time for a request that has begun.
pub(super) const FRESH_FOR: Duration = Duration::from_secs(8);
const LOOKUPS_PER_SECOND: u32 = 40;
const LOOKUPS_PER_SOURCE: u32 = 5;
/// All tokens that can be there, and more made-up ones than the budget lets be asked for while they are fresh.
const MOST_SEEN: usize = 2 * MOST_TOKENS;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        api_token::ApiToken,
        clock,
        store::{instant::Micros, state_table::TokenReach},
    };

    fn hash() -> TokenHash {
        ApiToken::generate().unwrap().hash()
    }

    fn record() -> Arc<TokenRecord> {
        Arc::new(TokenRecord {
            id: "0123456789ab".parse().unwrap(),
            name: "ci".parse().unwrap(),
            scopes: BTreeSet::new(),
            reach: TokenReach::AllTenants,
            created_at: Micros::from_epoch(1),
            expires_at: None,
            revoked_at: None,
        })
    }

    #[test]
    fn nothing_is_known_of_a_token_for_longer_than_promised() {
        assert!(FRESH_FOR < Duration::from_secs(10));
        let begin = clock::now();
        for there in [Some(record()), None] {
            let (mut cache, hash) = (TokenCache::new(begin), hash());
            assert!(matches!(cache.find(&hash, begin), Known::Unknown));
            // The answer took a second to come.
            let looked = Looked { record: there.clone(), asked_at: begin };
            cache.learn(hash, looked, begin + Duration::from_secs(1));
            let at = |after| match cache.find(&hash, begin + after) {
                Known::Fresh(looked) => Some(looked.record),
                Known::Unknown => None,
            };
            assert_eq!(at(FRESH_FOR.saturating_sub(Duration::from_millis(1))), Some(there.clone()));
            assert_eq!(at(FRESH_FOR), None, "{there:?}");
        }
    }

    #[test]
    fn made_up_tokens_cost_a_budget_that_others_do_not_need() {
        let now = clock::now();
        let (mut cache, known) = (TokenCache::new(now), hash());
        cache.learn(known, Looked { record: Some(record()), asked_at: now }, now);
        let admitted = (0..1000).filter(|n| cache.admit(&hash(), client(*n), now).is_ok()).count();
        assert_eq!(admitted, 80);
        let later = now + FRESH_FOR * 2;
        assert!(matches!(cache.find(&known, later), Known::Unknown));
        assert!(cache.admit(&known, client(1), now).is_ok());
        for _ in 0..MOST_SEEN * 2 {
            cache.learn(hash(), Looked { record: None, asked_at: later }, later);
        }
        assert!(cache.admit(&hash(), client(2), later).is_ok(), "the budget refills");
        for n in 0..1000 {
            let _ = cache.admit(&hash(), client(n), later);
        }
        assert!(cache.admit(&known, client(1), later).is_ok(), "made-up ones take no known one's place");
    }

    #[test]
    fn one_client_with_made_up_tokens_leaves_others_their_share() {
        let now = clock::now();
        let mut cache = TokenCache::new(now);
        let admitted = (0..1000).filter(|_| cache.admit(&hash(), client(1), now).is_ok()).count();
        assert_eq!(admitted, 10);
        assert!(cache.admit(&hash(), client(2), now).is_ok());
    }

    fn client(n: u32) -> Caller {
        Caller::Client(std::net::Ipv4Addr::from_bits(n).into())
    }

    #[test]
    fn memory_is_bounded() {
        let now = clock::now();
        let mut cache = TokenCache::new(now);
        for _ in 0..MOST_SEEN * 2 {
            cache.learn(hash(), Looked { record: None, asked_at: now }, now);
        }
        assert_eq!(cache.seen.len(), MOST_SEEN);
        cache.learn(hash(), Looked { record: None, asked_at: now }, now + FRESH_FOR);
        assert_eq!(cache.seen.len(), 1, "what is not fresh makes room");
    }
}
