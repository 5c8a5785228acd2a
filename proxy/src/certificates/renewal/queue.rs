//! Which due names an instance claims next: computed from what it has read and claimed, without waiting for anything.
//!
//! A pass reads every shard once, in an order of its own, and claims name by name, as long as it has room for another renewal and the
//! issuer's budget allows one. Names that others have claimed are not waited for: after two of them in a page the instance goes on with
//! the next page, since somebody else is at work in this one. So a backlog is read by each instance in parts and claimed once
//! (`a_backlog_costs_little_more_than_a_claim_a_name`).
//! Invariants: nothing is claimed without budget (`nothing_is_claimed_without_budget`); names that fail leave most of the room to others
//! (`names_that_fail_leave_room_to_others`).

use std::{
    collections::{HashMap, VecDeque},
    time::SystemTime,
};

use crate::store::state_table::{Due, DuePage, DueStart, SHARDS};

/// What to do next in a pass.
#[derive(Debug)]
pub(super) enum Next {
    /// Wait until a renewal has ended.
    Await,
    /// Read a part of what is due.
    Read { shard: u8, start: Option<DueStart> },
    /// Ask the issuers' budgets for so many renewals.
    Ask(u64),
    /// Claim it.
    Claim(Due),
    /// All was looked at.
    End,
}

/// Names that fail may be slow to fail, and have a small part of the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Sound,
    Failing,
}

impl Lane {
    pub(super) fn of(failures: u32) -> Self {
        if failures == 0 { Self::Sound } else { Self::Failing }
    }
}

/// A pass over what is due, and the renewals under way.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Shards to be read, the next one last.
    shards: Vec<u8>,
    shard: u8,
    /// Where the shard goes on.
    start: Option<DueStart>,
    page: VecDeque<Due>,
    /// Claims that others had made in this page.
    lost: u8,
    /// Renewals that the budget has allowed.
    allowed: u64,
    /// Names claimed in this pass.
    claimed: usize,
    sound: usize,
    failing: usize,
    /// What was claimed here, and until when: the index may show the names as they were before.
    held: HashMap<Due, SystemTime>,
}

impl Queue {
    /// Begins a pass; `fraction` gives random numbers from 0 to less than 1.
    pub(super) fn begin(&mut self, now: SystemTime, mut fraction: impl FnMut() -> f64) {
        self.held.retain(|_, until| now < *until);
        let mut left: Vec<u8> = (0..SHARDS).collect();
        self.shards.clear();
        while !left.is_empty() {
            self.shards.push(left.swap_remove(place(fraction(), left.len())));
        }
        (self.start, self.claimed) = (None, 0);
        self.page.clear();
    }

    pub(super) fn next(&mut self) -> Next {
        if self.sound + self.failing >= AT_ONCE {
            return Next::Await;
        }
        if !self.page.is_empty() && self.allowed == 0 {
            return Next::Ask(ASKED.min(u64::try_from(self.page.len()).unwrap_or(ASKED)));
        }
        if let Some(due) = self.page.pop_front() {
            return Next::Claim(due);
        }
        if self.start.is_none() {
            let Some(shard) = self.shards.pop() else { return Next::End };
            self.shard = shard;
        }
        Next::Read { shard: self.shard, start: self.start.take() }
    }

    /// A part was read. It is begun in its middle, so that those who have read the same do not go on in step.
    pub(super) fn read(&mut self, page: DuePage, fraction: f64) {
        self.page = page.names.into_iter().filter(|due| !self.held.contains_key(due)).collect();
        self.page.rotate_left(place(fraction, self.page.len()));
        (self.start, self.lost) = (page.next, 0);
    }

    /// The budgets allow so many; none ends the pass.
    pub(super) fn allow(&mut self, count: u64) {
        self.allowed = count;
        if count == 0 {
            self.page.clear();
            self.shards.clear();
            self.start = None;
        }
    }

    /// A name was claimed whose last orders failed so often: whether there is room to renew it. If not, it is due again when the claim
    /// ends.
    pub(super) fn claim(&mut self, due: &Due, until: SystemTime, failures: u32) -> Option<Lane> {
        self.claimed += 1;
        self.held.insert(due.clone(), until);
        let lane = Lane::of(failures);
        let count = match lane {
            Lane::Failing if self.failing >= FAILING_AT_ONCE => return None,
            Lane::Failing => &mut self.failing,
            Lane::Sound => &mut self.sound,
        };
        *count += 1;
        self.allowed = self.allowed.saturating_sub(1);
        Some(lane)
    }

    /// Another instance has claimed the name.
    pub(super) fn lose(&mut self) {
        self.lost += 1;
        if self.lost >= MOST_LOST {
            self.page.clear();
        }
    }

    /// A renewal has ended.
    pub(super) fn end(&mut self, lane: Lane) {
        let count = match lane {
            Lane::Sound => &mut self.sound,
            Lane::Failing => &mut self.failing,
        };
        *count = count.saturating_sub(1);
    }

    /// What the budget has allowed and nobody uses.
    pub(super) fn take_unused(&mut self) -> u64 {
        std::mem::take(&mut self.allowed)
    }

    /// Names claimed in this pass.
    pub(super) fn claimed(&self) -> usize {
        self.claimed
    }
}

/// An index below `len`, or 0.
fn place(fraction: f64, len: usize) -> usize {
    let len_of_page = u32::try_from(len).unwrap_or(u32::MAX);
    let places = (1..len_of_page).take_while(|n| f64::from(*n) <= fraction * f64::from(len_of_page));
    places.count()
}

/// Orders under way at once. An order takes seconds, nearly all of them at the CA.
const AT_ONCE: usize = 16;
/// As many of them may be of names that fail.
const FAILING_AT_ONCE: usize = 4;
/// How much is taken from the budget at once.
const ASKED: u64 = 25;
const MOST_LOST: u8 = 2;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{name::Pattern, store::instant::Micros};

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
    }

    fn page(names: std::ops::Range<u32>) -> DuePage {
        let due = |n| Due { name: Pattern::parse(&format!("n{n}.example")).unwrap(), at: Micros::of(now()) };
        DuePage { names: names.map(due).collect(), next: None }
    }

    /// A pass at its first page.
    fn reading(fraction: f64) -> Queue {
        let mut queue = Queue::default();
        queue.begin(now(), || fraction);
        assert!(matches!(queue.next(), Next::Read { start: None, .. }));
        queue
    }

    fn claim(queue: &mut Queue, failures: u32) -> Option<Lane> {
        let Next::Claim(due) = queue.next() else { panic!("nothing is claimed") };
        queue.claim(&due, now() + Duration::from_mins(1), failures)
    }

    #[test]
    fn every_pass_reads_each_shard_once_in_an_order_of_its_own() {
        let orders: Vec<Vec<u8>> = [0.0, 0.5, 0.9]
            .map(|fraction| {
                let mut queue = Queue::default();
                queue.begin(now(), || fraction);
                let read = std::iter::from_fn(|| match queue.next() {
                    Next::Read { shard, .. } => Some(shard),
                    _ => None,
                });
                read.collect()
            })
            .into();
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..SHARDS).collect::<Vec<_>>());
        }
        assert!(orders[0] != orders[1] && orders[1] != orders[2], "{orders:?}");
    }

    #[test]
    fn nothing_is_claimed_without_budget() {
        let mut queue = reading(0.0);
        queue.read(page(0..40), 0.5);
        assert!(matches!(queue.next(), Next::Ask(25)));
        queue.allow(2);
        for _ in 0..2 {
            assert_eq!(claim(&mut queue, 0), Some(Lane::Sound));
        }
        assert!(matches!(queue.next(), Next::Ask(25)));
        queue.allow(0);
        assert!(matches!(queue.next(), Next::End), "a budget that is spent ends the pass");
        assert_eq!(queue.claimed(), 2);
    }

    #[test]
    fn who_meets_others_in_a_page_goes_on_with_the_next_one() {
        let mut queue = reading(0.0);
        queue.read(page(0..40), 0.0);
        queue.allow(9);
        for _ in 0..MOST_LOST {
            assert!(matches!(queue.next(), Next::Claim(_)));
            queue.lose();
        }
        assert!(matches!(queue.next(), Next::Read { .. }));
        assert_eq!(queue.take_unused(), 9);
    }

    #[test]
    fn what_the_index_still_shows_is_not_claimed_twice() {
        let mut queue = reading(0.0);
        queue.read(page(0..1), 0.0);
        queue.allow(9);
        claim(&mut queue, 0);
        for (later, is_claimed) in [(1, false), (60, true)] {
            queue.begin(now() + Duration::from_secs(later), || 0.0);
            queue.next();
            queue.read(page(0..1), 0.0);
            assert_eq!(matches!(queue.next(), Next::Claim(_)), is_claimed, "{later} s later");
        }
    }

    #[test]
    fn names_that_fail_leave_room_to_others() {
        let mut queue = reading(0.0);
        queue.read(page(0..40), 0.0);
        queue.allow(40);
        for n in 0..10 {
            let lane = claim(&mut queue, 3);
            assert_eq!(lane, (n < FAILING_AT_ONCE).then_some(Lane::Failing), "{n}");
        }
        for _ in 0..AT_ONCE - FAILING_AT_ONCE {
            assert_eq!(claim(&mut queue, 0), Some(Lane::Sound));
        }
        assert!(matches!(queue.next(), Next::Await));
        queue.end(Lane::Sound);
        assert_eq!(claim(&mut queue, 0), Some(Lane::Sound));
    }
}
