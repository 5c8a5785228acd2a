//! Bounds on the load at one address of an endpoint: requests under way, open connections, and requests that wait (circuit breaking, as Envoy
//! calls it; `maxconn` and `maxqueue` of HAProxy). One for all workers of the process, and for all targets that name the endpoint with the same
//! bounds.
//! Not here: which endpoint a request goes to (`choice`), how long one waits (`admission`).
//! Invariants: what is bounded is never exceeded (`an_endpoint_has_no_more_requests_than_it_may`); unused connections keep no other worker
//! from an endpoint (`unused_connections_of_another_worker_make_room`).

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
};

use tokio::sync::watch;

use super::slots::Slots;
use crate::{
    config::UpstreamConfig,
    keyed_counts::{HeldCount, KeyedCounts, network},
    target::{Endpoint, EndpointAddress, EndpointLimits, UpstreamProtocol},
};

/// The process's. Those that no worker has any more are forgotten.
pub(super) struct CircuitBreakers {
    /// For endpoints that say nothing.
    general: EndpointLimits,
    all: Mutex<HashMap<(EndpointAddress, Bounds), Weak<CircuitBreaker>>>,
    /// Requests of each client that wait. Made with the first: most instances have no bounds.
    waiting_clients: OnceLock<KeyedCounts>,
    /// Told to all workers when a request waits for unused connections to be closed.
    unused_wanted: watch::Sender<()>,
}

/// What bounds an endpoint's load at one of its addresses.
pub(super) struct CircuitBreaker {
    pub(super) requests: Arc<Slots>,
    /// Over HTTP/1.1, if they are bounded. There are never fewer than requests, so that only unused ones are waited for.
    pub(super) connections: Option<Arc<Slots>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Bounds {
    requests: NonZeroU32,
    connections: Option<NonZeroU32>,
    pending: u32,
}

impl CircuitBreakers {
    pub(super) fn new(upstream: &UpstreamConfig) -> Self {
        let UpstreamConfig { max_connections, max_requests, max_pending, .. } = upstream;
        let general = EndpointLimits {
            connections: max_connections.and_then(NonZeroU32::new),
            requests: max_requests.and_then(NonZeroU32::new),
            pending: Some(*max_pending),
        };
        let (all, waiting_clients) = (Mutex::default(), OnceLock::new());
        Self { general, all, waiting_clients, unused_wanted: watch::Sender::default() }
    }

    /// The one for `endpoint` at `address`; none if nothing bounds it. Taken once for a worker's destination: it takes a lock.
    pub(super) fn of(&self, endpoint: &Endpoint, address: &EndpointAddress) -> Option<Arc<CircuitBreaker>> {
        let bounds = Bounds::of(endpoint, self.general)?;
        let key = (address.clone(), bounds);
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(breaker) = all.get(&key).and_then(Weak::upgrade) {
            return Some(breaker);
        }
        all.retain(|_, breaker| breaker.strong_count() > 0);
        let breaker = Arc::new(CircuitBreaker::new(bounds));
        all.insert(key, Arc::downgrade(&breaker));
        Some(breaker)
    }

    /// Counts a request of `client` that is about to wait.
    pub(super) fn begin_wait(&self, client: IpAddr) -> HeldCount<&KeyedCounts> {
        HeldCount::of(self.waiting_clients.get_or_init(KeyedCounts::new), &network(client))
    }

    /// Has workers close unused connections that others wait for.
    pub(super) fn ask_for_unused(&self) {
        self.unused_wanted.send_replace(());
    }

    /// Changes whenever unused connections are waited for.
    pub(super) fn unused_wanted(&self) -> watch::Receiver<()> {
        self.unused_wanted.subscribe()
    }
}

impl Bounds {
    fn of(endpoint: &Endpoint, general: EndpointLimits) -> Option<Self> {
        let EndpointLimits { connections, requests, pending } = endpoint.limits.or(general);
        // Over HTTP/2, requests share them. Where the server chooses, it may choose HTTP/1.1.
        let connections = connections.filter(|_| endpoint.protocol != UpstreamProtocol::Http2);
        let requests = match (requests, connections) {
            // Each has a connection of its own.
            (Some(requests), Some(connections)) => requests.min(connections),
            (requests, connections) => requests.or(connections)?,
        };
        Some(Self { requests, connections, pending: pending.unwrap_or(0) })
    }
}

impl CircuitBreaker {
    fn new(Bounds { requests, connections, pending }: Bounds) -> Self {
        let pending = usize::try_from(pending).unwrap_or(usize::MAX);
        Self {
            requests: Slots::new(requests, pending),
            // Only requests that have a slot wait for one.
            connections: connections.map(|connections| Slots::new(connections, usize::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Target;

    fn bounds(target: &str, general: EndpointLimits) -> Option<(u32, Option<u32>, u32)> {
        let target = Target::parse(target).unwrap();
        let bounds = Bounds::of(&target.endpoints()[0], general)?;
        Some((bounds.requests.get(), bounds.connections.map(NonZeroU32::get), bounds.pending))
    }

    #[test]
    fn an_endpoint_says_its_bounds_or_the_settings_do() {
        let none = EndpointLimits { pending: Some(100), ..EndpointLimits::default() };
        let general =
            EndpointLimits { connections: NonZeroU32::new(30), requests: NonZeroU32::new(20), ..none };
        for (parameters, of_none, of_general) in [
            ("", None, Some((20, Some(30), 100))),
            (";max_requests=5", Some((5, None, 100)), Some((5, Some(30), 100))),
            (";max_requests=50", Some((50, None, 100)), Some((30, Some(30), 100))),
            (";max_connections=5", Some((5, Some(5), 100)), Some((5, Some(5), 100))),
            (";max_connections=50;max_pending=0", Some((50, Some(50), 0)), Some((20, Some(50), 0))),
            (";max_pending=7", None, Some((20, Some(30), 7))),
            (";protocol=h2", None, Some((20, None, 100))),
            (";protocol=h2;max_requests=9", Some((9, None, 100)), Some((9, None, 100))),
            (";protocol=auto", None, Some((20, Some(30), 100))),
        ] {
            let target = format!("https://10.0.0.5{parameters}");
            assert_eq!((bounds(&target, none), bounds(&target, general)), (of_none, of_general), "{target}");
        }
    }

    #[test]
    fn workers_and_targets_share_what_they_call_the_same() {
        let breakers = CircuitBreakers::new(&UpstreamConfig::default());
        let of = |text: &str, port: u16| {
            let target = Target::parse(text).unwrap();
            breakers.of(&target.endpoints()[0], &EndpointAddress::Tcp(([10, 0, 0, 5], port).into()))
        };
        let one = of("http://a.example;max_requests=5", 80).unwrap();
        let same = of("http://b.example;weight=3;health=/up;max_requests=5", 80).unwrap();
        assert!(Arc::ptr_eq(&one, &same));
        assert!(!Arc::ptr_eq(&one, &of("http://a.example;max_requests=5", 81).unwrap()));
        assert!(!Arc::ptr_eq(&one, &of("http://a.example;max_requests=6", 80).unwrap()));
        assert!(of("http://a.example", 80).is_none());
        drop((one, same));
        assert!(of("http://a.example;max_requests=7", 80).is_some());
        assert_eq!(breakers.all.lock().unwrap().len(), 1, "what nobody has is forgotten");
    }
}
