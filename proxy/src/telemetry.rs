//! What Gatehouse reports about itself: metrics, the access log, tracing.
//! Not here: what is counted (each module declares its metrics), serving them (`control`).
//! Invariants: the writer of a line never waits for stderr (`a_reader_that_lags_costs_lines_and_no_time`); untrusted text cannot end a
//! line or colour a terminal (`what_a_stranger_writes_stays_inside_its_field`).

pub mod access_log;
mod error_chain;
mod last_warning;
mod lines;
mod logs;
pub mod metrics;
mod process;
mod repeats;
mod request_id;

use std::{
    io,
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use prometheus::Registry;

pub use error_chain::BoxedError;
pub(crate) use error_chain::error_chain;
pub(crate) use last_warning::last_warning;
pub use lines::Lines;
pub use logs::LogsError;
pub use process::{measure as measure_process, resident_bytes};
pub use request_id::RequestId;

#[cfg(test)]
pub(crate) use lines::tests::Kept;

use access_log::{AccessLog, AccessLogging};
use repeats::Repeats;

use crate::clock;
use crate::config::LogConfig;

/// Metrics and logs of the process; dropped last, it waits until the last line is written.
pub struct Telemetry {
    /// Every module registers its metrics here.
    pub registry: Registry,
    /// Where requests are logged.
    pub access_log: AccessLog,
    lines: Lines,
    refilter: logs::Refilter,
}

fn wanted(log: &LogConfig) -> AccessLogging {
    if log.access { AccessLogging::Yes } else { AccessLogging::No }
}

/// Why the process cannot tell of itself.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryStartError {
    /// The writing thread.
    #[error("the log thread could not be started; raise the limit of processes")]
    Thread(#[from] io::Error),
    /// Tracing.
    #[error(transparent)]
    Logs(#[from] LogsError),
    /// A metric.
    #[error("a metric is declared twice or wrongly")]
    Metric(#[from] prometheus::Error),
}

impl Telemetry {
    /// Sets tracing up for the process, and a registry with the metrics of the process.
    pub fn start(log: &LogConfig) -> Result<Self, TelemetryStartError> {
        let lines = Lines::start(io::stderr())?;
        let refilter = logs::install(log, &lines)?;
        let lines = LINES.get_or_init(|| lines).clone();
        let registry = Registry::new();
        lines.measure(&registry)?;
        measure_process(&registry)?;
        let access_log = AccessLog::start(lines.clone(), log.format);
        access_log.want(wanted(log));
        Ok(Self { registry, access_log, lines, refilter })
    }

    /// Follows the settings that may change while the process runs: filter and access log.
    pub fn follow(&self, log: &LogConfig) -> Result<(), LogsError> {
        (self.refilter)(logs::filter(log)?);
        self.access_log.want(wanted(log));
        Ok(())
    }

    /// Writes `text` as it is, in order with the log's lines.
    pub fn say(&self, text: &str) {
        self.lines.push(format!("{text}\n").into_bytes());
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        flush();
    }
}

/// Registers the metrics of the process for a list of all.
pub(crate) fn declare_metrics(registry: &Registry) -> Result<(), prometheus::Error> {
    registry.register(Box::new(lines::dropped()?))?;
    measure_process(registry)
}

/// Waits until what was logged is written: before the process ends otherwise than by returning from `main`.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(LAST_WORDS);
    }
}

/// Whether a log line is due now for `cause` at `subject`: the first at once, then one a minute. The number of those left out
/// since the last belongs into the line.
#[must_use]
pub fn admit_line(cause: &'static str, subject: &str) -> Option<u64> {
    REPEATS.admit(cause, subject, clock::now())
}

/// Tells for ever of lines that were left out and whose cause has ended.
pub async fn tell_left_out() {
    let mut ticks = tokio::time::interval(LEFT_OUT_PERIOD);
    loop {
        ticks.tick().await;
        for left_out in REPEATS.ended(clock::now()) {
            let (cause, subject) = (left_out.cause, &*left_out.subject);
            tracing::info!(cause, subject, left_out = left_out.count, "lines of this kind were left out");
        }
    }
}

static LINES: OnceLock<Lines> = OnceLock::new();
/// One for the process, as is the log.
static REPEATS: LazyLock<Repeats> = LazyLock::new(Repeats::default);

const LAST_WORDS: Duration = Duration::from_secs(1);
const LEFT_OUT_PERIOD: Duration = Duration::from_secs(10);
