//! A bounded number of slots, and who waits for one, in the order they came: shared by all workers. A lock is taken where somebody waits, and
//! nowhere else.
//! Not here: what a slot is for (`circuit_breaker`), and how long somebody waits (`admission`).
//! Invariants: no more slots are taken than there are, and none is lost, whoever goes away when (`threads_share_slots_and_lose_none`); who came
//! first is served first, and nobody overtakes who waits (`who_waits_is_served_in_order_and_not_overtaken`).

use std::{
    collections::VecDeque,
    future::Future,
    num::NonZeroU32,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::sync::oneshot;

/// The slots of one endpoint.
///
/// Who frees a slot counts it first and then looks whether somebody waits; who begins to wait says so first and then looks for a free slot. In
/// the one order of all four (`SeqCst`) one of both sees the other, so that nobody waits beside a free slot.
pub(super) struct Slots {
    most: usize,
    most_waiting: usize,
    taken: AtomicUsize,
    /// The queue's length, for who holds no lock.
    waiting: AtomicUsize,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// By number.
    waiting: VecDeque<Waiting>,
    next: u64,
}

struct Waiting {
    number: u64,
    slot: oneshot::Sender<Slot>,
}

/// One slot; dropping it frees it.
pub(super) struct Slot(Arc<Slots>);

/// The wait for a slot.
///
/// # Cancel safety
/// Dropping it ends the wait; a slot that was just given to it is given to the next.
pub(super) struct SlotWaiter {
    slots: Arc<Slots>,
    number: u64,
    slot: oneshot::Receiver<Slot>,
}

impl Slots {
    /// `most` slots, for which at most `most_waiting` wait.
    pub(super) fn new(most: NonZeroU32, most_waiting: usize) -> Arc<Self> {
        Arc::new(Self {
            most: usize::try_from(most.get()).unwrap_or(usize::MAX),
            most_waiting,
            taken: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            queue: Mutex::default(),
        })
    }

    /// Whether one more had to wait.
    pub(super) fn is_full(&self) -> bool {
        self.is_waited_for() || self.taken.load(Ordering::Relaxed) >= self.most
    }

    /// Whether somebody waits.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// A slot, if one is free and nobody waits for it.
    pub(super) fn take(self: &Arc<Self>) -> Option<Slot> {
        (!self.is_waited_for() && self.claim()).then(|| Slot(Arc::clone(self)))
    }

    /// Waits for a slot behind all who do; none if there are as many as may, or if whoever asks waits already, anywhere, as often as there are
    /// places left: half of them are enough for one (as with permits).
    pub(super) fn wait(self: &Arc<Self>, waits_already: usize) -> Option<SlotWaiter> {
        let (sender, receiver) = oneshot::channel();
        let number = {
            let mut queue = self.queue();
            if waits_already >= self.most_waiting.saturating_sub(queue.waiting.len()) {
                return None;
            }
            let number = queue.next;
            queue.next += 1;
            queue.waiting.push_back(Waiting { number, slot: sender });
            self.note_waiting(&queue);
            number
        };
        let waiter = SlotWaiter { slots: Arc::clone(self), number, slot: receiver };
        self.grant();
        Some(waiter)
    }

    /// Gives free slots to those who have waited longest.
    fn grant(self: &Arc<Self>) {
        while let Some(waiting) = self.next_served() {
            // Who has gone meanwhile gives it back at once.
            drop(waiting.slot.send(Slot(Arc::clone(self))));
        }
    }

    /// Takes a slot for who has waited longest; none without either.
    fn next_served(&self) -> Option<Waiting> {
        let mut queue = self.queue();
        if queue.waiting.is_empty() || !self.claim() {
            return None;
        }
        let first = queue.waiting.pop_front();
        self.note_waiting(&queue);
        first
    }

    fn leave(&self, number: u64) {
        let mut queue = self.queue();
        // It is not there any more once it was served.
        if let Ok(place) = queue.waiting.binary_search_by_key(&number, |waiting| waiting.number) {
            queue.waiting.remove(place);
            self.note_waiting(&queue);
        }
    }

    /// Counts one more, unless all are taken.
    fn claim(&self) -> bool {
        let more = |taken: usize| (taken < self.most).then_some(taken + 1);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    fn free(self: &Arc<Self>) {
        self.taken.fetch_sub(1, Ordering::SeqCst);
        if self.is_waited_for() {
            self.grant();
        }
    }

    fn note_waiting(&self, queue: &Queue) {
        self.waiting.store(queue.waiting.len(), Ordering::SeqCst);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.free();
    }
}

impl Future for SlotWaiter {
    type Output = Slot;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Slot> {
        match Pin::new(&mut self.slot).poll(cx) {
            Poll::Ready(Ok(slot)) => Poll::Ready(slot),
            // A sender leaves the queue with a slot, or with this.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for SlotWaiter {
    fn drop(&mut self) {
        self.slots.leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicU64, task::Waker};

    use super::*;

    fn slots(most: u32, most_waiting: usize) -> Arc<Slots> {
        Slots::new(NonZeroU32::new(most).unwrap(), most_waiting)
    }

    fn served(waiter: &mut SlotWaiter) -> Option<Slot> {
        match Pin::new(waiter).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(slot) => Some(slot),
            Poll::Pending => None,
        }
    }

    fn taken(slots: &Slots) -> (usize, usize) {
        (slots.taken.load(Ordering::SeqCst), slots.queue().waiting.len())
    }

    #[test]
    fn who_waits_is_served_in_order_and_not_overtaken() {
        let slots = slots(2, 3);
        let (one, two) = (slots.take().unwrap(), slots.take().unwrap());
        assert!(slots.is_full() && slots.take().is_none());
        let mut waiters: Vec<_> = (0..3).map(|_| slots.wait(0).unwrap()).collect();
        assert!(slots.wait(0).is_none(), "the queue is bounded");
        assert!(waiters.iter_mut().all(|waiter| served(waiter).is_none()));
        drop(one);
        let first = served(&mut waiters[0]).unwrap();
        assert!(served(&mut waiters[1]).is_none() && slots.take().is_none());
        drop((two, first));
        let _others = (served(&mut waiters[1]).unwrap(), served(&mut waiters[2]).unwrap());
        assert_eq!(taken(&slots), (2, 0));
    }

    #[test]
    fn who_goes_away_takes_nothing_along() {
        let slots = slots(1, 9);
        let one = slots.take().unwrap();
        let (first, mut second, third) =
            (slots.wait(0).unwrap(), slots.wait(0).unwrap(), slots.wait(0).unwrap());
        drop(third);
        // What was given to one who has not looked yet goes to the next.
        drop(one);
        assert_eq!(taken(&slots), (1, 1));
        assert!(served(&mut second).is_none());
        drop(first);
        let slot = served(&mut second).unwrap();
        let fourth = slots.wait(0).unwrap();
        drop(slot);
        drop(fourth);
        assert_eq!(taken(&slots), (0, 0));
        assert!(slots.take().is_some());
    }

    #[test]
    fn where_nobody_may_wait_nobody_does() {
        let slots = slots(1, 0);
        let _one = slots.take().unwrap();
        assert!(slots.wait(0).is_none());
    }

    #[test]
    fn whoever_waits_leaves_as_many_places_to_others() {
        let slots = slots(1, 100);
        let _one = slots.take().unwrap();
        let wait_all = |mut waits_already: usize| {
            let mut waiters = Vec::new();
            while let Some(waiter) = slots.wait(waits_already) {
                waiters.push(waiter);
                waits_already += 1;
            }
            waiters
        };
        let (greedy, another) = (wait_all(0), wait_all(0));
        assert_eq!((greedy.len(), another.len()), (50, 25));
        assert!(slots.wait(0).is_some() && wait_all(25).is_empty());
    }

    /// A waiter that is polled until it is served, or given up after so many turns.
    fn wait(waiter: &mut SlotWaiter, turns: u64) -> Option<Slot> {
        for _ in 0..turns {
            if let Some(slot) = served(waiter) {
                return Some(slot);
            }
            std::thread::yield_now();
        }
        None
    }

    #[test]
    fn threads_share_slots_and_lose_none() {
        let (slots, held) = (slots(3, 4), AtomicUsize::new(0));
        let (through, most) = (AtomicU64::new(0), AtomicUsize::new(0));
        let work = |seed: u64| {
            for turn in 0..20_000 {
                let slot = slots.take().or_else(|| wait(&mut slots.wait(0)?, (turn * seed) % 7 * 20));
                if let Some(slot) = slot {
                    most.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    through.fetch_add(1, Ordering::Relaxed);
                    held.fetch_sub(1, Ordering::SeqCst);
                    drop(slot);
                }
            }
        };
        let work = &work;
        std::thread::scope(|scope| (1..=6).for_each(|seed| drop(scope.spawn(move || work(seed)))));
        assert!((1..=3).contains(&most.load(Ordering::SeqCst)), "{most:?} at once");
        assert!(through.load(Ordering::Relaxed) > 1_000);
        assert_eq!(taken(&slots), (0, 0), "nothing is left over");
    }
}
