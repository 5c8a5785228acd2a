//! What a connection is doing, and until when it may.
//!
//! Idle time and a request's header section have limits of their own.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use crate::{clock::now, transport::Outgoing};

/// Shared by a connection's stream, its service and its watchdog.
#[derive(Debug, Clone)]
pub(super) struct Activity(Rc<ActivityInner>);

#[derive(Debug)]
struct ActivityInner {
    state: Cell<ActivityState>,
    served: Cell<bool>,
    closing: Cell<bool>,
    cut: Cell<bool>,
    limits: IdleLimits,
}

/// How long a connection may be without a request, and how long a header section may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct IdleLimits {
    pub(super) idle: Duration,
    /// None in HTTP/2: what comes in may be a frame of any kind (a window's update after the last answer, a ping), so a
    /// connection that sends without a request is as good as idle.
    pub(super) head: Option<Duration>,
}

/// What a connection does while it has no request in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdleKind {
    Idle,
    Head,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ActivityState {
    /// With what had been given to the client by then, once it was found still reading.
    Idle {
        since: Instant,
        given: Option<u64>,
    },
    Head {
        since: Instant,
    },
    Busy {
        requests: usize,
    },
}

/// A request in progress; it ends when this is dropped, with its response's body.
#[derive(Debug)]
pub(super) struct InProgress(Activity);

impl Activity {
    pub(super) fn new(limits: IdleLimits, now: Instant) -> Self {
        let state = Cell::new(ActivityState::Idle { since: now, given: None });
        let (served, closing, cut) = (Cell::new(false), Cell::new(false), Cell::new(false));
        Self(Rc::new(ActivityInner { state, served, closing, cut, limits }))
    }

    /// Bytes came in.
    pub(super) fn received(&self, now: Instant) {
        if let (ActivityState::Idle { .. }, Some(_)) = (self.0.state.get(), self.0.limits.head) {
            self.0.state.set(ActivityState::Head { since: now });
        }
    }

    /// A header section was complete.
    pub(super) fn begin(&self) -> InProgress {
        self.0.served.set(true);
        self.0.state.set(match self.0.state.get() {
            ActivityState::Busy { requests } => ActivityState::Busy { requests: requests + 1 },
            ActivityState::Idle { .. } | ActivityState::Head { .. } => ActivityState::Busy { requests: 1 },
        });
        InProgress(self.clone())
    }

    fn end(&self, now: Instant) {
        self.0.state.set(match self.0.state.get() {
            ActivityState::Busy { requests } if requests > 1 => {
                ActivityState::Busy { requests: requests - 1 }
            }
            ActivityState::Busy { .. } | ActivityState::Idle { .. } | ActivityState::Head { .. } => {
                ActivityState::Idle { since: now, given: None }
            }
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

    /// When the connection's time is up, as of now; a request in progress has limits of its own.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.0.state.get() {
            ActivityState::Idle { since, .. } => Some(since + self.0.limits.idle),
            ActivityState::Head { since } => self.0.limits.head.map(|limit| since + limit),
            ActivityState::Busy { .. } => None,
        }
    }

    /// What it has done for too long.
    pub(super) fn overdue(&self, now: Instant) -> Option<IdleKind> {
        self.deadline().filter(|deadline| now >= *deadline)?;
        match self.0.state.get() {
            ActivityState::Idle { .. } => Some(IdleKind::Idle),
            ActivityState::Head { .. } => Some(IdleKind::Head),
            ActivityState::Busy { .. } => None,
        }
    }

    /// Whether its last response is still being read, of which `outgoing` tells: then idle time starts again. What was given later are our
    /// answers to frames of control (RFC 9113 §6.5.3, §6.7), which are no use of a connection.
    pub(super) fn still_sends(&self, now: Instant, outgoing: Outgoing) -> bool {
        let ActivityState::Idle { given, .. } = self.0.state.get() else { return false };
        let given = given.unwrap_or(outgoing.given);
        let sends = outgoing.acknowledged < given;
        if sends {
            self.0.state.set(ActivityState::Idle { since: now, given: Some(given) });
        }
        sends
    }

    /// Its peer reads too slowly: it is about to be dropped.
    pub(super) fn cut(&self) {
        self.0.cut.set(true);
    }

    /// Whether [`Activity::cut`] was called.
    pub(super) fn is_cut(&self) -> bool {
        self.0.cut.get()
    }
}

impl InProgress {
    /// The connection is to end with this request's answer.
    pub(super) fn close_after(&self) {
        self.0.0.closing.set(true);
    }

    /// Whether its connection is dropped because its peer reads too slowly.
    pub(super) fn is_cut(&self) -> bool {
        self.0.is_cut()
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.end(now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn idle_and_head_have_their_own_limits_and_a_request_has_none() {
        let start = now();
        let head = Duration::from_secs(10);
        let limits = IdleLimits { idle: Duration::from_mins(1), head: Some(head) };
        let activity = Activity::new(limits, start);
        assert_eq!(activity.deadline(), Some(start + limits.idle));
        let first_byte = start + Duration::from_secs(5);
        activity.received(first_byte);
        activity.received(first_byte + Duration::from_secs(9));
        assert_eq!(
            activity.deadline(),
            Some(first_byte + head),
            "a trickle does not move the head's deadline"
        );
        let (one, two) = (activity.begin(), activity.begin());
        drop(one);
        assert_eq!(activity.deadline(), None, "a second stream goes on");
        drop(two);
        assert!(activity.deadline() >= Some(start + limits.idle) && activity.has_served());
    }

    #[tokio::test]
    async fn frames_between_requests_do_not_hurry_an_http2_connection() {
        let (start, idle) = (now(), Duration::from_mins(1));
        let activity = Activity::new(IdleLimits { idle, head: None }, start);
        activity.received(start + Duration::from_secs(1));
        assert_eq!(activity.deadline(), Some(start + idle));
        assert_eq!(activity.overdue(start + idle), Some(IdleKind::Idle));
    }
}
