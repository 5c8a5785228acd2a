//! The instances of the fleet: what each says of itself in the state table once a minute, and what an operator should look at.
//! Not here: how that is kept (`store::state_table`), who may see it (`api`).
//! Invariants: an instance writes at most once a minute, and once more at its end; a table that does not answer costs nothing but being
//! seen (it is told once a minute, and tried again); a report of another release is read as far as it is understood
//! (`a_report_of_another_release_is_read`).

mod id;
mod reporter;
mod warning;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::{
    id::{InstanceId, NoInstanceId},
    reporter::FleetReporter,
    warning::{FleetWarning, WarningKind},
};
use super::context::ControlContext;
use crate::{
    guard::GuardStatus,
    store::{
        Store, StoreError,
        instant::Micros,
        state_table::{self, InstanceItem},
    },
    telemetry::last_warning,
};

/// The instances that were heard of not long ago.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    /// By region, then by id.
    pub instances: Vec<FleetInstance>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetInstance {
    /// Which: the id of its EC2 instance, or one of its own.
    pub id: String,
    /// When it said what follows.
    pub seen_at: Micros,
    /// How long that was ago when it was asked.
    pub seen_seconds_ago: u64,
    /// What it said.
    #[serde(flatten)]
    pub report: InstanceReport,
    /// What to look at.
    pub warnings: Vec<FleetWarning>,
}

/// What an instance says of itself. Words are texts: those of a later release are shown as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceReport {
    /// The machine's name.
    pub host: String,
    /// The region of its EC2 instance, if it is known to be one.
    pub region: Option<String>,
    /// Release.
    pub version: String,
    /// When it started.
    pub started_at: Micros,
    /// Whether it serves: as `gatehouse status` has it.
    pub phase: String,
    /// Names that it knows.
    pub names: u64,
    /// The revision of its set of names, which is its own count; 0, not all lists were read yet.
    pub revision: u64,
    /// Open connections.
    pub connections: u64,
    /// Its guard; absent, it is off.
    pub guard: Option<GuardSummary>,
    /// The last warning or error of its log.
    pub last_warning: Option<ReportedWarning>,
}

/// A guard in few words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GuardSummary {
    /// What happens to unknown names: `observe`, `adaptive`, `strict`.
    pub mode: String,
    /// Whether it happens now: `on`, or why not.
    pub enforcement: String,
    /// How it is attached: `native`, `generic`.
    pub attach: String,
    /// Interfaces that have it, and those that should.
    pub attached: u64,
    /// How many should.
    pub interfaces: u64,
    /// Names in the kernel's map.
    pub names: u64,
    /// The revision of the set that it holds.
    pub revision: u64,
}

/// A line of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReportedWarning {
    /// When.
    pub at: Micros,
    /// What.
    pub text: String,
}

/// The fleet as it is known at `now`.
pub async fn fleet(store: &Store, now: Micros) -> Result<Fleet, StoreError> {
    Ok(Fleet::of(state_table::list_instances(store, now).await?, now))
}

impl Fleet {
    fn of(items: Vec<InstanceItem>, now: Micros) -> Self {
        let mut instances: Vec<_> =
            items.into_iter().filter_map(|item| FleetInstance::read(item, now)).collect();
        let version = warning::usual_version(&instances);
        for instance in &mut instances {
            instance.warnings = warning::warnings(instance, version.as_deref());
        }
        instances.sort_by(|a, b| (&a.report.region, &a.id).cmp(&(&b.report.region, &b.id)));
        Self { instances }
    }
}

impl FleetInstance {
    /// Nothing, where its report is none.
    fn read(item: InstanceItem, now: Micros) -> Option<Self> {
        let InstanceItem { id, seen_at, report, .. } = item;
        let report = serde_json::from_str(&report).ok()?;
        let seen_seconds_ago = now.since(seen_at).as_secs();
        Some(Self { id, seen_at, seen_seconds_ago, report, warnings: Vec::new() })
    }
}

impl InstanceReport {
    fn of(instance: &ControlContext, host: &str, started_at: Micros) -> Self {
        let status = instance.status();
        let guard = match &status.guard {
            GuardStatus::Off => None,
            GuardStatus::On(report) => Some(GuardSummary {
                mode: report.mode.to_string(),
                enforcement: report.enforcement.clone(),
                attach: report.attach.to_string(),
                attached: count(report.interfaces.iter().filter(|on| on.link.is_some()).count()),
                interfaces: count(report.interfaces.len()),
                names: count(report.names),
                revision: number(report.revision),
            }),
        };
        let last_warning =
            last_warning().map(|last| ReportedWarning { at: Micros::of(last.at), text: last.text });
        Self {
            host: host.to_owned(),
            region: status.instance.map(|instance| instance.region),
            version: status.version,
            started_at,
            phase: status.phase.as_str().to_owned(),
            names: count(status.names),
            revision: number(status.revision),
            connections: count(status.connections),
            guard,
            last_warning,
        }
    }

    /// Names that change all the time are ahead of a guard that follows them: it is behind only where it lacks what there was `before`.
    fn allow_for_changes_since(&mut self, before: &Self) {
        if let Some(guard) = &self.guard
            && guard.revision >= before.revision
        {
            self.revision = guard.revision;
        }
    }

    /// Whether its guard has not followed the last change of the names yet.
    fn guard_is_behind(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.revision != self.revision)
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn number(revision: Option<crate::domains::Revision>) -> u64 {
    revision.map_or(0, crate::domains::Revision::number)
}

/// How often an instance says how it is, at most.
const PERIOD: Duration = Duration::from_mins(1);
/// After how long nobody expects it to say anything any more.
const SILENT_AFTER: Duration = Duration::from_mins(3);
/// After how long it is forgotten.
const KEPT: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_another_release_is_read() {
        let now = Micros::from_epoch(60_000_000);
        let item = |report: &str| InstanceItem {
            id: "i-a".into(),
            run: "1".into(),
            seen_at: Micros::from_epoch(18_000_000),
            report: report.to_owned(),
        };
        let later = item(r#"{"version":"9.0.0","phase":"pausing","guard":{"mode":"lenient"},"speed":1}"#);
        let fleet = Fleet::of(vec![later, item("no report")], now);
        let [instance] = &*fleet.instances else { panic!("{fleet:?}") };
        assert_eq!((instance.report.version.as_str(), instance.seen_seconds_ago), ("9.0.0", 42));
        assert_eq!(instance.report.guard.as_ref().map(|guard| guard.mode.as_str()), Some("lenient"));
        let written = serde_json::to_string(&fleet).unwrap();
        assert_eq!(serde_json::from_str::<Fleet>(&written).unwrap(), fleet);
    }

    #[test]
    fn a_guard_is_behind_only_what_there_was_before() {
        let report = |names: u64, guard: u64| {
            let json = format!(r#"{{"revision":{names},"guard":{{"revision":{guard}}}}}"#);
            serde_json::from_str::<InstanceReport>(&json).unwrap()
        };
        let before = report(7, 6);
        assert!(before.guard_is_behind());
        for (names, guard, is_behind) in
            [(7, 7, false), (9, 7, false), (9, 8, false), (9, 6, true), (7, 6, true)]
        {
            let mut later = report(names, guard);
            later.allow_for_changes_since(&before);
            assert_eq!(later.guard_is_behind(), is_behind, "{names} {guard}");
        }
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn no_report_panics(report in "\\PC{0,100}|\\{\"(version|guard|started_at)\":\\PC{0,40}\\}", now: u64) {
                let item = InstanceItem { id: String::new(), run: String::new(), seen_at: Micros::from_epoch(9), report };
                let _ = Fleet::of(vec![item], Micros::from_epoch(now));
            }
        }
    }
}
