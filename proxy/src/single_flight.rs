//! One call at a time per key: the first caller starts it, later ones wait for the same outcome.
//!
//! Waiters are bounded, per key and in total. A waiter that goes away does not affect the call. A call that ends, in whatever way, is
//! removed from the map before its outcome is sent to waiters, so that the next caller starts a new one.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::watch;

/// The calls in flight.
///
/// Invariant: never more waiters than the limits (`waiters_are_bounded_per_key_and_in_total`).
#[derive(Debug)]
pub(crate) struct SingleFlight<K, V> {
    calls: Mutex<HashMap<K, InFlight<V>>>,
    waiting: AtomicUsize,
    per_key: usize,
    total: usize,
}

#[derive(Debug)]
struct InFlight<V> {
    outcome: watch::Receiver<Option<V>>,
    waiting: Arc<AtomicUsize>,
}

/// Somebody who waits for a call's outcome; dropping it makes room for another.
#[derive(Debug)]
pub(crate) struct Waiter<K: Hash + Eq, V> {
    calls: Arc<SingleFlight<K, V>>,
    call: InFlight<V>,
}

/// What ends a call; dropped without [`Completion::complete`], it tells the waiters that there is no outcome.
#[derive(Debug)]
pub(crate) struct Completion<K: Hash + Eq, V> {
    calls: Arc<SingleFlight<K, V>>,
    key: K,
    outcome: watch::Sender<Option<V>>,
}

/// Why there is nothing to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JoinError<E> {
    /// As many wait as may.
    Full,
    /// A call would have to begin, and must not.
    Refused(E),
}

impl<K: Hash + Eq + Clone, V: Clone> SingleFlight<K, V> {
    pub(crate) fn new(per_key: usize, total: usize) -> Self {
        Self { calls: Mutex::default(), waiting: AtomicUsize::new(0), per_key, total }
    }

    /// Waiters in total.
    pub(crate) fn waiters(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Waits for the call of `key`. Where none is in flight, one begins if `admit` lets it; `begin` is given its other end.
    pub(crate) fn join<E>(
        self: &Arc<Self>,
        key: &K,
        admit: impl FnOnce() -> Result<(), E>,
        begin: impl FnOnce(Completion<K, V>),
    ) -> Result<Waiter<K, V>, JoinError<E>> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if self.waiters() >= self.total {
            return Err(JoinError::Full);
        }
        if let Some(call) = calls.get(key) {
            return self.waiter(call.clone()).ok_or(JoinError::Full);
        }
        admit().map_err(JoinError::Refused)?;
        let (sender, outcome) = watch::channel(None);
        let call = InFlight { outcome, waiting: Arc::default() };
        let waiter = self.waiter(call.clone()).ok_or(JoinError::Full)?;
        calls.insert(key.clone(), call);
        drop(calls);
        begin(Completion { calls: Arc::clone(self), key: key.clone(), outcome: sender });
        Ok(waiter)
    }

    fn waiter(self: &Arc<Self>, call: InFlight<V>) -> Option<Waiter<K, V>> {
        if call.waiting.load(Ordering::Relaxed) >= self.per_key {
            return None;
        }
        call.waiting.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Some(Waiter { calls: Arc::clone(self), call })
    }
}

impl<K: Hash + Eq, V> SingleFlight<K, V> {
    fn remove(&self, key: &K) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

impl<V> Clone for InFlight<V> {
    fn clone(&self) -> Self {
        Self { outcome: self.outcome.clone(), waiting: Arc::clone(&self.waiting) }
    }
}

impl<K: Hash + Eq, V: Clone> Waiter<K, V> {
    /// Waits for the end of the call; nothing, when the call was lost.
    ///
    /// # Cancel safety
    /// The call goes on.
    pub(crate) async fn outcome(mut self) -> Option<V> {
        self.call.outcome.wait_for(Option::is_some).await.ok()?.clone()
    }
}

impl<K: Hash + Eq, V> Drop for Waiter<K, V> {
    fn drop(&mut self) {
        self.call.waiting.fetch_sub(1, Ordering::Relaxed);
        self.calls.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<K: Hash + Eq, V> Completion<K, V> {
    pub(crate) fn complete(self, outcome: V) {
        self.calls.remove(&self.key);
        self.outcome.send_replace(Some(outcome));
    }
}

impl<K: Hash + Eq, V> Drop for Completion<K, V> {
    fn drop(&mut self) {
        // After `complete` the key is another call's, or nobody's.
        if self.outcome.borrow().is_none() {
            self.calls.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    type Calls = Arc<SingleFlight<&'static str, u32>>;

    const ADMIT: fn() -> Result<(), Infallible> = || Ok(());

    fn second(_: Completion<&'static str, u32>) {
        panic!("a second call begins")
    }

    #[tokio::test]
    async fn those_who_come_during_a_call_share_its_outcome() {
        let calls: Calls = Arc::new(SingleFlight::new(10, 10));
        let mut completion = None;
        let first = calls.join(&"a", ADMIT, |begun| completion = Some(begun)).unwrap();
        let other = calls.join(&"a", || Err(()), second).unwrap();
        drop(first);
        completion.unwrap().complete(7);
        assert_eq!(other.outcome().await, Some(7));
        assert_eq!(calls.waiters(), 0);
        let mut begun = false;
        let _waiter = calls.join(&"a", ADMIT, |_| begun = true).unwrap();
        assert!(begun, "what comes later begins anew");
    }

    #[tokio::test]
    async fn waiters_are_bounded_per_key_and_in_total() {
        let calls: Calls = Arc::new(SingleFlight::new(2, 3));
        let (mut completions, mut waiters) = (Vec::new(), Vec::new());
        for (key, waits) in [("a", true), ("a", true), ("a", false), ("b", true), ("b", false), ("c", false)]
        {
            let waiter = calls.join(&key, ADMIT, |completion| completions.push(completion));
            assert_eq!(waiter.is_ok(), waits, "{key}");
            waiters.extend(waiter);
        }
        waiters.remove(0);
        assert!(calls.join(&"a", ADMIT, second).is_ok());
    }

    #[tokio::test]
    async fn a_call_that_is_lost_ends_its_waiters_and_makes_room() {
        let calls: Calls = Arc::new(SingleFlight::new(2, 2));
        let waiter = calls.join(&"a", ADMIT, drop).unwrap();
        assert_eq!(waiter.outcome().await, None);
        assert!(calls.calls.lock().unwrap().is_empty());
    }

    #[test]
    fn a_call_that_is_not_admitted_does_not_begin() {
        let calls: Calls = Arc::new(SingleFlight::new(2, 2));
        let refused = calls.join(&"a", || Err("spent"), second);
        assert!(matches!(refused, Err(JoinError::Refused("spent"))));
        assert_eq!(calls.waiters(), 0);
    }
}
