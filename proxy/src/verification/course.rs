//! What follows from findings: how an entry stands then, and when it is looked at again.

use std::time::Duration;

use crate::{
    config::{RequiredProof, VerificationConfig},
    domains::admin::Standing,
    name::Pattern,
    store::{
        domain_table::{
            DomainRecord, DomainStatus,
            checks::{Check, Checks, Finding, Outcome, Reason},
        },
        instant::Micros,
    },
    telemetry::metrics::Label as _,
};

/// What decides beside the findings.
#[derive(Debug, Clone, Copy)]
pub(super) struct CourseRules {
    /// What an entry waits for.
    pub(super) required: RequiredProof,
    /// How long it may wait.
    pub(super) pending_for: Duration,
    /// How long it may lead elsewhere; zero, for ever.
    pub(super) moved_for: Duration,
    /// Between two looks at a name that is right.
    pub(super) interval: Duration,
}

/// What follows from findings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Course {
    /// What is written of them.
    pub(super) checks: Checks,
    /// How the entry stands, if not as before.
    pub(super) standing: Option<Standing>,
}

impl CourseRules {
    /// By `config`.
    #[must_use]
    pub(super) fn of(config: &VerificationConfig) -> Self {
        Self {
            required: config.required,
            pending_for: *config.pending_for,
            moved_for: *config.moved_for,
            interval: *config.interval,
        }
    }

    /// What follows for `record` from `findings` made at `now`, after those that were `old`.
    #[must_use]
    pub(super) fn follow(
        self,
        record: &DomainRecord,
        old: Option<&Checks>,
        findings: Vec<Finding>,
        now: Micros,
    ) -> Course {
        let old = old.filter(|old| self.still_count(record, old, now));
        let mut checks =
            Checks { checked_at: now, failures: 0, away_since: None, unresolved: Vec::new(), findings };
        // What is not served yet fails nobody: its owner may prove the name days before it leads here.
        if record.status != DomainStatus::Pending {
            checks.unresolved = old.map(|old| unresolved(old, &checks)).unwrap_or_default();
            let before = old.map_or((0, None), |old| (old.failures, old.away_since));
            (checks.failures, checks.away_since) = history(before, &record.pattern, &checks, now);
        }
        let standing = match record.status {
            DomainStatus::Pending => self.pending(record, &checks, now),
            DomainStatus::Active => (checks.failures >= FAILURES).then_some(Standing::Failing),
            DomainStatus::Failing => self.failing(&checks, now),
            DomainStatus::Suspended | DomainStatus::Removed => None,
        };
        Course { checks, standing }
    }

    /// Whether what was found the last time says anything of the entry as it is now: a program that writes the table may have added or resumed it, and
    /// left there what was found before.
    fn still_count(self, record: &DomainRecord, old: &Checks, now: Micros) -> bool {
        // So many failures have an active entry fail; one that is active all the same has been made so.
        let has_failed = record.status == DomainStatus::Active && old.failures >= FAILURES;
        // Of an entry that is served nobody looks at for so long only if it was not.
        !has_failed && now.since(old.checked_at) <= (self.interval + LONGEST) * 2
    }

    /// How long after `checks` an entry of `status`, in which it is since `since`, is looked at again; `None`, when its turn comes.
    #[must_use]
    pub(super) fn pause(
        self,
        status: DomainStatus,
        since: Option<Micros>,
        checks: &Checks,
    ) -> Option<Duration> {
        // Between a first failure and the look that confirms it.
        let retry = (self.interval / 24).clamp(Duration::from_secs(1), Duration::from_mins(1));
        match status {
            DomainStatus::Pending => {
                let waited = checks.checked_at.since(since.unwrap_or_default());
                Some((waited / 8).clamp(SHORTEST, LONGEST))
            }
            DomainStatus::Active if checks.failures == 0 => None,
            DomainStatus::Active if checks.findings.iter().any(Finding::is_failure) => Some(retry),
            // What failed cannot be looked at now, and may not be for long.
            DomainStatus::Active => Some(LONGEST.min(self.interval)),
            DomainStatus::Failing => Some((retry * checks.failures.max(1)).min(LONGEST)),
            DomainStatus::Suspended | DomainStatus::Removed => None,
        }
    }

    /// What log and event say of the reason why an entry stands as `standing` after `checks`; empty, where nothing is wrong.
    #[must_use]
    pub(super) fn why(self, standing: Standing, checks: &Checks) -> &str {
        let finding = match standing {
            Standing::Verified => None,
            Standing::Failing => checks.findings.iter().find(|finding| finding.is_failure()),
            Standing::Moved => checks.of(Check::Dns),
            Standing::Abandoned => self.proof().and_then(|proof| checks.of(proof)),
        };
        finding.map_or("", |finding| finding.detail.as_str())
    }

    /// The check that a new entry waits for.
    fn proof(self) -> Option<Check> {
        match self.required {
            RequiredProof::None => None,
            RequiredProof::Dns => Some(Check::Dns),
            RequiredProof::Txt => Some(Check::Ownership),
        }
    }

    fn pending(self, record: &DomainRecord, checks: &Checks, now: Micros) -> Option<Standing> {
        let Some(proof) = self.proof() else { return Some(Standing::Verified) };
        if checks.of(proof).is_some_and(|finding| finding.outcome == Outcome::Passed) {
            return Some(Standing::Verified);
        }
        // Not since its last change, each of which would have it wait anew.
        let waits_since = record.created_at.or(record.changed_at)?;
        (now >= waits_since.more(self.pending_for)).then_some(Standing::Abandoned)
    }

    fn failing(self, checks: &Checks, now: Micros) -> Option<Standing> {
        if checks.failures == 0 {
            return Some(Standing::Verified);
        }
        let away_since = checks.away_since.filter(|_| !self.moved_for.is_zero())?;
        // Not on the strength of two looks far apart.
        let is_sure = checks.failures >= FAILURES && now >= away_since.more(self.moved_for);
        is_sure.then_some(Standing::Moved)
    }
}

/// Failures in a row, and since when the name leads elsewhere. An answer that did not come changes neither.
fn history(
    before: (u32, Option<Micros>),
    pattern: &Pattern,
    new: &Checks,
    now: Micros,
) -> (u32, Option<Micros>) {
    let (failures, away_since) = before;
    let dns = new.of(Check::Dns).map(|dns| (dns.outcome, dns.reason));
    let away_since = match (pattern, dns) {
        (Pattern::Exact(_), Some((Outcome::Failed, Reason::LeadsElsewhere | Reason::NoRecord))) => {
            away_since.or(Some(now))
        }
        (Pattern::Exact(_), Some((Outcome::Unknown, _)) | None) => away_since,
        // Below a wildcard a name is asked for that nobody uses, and those that are used may each have a record of their own.
        (Pattern::Exact(_), Some((Outcome::Passed | Outcome::Failed, _))) | (Pattern::Wildcard(_), _) => None,
    };
    let failures = if new.findings.iter().any(Finding::is_failure) {
        failures.saturating_add(1)
    } else if new.unresolved.is_empty() {
        0
    } else {
        failures
    };
    (failures, away_since)
}

/// The checks that failed the last time they were made, and of which `new` does not say how they are. What could never be made from here, as a
/// handshake where the edge is not reached, failed nobody.
fn unresolved(old: &Checks, new: &Checks) -> Vec<Check> {
    let failed =
        |check: &Check| old.unresolved.contains(check) || old.of(*check).is_some_and(Finding::is_failure);
    let is_open = |check: &Check| match new.of(*check) {
        Some(finding) => finding.outcome == Outcome::Unknown,
        // Others are made at each look, or no longer by the settings.
        None => *check == Check::Https,
    };
    Check::ALL.iter().filter(|check| failed(check) && is_open(check)).copied().collect()
}

/// So many in a row are no accident.
const FAILURES: u32 = 3;
/// Between two looks at a name that somebody waits for.
const SHORTEST: Duration = Duration::from_secs(5);
/// Between two looks at a name that waits or fails for long.
const LONGEST: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domains::admin::added_for_tests;

    const DAY: Duration = Duration::from_hours(24);
    const RULES: CourseRules = CourseRules {
        required: RequiredProof::Dns,
        pending_for: Duration::from_hours(168),
        moved_for: Duration::from_hours(168),
        interval: DAY,
    };

    fn start() -> Micros {
        Micros::from_epoch(1_000_000_000_000)
    }

    fn record(status: DomainStatus) -> DomainRecord {
        let record = added_for_tests(&Pattern::parse("a.example").unwrap());
        DomainRecord { status, created_at: Some(start()), changed_at: Some(start()), ..record }
    }

    fn finding(check: Check, outcome: Outcome) -> Finding {
        let reason = match outcome {
            Outcome::Passed => Reason::LeadsHere,
            Outcome::Failed => Reason::LeadsElsewhere,
            Outcome::Unknown => Reason::NoAnswer,
        };
        Finding { check, outcome, reason, detail: String::new(), remedy: None }
    }

    /// Each look finds the next of `outcomes` of the DNS check, a day after the last; says how the entry stands after each.
    fn followed(rules: CourseRules, status: DomainStatus, outcomes: &[Outcome]) -> Vec<Option<Standing>> {
        let found: Vec<_> = outcomes.iter().map(|outcome| finding(Check::Dns, *outcome)).collect();
        followed_from(rules, record(status), &found)
    }

    /// The same of `record`, where each look makes one finding.
    fn followed_from(
        rules: CourseRules,
        mut record: DomainRecord,
        found: &[Finding],
    ) -> Vec<Option<Standing>> {
        let (mut checks, mut now) = (None, start());
        let mut said = Vec::new();
        for finding in found {
            now = now.more(DAY);
            let course = rules.follow(&record, checks.as_ref(), vec![finding.clone()], now);
            record.status = match course.standing {
                None => record.status,
                Some(Standing::Verified) => DomainStatus::Active,
                Some(Standing::Failing) => DomainStatus::Failing,
                Some(Standing::Moved | Standing::Abandoned) => DomainStatus::Removed,
            };
            said.push(course.standing);
            checks = Some(course.checks);
        }
        said
    }

    #[test]
    fn an_entry_waits_for_its_proof_and_not_for_ever() {
        use Outcome::{Failed, Passed, Unknown};
        let of_pending = |outcomes| followed(RULES, DomainStatus::Pending, outcomes);
        assert_eq!(of_pending(&[Failed, Unknown, Passed]), [None, None, Some(Standing::Verified)]);
        let waited = of_pending(&[Failed; 7]);
        assert_eq!(waited.split_last(), Some((&Some(Standing::Abandoned), &[None; 6][..])));
        let unasked = CourseRules { required: RequiredProof::None, ..RULES };
        let none = followed(unasked, DomainStatus::Pending, &[Failed]);
        assert_eq!(none, [Some(Standing::Verified)], "what was pending before nothing was asked for");
    }

    #[test]
    fn a_change_makes_no_entry_wait_anew() {
        let late = start().more(RULES.pending_for);
        let record = DomainRecord { changed_at: Some(late), ..record(DomainStatus::Pending) };
        let course = RULES.follow(&record, None, vec![finding(Check::Dns, Outcome::Failed)], late);
        assert_eq!(course.standing, Some(Standing::Abandoned));
    }

    #[test]
    fn who_proves_a_name_before_it_leads_here_has_the_time_to_move_it() {
        let rules = CourseRules { required: RequiredProof::Txt, ..RULES };
        let away = |proof| vec![finding(Check::Dns, Outcome::Failed), finding(Check::Ownership, proof)];
        let (mut record, mut checks, mut now) = (record(DomainStatus::Pending), None, start());
        let mut looked = |record: &DomainRecord, proof| {
            now = now.more(DAY);
            let course = rules.follow(record, checks.as_ref(), away(proof), now);
            checks = Some(course.checks);
            course.standing
        };
        for _ in 0..5 {
            assert_eq!(looked(&record, Outcome::Failed), None);
        }
        assert_eq!(looked(&record, Outcome::Passed), Some(Standing::Verified));
        record.status = DomainStatus::Active;
        let mut said: Vec<_> = (0..3).map(|_| looked(&record, Outcome::Passed)).collect();
        record.status = DomainStatus::Failing;
        said.extend((0..5).map(|_| looked(&record, Outcome::Passed)));
        let (failing, moved) = (Some(Standing::Failing), Some(Standing::Moved));
        assert_eq!(said, [None, None, failing, None, None, None, None, moved]);
    }

    #[test]
    fn ownership_is_asked_for_before_and_not_afterwards() {
        let rules = CourseRules { required: RequiredProof::Txt, ..RULES };
        let found = |dns, ownership| vec![finding(Check::Dns, dns), finding(Check::Ownership, ownership)];
        let stands = |status, findings| rules.follow(&record(status), None, findings, start()).standing;
        let (no, yes) = (Outcome::Failed, Outcome::Passed);
        assert_eq!(
            stands(DomainStatus::Pending, found(yes, no)),
            None,
            "it leads here, and that proves nothing"
        );
        assert_eq!(
            stands(DomainStatus::Pending, found(no, yes)),
            Some(Standing::Verified),
            "before the cut-over"
        );
        let active = rules.follow(&record(DomainStatus::Active), None, found(yes, no), start());
        assert_eq!((active.standing, active.checks.failures), (None, 0));
    }

    #[test]
    fn a_name_that_leads_elsewhere_fails_and_is_removed_when_it_does_so_for_long() {
        use Outcome::{Failed, Passed, Unknown};
        let of_active = |outcomes: &[Outcome]| followed(RULES, DomainStatus::Active, outcomes);
        let (failing, well) = (Some(Standing::Failing), Some(Standing::Verified));
        assert_eq!(of_active(&[Failed, Failed, Passed, Failed, Failed]), [None; 5], "never three in a row");
        assert_eq!(of_active(&[Failed, Unknown, Failed, Failed, Passed]), [None, None, None, failing, well]);
        let gone = of_active(&[Failed; 8]);
        assert_eq!(gone.last(), Some(&Some(Standing::Moved)));
        assert_eq!(gone.iter().flatten().count(), 2, "{gone:?}");
        let mut silent = vec![Failed; 3];
        silent.extend([Unknown; 3]);
        silent.push(Passed);
        assert_eq!(of_active(&silent).last(), Some(&well), "no answer is no sign that it left");
        let kept = CourseRules { moved_for: Duration::ZERO, ..RULES };
        let kept = followed(kept, DomainStatus::Active, &[Failed; 60]);
        assert_eq!(kept.iter().flatten().collect::<Vec<_>>(), [&Standing::Failing]);
    }

    #[test]
    fn days_away_are_those_on_which_no_name_of_an_entry_leads_here() {
        let (failing, moved) = (Some(Standing::Failing), Some(Standing::Moved));
        for (name, reason, at_the_end) in [
            ("a.example", Reason::LeadsElsewhere, moved),
            ("a.example", Reason::NoRecord, moved),
            ("a.example", Reason::LeadsPartlyHere, None),
            ("*.a.example", Reason::LeadsElsewhere, None),
            ("*.a.example", Reason::NoRecord, None),
        ] {
            let entry =
                DomainRecord { pattern: Pattern::parse(name).unwrap(), ..record(DomainStatus::Active) };
            let found = Finding { reason, ..finding(Check::Dns, Outcome::Failed) };
            let said = followed_from(RULES, entry, &vec![found; 8]);
            let mut expected = [None; 8];
            (expected[2], expected[7]) = (failing, at_the_end);
            assert_eq!(said, expected, "{name} {reason:?}");
        }
    }

    #[test]
    fn a_name_that_leads_here_and_fails_otherwise_is_not_removed() {
        let findings = || vec![finding(Check::Dns, Outcome::Passed), finding(Check::Https, Outcome::Failed)];
        let (mut checks, mut now, record) = (None, start(), record(DomainStatus::Failing));
        for _ in 0..30 {
            now = now.more(DAY);
            let course = RULES.follow(&record, checks.as_ref(), findings(), now);
            assert_eq!((course.standing, course.checks.away_since), (None, None));
            checks = Some(course.checks);
        }
        assert_eq!(checks.unwrap().failures, 30);
    }

    #[test]
    fn a_check_that_could_not_be_made_recovers_nothing() {
        use Check::{Caa, Dns, Https};
        use Outcome::{Failed, Passed, Unknown};
        let record = record(DomainStatus::Failing);
        let found = |findings: &[(Check, Outcome)]| -> Vec<_> {
            findings.iter().map(|(check, outcome)| finding(*check, *outcome)).collect()
        };
        for check in [Https, Caa] {
            let mut unsure =
                vec![vec![(Dns, Passed), (check, Unknown)], vec![(Dns, Unknown), (check, Unknown)]];
            if check == Https {
                // The edge has no address now; or the handshake was not made since the name leads elsewhere, or since nobody knows.
                unsure.extend([vec![(Dns, Passed)], vec![(Dns, Unknown)]]);
            }
            let failing = vec![finding(Dns, Passed), finding(check, Failed)];
            let old = Checks { failures: 5, unresolved: Vec::new(), ..checks_of(failing) };
            let mut last = old.clone();
            for findings in unsure.iter().chain(&unsure) {
                let course = RULES.follow(&record, Some(&last), found(findings), start());
                assert_eq!((course.standing, course.checks.failures), (None, 5), "{check:?} {findings:?}");
                last = course.checks;
            }
            for last in [&old, &last] {
                let mended =
                    RULES.follow(&record, Some(last), found(&[(Dns, Passed), (check, Passed)]), start());
                assert_eq!(
                    (mended.standing, mended.checks.failures),
                    (Some(Standing::Verified), 0),
                    "{check:?}"
                );
                let failed =
                    RULES.follow(&record, Some(last), found(&[(Dns, Passed), (check, Failed)]), start());
                assert_eq!((failed.standing, failed.checks.failures), (None, 6), "{check:?}");
            }
        }
        // An edge that is never reached from here holds no name that failed otherwise, nor does a CA that was taken from the settings.
        for (failed, well) in [(Dns, vec![(Dns, Passed), (Https, Unknown)]), (Caa, vec![(Dns, Passed)])] {
            let old = Checks { failures: 5, ..checks_of(vec![finding(failed, Failed)]) };
            let course = RULES.follow(&record, Some(&old), found(&well), start());
            assert_eq!(
                (course.standing, course.checks.failures),
                (Some(Standing::Verified), 0),
                "{failed:?}"
            );
        }
    }

    #[test]
    fn what_was_found_before_an_entry_was_added_or_resumed_by_hand_does_not_count() {
        let away = || vec![finding(Check::Dns, Outcome::Failed)];
        let now = start().more(DAY * 30);
        for (failures, looked, expected) in [
            // Removed by its checks, and added again within the week.
            (7, Duration::from_hours(1), 1),
            // Suspended after a second failure, and resumed a month later.
            (2, DAY * 29, 1),
            (2, Duration::from_hours(1), 3),
        ] {
            let checked_at = now.less(looked);
            let old = Checks { checked_at, failures, away_since: Some(start()), ..checks_of(away()) };
            let course = RULES.follow(&record(DomainStatus::Active), Some(&old), away(), now);
            assert_eq!(course.checks.failures, expected, "{failures} {looked:?}");
            let since = if expected == 1 { now } else { start() };
            assert_eq!(course.checks.away_since, Some(since), "{failures} {looked:?}");
        }
    }

    #[test]
    fn the_reason_is_what_an_entrys_standing_follows_from() {
        use Check::{Caa, Dns, Https, Ownership};
        use Outcome::{Failed, Passed};
        let checks = |findings: &[(Check, Outcome)]| {
            let found = findings.iter().map(|(check, outcome)| {
                let detail = check.as_str().to_owned();
                Finding { detail, ..finding(*check, *outcome) }
            });
            checks_of(found.collect())
        };
        let lost_record = checks(&[(Dns, Passed), (Ownership, Failed), (Https, Failed)]);
        let away = checks(&[(Dns, Failed), (Ownership, Failed), (Caa, Failed)]);
        for (required, standing, checks, reason) in [
            (RequiredProof::Txt, Standing::Failing, &lost_record, "https"),
            (RequiredProof::Txt, Standing::Failing, &away, "dns"),
            (RequiredProof::Txt, Standing::Moved, &away, "dns"),
            (RequiredProof::Txt, Standing::Abandoned, &away, "ownership"),
            (RequiredProof::Dns, Standing::Abandoned, &away, "dns"),
            (RequiredProof::Txt, Standing::Verified, &away, ""),
        ] {
            let rules = CourseRules { required, ..RULES };
            assert_eq!(rules.why(standing, checks), reason, "{required} {standing:?}");
        }
    }

    fn checks_of(findings: Vec<Finding>) -> Checks {
        Checks { checked_at: start(), failures: 0, away_since: None, unresolved: Vec::new(), findings }
    }

    #[test]
    fn who_waits_is_looked_at_often_and_then_seldom() {
        let checks = |after: u64, failures| Checks {
            checked_at: start().more(Duration::from_secs(after)),
            failures,
            away_since: None,
            unresolved: Vec::new(),
            findings: vec![finding(Check::Dns, Outcome::Failed)],
        };
        let pause = |status, after, failures| {
            RULES.pause(status, Some(start()), &checks(after, failures)).map(|pause| pause.as_secs())
        };
        let pending = |after| pause(DomainStatus::Pending, after, 0);
        assert_eq!(
            [pending(0), pending(80), pending(800), pending(86_400)],
            [Some(5), Some(10), Some(100), Some(3600)]
        );
        assert_eq!([pause(DomainStatus::Active, 5, 0), pause(DomainStatus::Active, 5, 2)], [None, Some(60)]);
        assert_eq!(
            [3, 100].map(|failures| pause(DomainStatus::Failing, 5, failures)),
            [Some(180), Some(3600)]
        );
        assert_eq!(pause(DomainStatus::Suspended, 5, 0), None);
        let unresolved = Checks { unresolved: vec![Check::Https], findings: Vec::new(), ..checks(5, 1) };
        let unsure = RULES.pause(DomainStatus::Active, Some(start()), &unresolved);
        assert_eq!(unsure, Some(LONGEST), "what cannot be looked at now is not asked for each minute");
    }
}
