//! A worker's unused connections to targets.

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant},
};

use hyper::client::conn::http1::SendRequest;

use super::{Upstreams, body::Outgoing};
use crate::target::Target;

/// A connection that can carry a request.
pub(super) type Sender = SendRequest<Outgoing>;

/// Unused connections by target; clones are one pool. Bounded by `upstream.idle_per_target` and `upstream.idle`.
#[derive(Clone)]
pub(super) struct Pool {
    unused: Rc<RefCell<HashMap<Target, Vec<Unused>>>>,
    per_target: usize,
    idle: Duration,
}

struct Unused {
    sender: Sender,
    since: Instant,
}

impl Pool {
    pub(super) fn new(upstreams: &Upstreams) -> Self {
        Self {
            unused: Rc::default(),
            per_target: upstreams.config.idle_per_target,
            idle: *upstreams.config.idle,
        }
    }

    /// The connection used last: the one least likely to be closed by the other side just now.
    pub(super) fn take(&self, target: &Target, now: Instant) -> Option<Sender> {
        let mut unused = self.unused.borrow_mut();
        let of_target = unused.get_mut(target)?;
        of_target.retain(|unused| unused.is_usable(now, self.idle));
        let position = of_target.iter().rposition(|unused| unused.sender.is_ready())?;
        Some(of_target.remove(position).sender)
    }

    /// Keeps a connection whose last answer has been read to its end.
    pub(super) fn put(&self, target: &Target, sender: Sender, now: Instant) {
        let mut unused = self.unused.borrow_mut();
        if !unused.contains_key(target) && unused.len() >= TARGETS {
            sweep(&mut unused, now, self.idle);
        }
        let of_target = unused.entry(target.clone()).or_default();
        if of_target.len() < self.per_target && !sender.is_closed() {
            of_target.push(Unused { sender, since: now });
        }
    }

    /// Closes what has been unused for too long.
    pub(super) fn sweep(&self, now: Instant) {
        sweep(&mut self.unused.borrow_mut(), now, self.idle);
    }

    /// How often [`Pool::sweep`] is worth while.
    pub(super) fn sweep_period(&self) -> Duration {
        (self.idle / 4).max(Duration::from_millis(100))
    }
}

impl Unused {
    fn is_usable(&self, now: Instant, idle: Duration) -> bool {
        !self.sender.is_closed() && now.saturating_duration_since(self.since) < idle
    }
}

fn sweep(unused: &mut HashMap<Target, Vec<Unused>>, now: Instant, idle: Duration) {
    unused.retain(|_, of_target| {
        of_target.retain(|unused| unused.is_usable(now, idle));
        !of_target.is_empty()
    });
}

/// Targets remembered before those without a usable connection are forgotten.
const TARGETS: usize = 1024;
