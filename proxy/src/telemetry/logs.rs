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

/// Sends events of the whole process to `lines`.
pub(super) fn install(log: &Log, lines: &Lines) -> Result<(), LogsError> {
    let filter = EnvFilter::try_new(&log.filter)
        .map_err(|source| LogsError::Filter { value: log.filter.clone(), source })?;
    let events = fmt().with_env_filter(filter).with_writer(lines.clone());
    match log.format {
        LogFormat::Text => events.with_ansi(std::io::stderr().is_terminal()).finish().try_init()?,
        LogFormat::Json => events.json().flatten_event(true).with_current_span(false).finish().try_init()?,
    }
    Ok(())
}
