//! What the tasks of one worker share, and how they end together.

use std::{
    cell::Cell,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{QUIET, Shared, activity::now, configs::Configs, response_buffer::Registry};
use crate::{cleartext::Cleartext, forward::Forwarder, phase::Phase, transport::Transport};

/// What one worker's tasks share.
pub(super) struct Worker<T: Transport> {
    pub(super) shared: Arc<Shared>,
    pub(super) forwarder: Forwarder<T>,
    pub(super) cleartext: Cleartext,
    pub(super) configs: Configs,
    pub(super) buffers: Rc<Registry>,
    pub(super) open: Cell<usize>,
    pub(super) last_accept: Cell<Instant>,
}

impl<T: Transport> Worker<T> {
    /// Waits for draining to begin; goes on accepting until it is quiet or two thirds of the time are over, then stops, and
    /// waits for open connections, all within the deadline.
    pub(super) async fn drain(&self, stop_accepting: impl FnOnce()) {
        let mut phase = self.shared.phase.clone();
        // The sender is gone when the process ends otherwise; then draining is right, too.
        let _ = phase.wait_for(|phase| *phase == Phase::Draining).await;
        let begun = now();
        let limit: Duration = ***self.shared.drain_deadline.load();
        let deadline = begun + limit;
        // Beside a successor on the same addresses it is never quiet: what was accepted last needs its time, too.
        until(begun + limit * 2 / 3, || now() >= self.last_accept.get().max(begun) + QUIET).await;
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

async fn until(deadline: Instant, done: impl Fn() -> bool) {
    while !done() && now() < deadline {
        tokio::time::sleep(DRAIN_STEP).await;
    }
}

const DRAIN_STEP: Duration = Duration::from_millis(10);
