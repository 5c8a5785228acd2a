//! Two guards beside each other, while a successor takes over: whose writes are let be. A predecessor writes no names meanwhile.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};
use tracing::warn;

/// Whose guard there is beside this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherGuard {
    /// Nobody's: a predecessor has ended, if there was one.
    None,
    /// That of a predecessor, which serves and goes on to extend the time of enforcement until this process has taken over.
    Predecessors,
}

/// What the task that follows the names does, and is to do; clones are one.
#[derive(Debug, Clone)]
pub(super) struct Following(Arc<watch::Sender<State>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It follows.
    On,
    /// It is to stop.
    Pausing,
    /// It has stopped.
    Paused,
}

impl Default for Following {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(State::On)))
    }
}

impl Following {
    /// Returns when the task has stopped. One that does not stop in time writes what differs by its own list, which is a moment older.
    pub(super) async fn pause(&self) {
        self.0.send_replace(State::Pausing);
        let mut state = self.0.subscribe();
        if timeout(PATIENCE, state.wait_for(|state| *state == State::Paused)).await.is_err() {
            warn!("the guard's names are still being written");
        }
    }

    pub(super) fn resume(&self) {
        self.0.send_replace(State::On);
    }

    /// For the task, between two writes: waits until it may go on; whether it had to stop, so that somebody else may have written.
    ///
    /// # Cancel safety
    /// Safe: it stands still again when it is called again.
    pub(super) async fn stand_still(&self) -> Stood {
        let mut stood = Stood::No;
        let mut state = self.0.subscribe();
        while *state.borrow_and_update() != State::On {
            stood = Stood::Still;
            self.0.send_if_modified(|state| {
                let is_new = *state == State::Pausing;
                if is_new {
                    *state = State::Paused;
                }
                is_new
            });
            let _ = state.wait_for(|state| *state != State::Paused).await;
        }
        stood
    }

    /// Returns when the task is to stop.
    ///
    /// # Cancel safety
    /// Safe: it keeps nothing.
    pub(super) async fn interrupted(&self) {
        let _ = self.0.subscribe().wait_for(|state| *state != State::On).await;
    }
}

/// Whether the task had to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stood {
    No,
    Still,
}

/// A first list of many names takes a second.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_pauses_waits_until_nothing_is_written_and_what_follows_is_written_anew() {
        let following = Following::default();
        assert_eq!(following.stand_still().await, Stood::No);
        let task = tokio::spawn({
            let following = following.clone();
            async move {
                following.interrupted().await;
                following.stand_still().await
            }
        });
        following.pause().await;
        assert!(!task.is_finished());
        following.resume();
        assert_eq!(task.await.unwrap(), Stood::Still);
        assert_eq!(following.stand_still().await, Stood::No);
    }
}
