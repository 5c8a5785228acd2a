//! One worker's unused connections, by target.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    rc::Rc,
    time::{Duration, Instant},
};

use super::{Route, connection::Connection};
use crate::clock::now;

/// Connections that wait for a request: at most so many per target and [`TOTAL`], each for a limited time.
pub(super) struct ConnectionPool {
    unused: RefCell<Unused>,
    per_target: usize,
    life: Duration,
}

#[derive(Default)]
struct Unused {
    /// The longest unused at the front.
    targets: HashMap<Route, VecDeque<(Connection, Instant)>>,
    total: usize,
}

impl ConnectionPool {
    pub(super) fn new(per_target: usize, life: Duration) -> Rc<Self> {
        Rc::new(Self { unused: RefCell::default(), per_target, life })
    }

    /// The connection along `route` that was used last: the least likely to have been closed meanwhile. Where a target may lie
    /// depends on who chose it: what the configuration may reach, a domain's entry may not.
    pub(super) fn take(&self, route: &Route, now: Instant) -> Option<Connection> {
        let mut unused = self.unused.borrow_mut();
        let Unused { targets, total } = &mut *unused;
        let waiting = targets.get_mut(route)?;
        while let Some((mut connection, since)) = waiting.pop_back() {
            *total -= 1;
            if now < since + self.life && connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps `connection` for the next request along `route`.
    pub(super) fn put(&self, route: Route, connection: Connection, now: Instant) {
        let mut unused = self.unused.borrow_mut();
        let Unused { targets, total } = &mut *unused;
        if *total >= TOTAL || self.per_target == 0 {
            return;
        }
        let waiting = targets.entry(route).or_default();
        if waiting.len() >= self.per_target && waiting.pop_front().is_some() {
            *total -= 1;
        }
        waiting.push_back((connection, now));
        *total += 1;
    }

    /// Closes what has waited too long or was closed by its upstream.
    pub(super) fn sweep(&self, now: Instant) {
        let mut unused = self.unused.borrow_mut();
        let Unused { targets, total } = &mut *unused;
        targets.retain(|_, waiting| {
            waiting.retain_mut(|(connection, since)| now < *since + self.life && connection.is_ready());
            !waiting.is_empty()
        });
        *total = targets.values().map(VecDeque::len).sum();
    }

    /// Sweeps for ever.
    pub(super) async fn keep_swept(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(SWEEP);
        loop {
            ticks.tick().await;
            self.sweep(now());
        }
    }
}

/// Unused connections of one worker; beyond it, they are closed after use.
pub const TOTAL: usize = 1024;
const SWEEP: Duration = Duration::from_secs(5);
