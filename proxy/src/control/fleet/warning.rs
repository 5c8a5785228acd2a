//! What an operator should look at: pure, from what instances said.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{FleetInstance, SILENT_AFTER};
use crate::control::wire::PhaseWord;

/// Something about an instance that an operator should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetWarning {
    /// What, for programs.
    pub kind: WarningKind,
    /// What, for people, and what to do.
    pub detail: String,
}

/// What there is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningKind {
    /// It says nothing any more.
    Silent,
    /// It is of another release than most.
    OtherVersion,
    /// It does not serve as it should.
    Phase,
    /// It has not read all lists of names yet.
    NamesUnread,
    /// Its guard is not where it should be.
    GuardDetached,
    /// Its guard has not the names that it knows.
    GuardBehind,
    /// A later release warns of something that this one does not know.
    #[serde(other)]
    Unknown,
}

impl WarningKind {
    /// As JSON has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::OtherVersion => "other_version",
            Self::Phase => "phase",
            Self::NamesUnread => "names_unread",
            Self::GuardDetached => "guard_detached",
            Self::GuardBehind => "guard_behind",
            Self::Unknown => "unknown",
        }
    }
}

/// The release of most of those that are heard of; of two as common, the one that started last.
pub(super) fn usual_version(instances: &[FleetInstance]) -> Option<String> {
    let mut by_version = BTreeMap::new();
    for instance in instances.iter().filter(|instance| !is_silent(instance)) {
        let report = &instance.report;
        let (count, started) = by_version.entry(&*report.version).or_insert((0_usize, report.started_at));
        *count += 1;
        *started = report.started_at.max(*started);
    }
    by_version.into_iter().max_by_key(|(_, rank)| *rank).map(|(version, _)| version.to_owned())
}

/// What to look at, where most are of `usual`.
pub(super) fn warnings(instance: &FleetInstance, usual: Option<&str>) -> Vec<FleetWarning> {
    let report = &instance.report;
    if is_silent(instance) {
        let detail = format!(
            "it has said nothing for {} min: look at the machine, and at its log for calls to the state table",
            instance.seen_seconds_ago / 60
        );
        // What it said before is of the past.
        return vec![FleetWarning { kind: WarningKind::Silent, detail }];
    }
    let other = usual
        .filter(|usual| *usual != report.version)
        .map(|usual| (WarningKind::OtherVersion, format!("it runs {}, most run {usual}", report.version)));
    let is_expected = EXPECTED.iter().any(|phase| phase.as_str() == report.phase);
    let phase = (!is_expected)
        .then(|| (WarningKind::Phase, format!("it is {}: `gatehouse status` there says why", report.phase)));
    let unread = (report.revision == 0).then(|| {
        (WarningKind::NamesUnread, "it has not read all lists of names: its log says why".to_owned())
    });
    let detached = report.guard.as_ref().filter(|guard| guard.attached < guard.interfaces).map(|guard| {
        let detail = format!(
            "its guard is on {} of {} interfaces: somebody detached it; restart the instance",
            guard.attached, guard.interfaces
        );
        (WarningKind::GuardDetached, detail)
    });
    let behind = report.guard_is_behind().then(|| {
        let detail = "its guard has not followed the names that it knows: its log says why".to_owned();
        (WarningKind::GuardBehind, detail)
    });
    let all = [other, phase, unread, detached, behind];
    all.into_iter().flatten().map(|(kind, detail)| FleetWarning { kind, detail }).collect()
}

/// Whether it is not heard of any more.
fn is_silent(instance: &FleetInstance) -> bool {
    instance.seen_seconds_ago > SILENT_AFTER.as_secs()
}

/// Phases in which nothing is wrong.
const EXPECTED: [PhaseWord; 4] =
    [PhaseWord::Starting, PhaseWord::Serving, PhaseWord::Leaving, PhaseWord::Draining];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::fleet::{GuardSummary, InstanceReport},
        store::instant::Micros,
    };

    fn instance(id: &str, version: &str, started: u64) -> FleetInstance {
        let guard = GuardSummary { attached: 1, interfaces: 1, revision: 4, ..GuardSummary::default() };
        let report = InstanceReport {
            version: version.into(),
            started_at: Micros::from_epoch(started),
            phase: "serving".into(),
            revision: 4,
            guard: Some(guard),
            ..InstanceReport::default()
        };
        let seen_at = Micros::from_epoch(9);
        FleetInstance { id: id.into(), seen_at, seen_seconds_ago: 30, report, warnings: Vec::new() }
    }

    fn kinds(instance: &FleetInstance) -> Vec<WarningKind> {
        warnings(instance, Some("1.0.0")).into_iter().map(|warning| warning.kind).collect()
    }

    #[test]
    fn each_warning_has_its_cause_and_a_silent_instance_only_one() {
        type Change = fn(&mut FleetInstance);
        let cases: [(Change, &[WarningKind]); 9] = [
            (|_| (), &[]),
            (|instance| instance.seen_seconds_ago = 181, &[WarningKind::Silent]),
            (|instance| instance.report.version = "0.9.0".into(), &[WarningKind::OtherVersion]),
            (|instance| instance.report.phase = "degraded".into(), &[WarningKind::Phase]),
            (|instance| instance.report.phase = "draining".into(), &[]),
            (|instance| instance.report.revision = 0, &[WarningKind::NamesUnread, WarningKind::GuardBehind]),
            (|instance| instance.report.guard.as_mut().unwrap().attached = 0, &[WarningKind::GuardDetached]),
            (|instance| instance.report.guard.as_mut().unwrap().revision = 3, &[WarningKind::GuardBehind]),
            (|instance| instance.report.guard = None, &[]),
        ];
        for (change, expected) in cases {
            let mut instance = instance("i-a", "1.0.0", 1);
            change(&mut instance);
            assert_eq!(kinds(&instance), expected, "{instance:?}");
            instance.seen_seconds_ago = 600;
            assert_eq!(kinds(&instance), [WarningKind::Silent]);
        }
    }

    #[test]
    fn the_usual_release_is_that_of_most_who_are_heard_of() {
        let usual = |instances: &[FleetInstance]| usual_version(instances);
        let (old, new) = (|id| instance(id, "1.0.0", 1), |id| instance(id, "1.1.0", 2));
        let silent = |id| FleetInstance { seen_seconds_ago: 900, ..instance(id, "1.0.0", 1) };
        assert_eq!(usual(&[]), None);
        assert_eq!(usual(&[old("a"), old("b"), new("c")]).as_deref(), Some("1.0.0"));
        assert_eq!(usual(&[old("a"), new("b")]).as_deref(), Some("1.1.0"));
        assert_eq!(usual(&[silent("a"), silent("b"), new("c")]).as_deref(), Some("1.1.0"));
    }
}
