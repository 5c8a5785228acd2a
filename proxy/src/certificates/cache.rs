//! The certificates in this process's memory, by the names they cover.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use moka::sync::Cache as Bounded;

use super::{
    choice::Candidate,
    slot::{CONFIRMED_FOR, RetainedKey, Slot},
};
use crate::{
    name::{Pattern, ServerName},
    store::certificate_table::IssuerKey,
};

/// Bounded by the number of certificates; the least used is dropped, and read from the table when needed.
pub(super) struct Cache {
    certificates: Bounded<Pattern, CacheEntry>,
    keys: KeyRetention,
}

/// Whether keys are held beside what signs with them, since certificates are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyRetention {
    Off,
    On,
}

#[derive(Clone)]
struct CacheEntry {
    slot: Arc<Slot>,
    issuer: IssuerKey,
}

/// What is presented for a pattern, and its place in the table.
#[derive(Debug, Clone)]
pub(super) struct PresentedCertificate {
    pub(super) pattern: Pattern,
    pub(super) issuer: IssuerKey,
    pub(super) slot: Arc<Slot>,
}

impl CacheEntry {
    /// About what it takes in memory.
    fn bytes(&self) -> u64 {
        let chain = self
            .slot
            .current
            .load_full()
            .map_or(0, |certificate| certificate.key.cert.iter().map(|part| part.len()).sum::<usize>());
        u64::try_from(chain).unwrap_or(u64::MAX).saturating_add(BESIDE_THE_CHAIN)
    }
}

impl Cache {
    pub(super) fn new(capacity: u64, keys: KeyRetention) -> Self {
        Self { certificates: Bounded::new(capacity), keys }
    }

    /// A valid one: of the exact name, else of the wildcard that covers it. An expired one does not hide the other.
    pub(super) fn find(&self, name: &ServerName, now: SystemTime) -> Option<Arc<Slot>> {
        self.held(name, now).map(|held| held.slot).filter(|slot| slot.current(now).is_some())
    }

    /// A valid one of exactly `pattern`.
    pub(super) fn find_exact(&self, pattern: &Pattern, now: SystemTime) -> Option<Arc<Slot>> {
        let held = self.held_under(pattern.clone(), now)?;
        Some(held.slot).filter(|slot| slot.current(now).is_some())
    }

    /// The valid one that [`Cache::find`] does not find since the table has not confirmed it for a while.
    pub(super) fn unconfirmed_of(&self, name: &ServerName, now: SystemTime) -> Option<PresentedCertificate> {
        self.held(name, now).filter(|held| held.slot.since_confirmed(now) >= CONFIRMED_FOR)
    }

    fn held(&self, name: &ServerName, now: SystemTime) -> Option<PresentedCertificate> {
        name.patterns().find_map(|pattern| self.held_under(pattern, now))
    }

    fn held_under(&self, pattern: Pattern, now: SystemTime) -> Option<PresentedCertificate> {
        let entry = self.certificates.get(&pattern)?;
        let held = PresentedCertificate { pattern, issuer: entry.issuer, slot: entry.slot };
        held.slot.valid(now).is_some().then_some(held)
    }

    /// What was presented since it was last confirmed, `older` ago or before: what has waited longest first.
    pub(super) fn presented(
        &self,
        now: SystemTime,
        older: Duration,
        most: usize,
    ) -> Vec<PresentedCertificate> {
        let mut found: Vec<_> = self
            .certificates
            .iter()
            .filter(|(_, entry)| entry.slot.since_confirmed(now) >= older)
            .filter(|(_, entry)| {
                entry.slot.is_used.load(Ordering::Relaxed) && entry.slot.valid(now).is_some()
            })
            .map(|(pattern, entry)| PresentedCertificate {
                pattern: (*pattern).clone(),
                issuer: entry.issuer,
                slot: entry.slot,
            })
            .collect();
        found.sort_by_key(|held| std::cmp::Reverse(held.slot.since_confirmed(now)));
        found.truncate(most);
        for held in &found {
            held.slot.is_used.store(false, Ordering::Relaxed);
        }
        found
    }

    /// What nobody has asked for in the last minute and is in the last third of its life, or has ended: what ends first, first. Another has
    /// long been ordered for it, perhaps by another instance.
    pub(super) fn aged(&self, now: SystemTime, most: usize) -> Vec<PresentedCertificate> {
        let mut found: Vec<_> = self
            .entries()
            .filter(|held| held.slot.since_confirmed(now) >= CONFIRMED_FOR)
            .filter_map(|held| {
                let certificate = held.slot.current.load_full()?;
                let (begins, ends) = (certificate.not_before, certificate.not_after);
                let third = ends.duration_since(begins).unwrap_or_default() / 3;
                (ends <= now + third).then_some((ends, held))
            })
            .collect();
        found.sort_by_key(|(ends, _)| *ends);
        found.into_iter().take(most).map(|(_, held)| held).collect()
    }

    /// Presents `candidate`, whatever was presented before: the table now holds it instead.
    pub(super) fn replace(&self, candidate: &Candidate, now: SystemTime) -> Arc<Slot> {
        let slot = self.keep(candidate, now);
        self.present(&slot, candidate);
        slot.is_unwritten.store(false, Ordering::Relaxed);
        slot
    }

    /// Stores `candidate`; holders of an older one's slot find it there from now on.
    pub(super) fn keep(&self, candidate: &Candidate, now: SystemTime) -> Arc<Slot> {
        let fresh = || CacheEntry { slot: Arc::default(), issuer: candidate.issuer.clone() };
        let mut entry = self.certificates.entry(candidate.pattern.clone()).or_insert_with(fresh).into_value();
        let held = entry.slot.current.load_full();
        // By its beginning, as the table's are chosen: lives get shorter, so a newer one may end earlier.
        if held.is_none_or(|held| held.not_before < candidate.pair.certificate.not_before) {
            self.present(&entry.slot, candidate);
        }
        entry.slot.confirm(now);
        entry.slot.is_restored.store(false, Ordering::Relaxed);
        if entry.issuer != candidate.issuer {
            entry.issuer = candidate.issuer.clone();
            self.certificates.insert(candidate.pattern.clone(), entry.clone());
        }
        entry.slot
    }

    fn present(&self, slot: &Slot, candidate: &Candidate) {
        let (of, key) = (Arc::clone(&candidate.pair.certificate), Arc::clone(&candidate.pair.private_key));
        if self.keys == KeyRetention::On {
            slot.retained.store(Some(Arc::new(RetainedKey { of: Arc::clone(&of), key })));
        }
        slot.current.store(Some(of));
    }

    /// Empties the slot, so that workers stop presenting the certificate; returns whether there was one.
    pub(super) fn withdraw(&self, pattern: &Pattern) -> bool {
        let entry = self.certificates.remove(pattern);
        entry
            .inspect(|entry| {
                entry.slot.current.store(None);
                entry.slot.retained.store(None);
            })
            .is_some()
    }

    /// Drops certificates that nobody has asked for in the last minute, those that nobody has for longest first, until some `bytes` are
    /// free; says how many.
    pub(super) fn release(&self, bytes: u64, now: SystemTime) -> usize {
        let unused = |entry: &CacheEntry| {
            Some(entry.slot.since_confirmed(now)).filter(|since| *since >= CONFIRMED_FOR)
        };
        let mut unused: Vec<_> = self
            .certificates
            .iter()
            .filter_map(|(pattern, entry)| Some((unused(&entry)?, entry.bytes(), (*pattern).clone())))
            .collect();
        unused.sort_unstable_by(|(a, ..), (b, ..)| b.cmp(a));
        let (mut left, mut released) = (bytes, 0);
        for (_, size, pattern) in unused {
            if left == 0 {
                break;
            }
            self.certificates.invalidate(&pattern);
            (left, released) = (left.saturating_sub(size), released + 1);
        }
        self.certificates.run_pending_tasks();
        released
    }

    /// All that is held.
    pub(super) fn entries(&self) -> impl Iterator<Item = PresentedCertificate> {
        self.certificates.iter().map(|(pattern, entry)| PresentedCertificate {
            pattern: (*pattern).clone(),
            issuer: entry.issuer,
            slot: entry.slot,
        })
    }

    pub(super) fn patterns(&self) -> Vec<Pattern> {
        self.certificates.iter().map(|(pattern, _)| (*pattern).clone()).collect()
    }

    /// When each certificate that is held ends.
    pub(super) fn ends(&self) -> Vec<SystemTime> {
        let current = self.certificates.iter().filter_map(|(_, entry)| entry.slot.current.load_full());
        current.map(|certificate| certificate.not_after).collect()
    }

    pub(super) fn len(&self) -> u64 {
        self.certificates.run_pending_tasks();
        self.certificates.entry_count()
    }
}

/// Key, slot and the cache's own: a hundred thousand certificates with chains of 3 kB took 0.8 GB.
const BESIDE_THE_CHAIN: u64 = 5 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::keyed_chain::{KeyedChain, tests::pems};

    const HOUR: Duration = Duration::from_hours(1);

    fn candidate(pattern: &str, begins: SystemTime) -> Candidate {
        lasting(pattern, begins, HOUR)
    }

    fn lasting(pattern: &str, begins: SystemTime, life: Duration) -> Candidate {
        let (chain, key) = pems(&[pattern], begins, life);
        let pattern = Pattern::parse(pattern).unwrap();
        let pair = KeyedChain::read(chain.as_bytes(), key.as_bytes(), &pattern).unwrap();
        Candidate { pair, issuer: IssuerKey::internal(), pattern }
    }

    fn name(text: &str) -> ServerName {
        ServerName::parse(text).unwrap()
    }

    #[test]
    fn renewal_replaces_what_is_in_the_slot_and_withdrawal_empties_it() {
        let (cache, now) = (Cache::new(10, KeyRetention::Off), SystemTime::now());
        let old = candidate("a.example.com", now - HOUR / 2);
        let slot = cache.keep(&old, now);
        let new = candidate("a.example.com", now);
        cache.keep(&new, now);
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
        let (cache, now) = (Cache::new(10, KeyRetention::Off), SystemTime::now());
        cache.keep(&candidate("a.example.com", now - HOUR * 2), now);
        assert!(cache.find(&name("a.example.com"), now).is_none());
        let wildcard = candidate("*.example.com", now);
        cache.keep(&wildcard, now);
        let found = cache.find(&name("a.example.com"), now).unwrap();
        assert!(Arc::ptr_eq(&found.current(now).unwrap(), &wildcard.pair.certificate));
        assert!(cache.find(&name("a.b.example.com"), now).is_none());
    }

    #[test]
    fn what_the_table_has_not_confirmed_for_a_minute_is_not_presented() {
        let (cache, now) = (Cache::new(10, KeyRetention::Off), SystemTime::now());
        let (second, site) = (Duration::from_secs(1), name("a.example.com"));
        let slot = cache.keep(&candidate("a.example.com", now), now);
        assert!(cache.presented(now + second * 30, second * 20, 10).is_empty(), "nobody has asked for it");
        assert!(cache.find(&site, now + second * 59).is_some());
        assert!(cache.unconfirmed_of(&site, now + second * 59).is_none());
        assert!(cache.find(&site, now + second * 60).is_none());
        assert!(cache.unconfirmed_of(&site, now + second * 60).is_some());
        assert!(cache.unconfirmed_of(&site, now + HOUR).is_none(), "it has expired");
        // A clock that is set back.
        assert!(cache.unconfirmed_of(&site, now - second * 60).is_none());
        assert!(cache.unconfirmed_of(&site, now - second * 61).is_some());
        assert_eq!(cache.presented(now + second * 60, second * 20, 10).len(), 1);
        assert!(cache.presented(now + second * 60, second * 20, 10).is_empty(), "it was not presented since");
        slot.confirm(now + second * 60);
        assert!(cache.find(&site, now + second * 119).is_some());
        assert!(
            cache.presented(now + second * 79, second * 20, 10).is_empty(),
            "it was confirmed a moment ago"
        );
        assert_eq!(cache.presented(now + second * 80, second * 20, 0).len(), 0, "no more than are wanted");
    }

    #[test]
    fn what_nobody_has_asked_for_is_released_first_and_what_is_in_use_never() {
        let (cache, now) = (Cache::new(10, KeyRetention::Off), SystemTime::now());
        let minute = Duration::from_mins(1);
        for (n, asked) in [("a", 3), ("b", 30), ("c", 20), ("d", 0)] {
            cache.keep(&candidate(&format!("{n}.example.com"), now), now - minute * asked);
        }
        assert_eq!(cache.release(1, now), 1);
        let mut left: Vec<_> = cache.patterns().iter().map(ToString::to_string).collect();
        left.sort();
        assert_eq!(left, ["a.example.com", "c.example.com", "d.example.com"]);
        assert_eq!(cache.release(u64::MAX, now), 2);
        assert!(cache.find(&name("d.example.com"), now).is_some());
        assert_eq!((cache.len(), cache.release(u64::MAX, now)), (1, 0));
    }
}
