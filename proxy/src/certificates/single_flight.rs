//! One flight per name: the first who wants a certificate begins it, others wait for the same.
//!
//! A flight is a task of the control runtime; waiters hold seats, of which there is a bounded number per name and in total. A waiter
//! that goes away gives up its seat and nothing else. A flight that ends, whichever way, leaves the map before its outcome
//! is told, so that the next who comes begins a new one.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::watch;

use super::{CertificateRefusal, Slot, step::Purpose};
use crate::name::ServerName;

/// What a flight is for.
pub(super) type FlightKey = (ServerName, Purpose);

/// What a flight ended with.
pub(super) type FlightOutcome = Result<Arc<Slot>, CertificateRefusal>;

/// The flights under way.
///
/// Invariant: never more seats than the limits (`waiters_are_bounded_per_name_and_in_total`).
#[derive(Debug)]
pub(super) struct SingleFlight {
    open: Mutex<HashMap<FlightKey, InFlight>>,
    waiting: AtomicUsize,
    per_name: usize,
    total: usize,
}

#[derive(Debug, Clone)]
struct InFlight {
    outcome: watch::Receiver<Option<FlightOutcome>>,
    waiting: Arc<AtomicUsize>,
}

/// A waiter's place; dropping it frees it.
#[derive(Debug)]
pub(super) struct Waiter {
    single_flight: Arc<SingleFlight>,
    in_flight: InFlight,
}

/// The flight's own end; dropping it without [`Completion::land`] tells the waiters that it failed.
#[derive(Debug)]
pub(super) struct Completion {
    single_flight: Arc<SingleFlight>,
    route: FlightKey,
    outcome: watch::Sender<Option<FlightOutcome>>,
}

impl SingleFlight {
    pub(super) fn new(per_name: usize, total: usize) -> Self {
        Self { open: Mutex::default(), waiting: AtomicUsize::new(0), per_name, total }
    }

    /// Waiters in total.
    pub(super) fn waiters(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes a seat in the flight of `route`, which `begin` starts if there is none; [`CertificateRefusal::Busy`] when none is free.
    pub(super) fn join(
        self: &Arc<Self>,
        route: &FlightKey,
        begin: impl FnOnce(Completion),
    ) -> Result<Waiter, CertificateRefusal> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if self.waiters() >= self.total {
            return Err(CertificateRefusal::Busy);
        }
        if let Some(in_flight) = open.get(route) {
            return self.waiter(in_flight.clone()).ok_or(CertificateRefusal::Busy);
        }
        let (sender, outcome) = watch::channel(None);
        let in_flight = InFlight { outcome, waiting: Arc::default() };
        let waiter = self.waiter(in_flight.clone()).ok_or(CertificateRefusal::Busy)?;
        open.insert(route.clone(), in_flight);
        drop(open);
        begin(Completion { single_flight: Arc::clone(self), route: route.clone(), outcome: sender });
        Ok(waiter)
    }

    fn waiter(self: &Arc<Self>, in_flight: InFlight) -> Option<Waiter> {
        if in_flight.waiting.load(Ordering::Relaxed) >= self.per_name {
            return None;
        }
        in_flight.waiting.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Some(Waiter { single_flight: Arc::clone(self), in_flight })
    }

    fn close(&self, route: &FlightKey) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(route);
    }
}

impl Waiter {
    /// Waits for the flight's end.
    ///
    /// # Cancel safety
    /// The flight goes on.
    pub(super) async fn outcome(mut self) -> FlightOutcome {
        match self.in_flight.outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(CertificateRefusal::Failed)),
            Err(_) => Err(CertificateRefusal::Failed),
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.in_flight.waiting.fetch_sub(1, Ordering::Relaxed);
        self.single_flight.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Completion {
    pub(super) fn land(self, outcome: FlightOutcome) {
        self.single_flight.close(&self.route);
        self.outcome.send_replace(Some(outcome));
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        // After `land` this finds nothing, or the flight that has begun since: which is not ours to close.
        if self.outcome.borrow().is_none() {
            self.single_flight.close(&self.route);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(text: &str) -> FlightKey {
        (ServerName::parse(text).unwrap(), Purpose::Obtain)
    }

    #[tokio::test]
    async fn those_who_come_during_a_flight_share_its_outcome() {
        let single_flight = Arc::new(SingleFlight::new(10, 10));
        let mut completion = None;
        let first = single_flight.join(&route("a.example"), |begun| completion = Some(begun)).unwrap();
        let second = single_flight.join(&route("a.example"), |_| panic!("a second flight")).unwrap();
        drop(first);
        let slot = Arc::new(Slot::default());
        completion.unwrap().land(Ok(Arc::clone(&slot)));
        assert!(Arc::ptr_eq(&second.outcome().await.unwrap(), &slot));
        assert_eq!(single_flight.waiters(), 0);
        let mut begun = false;
        let _seat = single_flight.join(&route("a.example"), |_| begun = true).unwrap();
        assert!(begun, "what comes later begins anew");
    }

    #[tokio::test]
    async fn waiters_are_bounded_per_name_and_in_total() {
        let single_flight = Arc::new(SingleFlight::new(2, 3));
        let mut landings = Vec::new();
        let mut seats = Vec::new();
        for (name, waiting) in
            [("a", true), ("a", true), ("a", false), ("b", true), ("b", false), ("c", false)]
        {
            let waiter = single_flight
                .join(&route(&format!("{name}.example")), |completion| landings.push(completion));
            assert_eq!(waiter.is_ok(), waiting, "{name}");
            seats.extend(waiter);
        }
        seats.remove(0);
        assert!(single_flight.join(&route("a.example"), |_| panic!("a second flight")).is_ok());
    }

    #[tokio::test]
    async fn a_flight_that_is_lost_fails_its_waiters_and_makes_room() {
        let single_flight = Arc::new(SingleFlight::new(2, 2));
        let waiter = single_flight.join(&route("a.example"), drop).unwrap();
        assert_eq!(waiter.outcome().await.unwrap_err(), CertificateRefusal::Failed);
        assert!(single_flight.open.lock().unwrap().is_empty());
    }
}
