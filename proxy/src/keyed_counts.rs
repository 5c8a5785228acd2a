//! Counts per key in memory that does not grow, shared by all threads without a lock; and the key by which a client is counted.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    net::{IpAddr, Ipv6Addr},
    ops::Deref,
    sync::atomic::{AtomicU32, Ordering},
};

/// Counts in a fixed table under a keyed hash: a client can neither make it grow nor choose whom to collide with, and a
/// collision only makes two keys share one count.
pub(crate) struct KeyedCounts {
    counts: Box<[AtomicU32]>,
    hasher: RandomState,
}

/// Where a key is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CountSlot(usize);

impl KeyedCounts {
    pub(crate) fn new() -> Self {
        Self { counts: (0..SLOTS).map(|_| AtomicU32::new(0)).collect(), hasher: RandomState::new() }
    }

    pub(crate) fn slot(&self, key: &impl Hash) -> CountSlot {
        #[expect(clippy::cast_possible_truncation, reason = "only the low bits choose a place in the table")]
        let hash = self.hasher.hash_one(key) as usize;
        CountSlot(hash % SLOTS)
    }

    /// Counts one more; how many there were before.
    pub(crate) fn add(&self, slot: CountSlot) -> usize {
        self.at(slot).map_or(0, |count| count.fetch_add(1, Ordering::Relaxed) as usize)
    }

    /// Takes back one [`KeyedCounts::add`]; how many are left.
    pub(crate) fn remove(&self, slot: CountSlot) -> usize {
        self.at(slot).map_or(0, |count| count.fetch_sub(1, Ordering::Relaxed).saturating_sub(1) as usize)
    }

    pub(crate) fn get(&self, slot: CountSlot) -> usize {
        self.at(slot).map_or(0, |count| count.load(Ordering::Relaxed) as usize)
    }

    fn at(&self, slot: CountSlot) -> Option<&AtomicU32> {
        self.counts.get(slot.0)
    }
}

/// One more of a key; dropping it takes that back.
pub(crate) struct HeldCount<C: Deref<Target = KeyedCounts>> {
    counts: C,
    slot: CountSlot,
    before: usize,
}

impl<C: Deref<Target = KeyedCounts>> HeldCount<C> {
    pub(crate) fn of(counts: C, key: &impl Hash) -> Self {
        let slot = counts.slot(key);
        let before = counts.add(slot);
        Self { counts, slot, before }
    }

    /// How many of its key there were before.
    pub(crate) fn before(&self) -> usize {
        self.before
    }
}

impl<C: Deref<Target = KeyedCounts>> Drop for HeldCount<C> {
    fn drop(&mut self) {
        self.counts.remove(self.slot);
    }
}

/// A host's address, or the network an IPv6 host picks its addresses from (RFC 4291 §2.5.4).
pub(crate) fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (!0 << 64))),
        address @ IpAddr::V4(_) => address,
    }
}

const SLOTS: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_counted_apart_from_others() {
        let counts = KeyedCounts::new();
        let one = counts.slot(&"one");
        assert_eq!((counts.add(one), counts.add(one), counts.get(one)), (0, 1, 2));
        counts.remove(one);
        assert_eq!(counts.get(one), 1);
        let others = (0..100).filter(|key| counts.get(counts.slot(key)) > 0).count();
        assert!(others <= 1, "{others} of 100 keys share a slot of 65,536");
    }

    #[test]
    fn hosts_of_an_ipv6_network_are_one_client() {
        for (a, b, same) in [
            ("2001:db8::1", "2001:db8::ffff:2", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
        ] {
            let network = |text: &str| network(text.parse().unwrap());
            assert_eq!(network(a) == network(b), same, "{a} and {b}");
        }
    }
}
