//! How many requests may be at targets at once, in total, per target and per client; and how many may wait for an announced body.
//! Not here: what each endpoint of a target may have (`circuit_breaker`).
//!
//! A target or a client may have at most as many permits as are still free: if one takes all it can get, as many are left for the others;
//! if two do, a third. (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", IEEE/ACM Transactions
//! on Networking 6(2), with a factor of one.)

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    keyed_counts::{CountSlot, KeyedCounts, network},
    target::Target,
};

/// The permits of one process.
#[derive(Clone)]
pub(super) struct UpstreamPermits(Arc<PermitState>);

struct PermitState {
    /// How many there are; it follows the settings.
    most: AtomicUsize,
    per_target: usize,
    per_client: usize,
    total: AtomicUsize,
    targets: KeyedCounts,
    clients: KeyedCounts,
    waiting: AtomicUsize,
    waiting_clients: KeyedCounts,
}

/// How many permits there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct PermitLimits {
    pub(super) total: usize,
    pub(super) per_target: usize,
    pub(super) per_client: usize,
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoPermit {
    #[error("too many concurrent requests to all targets (`upstream.connections`)")]
    Total,
    #[error("too many concurrent requests to this target (`upstream.connections_per_target`)")]
    Target,
    #[error("too many concurrent requests from this client (`upstream.connections_per_source`)")]
    Client,
    #[error(
        "each endpoint of the target has as many requests as it may, and as many wait (`max_requests`, `max_connections`, `max_pending`)"
    )]
    Endpoint,
    #[error(
        "no endpoint of the target had room within `upstream.pending_timeout` (`max_requests`, `max_connections`)"
    )]
    EndpointInTime,
}

/// One request's permit; dropping it releases it.
pub(super) struct UpstreamPermit {
    inner: Arc<PermitState>,
    target: CountSlot,
    client: CountSlot,
}

/// A request that waits for its body, and has no permit yet; dropping it ends the wait.
pub(super) struct Waiting {
    inner: Arc<PermitState>,
    client: CountSlot,
}

impl UpstreamPermits {
    pub(super) fn new(limits: PermitLimits) -> Self {
        let PermitLimits { total, per_target, per_client } = limits;
        Self(Arc::new(PermitState {
            most: AtomicUsize::new(total),
            per_target,
            per_client,
            total: AtomicUsize::new(0),
            targets: KeyedCounts::new(),
            clients: KeyedCounts::new(),
            waiting: AtomicUsize::new(0),
            waiting_clients: KeyedCounts::new(),
        }))
    }

    /// Changes how many there are in total. Those beyond it that are taken stay.
    pub(super) fn limit(&self, total: usize) {
        self.0.most.store(total, Ordering::Relaxed);
    }

    /// How many there are in total.
    #[cfg(test)]
    pub(super) fn most(&self) -> usize {
        self.0.most.load(Ordering::Relaxed)
    }

    /// As many requests may wait as may be at targets, in total and per client.
    pub(super) fn wait(&self, client: IpAddr) -> Result<Waiting, NoPermit> {
        let PermitState { most, per_client, waiting, waiting_clients, .. } = &*self.0;
        let place = Waiting { inner: Arc::clone(&self.0), client: waiting_clients.slot(&network(client)) };
        let free = most.load(Ordering::Relaxed).saturating_sub(waiting.fetch_add(1, Ordering::Relaxed));
        let of_client = waiting_clients.add(place.client);
        judge(free, &[(of_client, *per_client, NoPermit::Client)]).map(|()| place)
    }

    pub(super) fn take(&self, target: &Target, client: IpAddr) -> Result<UpstreamPermit, NoPermit> {
        let PermitState { most, per_target, per_client, total, targets, clients, .. } = &*self.0;
        // The place exists from here on, so that its drop undoes all counts whatever is found.
        let place = UpstreamPermit {
            inner: Arc::clone(&self.0),
            target: targets.slot(target),
            client: clients.slot(&network(client)),
        };
        let taken = total.fetch_add(1, Ordering::Relaxed);
        let (of_target, of_client) = (targets.add(place.target), clients.add(place.client));
        let free = most.load(Ordering::Relaxed).saturating_sub(taken);
        let shares = [(of_target, *per_target, NoPermit::Target), (of_client, *per_client, NoPermit::Client)];
        judge(free, &shares).map(|()| place)
    }
}

/// Whether there is room for one more: some are free, and each share (what it has, its limit, what to say of it) stays within its limit
/// and what is free.
fn judge(free: usize, shares: &[(usize, usize, NoPermit)]) -> Result<(), NoPermit> {
    if free == 0 {
        return Err(NoPermit::Total);
    }
    match shares.iter().find(|(taken, limit, _)| *taken >= free.min(*limit)) {
        Some((_, _, full)) => Err(*full),
        None => Ok(()),
    }
}

impl Drop for UpstreamPermit {
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

    fn take_all(
        places: &UpstreamPermits,
        mut next: impl FnMut(u8) -> (Target, IpAddr),
    ) -> (Vec<UpstreamPermit>, NoPermit) {
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
            (PermitLimits { total: 200, per_target: 4, per_client: 9 }, 4, NoPermit::Target),
            (PermitLimits { total: 200, per_target: 9, per_client: 5 }, 5, NoPermit::Client),
        ] {
            let places = UpstreamPermits::new(limits);
            let (all, full) = take_all(&places, |_| (target(1), client(1)));
            assert_eq!((all.len(), full), (taken, wanted), "{limits:?}");
            drop(all);
            assert!(places.take(&target(1), client(1)).is_ok(), "{limits:?}");
        }
        let places = UpstreamPermits::new(PermitLimits { total: 0, per_target: 9, per_client: 9 });
        assert_eq!(places.take(&target(1), client(1)).err(), Some(NoPermit::Total));
    }

    #[test]
    fn fewer_hold_for_the_next_and_more_are_free_at_once() {
        let places = UpstreamPermits::new(PermitLimits { total: 2, per_target: 9, per_client: 9 });
        let take = |number: u8| places.take(&target(number.into()), client(number));
        let held = [take(1).ok().unwrap(), take(2).ok().unwrap()];
        assert_eq!(take(3).err(), Some(NoPermit::Total));
        places.limit(9);
        drop(take(3).ok().unwrap());
        places.limit(1);
        assert_eq!(take(3).err(), Some(NoPermit::Total));
        drop(held);
        assert!(take(3).is_ok());
    }

    #[test]
    fn who_waits_takes_no_place_and_is_bounded_all_the_same() {
        let places = UpstreamPermits::new(PermitLimits { total: 10, per_target: 9, per_client: 4 });
        let waiting: Vec<_> = (0..4).map(|_| places.wait(client(1)).ok().unwrap()).collect();
        assert_eq!(places.wait(client(1)).err(), Some(NoPermit::Client));
        assert!(places.wait(client(2)).is_ok());
        assert!(places.take(&target(1), client(1)).is_ok());
        drop(waiting);
        assert!(places.wait(client(1)).is_ok());
    }

    #[test]
    fn a_silent_target_leaves_places_to_others() {
        let places = UpstreamPermits::new(PermitLimits { total: 100, per_target: 100, per_client: 100 });
        let (silent, full) = take_all(&places, |number| (target(1), client(number)));
        assert_eq!((silent.len(), full), (50, NoPermit::Target));
        let (another, _) = take_all(&places, |number| (target(2), client(number)));
        assert_eq!(another.len(), 25);
        assert!(places.take(&target(3), client(1)).is_ok());
    }

    #[test]
    fn a_client_leaves_places_to_others_whatever_it_asks_for() {
        let places = UpstreamPermits::new(PermitLimits { total: 100, per_target: 100, per_client: 100 });
        let (greedy, full) = take_all(&places, |number| (target(number.into()), client(1)));
        assert_eq!((greedy.len(), full), (50, NoPermit::Client));
        assert!(places.take(&target(1), client(2)).is_ok());
    }
}
