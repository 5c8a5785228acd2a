//! What the tasks of one worker share, and how they end together.

use std::{
    cell::Cell,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{QUIET, Shared, configs::Configs, response_buffer::Registry};
use crate::{
    cleartext::Cleartext,
    clock::now,
    forward::{Forwarder, RequestLog},
    phase::Phase,
    transport::Transport,
};

/// What one worker's tasks share.
pub(super) struct Worker<T: Transport> {
    pub(super) shared: Arc<Shared>,
    pub(super) forwarder: Forwarder<T>,
    pub(super) cleartext: Cleartext,
    pub(super) request_log: Rc<RequestLog>,
    pub(super) configs: Configs,
    pub(super) buffers: Rc<Registry>,
    pub(super) open: Cell<usize>,
    /// When a connection was accepted last that somebody may miss: checks of health are none.
    pub(super) last_accept: Cell<Option<Instant>>,
}

impl<T: Transport> Worker<T> {
    /// A client has connected, and another may follow.
    pub(super) fn note_client(&self) {
        self.last_accept.set(Some(now()));
    }

    /// Waits for draining to begin; goes on accepting until it is quiet or two thirds of the time are over, then stops, and
    /// waits for open connections, all within the deadline. Where a successor accepts at the same sockets, it stops at once: nothing in
    /// their queues is lost.
    pub(super) async fn drain(&self, stop_accepting: impl FnOnce()) {
        let mut phase = self.shared.phase.clone();
        // The sender is gone when the process ends otherwise; then draining is right, too.
        let end = phase.wait_for(|phase| phase.is_end()).await.map_or(Phase::Draining, |phase| *phase);
        let begun = now();
        let limit: Duration = ***self.shared.drain_deadline.load();
        let deadline = begun + limit;
        if end != Phase::Replaced {
            // As it was then: draining closes connections, and their clients are who connects again.
            let open = self.shared.metrics.open.get();
            // Beside a successor on the same addresses it is never quiet: what was accepted last needs its time, too.
            until(begun + limit * 2 / 3, || is_quiet(now(), begun, self.last_accept.get(), open)).await;
        }
        stop_accepting();
        until(deadline, || self.open.get() == 0).await;
        if self.open.get() > 0 {
            tracing::warn!(
                connections = self.open.get(),
                "drain deadline reached; open connections are closed"
            );
        }
    }
}

/// Whether nobody is likely to connect any more, when the last client came at `last` and `open` connections were there in the
/// process when draining had `begun`. Where nobody was connected, a moment is enough, for connections on their way.
fn is_quiet(now: Instant, begun: Instant, last: Option<Instant>, open: i64) -> bool {
    let was_unused = open == 0 && last.is_none_or(|last| last + QUIET <= begun);
    now >= last.unwrap_or(begun).max(begun) + if was_unused { LAST_MOMENT } else { QUIET }
}

async fn until(deadline: Instant, done: impl Fn() -> bool) {
    while !done() && now() < deadline {
        tokio::time::sleep(DRAIN_STEP).await;
    }
}

const LAST_MOMENT: Duration = Duration::from_millis(200);
const DRAIN_STEP: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_clients_stops_listening_at_once_and_others_when_none_came_for_a_while() {
        let start = now();
        let at = |millis| start + Duration::from_millis(millis);
        for (last, open, quiet_at) in [
            (None, 0, 10_200),
            (Some(1_000), 0, 10_200),
            (Some(8_000), 0, 10_200),
            (Some(8_001), 0, 12_000),
            (Some(1_000), 1, 12_000),
            (None, 1, 12_000),
            (Some(10_100), 0, 12_100),
            (Some(15_000), 3, 17_000),
        ] {
            let quiet = |millis| is_quiet(at(millis), at(10_000), last.map(at), open);
            assert_eq!((quiet(quiet_at - 1), quiet(quiet_at)), (false, true), "{last:?} {open}");
        }
    }
}
