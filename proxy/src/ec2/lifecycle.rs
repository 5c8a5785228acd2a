//! The lifecycle state that the Auto Scaling group targets for this instance: polled, and used until a different one is read.
//!
//! "Retrieve the target lifecycle state through instance metadata" of the Auto Scaling user guide: the state an instance is in
//! transition to, `InService` while it serves, absent outside a group.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tracing::{info, warn};

use super::{IdentitySource, InstanceMetadata, MetadataSilence};

/// What the group intends for the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifecycleTarget {
    /// It serves.
    Serve,
    /// It is being terminated, waits in a warm pool, or is in standby: no load balancer should send to it.
    Leave,
}

/// What an answer changes, each logged once.
#[derive(Debug, Clone, PartialEq, Eq)]
enum News {
    State { state: Option<String>, target_state: LifecycleTarget },
    Silent(MetadataSilence),
}

/// What was read so far.
#[derive(Debug)]
struct LifecycleState {
    state: Option<String>,
    silent: bool,
}

/// Keeps `target_state` in step with the group's; without a source it stays as it is. Does not end.
pub async fn follow(source: IdentitySource, every: Duration, target_state: watch::Sender<LifecycleTarget>) {
    match source {
        IdentitySource::Ask(metadata) => poll(metadata, every, &target_state).await,
        // The sender stays: receivers must not see the channel close.
        IdentitySource::Off | IdentitySource::Elsewhere => std::future::pending().await,
    }
}

async fn poll(metadata: InstanceMetadata, every: Duration, target_state: &watch::Sender<LifecycleTarget>) {
    let mut course = LifecycleState::new();
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match course.hear(metadata.target_lifecycle_state().await) {
            Some(News::State { state, target_state: next }) => {
                info!(state = state.as_deref().unwrap_or("none"), target_state = ?next, "target lifecycle state");
                target_state.send_if_modified(|target_state| std::mem::replace(target_state, next) != next);
            }
            Some(News::Silent(error)) => {
                warn!(%error, "the target lifecycle state is unknown; the last one known stays");
            }
            None => {}
        }
    }
}

impl LifecycleState {
    /// An instance serves until the group says otherwise.
    fn new() -> Self {
        Self { state: Some(IN_SERVICE.to_owned()), silent: false }
    }

    fn hear(&mut self, heard: Result<Option<String>, MetadataSilence>) -> Option<News> {
        match heard {
            Ok(state) => {
                let again = std::mem::replace(&mut self.silent, false);
                let changed = self.state != state;
                self.state.clone_from(&state);
                let target_state = LifecycleTarget::of(state.as_deref());
                (changed || again).then_some(News::State { state, target_state })
            }
            Err(unanswered) => {
                (!std::mem::replace(&mut self.silent, true)).then_some(News::Silent(unanswered))
            }
        }
    }
}

impl LifecycleTarget {
    /// Of a target state. The others there are: `Terminated`, `Detached`, `Standby`, and `Warmed:` with `Hibernated`, `Running`,
    /// `Stopped` or `Terminated`.
    fn of(state: Option<&str>) -> Self {
        match state {
            None | Some(IN_SERVICE) => Self::Serve,
            Some(_) => Self::Leave,
        }
    }
}

const IN_SERVICE: &str = "InService";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_serves_in_service_or_without_a_group() {
        for (state, target_state) in [
            (None, LifecycleTarget::Serve),
            (Some("InService"), LifecycleTarget::Serve),
            (Some("Terminated"), LifecycleTarget::Leave),
            (Some("Detached"), LifecycleTarget::Leave),
            (Some("Standby"), LifecycleTarget::Leave),
            (Some("Warmed:Stopped"), LifecycleTarget::Leave),
            (Some("Warmed:Running"), LifecycleTarget::Leave),
        ] {
            assert_eq!(LifecycleTarget::of(state), target_state, "{state:?}");
        }
    }

    #[test]
    fn silence_changes_nothing_and_is_told_once() {
        use LifecycleTarget::{Leave, Serve};
        let mut course = LifecycleState::new();
        for (heard, told) in [
            (Ok(Some("InService")), None),
            (Ok(Some("Terminated")), Some(Ok((Some("Terminated"), Leave)))),
            (Ok(Some("Terminated")), None),
            (Err(MetadataSilence::Silent), Some(Err(MetadataSilence::Silent))),
            (Err(MetadataSilence::Silent), None),
            (Ok(Some("Terminated")), Some(Ok((Some("Terminated"), Leave)))),
            (Ok(None), Some(Ok((None, Serve)))),
            (Ok(Some("InService")), Some(Ok((Some("InService"), Serve)))),
        ] {
            let said = format!("{heard:?}");
            let wanted =
                told.map(|told: Result<(Option<&str>, LifecycleTarget), MetadataSilence>| match told {
                    Ok((state, target_state)) => {
                        News::State { state: state.map(str::to_owned), target_state }
                    }
                    Err(unanswered) => News::Silent(unanswered),
                });
            assert_eq!(
                course.hear(heard.map(|state: Option<&str>| state.map(str::to_owned))),
                wanted,
                "{said}"
            );
        }
    }
}
