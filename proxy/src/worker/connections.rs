//! How many connections are open, in total and from one source.

use std::{
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// Counts of open connections, shared by all workers without a lock.
///
/// Sources (IPv4 /32, IPv6 /64) are counted in a fixed table under a keyed hash: a stranger can neither make it grow nor
/// choose whom to collide with, and a collision only makes two sources share one limit.
#[derive(Clone)]
pub struct Connections(Arc<Counts>);

struct Counts {
    total: AtomicUsize,
    sources: Box<[AtomicUsize]>,
    hasher: RandomState,
    limit: AtomicUsize,
    source_limit: AtomicUsize,
    shedding: AtomicBool,
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    Total,
    Source,
}

/// One open connection; dropping it makes room.
pub(super) struct Place {
    counts: Arc<Counts>,
    source: usize,
}

impl Connections {
    /// At most `limit` in total and `source_limit` from one source.
    #[must_use]
    pub fn new(limit: usize, source_limit: usize) -> Self {
        Self(Arc::new(Counts {
            total: AtomicUsize::new(0),
            sources: (0..SOURCES).map(|_| AtomicUsize::new(0)).collect(),
            hasher: RandomState::new(),
            limit: AtomicUsize::new(limit),
            source_limit: AtomicUsize::new(source_limit),
            shedding: AtomicBool::new(false),
        }))
    }

    /// Changes the limits for connections to come; those that are open stay.
    pub fn limit(&self, limit: usize, source_limit: usize) {
        self.0.limit.store(limit, Ordering::Relaxed);
        self.0.source_limit.store(source_limit, Ordering::Relaxed);
    }

    /// Refuses all to come, or takes them again.
    pub fn shed(&self, all: bool) {
        self.0.shedding.store(all, Ordering::Relaxed);
    }

    /// Whether memory is too short for more.
    pub(super) fn is_shedding(&self) -> bool {
        self.0.shedding.load(Ordering::Relaxed)
    }

    /// How many are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.total.load(Ordering::Relaxed)
    }

    pub(super) fn admit(&self, peer: IpAddr) -> Result<Place, Full> {
        let counts = &self.0;
        #[expect(clippy::cast_possible_truncation, reason = "only the low bits choose a place in the table")]
        let source = counts.hasher.hash_one(network(peer)) as usize % SOURCES;
        // The place exists from here on, so that its drop undoes both counts whatever is found.
        let place = Place { counts: Arc::clone(counts), source };
        let total = counts.total.fetch_add(1, Ordering::Relaxed);
        let of_source = counts.sources.get(source).map_or(0, |count| count.fetch_add(1, Ordering::Relaxed));
        match () {
            () if total >= counts.limit.load(Ordering::Relaxed) => Err(Full::Total),
            () if of_source >= counts.source_limit.load(Ordering::Relaxed) => Err(Full::Source),
            () => Ok(place),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counts.total.fetch_sub(1, Ordering::Relaxed);
        if let Some(count) = self.counts.sources.get(self.source) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A host's address, or the network an IPv6 host picks its addresses from (RFC 4291 §2.5.4).
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (!0 << 64))),
        address @ IpAddr::V4(_) => address,
    }
}

const SOURCES: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_and_places_come_free() {
        let connections = Connections::new(3, 2);
        let (near, far): (IpAddr, IpAddr) = ("2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap());
        let neighbour: IpAddr = "2001:db8::ffff:2".parse().unwrap();
        let first = connections.admit(near).ok().unwrap();
        let _second = connections.admit(neighbour).ok().unwrap();
        assert_eq!(connections.admit(near).err(), Some(Full::Source), "one /64 is one source");
        let _third = connections.admit(far).ok().unwrap();
        assert_eq!(connections.admit(far).err(), Some(Full::Total));
        drop(first);
        assert!(connections.admit(near).is_ok());
        connections.limit(2, 2);
        assert_eq!(connections.admit(far).err(), Some(Full::Total), "a limit is lowered while it runs");
        assert_eq!(connections.open(), 2, "what was refused, or ended, takes no place");
    }
}
