//! How many requests are answered for a domain, and for one client of it: budgets in memory that does not grow, shared by all workers
//! without a lock.
//! Invariants: a domain's budget is no other's, nor a client's (`each_domain_and_each_client_has_its_own_budget`); memory is bounded, and
//! with more keys than fit those that have spent least are forgotten (`who_has_spent_much_is_not_forgotten_for_those_who_have_not`), so that
//! nobody is refused for another (`with_more_clients_than_fit_none_is_refused_for_another`); a rate that is changed holds at once
//! (`a_spent_budget_follows_a_rate_that_is_raised`).

use std::{
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use proxy_common::budget::{Asked, BudgetRate};

use crate::{
    clock::{self, BudgetClock},
    config::{DomainSettings, LimitsConfig, RequestRate},
    keyed_counts::network,
    name::Pattern,
};

/// The rates that hold for a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DomainRates {
    /// Of all its requests.
    pub(super) all: Option<RequestRate>,
    /// Of one client's.
    pub(super) each_client: Option<RequestRate>,
}

/// Which rate a request is beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RateExceeded {
    /// The domain's.
    Domain,
    /// Its client's.
    Client,
}

/// What has been spent, of one process. Domains and clients lie apart: what they have spent is compared in time, and a domain's short burst
/// would be forgotten for a client's long one.
pub struct RequestRates {
    clock: BudgetClock,
    domains: Budgets,
    clients: Budgets,
}

/// Budgets by the hash of their keys.
struct Budgets {
    hasher: RandomState,
    size: usize,
    /// Made when the first rate is asked for: most instances have none.
    buckets: OnceLock<Box<[Bucket]>>,
}

/// The budgets of keys with the same hash in its lower bits, in one cache line. Each is a tag of the key, and when the budget is full again
/// in microseconds; 0 is nobody's. In a full bucket one key of four thousand shares a tag, and with it a budget.
#[repr(align(64))]
struct Bucket([AtomicU64; WAYS]);

/// A key's bucket and its tag there.
#[derive(Clone, Copy)]
struct Place {
    bucket: usize,
    tag: u64,
}

impl DomainRates {
    /// What an entry says, and what the settings say where it says nothing.
    pub(super) fn of(entry: DomainSettings, limits: &LimitsConfig) -> Self {
        Self {
            all: entry.request_rate.or(limits.request_rate),
            each_client: entry.client_request_rate.or(limits.client_request_rate),
        }
    }
}

impl Default for RequestRates {
    fn default() -> Self {
        Self {
            clock: BudgetClock::new(clock::now()),
            domains: Budgets::sized(DOMAIN_BUCKETS),
            clients: Budgets::sized(CLIENT_BUCKETS),
        }
    }
}

impl RequestRates {
    /// Counts a request of `client` for the domain of the entry `pattern`. One beyond its client's rate costs the domain nothing: no client
    /// can spend what others have. One beyond the domain's costs its client nothing: it is not refused twice for others.
    pub(super) fn take(
        &self,
        pattern: &Pattern,
        client: IpAddr,
        rates: DomainRates,
        now: Instant,
    ) -> Result<(), RateExceeded> {
        let DomainRates { all, each_client } = rates;
        let now_us = self.clock.at(now) / NANOS_PER_MICRO;
        let domain = all.and_then(budget).map(|rate| (self.domains.place(pattern), rate));
        if domain.is_some_and(|(place, rate)| !self.domains.has_left(place, rate, now_us)) {
            return Err(RateExceeded::Domain);
        }
        if let Some(rate) = each_client.and_then(budget) {
            let place = self.clients.place(&(pattern, network(client)));
            if !self.clients.spend(place, rate, now_us) {
                return Err(RateExceeded::Client);
            }
        }
        let is_within = domain.is_none_or(|(place, rate)| self.domains.spend(place, rate, now_us));
        if is_within { Ok(()) } else { Err(RateExceeded::Domain) }
    }
}

impl Budgets {
    fn sized(size: usize) -> Self {
        Self { hasher: RandomState::new(), size, buckets: OnceLock::new() }
    }

    fn place(&self, key: &impl Hash) -> Place {
        let hash = self.hasher.hash_one(key);
        #[expect(clippy::cast_possible_truncation, reason = "the low bits alone choose a bucket")]
        let low = hash as usize;
        // Never 0, which is the tag of nobody.
        Place { bucket: low % self.size, tag: (hash >> TIME_BITS) | 1 }
    }

    fn bucket(&self, place: Place) -> Option<&Bucket> {
        self.buckets.get_or_init(|| empty(self.size)).get(place.bucket)
    }

    /// Whether the budget at `place` grants a request, which is not taken.
    fn has_left(&self, place: Place, rate: BudgetRate, now_us: u64) -> bool {
        self.ask(place, rate, now_us, |asked| (!asked.granted).then_some(asked.arrival_ns))
    }

    /// Takes one request from the budget at `place`, unless it is spent.
    fn spend(&self, place: Place, rate: BudgetRate, now_us: u64) -> bool {
        self.ask(place, rate, now_us, |asked| Some(asked.arrival_ns))
    }

    /// Whether the budget at `place` grants a request; `next` is its state from then on, if another. A refusal, too, changes one that was
    /// spent at a slower rate: it refills at this one.
    fn ask(&self, place: Place, rate: BudgetRate, now_us: u64, next: impl Fn(Asked) -> Option<u64>) -> bool {
        let Some(Bucket(ways)) = self.bucket(place) else { return true };
        // Of requests at the same moment each but one finds that another was first, and looks again: as often at most as others are granted.
        while let Some((way, seen)) = of_key(ways, place.tag, now_us) {
            let full_at_us = if seen >> TIME_BITS == place.tag { seen & TIME_MASK } else { 0 };
            let asked = rate.ask(full_at_us * NANOS_PER_MICRO, now_us * NANOS_PER_MICRO);
            // Rounded down, so that a burst has all its requests. No rate is so high that a request would cost nothing.
            let word = |at: u64| place.tag << TIME_BITS | ((at / NANOS_PER_MICRO) & TIME_MASK);
            let next = next(asked).map_or(seen, word);
            if next == seen || way.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            {
                return asked.granted;
            }
        }
        true
    }
}

/// The word with the key of `tag`; else the one that is in nobody's use, or of whoever has spent least.
fn of_key(ways: &[AtomicU64; WAYS], tag: u64, now_us: u64) -> Option<(&AtomicU64, u64)> {
    let words = ways.iter().map(|way| (way, way.load(Ordering::Relaxed)));
    words.min_by_key(|(_, word)| {
        let spent_us = (word & TIME_MASK).saturating_sub(now_us);
        if word >> TIME_BITS == tag { 0 } else { spent_us + 1 }
    })
}

fn empty(buckets: usize) -> Box<[Bucket]> {
    (0..buckets).map(|_| Bucket(std::array::from_fn(|_| AtomicU64::new(0)))).collect()
}

fn budget(rate: RequestRate) -> Option<BudgetRate> {
    match rate {
        RequestRate::Off => None,
        RequestRate::AtMost { per_second, burst } => {
            Some(BudgetRate { per_second: per_second.get(), burst: burst.get() })
        }
    }
}

/// 1 MiB with eight words each.
const CLIENT_BUCKETS: usize = 1 << 14;
/// A quarter of it.
const DOMAIN_BUCKETS: usize = 1 << 12;
const WAYS: usize = 8;
/// Microseconds for nine years; what is left of a word is the key's tag.
const TIME_BITS: u32 = 48;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
const NANOS_PER_MICRO: u64 = 1_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rate(text: &str) -> RequestRate {
        text.parse().unwrap()
    }

    const SLOW: BudgetRate = BudgetRate { per_second: 1, burst: 5 };
    const NOW_US: u64 = 1_000_000;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    fn client(number: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + number).into())
    }

    #[test]
    fn each_domain_and_each_client_has_its_own_budget() {
        use RateExceeded::{Client, Domain};
        let rates = RequestRates::default();
        let both = DomainRates { all: Some(rate("10/s burst 3")), each_client: Some(rate("10/s burst 2")) };
        let begin = clock::now();
        for (after_ms, name, number, seen) in [
            (0, "a.example", 1, Ok(())),
            (0, "a.example", 1, Ok(())),
            (0, "a.example", 1, Err(Client)),
            (0, "a.example", 2, Ok(())),
            (0, "a.example", 2, Err(Domain)),
            (0, "b.example", 1, Ok(())),
            (0, "*.a.example", 1, Ok(())),
            (100, "a.example", 1, Ok(())),
            // It is the domain that has nothing left, and costs no client what it has.
            (100, "a.example", 1, Err(Domain)),
            (100, "a.example", 3, Err(Domain)),
            (100, "a.example", 3, Err(Domain)),
            (100, "a.example", 3, Err(Domain)),
            (500, "a.example", 3, Ok(())),
            (500, "a.example", 3, Ok(())),
            (500, "a.example", 3, Err(Client)),
        ] {
            let now = begin + Duration::from_millis(after_ms);
            let taken = rates.take(&pattern(name), client(number), both, now);
            assert_eq!(taken, seen, "client {number} of {name} after {after_ms} ms");
        }
    }

    #[test]
    fn a_burst_has_all_its_requests_at_every_rate() {
        let begin = clock::now();
        for (text, burst) in
            [("3/s burst 100", 100), ("7/s", 7), ("900/s burst 5000", 5_000), ("300000/s burst 9", 9)]
        {
            let rates = RequestRates::default();
            let only = DomainRates { all: Some(rate(text)), each_client: None };
            let answered = (0..2 * burst)
                .filter(|_| rates.take(&pattern("a.example"), client(1), only, begin).is_ok())
                .count();
            assert_eq!(answered, burst, "{text}");
        }
    }

    #[test]
    fn where_nothing_bounds_requests_nothing_is_kept() {
        let rates = RequestRates::default();
        for all in [None, Some(rate("off"))] {
            let unbounded = DomainRates { all, each_client: all };
            rates.take(&pattern("a.example"), client(1), unbounded, clock::now()).unwrap();
        }
        assert!(rates.clients.buckets.get().is_none() && rates.domains.buckets.get().is_none());
    }

    /// Takes one request in the only bucket. Hashes would give two keys the same tag in one run of forty.
    fn spend(budgets: &Budgets, number: u64, rate: BudgetRate, now_us: u64) -> bool {
        budgets.spend(Place { bucket: 0, tag: 2 * number + 1 }, rate, now_us)
    }

    #[test]
    fn with_more_clients_than_fit_none_is_refused_for_another() {
        let budgets = Budgets::sized(1);
        let greedy: Vec<_> =
            (0..100).map(|number| (0..9).filter(|_| spend(&budgets, number, SLOW, NOW_US)).count()).collect();
        assert!(greedy.iter().all(|answered| *answered == 5), "{greedy:?}");
    }

    #[test]
    fn who_has_spent_much_is_not_forgotten_for_those_who_have_not() {
        let budgets = Budgets::sized(1);
        assert_eq!((0..9).filter(|_| spend(&budgets, 0, SLOW, NOW_US)).count(), 5);
        for newcomer in 1..100 {
            spend(&budgets, newcomer, SLOW, NOW_US);
            assert!(!spend(&budgets, 0, SLOW, NOW_US), "{newcomer} others made it forgotten");
        }
    }

    #[test]
    fn a_spent_budget_follows_a_rate_that_is_raised() {
        let (name, begin) = (pattern("a.example"), clock::now());
        let of_all = |text: &str| DomainRates { all: Some(rate(text)), each_client: None };
        let of_client = |text: &str| DomainRates { all: None, each_client: Some(rate(text)) };
        for limited in [&of_all as &dyn Fn(&str) -> DomainRates, &of_client] {
            let rates = RequestRates::default();
            let answered = |text: &str, after: u64| {
                let now = begin + Duration::from_secs(after);
                (0..1_000).filter(|_| rates.take(&name, client(1), limited(text), now).is_ok()).count()
            };
            assert_eq!(answered("1/s burst 600", 0), 600);
            assert_eq!(answered("50/s burst 100", 1), 0, "it is taken for a spent one");
            assert_eq!(answered("50/s burst 100", 2), 50, "which refills at the new rate");
        }
    }

    #[test]
    fn workers_share_a_budget() {
        let rates = RequestRates::default();
        let only = DomainRates { all: Some(rate("1/s burst 1000")), each_client: None };
        let (name, now) = (pattern("a.example"), clock::now());
        let work = || (0..1_000).filter(|_| rates.take(&name, client(1), only, now).is_ok()).count();
        let answered = std::thread::scope(|scope| {
            let workers = [scope.spawn(work), scope.spawn(work)];
            workers.map(|worker| worker.join().unwrap()).iter().sum::<usize>()
        });
        assert_eq!(answered, 1_000);
    }
}
