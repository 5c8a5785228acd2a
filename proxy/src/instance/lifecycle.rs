//! What the instance's Auto Scaling group wants of it: asked again and again, and believed until something else is heard.
//!
//! "Retrieve the target lifecycle state through instance metadata" of the Auto Scaling user guide: the state an instance is in
//! transition to, `InService` while it serves, absent outside a group.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tracing::{info, warn};

use super::{Metadata, Source, Unanswered};

/// What is to be done with the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// It serves.
    Serve,
    /// It goes, or waits in a warm pool, or is set aside: no balancer is to send to it.
    Leave,
}

/// What an answer changes, each told once.
#[derive(Debug, Clone, PartialEq, Eq)]
enum News {
    State { state: Option<String>, wish: Wish },
    Silent(Unanswered),
}

/// What was heard so far.
#[derive(Debug)]
struct Course {
    state: Option<String>,
    silent: bool,
}

/// Keeps `wish` in step with the group's; without a source it stays as it is. Does not end.
pub async fn follow(source: Source, every: Duration, wish: watch::Sender<Wish>) {
    match source {
        Source::Ask(metadata) => poll(metadata, every, &wish).await,
        // The sender is kept: what follows the wish must not see its end.
        Source::Off | Source::Elsewhere => std::future::pending().await,
    }
}

async fn poll(metadata: Metadata, every: Duration, wish: &watch::Sender<Wish>) {
    let mut course = Course::new();
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match course.hear(metadata.target_lifecycle_state().await) {
            Some(News::State { state, wish: next }) => {
                info!(state = state.as_deref().unwrap_or("none"), wish = ?next, "target lifecycle state");
                wish.send_if_modified(|wish| std::mem::replace(wish, next) != next);
            }
            Some(News::Silent(error)) => {
                warn!(%error, "the target lifecycle state is unknown; the last one known stays");
            }
            None => {}
        }
    }
}

impl Course {
    /// An instance serves until told otherwise.
    fn new() -> Self {
        Self { state: Some(IN_SERVICE.to_owned()), silent: false }
    }

    fn hear(&mut self, heard: Result<Option<String>, Unanswered>) -> Option<News> {
        match heard {
            Ok(state) => {
                let again = std::mem::replace(&mut self.silent, false);
                let changed = self.state != state;
                self.state.clone_from(&state);
                let wish = Wish::of(state.as_deref());
                (changed || again).then_some(News::State { state, wish })
            }
            Err(unanswered) => {
                (!std::mem::replace(&mut self.silent, true)).then_some(News::Silent(unanswered))
            }
        }
    }
}

impl Wish {
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
        for (state, wish) in [
            (None, Wish::Serve),
            (Some("InService"), Wish::Serve),
            (Some("Terminated"), Wish::Leave),
            (Some("Detached"), Wish::Leave),
            (Some("Standby"), Wish::Leave),
            (Some("Warmed:Stopped"), Wish::Leave),
            (Some("Warmed:Running"), Wish::Leave),
        ] {
            assert_eq!(Wish::of(state), wish, "{state:?}");
        }
    }

    #[test]
    fn silence_changes_nothing_and_is_told_once() {
        use Wish::{Leave, Serve};
        let mut course = Course::new();
        for (heard, told) in [
            (Ok(Some("InService")), None),
            (Ok(Some("Terminated")), Some(Ok((Some("Terminated"), Leave)))),
            (Ok(Some("Terminated")), None),
            (Err(Unanswered::Silent), Some(Err(Unanswered::Silent))),
            (Err(Unanswered::Silent), None),
            (Ok(Some("Terminated")), Some(Ok((Some("Terminated"), Leave)))),
            (Ok(None), Some(Ok((None, Serve)))),
            (Ok(Some("InService")), Some(Ok((Some("InService"), Serve)))),
        ] {
            let said = format!("{heard:?}");
            let wanted = told.map(|told: Result<(Option<&str>, Wish), Unanswered>| match told {
                Ok((state, wish)) => News::State { state: state.map(str::to_owned), wish },
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
