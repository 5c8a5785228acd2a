//! The certificates of this process, by what they cover.

use std::{sync::Arc, time::SystemTime};

use moka::sync::Cache as Bounded;

use super::{Slot, choice::Candidate};
use crate::name::{Pattern, ServerName};

/// Bounded by the number of certificates; what was used least falls out, one table read away.
pub(super) struct Cache(Bounded<Pattern, Entry>);

#[derive(Clone)]
struct Entry {
    slot: Arc<Slot>,
    /// When another instance may have renewed it.
    stale_at: SystemTime,
}

impl Cache {
    pub(super) fn new(capacity: u64) -> Self {
        Self(Bounded::new(capacity))
    }

    /// A valid one: of the exact name, else of the wildcard that covers it. An expired one shadows nothing.
    pub(super) fn find(&self, name: &ServerName, now: SystemTime) -> Option<Arc<Slot>> {
        let patterns = std::iter::once(Pattern::Exact(name.clone())).chain(name.wildcard());
        patterns
            .filter_map(|pattern| self.0.get(&pattern))
            .map(|entry| entry.slot)
            .find(|slot| slot.current(now).is_some())
    }

    /// Keeps `candidate`; whoever holds the slot of an older one finds it there from now on.
    pub(super) fn keep(&self, candidate: &Candidate, stale_at: SystemTime) -> Arc<Slot> {
        let fresh = || Entry { slot: Arc::default(), stale_at };
        let mut entry = self.0.entry(candidate.pattern.clone()).or_insert_with(fresh).into_value();
        let held = entry.slot.current.load_full();
        // By its beginning, as the table's are chosen: lives get shorter, so a newer one may end earlier.
        if held.is_none_or(|held| held.not_before < candidate.pair.certificate.not_before) {
            entry.slot.current.store(Some(Arc::clone(&candidate.pair.certificate)));
        }
        if entry.stale_at != stale_at {
            entry.stale_at = stale_at;
            self.0.insert(candidate.pattern.clone(), entry.clone());
        }
        entry.slot
    }

    /// Empties the slot, so that workers that hold it present it no longer; whether there was one.
    pub(super) fn withdraw(&self, pattern: &Pattern) -> bool {
        let entry = self.0.remove(pattern);
        entry.inspect(|entry| entry.slot.current.store(None)).is_some()
    }

    pub(super) fn patterns(&self) -> Vec<Pattern> {
        self.0.iter().map(|(pattern, _)| (*pattern).clone()).collect()
    }

    /// What may have been renewed elsewhere by `now`.
    pub(super) fn stale(&self, now: SystemTime) -> Vec<Pattern> {
        self.0
            .iter()
            .filter(|(_, entry)| entry.stale_at <= now)
            .map(|(pattern, _)| (*pattern).clone())
            .collect()
    }

    pub(super) fn len(&self) -> u64 {
        self.0.run_pending_tasks();
        self.0.entry_count()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        certificates::pair::{Pair, tests::pems},
        store::certificate_table::IssuerKey,
    };

    const HOUR: Duration = Duration::from_hours(1);

    fn candidate(pattern: &str, begins: SystemTime) -> Candidate {
        lasting(pattern, begins, HOUR)
    }

    fn lasting(pattern: &str, begins: SystemTime, life: Duration) -> Candidate {
        let (chain, key) = pems(&[pattern], begins, life);
        let pattern = Pattern::parse(pattern).unwrap();
        let pair = Pair::read(chain.as_bytes(), key.as_bytes(), &pattern).unwrap();
        Candidate { pair, issuer: IssuerKey::internal(), pattern }
    }

    fn name(text: &str) -> ServerName {
        ServerName::parse(text).unwrap()
    }

    #[test]
    fn renewal_replaces_what_is_in_the_slot_and_withdrawal_empties_it() {
        let (cache, now) = (Cache::new(10), SystemTime::now());
        let old = candidate("a.example.com", now - HOUR / 2);
        let slot = cache.keep(&old, now);
        let new = candidate("a.example.com", now);
        cache.keep(&new, now + HOUR);
        assert!(Arc::ptr_eq(&slot.current(now).unwrap(), &new.pair.certificate));
        cache.keep(&old, now);
        assert!(
            Arc::ptr_eq(&slot.current(now).unwrap(), &new.pair.certificate),
            "an older one replaces nothing"
        );
        let shorter = lasting("a.example.com", now + Duration::from_secs(1), HOUR / 2);
        cache.keep(&shorter, now);
        assert!(
            Arc::ptr_eq(&slot.current(now).unwrap(), &shorter.pair.certificate),
            "a newer one replaces one that would last longer"
        );
        assert!(cache.withdraw(&Pattern::parse("a.example.com").unwrap()));
        assert!(slot.current(now).is_none());
        assert!(cache.find(&name("a.example.com"), now).is_none());
    }

    #[test]
    fn an_expired_certificate_does_not_shadow_a_valid_one() {
        let (cache, now) = (Cache::new(10), SystemTime::now());
        cache.keep(&candidate("a.example.com", now - HOUR * 2), now);
        assert!(cache.find(&name("a.example.com"), now).is_none());
        let wildcard = candidate("*.example.com", now);
        cache.keep(&wildcard, now);
        let found = cache.find(&name("a.example.com"), now).unwrap();
        assert!(Arc::ptr_eq(&found.current(now).unwrap(), &wildcard.pair.certificate));
        assert!(cache.find(&name("a.b.example.com"), now).is_none());
    }

    #[test]
    fn stale_certificates_are_those_another_instance_may_have_renewed() {
        let (cache, now) = (Cache::new(10), SystemTime::now());
        cache.keep(&candidate("a.example.com", now), now);
        cache.keep(&candidate("b.example.com", now), now + HOUR);
        assert_eq!(cache.stale(now), [Pattern::parse("a.example.com").unwrap()]);
        assert_eq!(cache.len(), 2);
    }
}
