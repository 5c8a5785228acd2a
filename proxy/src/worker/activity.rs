//! What a connection is doing, and until when it may.
//!
//! hyper has one timer for a request's head, and starts it while the connection is still idle. Idle and head have limits
//! of their own here, for HTTP/1.1 and HTTP/2 alike.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

/// Shared by a connection's stream, its service and its watchdog.
#[derive(Debug, Clone)]
pub(super) struct Activity(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Cell<State>,
    served: Cell<bool>,
    closing: Cell<bool>,
    limits: Limits,
}

/// How long a connection may be without a request, and how long a head may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) idle: Duration,
    pub(super) head: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle { since: Instant },
    Head { since: Instant },
    Busy { requests: usize },
}

/// A request in progress; it ends when this is dropped, with its response's body.
#[derive(Debug)]
pub(super) struct InProgress(Activity);

impl Activity {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        let state = Cell::new(State::Idle { since: now });
        Self(Rc::new(Inner { state, served: Cell::new(false), closing: Cell::new(false), limits }))
    }

    /// Bytes came in.
    pub(super) fn received(&self, now: Instant) {
        if let State::Idle { .. } = self.0.state.get() {
            self.0.state.set(State::Head { since: now });
        }
    }

    /// A head was complete.
    pub(super) fn begin(&self) -> InProgress {
        self.0.served.set(true);
        self.0.state.set(match self.0.state.get() {
            State::Busy { requests } => State::Busy { requests: requests + 1 },
            State::Idle { .. } | State::Head { .. } => State::Busy { requests: 1 },
        });
        InProgress(self.clone())
    }

    fn end(&self, now: Instant) {
        self.0.state.set(match self.0.state.get() {
            State::Busy { requests } if requests > 1 => State::Busy { requests: requests - 1 },
            State::Busy { .. } | State::Idle { .. } | State::Head { .. } => State::Idle { since: now },
        });
    }

    /// Whether a request has been seen.
    pub(super) fn has_served(&self) -> bool {
        self.0.served.get()
    }

    /// Whether [`InProgress::close_after`] was called.
    pub(super) fn is_closing(&self) -> bool {
        self.0.closing.get()
    }

    /// When the connection's time is up, as things stand; a request in progress has limits of its own.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.0.state.get() {
            State::Idle { since } => Some(since + self.0.limits.idle),
            State::Head { since } => Some(since + self.0.limits.head),
            State::Busy { .. } => None,
        }
    }
}

impl InProgress {
    /// The connection is to end with this request's answer.
    pub(super) fn close_after(&self) {
        self.0.0.closing.set(true);
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.end(now());
    }
}

/// The shell's clock.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn idle_and_head_have_their_own_limits_and_a_request_has_none() {
        let start = now();
        let limits = Limits { idle: Duration::from_mins(1), head: Duration::from_secs(10) };
        let activity = Activity::new(limits, start);
        assert_eq!(activity.deadline(), Some(start + limits.idle));
        let first_byte = start + Duration::from_secs(5);
        activity.received(first_byte);
        activity.received(first_byte + Duration::from_secs(9));
        assert_eq!(
            activity.deadline(),
            Some(first_byte + limits.head),
            "a trickle does not move the head's deadline"
        );
        let (one, two) = (activity.begin(), activity.begin());
        drop(one);
        assert_eq!(activity.deadline(), None, "a second stream goes on");
        drop(two);
        assert!(activity.deadline() >= Some(start + limits.idle) && activity.has_served());
    }
}
