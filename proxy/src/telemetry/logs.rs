//! Tracing to stderr, as text for people or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, util::SubscriberInitExt};

use super::lines::Lines;
use crate::config::{Log, LogFormat};

/// Why tracing could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The filter.
    #[error("log.filter: `{value}` is not a filter; write it like `info,gatehouse::certificates=debug`")]
    Filter {
        /// As configured.
        value: String,
        /// Why not.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Tracing was set up before.
    #[error("tracing is set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Changes which events are written.
pub(super) type Refilter = Box<dyn Fn(EnvFilter) + Send + Sync>;

/// Sends events of the whole process to `lines`.
pub(super) fn install(log: &Log, lines: &Lines) -> Result<Refilter, LogsError> {
    let events = fmt().with_env_filter(filter(log)?).with_writer(lines.clone());
    Ok(match log.format {
        LogFormat::Text => {
            let events = events.with_ansi(std::io::stderr().is_terminal()).with_filter_reloading();
            let handle = events.reload_handle();
            events.finish().try_init()?;
            // It fails when the subscriber is gone, and nobody writes events.
            Box::new(move |filter| drop(handle.reload(filter)))
        }
        LogFormat::Json => {
            let events = events.json().flatten_event(true).with_current_span(false).with_filter_reloading();
            let handle = events.reload_handle();
            events.finish().try_init()?;
            Box::new(move |filter| drop(handle.reload(filter)))
        }
    })
}

/// The filter that `log` asks for.
pub(super) fn filter(log: &Log) -> Result<EnvFilter, LogsError> {
    EnvFilter::try_new(&log.filter).map_err(|source| LogsError::Filter { value: log.filter.clone(), source })
}
