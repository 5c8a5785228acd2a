//! Warnings that are logged once an hour instead of for each ClientHello.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::warn;

use super::choice::{Unusable, unusable};
use crate::store::certificate_table::StoredCertificates;

/// The subjects of warnings within the last hour.
///
/// Invariant: holds at most [`MOST`] subjects; beyond them nothing is due until some are an hour old (`subjects_are_bounded`).
#[derive(Debug, Default)]
pub(super) struct Hourly(Mutex<HashMap<String, Instant>>);

impl Hourly {
    /// Logs the unusable items among `found`, each once an hour.
    pub(super) fn warn_of_unusable(&self, found: &StoredCertificates, now: Instant) {
        for Unusable { item, problem } in unusable(found) {
            if self.is_due(&item, now) {
                warn!(item, problem, "an item of the certificate table cannot be used");
            }
        }
    }

    /// Whether a warning of `subject` is due at `now`; then it counts as given.
    pub(super) fn is_due(&self, subject: &str, now: Instant) -> bool {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) < HOUR;
        if given.get(subject).is_some_and(is_recent) {
            return false;
        }
        if given.len() >= MOST {
            given.retain(|_, at| is_recent(at));
        }
        let has_room = given.len() < MOST;
        if has_room {
            given.insert(subject.to_owned(), now);
        }
        has_room
    }
}

const HOUR: Duration = Duration::from_hours(1);
const MOST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_due_once_an_hour() {
        let (hourly, start) = (Hourly::default(), Instant::now());
        for (subject, minutes, expected) in [
            ("a", 0, true),
            ("a", 1, false),
            ("b", 1, true),
            ("a", 59, false),
            ("a", 60, true),
            ("a", 61, false),
        ] {
            let now = start + Duration::from_mins(minutes);
            assert_eq!(hourly.is_due(subject, now), expected, "{subject} after {minutes} minutes");
        }
    }

    #[test]
    fn subjects_are_bounded() {
        let (hourly, start) = (Hourly::default(), Instant::now());
        let due = |now| (0..2 * MOST).filter(|n| hourly.is_due(&n.to_string(), now)).count();
        assert_eq!(due(start), MOST);
        assert_eq!(due(start + HOUR / 2), 0);
        assert_eq!(due(start + HOUR), MOST);
    }
}
