//! The task by which an instance says how it is.

use std::{fs, path::Path, sync::Arc, time::Duration};

use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::{ControlContext, InstanceId, InstanceReport, KEPT, PERIOD, id::NoInstanceId};
use crate::{
    clock,
    phase::Phase,
    random::fraction,
    store::{
        StoreError,
        instant::Micros,
        state_table::{InstanceItem, end_instance, lease::Holder, put_instance},
    },
    telemetry::{admit_line, error_chain},
};

/// Says how this instance is for as long as it serves; dropped, it says nothing more.
#[derive(Debug)]
pub struct FleetReporter {
    task: JoinHandle<()>,
    reports: Arc<Reports>,
}

/// Who says what.
struct Reports {
    id: InstanceId,
    /// Which start of it this is.
    run: Holder,
    host: String,
    started_at: Micros,
    instance: Arc<ControlContext>,
}

impl FleetReporter {
    /// Begins to say how `instance` is, whose state lies in `state_directory`. Call it on the control runtime.
    pub fn start(state_directory: &Path, instance: &Arc<ControlContext>) -> Option<Self> {
        match Reports::of(state_directory, instance) {
            Ok(reports) => {
                let reports = Arc::new(reports);
                let task = tokio::spawn(Arc::clone(&reports).follow());
                Some(Self { task, reports })
            }
            Err(error) => {
                // Nobody is served worse for it.
                warn!(error = error_chain(&error), "this instance is not listed among those of the fleet");
                None
            }
        }
    }

    /// Takes it off the list: it has ended. Returns when the table has that, at the latest after a second.
    pub async fn end(self) {
        self.task.abort();
        let Reports { id, run, instance, .. } = &*self.reports;
        let ended = async {
            if let Err(error) = end_instance(&instance.store, id.as_str(), run.as_str()).await {
                tell(&error);
            }
        };
        let _ = tokio::time::timeout(LAST_REPORT, ended).await;
    }
}

impl Drop for FleetReporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Reports {
    fn of(state_directory: &Path, instance: &Arc<ControlContext>) -> Result<Self, NoInstanceId> {
        Ok(Self {
            id: InstanceId::of(instance.identity.instance.as_ref(), state_directory)?,
            run: Holder::random()?,
            host: host(),
            started_at: Micros::of(clock::wall()),
            instance: Arc::clone(instance),
        })
    }

    /// Goes on for ever.
    async fn follow(self: Arc<Self>) {
        let mut phase = self.instance.phase.clone();
        // Whoever looks at the list sees how it started, and not that it is starting.
        let started = phase.wait_for(|phase| *phase != Phase::Starting);
        let _ = tokio::time::timeout(START_PATIENCE, started).await;
        let mut knows_end = false;
        loop {
            if let Err(error) = self.put().await {
                tell(&error);
            }
            // Instances that start together spread.
            let pause = PERIOD + SPREAD.mul_f64(fraction());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = phase.wait_for(|phase| phase.is_end()), if !knows_end => knows_end = true,
            }
        }
    }

    async fn put(&self) -> Result<(), StoreError> {
        let item = InstanceItem {
            id: self.id.to_string(),
            run: self.run.as_str().to_owned(),
            seen_at: Micros::of(clock::wall()),
            report: serde_json::to_string(&self.report().await)
                .map_err(|error| StoreError::Refused(error.into()))?,
        };
        put_instance(&self.instance.store, &item, KEPT).await
    }

    /// How it is. A guard that follows a change of a moment ago is given time to: nobody has to look at that.
    async fn report(&self) -> InstanceReport {
        let report = InstanceReport::of(&self.instance, &self.host, self.started_at);
        if !report.guard_is_behind() {
            return report;
        }
        tokio::time::sleep(GUARD_PATIENCE).await;
        let mut later = InstanceReport::of(&self.instance, &self.host, self.started_at);
        later.allow_for_changes_since(&report);
        later
    }
}

impl std::fmt::Debug for Reports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reports({})", self.id)
    }
}

/// The machine's name, as far as it has one.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().chars().filter(|character| !character.is_control()).take(LONGEST_HOST).collect()
}

/// A table that does not answer is warned of by whoever reads it more often.
fn tell(error: &StoreError) {
    if let Some(left_out) = admit_line("instance_report", "") {
        info!(
            error = error_chain(error),
            left_out, "the table has not taken how this instance is; others may list it as silent"
        );
    }
}

const SPREAD: Duration = Duration::from_secs(5);
const START_PATIENCE: Duration = Duration::from_secs(10);
const GUARD_PATIENCE: Duration = Duration::from_secs(1);
const LAST_REPORT: Duration = Duration::from_secs(1);
/// `HOST_NAME_MAX` of Linux.
const LONGEST_HOST: usize = 64;
