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

use super::{Refusal, Slot, step::Errand};
use crate::name::ServerName;

/// What a flight is for.
pub(super) type Route = (ServerName, Errand);

/// What a flight ended with.
pub(super) type Outcome = Result<Arc<Slot>, Refusal>;

/// The flights under way.
///
/// Invariant: never more seats than the limits (`waiters_are_bounded_per_name_and_in_total`).
#[derive(Debug)]
pub(super) struct Flights {
    open: Mutex<HashMap<Route, Flight>>,
    seated: AtomicUsize,
    per_name: usize,
    total: usize,
}

#[derive(Debug, Clone)]
struct Flight {
    outcome: watch::Receiver<Option<Outcome>>,
    seated: Arc<AtomicUsize>,
}

/// A waiter's place; dropping it frees it.
#[derive(Debug)]
pub(super) struct Seat {
    flights: Arc<Flights>,
    flight: Flight,
}

/// The flight's own end; dropping it without [`Landing::land`] tells the waiters that it failed.
#[derive(Debug)]
pub(super) struct Landing {
    flights: Arc<Flights>,
    route: Route,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Flights {
    pub(super) fn new(per_name: usize, total: usize) -> Self {
        Self { open: Mutex::default(), seated: AtomicUsize::new(0), per_name, total }
    }

    /// Waiters in total.
    pub(super) fn waiters(&self) -> usize {
        self.seated.load(Ordering::Relaxed)
    }

    /// Takes a seat in the flight of `route`, which `begin` starts if there is none; [`Refusal::Busy`] when none is free.
    pub(super) fn join(
        self: &Arc<Self>,
        route: &Route,
        begin: impl FnOnce(Landing),
    ) -> Result<Seat, Refusal> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if self.waiters() >= self.total {
            return Err(Refusal::Busy);
        }
        if let Some(flight) = open.get(route) {
            return self.seat(flight.clone()).ok_or(Refusal::Busy);
        }
        let (sender, outcome) = watch::channel(None);
        let flight = Flight { outcome, seated: Arc::default() };
        let seat = self.seat(flight.clone()).ok_or(Refusal::Busy)?;
        open.insert(route.clone(), flight);
        drop(open);
        begin(Landing { flights: Arc::clone(self), route: route.clone(), outcome: sender });
        Ok(seat)
    }

    fn seat(self: &Arc<Self>, flight: Flight) -> Option<Seat> {
        if flight.seated.load(Ordering::Relaxed) >= self.per_name {
            return None;
        }
        flight.seated.fetch_add(1, Ordering::Relaxed);
        self.seated.fetch_add(1, Ordering::Relaxed);
        Some(Seat { flights: Arc::clone(self), flight })
    }

    fn close(&self, route: &Route) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(route);
    }
}

impl Seat {
    /// Waits for the flight's end.
    ///
    /// # Cancel safety
    /// The flight goes on.
    pub(super) async fn outcome(mut self) -> Outcome {
        match self.flight.outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(Refusal::Failed)),
            Err(_) => Err(Refusal::Failed),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.flight.seated.fetch_sub(1, Ordering::Relaxed);
        self.flights.seated.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Landing {
    pub(super) fn land(self, outcome: Outcome) {
        self.flights.close(&self.route);
        self.outcome.send_replace(Some(outcome));
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        // After `land` this finds nothing, or the flight that has begun since: which is not ours to close.
        if self.outcome.borrow().is_none() {
            self.flights.close(&self.route);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(text: &str) -> Route {
        (ServerName::parse(text).unwrap(), Errand::Obtain)
    }

    #[tokio::test]
    async fn those_who_come_during_a_flight_share_its_outcome() {
        let flights = Arc::new(Flights::new(10, 10));
        let mut landing = None;
        let first = flights.join(&route("a.example"), |begun| landing = Some(begun)).unwrap();
        let second = flights.join(&route("a.example"), |_| panic!("a second flight")).unwrap();
        drop(first);
        let slot = Arc::new(Slot::default());
        landing.unwrap().land(Ok(Arc::clone(&slot)));
        assert!(Arc::ptr_eq(&second.outcome().await.unwrap(), &slot));
        assert_eq!(flights.waiters(), 0);
        let mut begun = false;
        let _seat = flights.join(&route("a.example"), |_| begun = true).unwrap();
        assert!(begun, "what comes later begins anew");
    }

    #[tokio::test]
    async fn waiters_are_bounded_per_name_and_in_total() {
        let flights = Arc::new(Flights::new(2, 3));
        let mut landings = Vec::new();
        let mut seats = Vec::new();
        for (name, seated) in
            [("a", true), ("a", true), ("a", false), ("b", true), ("b", false), ("c", false)]
        {
            let seat = flights.join(&route(&format!("{name}.example")), |landing| landings.push(landing));
            assert_eq!(seat.is_ok(), seated, "{name}");
            seats.extend(seat);
        }
        seats.remove(0);
        assert!(flights.join(&route("a.example"), |_| panic!("a second flight")).is_ok());
    }

    #[tokio::test]
    async fn a_flight_that_is_lost_fails_its_waiters_and_makes_room() {
        let flights = Arc::new(Flights::new(2, 2));
        let seat = flights.join(&route("a.example"), drop).unwrap();
        assert_eq!(seat.outcome().await.unwrap_err(), Refusal::Failed);
        assert!(flights.open.lock().unwrap().is_empty());
    }
}
