//! Answers of the sources that are in no snapshot, each used for a limited time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use moka::{Entry, ops::compute::Op, sync::Cache};

use super::{Denial, DomainEntry, Permission, UnknownReason};
use crate::name::ServerName;

/// A bounded cache; concurrent, and synchronous for the data plane.
pub(super) struct PermissionCache {
    cache: Cache<ServerName, CachedAnswer>,
    lives: CacheLifetimes,
}

/// How long answers are used.
#[derive(Debug, Clone, Copy)]
pub(super) struct CacheLifetimes {
    pub(super) allow: Duration,
    /// Beyond that, while the source is asked again.
    pub(super) stale: Duration,
    pub(super) deny: Duration,
}

/// An answer that may be remembered.
#[derive(Debug, Clone)]
pub(super) enum CachedPermission {
    Allow(Arc<DomainEntry>),
    Deny(Denial),
    SourceDown,
    AskDown,
}

/// Whether an answer has to be asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    Fresh,
    Stale,
}

#[derive(Debug, Clone)]
struct CachedAnswer {
    answer: CachedPermission,
    fresh_until: Instant,
    usable_until: Instant,
}

impl PermissionCache {
    pub(super) fn new(lives: CacheLifetimes) -> Self {
        let longest = (lives.allow + lives.stale).max(lives.deny).max(DOUBT_LIFE);
        let cache = Cache::builder().max_capacity(MAX_ANSWERS).time_to_live(longest).build();
        Self { cache, lives }
    }

    pub(super) fn get(&self, name: &ServerName, now: Instant) -> Option<(CachedPermission, Freshness)> {
        let held = self.cache.get(name)?;
        let age = held.age(now)?;
        Some((held.answer, age))
    }

    /// An unknown answer does not replace an allowed one that may still be used: it is asked for again a little later.
    pub(super) fn remember(&self, name: ServerName, answer: CachedPermission, now: Instant) {
        let is_doubt = matches!(answer, CachedPermission::SourceDown | CachedPermission::AskDown);
        let fresh = CachedAnswer::of(answer, self.lives, now);
        self.cache.entry(name).and_compute_with(|held| match held.map(Entry::into_value) {
            Some(held) if is_doubt && held.is_usable(now) => Op::Put(held.postponed(now)),
            Some(_) | None => Op::Put(fresh),
        });
    }

    /// A stale answer is being asked for again: until that is done it passes for fresh.
    pub(super) fn postpone(&self, name: &ServerName, now: Instant) {
        self.cache.entry_by_ref(name).and_compute_with(|held| match held.map(Entry::into_value) {
            Some(held) if held.age(now) == Some(Freshness::Stale) => Op::Put(held.postponed(now)),
            Some(_) | None => Op::Nop,
        });
    }
}

impl CachedAnswer {
    fn of(answer: CachedPermission, lives: CacheLifetimes, now: Instant) -> Self {
        let (fresh, stale) = match answer {
            CachedPermission::Allow(_) => (lives.allow, lives.stale),
            CachedPermission::Deny(_) => (lives.deny, Duration::ZERO),
            CachedPermission::SourceDown | CachedPermission::AskDown => (DOUBT_LIFE, Duration::ZERO),
        };
        Self { answer, fresh_until: now + fresh, usable_until: now + fresh + stale }
    }

    fn age(&self, now: Instant) -> Option<Freshness> {
        match (now < self.fresh_until, now < self.usable_until) {
            (_, false) => None,
            (true, true) => Some(Freshness::Fresh),
            (false, true) => Some(Freshness::Stale),
        }
    }

    fn is_usable(&self, now: Instant) -> bool {
        matches!(self.answer, CachedPermission::Allow(_)) && self.age(now).is_some()
    }

    fn postponed(self, now: Instant) -> Self {
        Self { fresh_until: now + ASK_AGAIN, ..self }
    }
}

impl From<CachedPermission> for Permission {
    fn from(answer: CachedPermission) -> Self {
        match answer {
            CachedPermission::Allow(domain_entry) => Self::Allow(domain_entry),
            CachedPermission::Deny(denial) => Self::Deny(denial),
            CachedPermission::SourceDown => Self::Unknown(UnknownReason::SourceDown),
            CachedPermission::AskDown => Self::Unknown(UnknownReason::AskDown),
        }
    }
}

/// About 200 bytes each.
const MAX_ANSWERS: u64 = 100_000;
/// A source that is down is asked again soon, and not by every hello.
const DOUBT_LIFE: Duration = Duration::from_secs(1);

/// A stale answer is asked for again so soon, if nothing came of it.
const ASK_AGAIN: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domains::lookup::asked_site;

    #[test]
    fn each_answer_is_believed_for_its_own_time() {
        let seconds = Duration::from_secs;
        let answers = PermissionCache::new(CacheLifetimes {
            allow: seconds(60),
            stale: seconds(600),
            deny: seconds(10),
        });
        let (name, now) = (ServerName::parse("a.example").unwrap(), Instant::now());
        for (answer, life) in
            [(CachedPermission::Deny(Denial::NoEntry), 10), (CachedPermission::SourceDown, 1)]
        {
            answers.remember(name.clone(), answer, now);
            assert!(answers.get(&name, now + seconds(life) * 9 / 10).is_some());
            assert!(answers.get(&name, now + seconds(life)).is_none());
        }
    }

    #[test]
    fn what_was_allowed_is_used_while_it_is_asked_for_again_and_not_for_ever() {
        let seconds = Duration::from_secs;
        let answers = PermissionCache::new(CacheLifetimes {
            allow: seconds(60),
            stale: seconds(600),
            deny: seconds(10),
        });
        let (name, start) = (ServerName::parse("a.example").unwrap(), Instant::now());
        let age = |at: u64| {
            answers.get(&name, start + seconds(at)).map(|(answer, age)| (Permission::from(answer), age))
        };
        answers.remember(name.clone(), CachedPermission::Allow(Arc::new(asked_site(&name))), start);
        for (at, postpone, unknown_reason, expected) in [
            (59, false, false, Some(Freshness::Fresh)),
            (60, false, false, Some(Freshness::Stale)),
            (61, true, false, Some(Freshness::Fresh)),
            (64, false, false, Some(Freshness::Stale)),
            (65, false, true, Some(Freshness::Fresh)),
            (659, true, true, Some(Freshness::Fresh)),
            (660, true, false, None),
        ] {
            if postpone {
                answers.postpone(&name, start + seconds(at));
            }
            if unknown_reason {
                answers.remember(name.clone(), CachedPermission::AskDown, start + seconds(at));
            }
            let seen = age(at);
            assert!(seen.iter().all(|(said, _)| matches!(said, Permission::Allow(_))), "{at} s: {seen:?}");
            assert_eq!(seen.map(|(_, age)| age), expected, "{at} s");
        }
        answers.remember(name.clone(), CachedPermission::Deny(Denial::NoEntry), start + seconds(70));
        answers.postpone(&name, start + seconds(71));
        assert!(matches!(age(71), Some((Permission::Deny(_), Freshness::Fresh))), "{:?}", age(71));
    }

    #[test]
    fn a_flood_of_names_is_forgotten_beyond_the_bound() {
        let answers = PermissionCache::new(CacheLifetimes {
            allow: Duration::from_mins(1),
            stale: Duration::ZERO,
            deny: Duration::from_secs(10),
        });
        let now = Instant::now();
        for n in 0..MAX_ANSWERS + 50_000 {
            let name = ServerName::parse(&format!("n{n}.example")).unwrap();
            answers.remember(name, CachedPermission::Deny(Denial::NoEntry), now);
        }
        answers.cache.run_pending_tasks();
        assert!(answers.cache.entry_count() <= MAX_ANSWERS);
    }
}
