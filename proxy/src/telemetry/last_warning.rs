//! The last warning or error that was logged, for who asks how the instance fares and does not read its log.
//! Not here: which events are logged (`logs`).
//! Invariant: it is bounded, whatever a warning says, and one line (`a_warning_is_one_short_line`).

use std::{
    fmt::{self, Write as _},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use crate::clock;

/// A warning or an error of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastWarning {
    /// When.
    pub(crate) at: SystemTime,
    /// What, and the error behind it.
    pub(crate) text: String,
}

/// The last one of this process, if there was any.
pub(crate) fn last_warning() -> Option<LastWarning> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Remembers events.
pub(super) struct RememberLast;

impl<S: Subscriber> Layer<S> for RememberLast {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        // What libraries warn of is for who reads the log beside it.
        if *metadata.level() > Level::WARN || !metadata.target().starts_with("gatehouse") {
            return;
        }
        let mut said = Said::default();
        event.record(&mut said);
        let warning = LastWarning { at: clock::wall(), text: said.text() };
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(warning);
    }
}

/// What an event says.
#[derive(Default)]
struct Said {
    message: String,
    error: String,
}

impl Said {
    fn text(self) -> String {
        let whole =
            if self.error.is_empty() { self.message } else { format!("{}: {}", self.message, self.error) };
        let line = whole.chars().map(|character| if character.is_control() { ' ' } else { character });
        line.take(LONGEST).collect()
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            "error" => write!(self.error, "{value:?}"),
            _ => Ok(()),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// One for the process, as is the log.
static LAST: Mutex<Option<LastWarning>> = Mutex::new(None);
/// Characters.
const LONGEST: usize = 200;

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn a_warning_is_one_short_line() {
        let subscriber = tracing_subscriber::registry().with(RememberLast);
        tracing::subscriber::with_default(subscriber, || {
            let text = || last_warning().map(|warning| warning.text).unwrap_or_default();
            tracing::warn!(error = "it is\ndown", other = "left out", "the table is gone");
            assert_eq!(text(), "the table is gone: it is down");
            tracing::info!("all is well");
            tracing::warn!(target: "hyper", "a library's");
            assert_eq!(text(), "the table is gone: it is down");
            let error = fmt::Error;
            tracing::error!(%error, "{}", "ä".repeat(LONGEST * 2));
            assert_eq!(text(), "ä".repeat(LONGEST));
        });
    }
}
