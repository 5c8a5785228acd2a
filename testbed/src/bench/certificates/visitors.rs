//! Clients that come once each: a handshake in full, one request, and away.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rustls::{ClientConfig, client::Resumption};

use crate::{authority, edge::Edge, gatehouse::Place, keep_alive_client::Kept, network::Network};

/// Clients of one place, in the client's namespace.
#[derive(Clone)]
pub(super) struct Visitors {
    network: Arc<Network>,
    to: SocketAddr,
    config: Arc<ClientConfig>,
}

/// When they come.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// As soon as those before have left.
    Closely,
    /// So many in a second, whether those before have left or not: as long as there are visitors left.
    PerSecond(u32),
}

impl Visitors {
    /// Clients of `place` that trust `roots`.
    pub(super) fn new(edge: &Edge, place: Place, roots: &Path) -> anyhow::Result<Self> {
        let roots = authority::roots(roots)?;
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Self { network: Arc::clone(&edge.network), to: Edge::https(place), config: Arc::new(config) })
    }

    /// One of them asks for `name`: when it began, and how long it took from the connection's first packet until it knew whom it spoke to.
    pub(super) fn visit(&self, name: &str) -> anyhow::Result<(Instant, Duration)> {
        let (own, name) = (self.clone(), name.to_owned());
        self.network.client.await_inside(move || {
            let begun = Instant::now();
            own.visit_from_here(&name, begun).map(|took| (begun, took))
        })?
    }

    /// The same from where the caller is; the time is from `begun`.
    pub(super) fn visit_from_here(&self, name: &str, begun: Instant) -> anyhow::Result<Duration> {
        let mut connection =
            Kept::connect_with(self.to, name, Arc::clone(&self.config)).with_context(|| name.to_owned())?;
        let took = begun.elapsed();
        // Only with a request the server has had the last of the client's handshake for certain.
        let status = connection.get("/")?;
        ensure!(status == 200, "{name} is answered with {status}");
        Ok(took)
    }

    /// For each of `names` one, at most so many at once: how long their handshakes took. At a pace, from when they were due.
    pub(super) fn visit_all(
        &self,
        names: Vec<String>,
        at_once: usize,
        pace: Pace,
    ) -> anyhow::Result<Vec<Duration>> {
        let (names, next, begun) = (Arc::new(names), Arc::new(AtomicUsize::new(0)), Instant::now());
        let visit = move |own: Self, names: Arc<Vec<String>>, next: Arc<AtomicUsize>| {
            let mut took = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(name) = names.get(number) else { return Ok(took) };
                let due = pace.due(begun, number);
                while let Some(left) =
                    due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
                {
                    thread::park_timeout(left);
                }
                let from = if matches!(pace, Pace::Closely) { Instant::now() } else { due };
                took.push(own.visit_from_here(name, from)?);
            }
        };
        let start = |_| {
            let (own, names, next) = (self.clone(), Arc::clone(&names), Arc::clone(&next));
            self.network.client.thread(move || visit(own, names, next))
        };
        let threads = (0..at_once).map(start).collect::<anyhow::Result<Vec<_>>>()?;
        let mut all = Vec::new();
        for thread in threads {
            let took: anyhow::Result<Vec<Duration>> =
                thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?;
            all.extend(took?);
        }
        Ok(all)
    }

    /// Starts work of theirs on a thread inside the namespace.
    pub(super) fn thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(Self) -> T + Send + 'static,
    ) -> anyhow::Result<thread::JoinHandle<T>> {
        let own = self.clone();
        self.network.client.thread(move || work(own))
    }
}

impl Pace {
    fn due(self, begun: Instant, number: usize) -> Instant {
        match self {
            Self::Closely => begun,
            Self::PerSecond(rate) => {
                begun + Duration::from_secs_f64(super::as_f64(number) / f64::from(rate.max(1)))
            }
        }
    }
}
