//! How many requests may be with targets at once, in total, at one target and for one client; and how many may wait for a body
//! that has been announced.
//!
//! A target or a client may have at most as many places as are left free: whoever takes all that are to be had leaves as many
//! to others, and two of them a third. (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet
//! switches", IEEE/ACM Transactions on Networking 6(2), with a factor of one.)

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    keyed_counts::{KeyedCounts, Slot, network},
    target::Target,
};

/// The places of one process.
#[derive(Clone)]
pub(super) struct Places(Arc<Inner>);

struct Inner {
    limits: Limits,
    total: AtomicUsize,
    targets: KeyedCounts,
    clients: KeyedCounts,
    waiting: AtomicUsize,
    waiting_clients: KeyedCounts,
}

/// How many places there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) total: usize,
    pub(super) per_target: usize,
    pub(super) per_client: usize,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::forward) enum Full {
    #[error("as many requests are with targets as may be (`upstream.connections`)")]
    Total,
    #[error("as many requests are with this target as may be (`upstream.connections_per_target`)")]
    Target,
    #[error("as many requests of this client are with targets as may be (`upstream.connections_per_source`)")]
    Client,
}

/// One request's place; dropping it makes room.
pub(super) struct Place {
    inner: Arc<Inner>,
    target: Slot,
    client: Slot,
}

/// A request that waits for its body, and has no place yet; dropping it ends that.
pub(super) struct Waiting {
    inner: Arc<Inner>,
    client: Slot,
}

impl Places {
    pub(super) fn new(limits: Limits) -> Self {
        Self(Arc::new(Inner {
            limits,
            total: AtomicUsize::new(0),
            targets: KeyedCounts::new(),
            clients: KeyedCounts::new(),
            waiting: AtomicUsize::new(0),
            waiting_clients: KeyedCounts::new(),
        }))
    }

    /// As many requests may wait as may be with targets, and as many of one client.
    pub(super) fn wait(&self, client: IpAddr) -> Result<Waiting, Full> {
        let Inner { limits, waiting, waiting_clients, .. } = &*self.0;
        let place = Waiting { inner: Arc::clone(&self.0), client: waiting_clients.slot(&network(client)) };
        let free = limits.total.saturating_sub(waiting.fetch_add(1, Ordering::Relaxed));
        let of_client = waiting_clients.add(place.client);
        match () {
            () if free == 0 => Err(Full::Total),
            () if of_client >= limits.per_client.min(free) => Err(Full::Client),
            () => Ok(place),
        }
    }

    pub(super) fn take(&self, target: &Target, client: IpAddr) -> Result<Place, Full> {
        let Inner { limits, total, targets, clients, .. } = &*self.0;
        // The place exists from here on, so that its drop undoes all counts whatever is found.
        let place = Place {
            inner: Arc::clone(&self.0),
            target: targets.slot(target),
            client: clients.slot(&network(client)),
        };
        let taken = total.fetch_add(1, Ordering::Relaxed);
        let (of_target, of_client) = (targets.add(place.target), clients.add(place.client));
        let free = limits.total.saturating_sub(taken);
        match () {
            () if free == 0 => Err(Full::Total),
            () if of_target >= limits.per_target.min(free) => Err(Full::Target),
            () if of_client >= limits.per_client.min(free) => Err(Full::Client),
            () => Ok(place),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Self { inner, target, client } = self;
        inner.total.fetch_sub(1, Ordering::Relaxed);
        inner.targets.remove(*target);
        inner.clients.remove(*client);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.inner.waiting.fetch_sub(1, Ordering::Relaxed);
        self.inner.waiting_clients.remove(self.client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(number: usize) -> Target {
        Target::parse(&format!("http://{number}.example.com")).unwrap()
    }

    fn client(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    fn take_all(places: &Places, mut next: impl FnMut(u8) -> (Target, IpAddr)) -> (Vec<Place>, Full) {
        let mut taken = Vec::new();
        for number in 0..=u8::MAX {
            let (target, client) = next(number);
            match places.take(&target, client) {
                Ok(place) => taken.push(place),
                Err(full) => return (taken, full),
            }
        }
        panic!("nothing bounds it");
    }

    #[test]
    fn each_limit_holds_and_places_come_free() {
        for (limits, taken, wanted) in [
            (Limits { total: 200, per_target: 4, per_client: 9 }, 4, Full::Target),
            (Limits { total: 200, per_target: 9, per_client: 5 }, 5, Full::Client),
        ] {
            let places = Places::new(limits);
            let (all, full) = take_all(&places, |_| (target(1), client(1)));
            assert_eq!((all.len(), full), (taken, wanted), "{limits:?}");
            drop(all);
            assert!(places.take(&target(1), client(1)).is_ok(), "{limits:?}");
        }
        let places = Places::new(Limits { total: 0, per_target: 9, per_client: 9 });
        assert_eq!(places.take(&target(1), client(1)).err(), Some(Full::Total));
    }

    #[test]
    fn who_waits_takes_no_place_and_is_bounded_all_the_same() {
        let places = Places::new(Limits { total: 10, per_target: 9, per_client: 4 });
        let waiting: Vec<_> = (0..4).map(|_| places.wait(client(1)).ok().unwrap()).collect();
        assert_eq!(places.wait(client(1)).err(), Some(Full::Client));
        assert!(places.wait(client(2)).is_ok());
        assert!(places.take(&target(1), client(1)).is_ok());
        drop(waiting);
        assert!(places.wait(client(1)).is_ok());
    }

    #[test]
    fn a_silent_target_leaves_places_to_others() {
        let places = Places::new(Limits { total: 100, per_target: 100, per_client: 100 });
        let (silent, full) = take_all(&places, |number| (target(1), client(number)));
        assert_eq!((silent.len(), full), (50, Full::Target));
        let (another, _) = take_all(&places, |number| (target(2), client(number)));
        assert_eq!(another.len(), 25);
        assert!(places.take(&target(3), client(1)).is_ok());
    }

    #[test]
    fn a_client_leaves_places_to_others_whatever_it_asks_for() {
        let places = Places::new(Limits { total: 100, per_target: 100, per_client: 100 });
        let (greedy, full) = take_all(&places, |number| (target(number.into()), client(1)));
        assert_eq!((greedy.len(), full), (50, Full::Client));
        assert!(places.take(&target(1), client(2)).is_ok());
    }
}
