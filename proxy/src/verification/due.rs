//! Which entries a pass reads, and at which of their names it looks: decided by what the feed's index shows, and then by what is written of
//! the last look. Pure; nothing is remembered between passes but how far back turns may be open.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
    vec,
};

use super::{course::CourseRules, fair_queue::UnderWay, schedule::last_turn};
use crate::{
    name::Pattern,
    store::{
        domain_table::{DomainRecord, DomainStatus, checks::Checks},
        instant::Micros,
    },
};

/// A name that may be due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) pattern: Pattern,
    pub(super) tenant: Arc<str>,
    /// Its turn, or a change after it.
    pub(super) since: Micros,
}

/// Names that may be due, of which no more than [`MOST`] are held of either kind.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// Those that wait or fail, which have pauses of their own.
    waiting: Vec<Candidate>,
    /// Those whose turn it is.
    turns: Vec<Candidate>,
    /// The earliest turn that is not held.
    pub(super) beyond: Option<Micros>,
}

impl Candidates {
    /// Takes an entry as the index has it, if its name may be due at `now`. Turns until `settled` were had.
    pub(super) fn consider(
        &mut self,
        record: &DomainRecord,
        settled: Micros,
        interval: Duration,
        now: Micros,
    ) {
        let turn = last_turn(interval, &record.pattern, now);
        let since = record.changed_at.unwrap_or_default().max(turn);
        let candidate =
            || Candidate { pattern: record.pattern.clone(), tenant: record.tenant.as_str().into(), since };
        match record.status {
            DomainStatus::Pending | DomainStatus::Failing => {
                // Those beyond are considered by the next pass again.
                if self.waiting.len() < MOST {
                    self.waiting.push(candidate());
                }
            }
            DomainStatus::Active if since > settled => {
                if self.turns.len() < MOST {
                    self.turns.push(candidate());
                } else {
                    self.beyond = earliest(self.beyond, Some(since));
                }
            }
            DomainStatus::Active | DomainStatus::Suspended | DomainStatus::Removed => {}
        }
    }

    /// In the order in which they are read: one that waits and one whose turn it is by turns, so that neither kind keeps the other waiting;
    /// of those that wait, one of each tenant by turns, and of these the last that changed first, since somebody waits for it.
    pub(super) fn in_order(mut self) -> Vec<Candidate> {
        self.waiting.sort_by_key(|candidate| std::cmp::Reverse(candidate.since));
        self.turns.sort_by_key(|candidate| candidate.since);
        let (mut waiting, mut turns) = (by_turns(self.waiting).into_iter(), self.turns.into_iter());
        let mut order = Vec::with_capacity(waiting.len() + turns.len());
        loop {
            let pair = [waiting.next(), turns.next()];
            if pair == [None, None] {
                return order;
            }
            order.extend(pair.into_iter().flatten());
        }
    }
}

/// Candidates in their order, save that those wait whose tenant has as many looks under way as may be.
#[derive(Debug)]
pub(super) struct Backlog {
    order: vec::IntoIter<Candidate>,
    /// Those that were passed over.
    held: HashMap<Arc<str>, VecDeque<Candidate>>,
    /// Those that were, and whose tenant has had a look that ended.
    ready: VecDeque<Candidate>,
    under_way: UnderWay,
}

impl Backlog {
    /// No look is under way, of `at_once` that may be.
    pub(super) fn new(order: Vec<Candidate>, at_once: usize) -> Self {
        let (held, ready) = Default::default();
        Self { order: order.into_iter(), held, ready, under_way: UnderWay::new(at_once) }
    }

    /// The next, whose look begins with that; none, while all wait for looks to end.
    pub(super) fn take(&mut self) -> Option<Candidate> {
        let candidate = self.ready.pop_front().or_else(|| {
            for candidate in self.order.by_ref() {
                if self.under_way.of(&candidate.tenant).is_some() {
                    return Some(candidate);
                }
                self.held.entry(Arc::clone(&candidate.tenant)).or_default().push_back(candidate);
            }
            None
        })?;
        self.under_way.begin(&candidate.tenant);
        Some(candidate)
    }

    /// A look at a name of `tenant` has ended.
    pub(super) fn ended(&mut self, tenant: &str) {
        self.under_way.end(tenant);
        self.ready.extend(self.held.get_mut(tenant).and_then(VecDeque::pop_front));
    }
}

/// The first of each tenant, then the second of each, and so on.
fn by_turns(candidates: Vec<Candidate>) -> Vec<Candidate> {
    let mut counts: HashMap<Arc<str>, usize> = HashMap::new();
    let ranked = candidates.into_iter().map(|candidate| {
        let rank = counts.entry(Arc::clone(&candidate.tenant)).or_default();
        *rank += 1;
        (*rank, candidate)
    });
    let mut ranked: Vec<_> = ranked.collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Whether an entry's name is to be looked at, of which `old` was found the last time.
pub(super) fn is_due(record: &DomainRecord, old: Option<&Checks>, rules: CourseRules, now: Micros) -> bool {
    let Some(old) = old else { return true };
    if record.changed_at.is_some_and(|at| at > old.checked_at) {
        return true;
    }
    match rules.pause(record.status, record.changed_at, old) {
        Some(pause) => now >= old.checked_at.more(pause),
        None => old.checked_at < last_turn(rules.interval, &record.pattern, now),
    }
}

/// Whether a name that was found wrong is still to be looked at again before that says something of its entry. The index does not show it.
pub(super) fn is_unsettled(status: DomainStatus, checks: &Checks) -> bool {
    status == DomainStatus::Active && checks.failures > 0
}

/// Until when turns were had after a pass that began at `began`: `left` is the earliest that was not taken, `unsettled` the earliest of those
/// that are to be looked at again. One that stays so is given up after [`LONGEST_UNSETTLED`], or all turns since would be read each time.
pub(super) fn settled_after(began: Micros, left: Option<Micros>, unsettled: Option<Micros>) -> Micros {
    let before = |since: Micros| since.less(Duration::from_micros(1));
    let unsettled = unsettled.map(|since| before(since).max(began.less(LONGEST_UNSETTLED)));
    let settled = began.less(INDEX_LAG);
    [left.map(before), unsettled].into_iter().flatten().fold(settled, Ord::min)
}

pub(super) fn earliest(one: Option<Micros>, other: Option<Micros>) -> Option<Micros> {
    one.into_iter().chain(other).min()
}

/// Of more names, those beyond come in the next pass.
const MOST: usize = 200_000;
const LONGEST_UNSETTLED: Duration = Duration::from_hours(1);
/// By how much an index may lag, as the feed assumes it.
const INDEX_LAG: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::RequiredProof,
        domains::admin::added_for_tests,
        store::domain_table::checks::{Check, Finding, Outcome, Reason},
    };

    const DAY: Duration = Duration::from_hours(24);
    const MINUTE: Duration = Duration::from_mins(1);
    const RULES: CourseRules =
        CourseRules { required: RequiredProof::Dns, pending_for: DAY, moved_for: DAY, interval: DAY };

    fn now() -> Micros {
        Micros::from_epoch(1_700_000_000_000_000)
    }

    fn record(i: usize, status: DomainStatus, changed_at: Micros) -> DomainRecord {
        let pattern = Pattern::parse(&format!("site-{i}.example")).unwrap();
        DomainRecord { status, changed_at: Some(changed_at), ..added_for_tests(&pattern) }
    }

    fn checks(at: Micros, failures: u32) -> Checks {
        let finding = Finding {
            check: Check::Dns,
            outcome: if failures == 0 { Outcome::Passed } else { Outcome::Failed },
            reason: Reason::LeadsHere,
            detail: String::new(),
            remedy: None,
        };
        Checks { checked_at: at, failures, away_since: None, unresolved: Vec::new(), findings: vec![finding] }
    }

    fn candidates(records: &[DomainRecord], settled: Micros, now: Micros) -> Vec<String> {
        let mut candidates = Candidates::default();
        for record in records {
            candidates.consider(record, settled, DAY, now);
        }
        candidates.in_order().iter().map(|candidate| candidate.pattern.to_string()).collect()
    }

    #[test]
    fn passes_of_a_day_take_each_turn_once() {
        const NAMES: usize = 500;
        let long_ago = now().less(DAY * 9);
        let records: Vec<_> = (0..NAMES).map(|i| record(i, DomainStatus::Active, long_ago)).collect();
        let mut looks = vec![checks(now().less(DAY), 0); NAMES];
        let (mut settled, mut read, mut looked) = (now(), 0, 0);
        for pass in 1..=288_u32 {
            let at = now().more(MINUTE * 5 * pass);
            for name in candidates(&records, settled, at) {
                read += 1;
                let i: usize = name["site-".len()..].split('.').next().unwrap().parse().unwrap();
                if is_due(&records[i], Some(&looks[i]), RULES, at) {
                    looked += 1;
                    looks[i] = checks(at, 0);
                }
            }
            settled = settled_after(at, None, None);
        }
        assert_eq!(looked, NAMES);
        assert!(read < NAMES + NAMES / 4, "{read} entries were read, beside the index");
    }

    #[test]
    fn what_waits_and_whose_turn_it_is_alternate() {
        let old = now().less(DAY * 2);
        let mut records: Vec<_> = (0..3).map(|i| record(i, DomainStatus::Active, old)).collect();
        records.push(record(3, DomainStatus::Pending, old));
        records.push(record(4, DomainStatus::Failing, now()));
        records.push(record(5, DomainStatus::Suspended, now()));
        records.push(record(6, DomainStatus::Removed, now()));
        let order = candidates(&records, now().less(DAY), now());
        assert_eq!(order.len(), 5, "{order:?}");
        assert_eq!((order[0].as_str(), order[2].as_str()), ("site-4.example", "site-3.example"), "{order:?}");
        // Turns that were had are not read again; what waits is.
        assert_eq!(candidates(&records, now(), now()).len(), 2);
        // A change is a turn of its own.
        let changed = record(0, DomainStatus::Active, now());
        assert_eq!(candidates(&[changed], now().less(MINUTE), now()).len(), 1);
    }

    #[test]
    fn a_tenant_whose_names_never_answer_keeps_no_other_waiting() {
        let mut candidates = Candidates::default();
        for i in 0..1000 {
            let ours = DomainRecord { tenant: "acme".to_owned(), ..record(i, DomainStatus::Pending, now()) };
            candidates.consider(&ours, now(), DAY, now());
        }
        let before = now().less(MINUTE);
        let zetas = DomainRecord { tenant: "zeta".to_owned(), ..record(1000, DomainStatus::Pending, before) };
        candidates.consider(&zetas, now(), DAY, now());
        let order = candidates.in_order();
        assert_eq!(order[1].pattern, zetas.pattern, "the second, though it changed before all others");
        let (mut backlog, mut acmes) = (Backlog::new(order, 256), 0);
        while let Some(Candidate { tenant, .. }) = backlog.take() {
            acmes += usize::from(&*tenant == "acme");
        }
        assert_eq!(acmes, 64);
        for _ in 0..1000 - 64 {
            assert_eq!(backlog.take(), None);
            backlog.ended("acme");
            acmes += usize::from(backlog.take().is_some());
        }
        backlog.ended("acme");
        assert_eq!((acmes, backlog.take()), (1000, None), "each has its look");
    }

    #[test]
    fn pauses_decide_on_what_waits_or_fails_and_turns_on_the_rest() {
        use DomainStatus::{Active, Failing, Pending};
        let old = now().less(DAY * 2);
        let turn = last_turn(DAY, &record(0, Active, old).pattern, now());
        for (status, checked_at, failures, due) in [
            (Active, turn.more(MINUTE), 0, false),
            (Active, turn.less(MINUTE), 0, true),
            (Active, now().less(MINUTE * 2), 1, true),
            (Active, now(), 1, false),
            (Failing, now().less(MINUTE), 9, false),
            (Failing, now().less(MINUTE * 61), 99, true),
            (Pending, now().less(MINUTE * 61), 1, true),
            (Pending, now().less(MINUTE), 1, false),
        ] {
            let found = checks(checked_at, failures);
            let is = is_due(&record(0, status, old), Some(&found), RULES, now());
            assert_eq!(is, due, "{status:?} {checked_at} {failures}");
        }
        assert!(is_due(&record(0, Active, old), None, RULES, now()), "never looked at");
        // The index shows what waits or fails, and not what failed once.
        for (status, failures, unsettled) in
            [(Active, 0, false), (Active, 1, true), (Failing, 3, false), (Pending, 1, false)]
        {
            assert_eq!(is_unsettled(status, &checks(now(), failures)), unsettled, "{status:?} {failures}");
        }
        let changed = record(0, Active, now());
        assert!(is_due(&changed, Some(&checks(now().less(MINUTE), 0)), RULES, now()), "changed since");
    }

    #[test]
    fn a_turn_that_was_left_is_found_by_the_next_pass_and_one_that_stays_unsettled_not_for_ever() {
        let (left, unsettled) = (now().less(DAY / 2), now().less(MINUTE * 30));
        let is_open = |since: Micros, settled| since > settled;
        assert_eq!(settled_after(now(), None, None), now().less(INDEX_LAG));
        assert!(is_open(left, settled_after(now(), Some(left), Some(unsettled))));
        assert!(is_open(unsettled, settled_after(now(), None, Some(unsettled))));
        assert!(!is_open(left, settled_after(now(), None, Some(left))));
    }
}
