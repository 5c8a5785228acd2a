//! How many orders that clients cause an instance has under way at once, and whose is next.
//! Not here: renewals, which have a bound of their own (`renewal::queue`), and what the fleet and its CAs allow (`issue::budgets`).
//!
//! An owner of names may have at most as many permits as are still free, as at targets (`forward::upstream::permits`): one with a thousand
//! new names leaves half of them to others. Who waits is served before those whose owner has more, and else in the order of coming.
//! Invariants: never more permits than there are, and none is lost with who waited for it (`permits_are_bounded_and_none_is_lost`).

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use prometheus::IntGauge;
use tokio::sync::oneshot;

/// The permits of a process.
#[derive(Debug, Clone)]
pub(super) struct OrderPermits(Arc<Permits>);

#[derive(Debug)]
struct Permits {
    most: usize,
    most_waiting: usize,
    state: Mutex<PermitState>,
    waiting: IntGauge,
}

#[derive(Debug, Default)]
struct PermitState {
    total: usize,
    /// Permits of each owner that has one.
    taken: HashMap<Arc<str>, usize>,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    owner: Arc<str>,
    granted: oneshot::Sender<OrderPermit>,
}

/// The right to have one order under way, until the last clone is dropped.
#[derive(Debug, Clone)]
pub(super) struct OrderPermit {
    _taken: Arc<Taken>,
}

#[derive(Debug)]
struct Taken {
    permits: Arc<Permits>,
    owner: Arc<str>,
}

/// A place among those who wait for a permit; dropping it gives the place up.
#[derive(Debug)]
pub(super) struct AwaitedPermit(oneshot::Receiver<OrderPermit>);

/// As many wait as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooManyWaiting;

impl OrderPermits {
    /// At most `most` permits, for which `most_waiting` orders may wait, whose number `waiting` shows.
    pub(super) fn new(most: usize, most_waiting: usize, waiting: IntGauge) -> Self {
        Self(Arc::new(Permits { most, most_waiting, state: Mutex::default(), waiting }))
    }

    /// A place among those who wait for a permit for a name of `owner`; where there is room it is granted at once. Of those who wait, too, no
    /// owner has more than it leaves to others.
    pub(super) fn ask(&self, owner: &str) -> Result<AwaitedPermit, TooManyWaiting> {
        let (granted, awaited) = oneshot::channel();
        {
            let mut state = self.0.lock();
            if !state.may_take(owner, self.0.most) {
                state.waiting.retain(|waiting| !waiting.granted.is_closed());
                let left = self.0.most_waiting.saturating_sub(state.waiting.len());
                let of_owner = state.waiting.iter().filter(|waiting| &*waiting.owner == owner).count();
                if of_owner >= left {
                    return Err(TooManyWaiting);
                }
            }
            state.waiting.push_back(Waiting { owner: owner.into(), granted });
        }
        self.0.grant();
        Ok(AwaitedPermit(awaited))
    }
}

impl AwaitedPermit {
    /// The permit, if it was granted by now.
    pub(super) fn granted(&mut self) -> Option<OrderPermit> {
        self.0.try_recv().ok()
    }
}

impl Permits {
    fn lock(&self) -> MutexGuard<'_, PermitState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grants what is free to those who wait.
    fn grant(self: &Arc<Self>) {
        loop {
            let next = {
                let mut state = self.lock();
                let next = state.take_next(self.most);
                self.waiting.set(i64::try_from(state.waiting.len()).unwrap_or(i64::MAX));
                next
            };
            let Some(Waiting { owner, granted }) = next else { return };
            let taken = Taken { permits: Arc::clone(self), owner };
            // Without the lock: to whoever has just gone it is not granted, and is dropped here.
            drop(granted.send(OrderPermit { _taken: Arc::new(taken) }));
        }
    }
}

impl PermitState {
    fn may_take(&self, owner: &str, most: usize) -> bool {
        self.of(owner) < most.saturating_sub(self.total)
    }

    fn of(&self, owner: &str) -> usize {
        self.taken.get(owner).copied().unwrap_or_default()
    }

    /// Takes a permit for the first of those who wait whose owners have fewest.
    fn take_next(&mut self, most: usize) -> Option<Waiting> {
        if self.total >= most {
            return None;
        }
        self.waiting.retain(|waiting| !waiting.granted.is_closed());
        let counted =
            self.waiting.iter().enumerate().map(|(place, waiting)| (self.of(&waiting.owner), place));
        let (_, place) = counted.min()?;
        if !self.waiting.get(place).is_some_and(|waiting| self.may_take(&waiting.owner, most)) {
            return None;
        }
        let next = self.waiting.remove(place)?;
        self.total += 1;
        *self.taken.entry(Arc::clone(&next.owner)).or_default() += 1;
        Some(next)
    }

    fn give_back(&mut self, owner: &str) {
        self.total = self.total.saturating_sub(1);
        if let Some(taken) = self.taken.get_mut(owner) {
            *taken = taken.saturating_sub(1);
            if *taken == 0 {
                self.taken.remove(owner);
            }
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.permits.lock().give_back(&self.owner);
        self.permits.grant();
    }
}

impl Future for AwaitedPermit {
    type Output = OrderPermit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<OrderPermit> {
        match Pin::new(&mut self.0).poll(cx) {
            Poll::Ready(Ok(permit)) => Poll::Ready(permit),
            // It is among those who wait for as long as this is here.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn permits(most: usize, most_waiting: usize) -> OrderPermits {
        OrderPermits::new(most, most_waiting, IntGauge::new("waiting", "for tests").unwrap())
    }

    #[test]
    fn an_owner_of_a_thousand_names_leaves_half_to_others_and_is_served_behind_them() {
        let permits = permits(8, 2_000);
        let mut many: Vec<_> = (0..1_000).map(|_| permits.ask("many").unwrap()).collect();
        let mut held: Vec<_> = many.iter_mut().filter_map(AwaitedPermit::granted).collect();
        assert_eq!(held.len(), 4);
        assert!(many[..4].iter_mut().all(|awaited| awaited.0.is_terminated()), "in the order of coming");
        let mut one = permits.ask("one").unwrap();
        assert!(one.granted().is_some(), "and given back at once");
        let two = permits.ask("two").unwrap();
        let mut last = permits.ask("last").unwrap();
        assert_eq!(permits.0.lock().total, 6);
        held.pop();
        assert_eq!(
            many.iter_mut().filter_map(AwaitedPermit::granted).count(),
            0,
            "three of eight, where others have two"
        );
        drop((two, last.granted()));
        assert_eq!(
            many.iter_mut().filter_map(AwaitedPermit::granted).map(|permit| held.push(permit)).count(),
            1
        );
    }

    #[test]
    fn an_owner_whose_names_fill_the_queue_keeps_no_other_out() {
        let permits = permits(8, 100);
        let many: Vec<_> = (0..200).filter_map(|_| permits.ask("many").ok()).collect();
        assert_eq!(many.len(), 4 + 50, "half of those who wait");
        let mut one: Vec<_> = (0..2).map(|_| permits.ask("one").unwrap()).collect();
        assert_eq!(one.iter_mut().filter_map(AwaitedPermit::granted).count(), 2);
        assert!(permits.ask("one").is_ok() && permits.ask("many").is_err());
    }

    #[test]
    fn no_more_wait_than_may_and_who_has_gone_leaves_its_place() {
        let permits = permits(1, 2);
        let first = permits.ask("a").unwrap().granted().unwrap();
        let waiting = [permits.ask("b").unwrap(), permits.ask("c").unwrap()];
        assert_eq!((permits.ask("d").err(), permits.0.waiting.get()), (Some(TooManyWaiting), 2));
        let [second, mut third] = waiting;
        drop(second);
        let mut fourth = permits.ask("d").unwrap();
        assert!(third.granted().is_none() && fourth.granted().is_none());
        drop(first);
        let third = third.granted().unwrap();
        assert!(fourth.granted().is_none());
        drop(third);
        assert!(fourth.granted().is_some());
        assert_eq!((permits.0.waiting.get(), permits.0.lock().total), (0, 0));
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let permits = permits(1, 1);
        let first = permits.ask("a").unwrap().await;
        let second = tokio::spawn(permits.ask("a").unwrap());
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        second.await.unwrap();
    }

    proptest! {
        #[test]
        fn permits_are_bounded_and_none_is_lost(
            most in 1_usize..6,
            events in proptest::collection::vec((0_u8..4, 0_usize..8), 1..100),
        ) {
            let permits = permits(most, 20);
            let (mut waiting, mut held) = (Vec::new(), Vec::new());
            for (event, place) in events {
                match event {
                    0 | 1 => waiting.extend(permits.ask(["a", "b", "c"][place % 3])),
                    2 if place < waiting.len() => drop(waiting.swap_remove(place)),
                    3 if place < held.len() => drop(held.swap_remove(place)),
                    _ => {}
                }
                // Some are granted and not looked at yet.
                if place.is_multiple_of(2) {
                    held.extend(waiting.iter_mut().filter_map(AwaitedPermit::granted));
                    waiting.retain(|awaited| !awaited.0.is_terminated());
                }
                let state = permits.0.lock();
                prop_assert!(state.total <= most && state.total == state.taken.values().sum::<usize>());
                let free = most - state.total;
                let is_eligible = |waiting: &Waiting| {
                    !waiting.granted.is_closed() && state.taken.get(&waiting.owner).copied().unwrap_or(0) < free
                };
                prop_assert!(!state.waiting.iter().any(is_eligible), "{state:?}");
            }
            drop((waiting, held));
            let state = permits.0.lock();
            prop_assert!(state.total == 0 && state.taken.is_empty(), "{state:?}");
        }
    }
}
