//! Whether endpoints pass the checks that their targets ask for: one answer for all workers of the process.
//! Not here: the checks themselves (`prober`), what requests show (`health`).

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::destination_key::DestinationKey;

/// The process's. What no worker has any more is forgotten.
#[derive(Default)]
pub(super) struct Checks(Mutex<HashMap<DestinationKey, Weak<Checked>>>);

impl Checks {
    /// What the checks of the destination with this key have shown, for all workers that have one.
    pub(super) fn of(&self, key: &DestinationKey) -> Arc<Checked> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(checked) = all.get(key).and_then(Weak::upgrade) {
            return checked;
        }
        all.retain(|_, checked| checked.strong_count() > 0);
        let checked = Arc::default();
        all.insert(key.clone(), Arc::downgrade(&checked));
        checked
    }
}

/// What the checks of one destination have shown.
#[derive(Default)]
pub(super) struct Checked {
    /// Read for each request.
    is_failing: AtomicBool,
    state: Mutex<CheckState>,
}

impl Checked {
    /// Whether it failed the last checks.
    pub(super) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// Whether the caller is to check it now: of all workers one is, each time.
    pub(super) fn begin(&self, now: Instant, interval: Duration) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).begin(now, interval)
    }

    /// A check has ended; what it has changed.
    pub(super) fn end(&self, passed: bool) -> Option<HealthChange> {
        let change = self.state.lock().unwrap_or_else(PoisonError::into_inner).end(passed);
        if let Some(change) = change {
            self.is_failing.store(change == HealthChange::Fails, Ordering::Relaxed);
        }
        change
    }
}

/// What a check has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HealthChange {
    /// Requests are to go elsewhere, if they can.
    Fails,
    PassesAgain,
}

#[derive(Debug, Default)]
struct CheckState {
    due: Option<Instant>,
    is_failing: bool,
    /// In a row, against what is held of it.
    contrary: u32,
}

impl CheckState {
    fn begin(&mut self, now: Instant, interval: Duration) -> bool {
        let is_due = self.due.is_none_or(|due| now >= due);
        if is_due {
            self.due = Some(now + interval);
        }
        is_due
    }

    fn end(&mut self, passed: bool) -> Option<HealthChange> {
        if passed != self.is_failing {
            self.contrary = 0;
            return None;
        }
        self.contrary += 1;
        let (enough, change) =
            if passed { (PASSES, HealthChange::PassesAgain) } else { (FAILURES, HealthChange::Fails) };
        if self.contrary < enough {
            return None;
        }
        (self.contrary, self.is_failing) = (0, !self.is_failing);
        Some(change)
    }
}

/// Checks in a row that must fail before requests go elsewhere: one may be lost.
const FAILURES: u32 = 3;
/// Checks in a row that must pass before they come back.
const PASSES: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_in_a_row_change_it_and_two_passes_change_it_back() {
        let mut state = CheckState::default();
        let mut changes = |checks: &str| -> Vec<Option<HealthChange>> {
            checks.chars().map(|check| state.end(check == '+')).collect()
        };
        assert_eq!(changes("--+--"), [None; 5], "not in a row");
        assert_eq!(changes("-"), [Some(HealthChange::Fails)]);
        assert_eq!(changes("--+-+"), [None; 5], "not in a row");
        assert_eq!(changes("++"), [Some(HealthChange::PassesAgain), None]);
    }

    #[test]
    fn one_worker_of_all_checks_each_time() {
        let (checked, now, interval) = (Checked::default(), Instant::now(), Duration::from_secs(5));
        let begun =
            [0, 0, 4, 5, 5, 11].map(|second| checked.begin(now + Duration::from_secs(second), interval));
        assert_eq!(begun, [true, false, false, true, false, true]);
    }
}
