//! A request's way to a destination that has room for it, and what it waits for.
//! Not here: who comes first of those that wait (`slots`), what is bounded (`circuit_breaker`).

use std::{
    future::{Future as _, poll_fn},
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    task::Poll,
};

use super::{
    UpstreamFailure, Upstreams,
    choice::Choice,
    destination::{Destination, InFlight},
    destinations::Candidates,
    permits::NoPermit,
    slots::{Slot, SlotWaiter},
};
use crate::{
    forward::metrics::{PendingEnd, RequestMetrics},
    transport::Transport,
};

/// A request that waits, counted while it does and when it ends.
struct Pending<'a> {
    metrics: &'a RequestMetrics,
    end: PendingEnd,
}

impl<'a> Pending<'a> {
    /// Unless it is said otherwise, it ends because its client went away.
    fn new(metrics: &'a RequestMetrics) -> Self {
        metrics.pending_now.inc();
        Self { metrics, end: PendingEnd::ClientGone }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.metrics.pending_now.dec();
        self.metrics.pending.bump(self.end);
    }
}

impl<T: Transport> Upstreams<T> {
    /// Where among `candidates` a request of `client` goes that was at those `tried`, and its place there; none if it was at all. Where all
    /// have as many as they may, it waits.
    ///
    /// # Cancel safety
    /// A dropped future leaves no place taken.
    pub(super) async fn admit(
        &self,
        candidates: &Candidates,
        tried: &[usize],
        client: IpAddr,
    ) -> Result<Option<(usize, InFlight)>, UpstreamFailure> {
        // Each round but the last means that another worker's request was admitted.
        while let Some(choice) = self.choose(candidates, tried, client) {
            match choice {
                Choice::Take(index) => {
                    let Some(candidate) = candidates.get(index) else { break };
                    if let Some(in_flight) = candidate.destination.begin() {
                        return Ok(Some((index, in_flight)));
                    }
                }
                // Boxed: seldom.
                Choice::Wait(full) => {
                    return Ok(Some(Box::pin(self.wait_at(candidates, full, client)).await?));
                }
            }
        }
        Ok(None)
    }

    /// Waits at all of those at the places `full` at once, and takes the first that has room.
    async fn wait_at(
        &self,
        candidates: &Candidates,
        full: Vec<usize>,
        client: IpAddr,
    ) -> Result<(usize, InFlight), NoPermit> {
        let of_client = self.settings.breakers.begin_wait(client);
        let destinations =
            full.into_iter().filter_map(|index| Some((index, &candidates.get(index)?.destination)));
        let mut waits: Vec<(usize, &Rc<Destination>, SlotWaiter)> = destinations
            .filter_map(|(index, one)| Some((index, one, one.wait(of_client.before())?)))
            .collect();
        if waits.is_empty() {
            self.metrics.pending.bump(PendingEnd::QueueFull);
            return Err(NoPermit::Endpoint);
        }
        let mut pending = Pending::new(&self.metrics);
        let first = poll_fn(|cx| {
            let mut each = waits.iter_mut();
            let served = each.find_map(|(index, destination, wait)| match Pin::new(wait).poll(cx) {
                Poll::Ready(slot) => Some((*index, destination.begin_in(slot))),
                Poll::Pending => None,
            });
            served.map_or(Poll::Pending, Poll::Ready)
        });
        let served = tokio::time::timeout(*self.settings.limits.pending_timeout, first).await;
        pending.end = if served.is_ok() { PendingEnd::Admitted } else { PendingEnd::Timeout };
        served.map_err(|_| NoPermit::EndpointInTime)
    }

    /// The right to open a connection to `destination`, where their number is bounded. Requests are bounded by it, too, so that only unused
    /// connections can be in the way: workers close theirs for whoever waits.
    pub(super) async fn connection_slot(&self, destination: &Destination) -> Result<Option<Slot>, NoPermit> {
        let Some(slots) = destination.connections() else { return Ok(None) };
        if let Some(slot) = slots.take() {
            return Ok(Some(slot));
        }
        let Some(waiter) = slots.wait(0) else { return Err(NoPermit::Endpoint) };
        self.settings.breakers.ask_for_unused();
        let slot = tokio::time::timeout(*self.settings.limits.pending_timeout, waiter).await;
        slot.map(Some).map_err(|_| NoPermit::EndpointInTime)
    }
}
