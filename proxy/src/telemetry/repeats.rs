//! Log lines that untrusted requests, or a dependency that is down, can repeat without end: one per cause and subject a minute,
//! with the number of those left out.
//! Not here: what is said, and at which level (the caller's).
//! Invariants: memory is bounded, whatever names clients send (`strangers_cannot_fill_memory_nor_the_log`); each occurrence
//! is told of once, by a line of its own or in a number (`every_occurrence_is_in_a_line_or_in_a_number`).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What was told of lately; for every thread of the process.
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<Recent>);

/// Occurrences that no line was written for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// What happened.
    pub(super) cause: &'static str,
    /// To whom or what; empty where the cause says it all, [`OTHERS`] for those beyond the bound.
    pub(super) subject: Box<str>,
    /// How often.
    pub(super) count: u64,
}

/// The decision; `now` is an argument.
#[derive(Debug, Default)]
struct Recent(HashMap<&'static str, HashMap<Box<str>, LastLine>>);

#[derive(Debug)]
struct LastLine {
    at: Instant,
    left_out: u64,
}

impl Repeats {
    /// Whether a line is due for `cause` at `subject`, and then how many were left out since the last one.
    #[must_use]
    pub(super) fn admit(&self, cause: &'static str, subject: &str, now: Instant) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).admit(cause, subject, now)
    }

    /// What was left out and came to an end: each is told of here, and forgotten.
    #[must_use]
    pub(super) fn ended(&self, now: Instant) -> Vec<LeftOut> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).ended(now)
    }
}

impl Recent {
    fn admit(&mut self, cause: &'static str, subject: &str, now: Instant) -> Option<u64> {
        let subjects = self.0.entry(cause).or_default();
        // `OTHERS` has a place beyond the bound.
        let subject =
            if subjects.contains_key(subject) || subjects.len() < MOST_SUBJECTS { subject } else { OTHERS };
        match subjects.get_mut(subject) {
            Some(told) if now.saturating_duration_since(told.at) < PERIOD => {
                told.left_out = told.left_out.saturating_add(1);
                None
            }
            Some(told) => Some(std::mem::replace(told, LastLine { at: now, left_out: 0 }).left_out),
            None => {
                subjects.insert(subject.into(), LastLine { at: now, left_out: 0 });
                Some(0)
            }
        }
    }

    fn ended(&mut self, now: Instant) -> Vec<LeftOut> {
        let mut ended = Vec::new();
        for (cause, subjects) in &mut self.0 {
            let over = subjects.extract_if(|_, told| now.saturating_duration_since(told.at) >= PERIOD);
            let left_out = over.filter(|(_, told)| told.left_out > 0);
            ended.extend(left_out.map(|(subject, told)| LeftOut { cause, subject, count: told.left_out }));
        }
        ended
    }
}

/// One line of a kind in so long.
const PERIOD: Duration = Duration::from_mins(1);
/// Subjects of one cause that have lines of their own at one time; an address or name is some bytes, so this is some kilobytes.
const MOST_SUBJECTS: usize = 64;
/// Stands for all subjects beyond [`MOST_SUBJECTS`].
pub(super) const OTHERS: &str = "(others)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_then_one_a_minute_with_the_number_left_out() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        for (at, told) in [(0, Some(0)), (1, None), (59, None), (60, Some(2)), (61, None), (600, Some(1))] {
            assert_eq!(recent.admit("refused", "a", start + Duration::from_secs(at)), told, "{at} s");
        }
        assert_eq!(recent.admit("refused", "b", start), Some(0), "another subject");
        assert_eq!(recent.admit("timeout", "a", start), Some(0), "another cause");
    }

    #[test]
    fn every_occurrence_is_in_a_line_or_in_a_number() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        let (mut lines, mut numbers) = (0_u64, 0_u64);
        for millis in 0..200_000 {
            let now = start + Duration::from_millis(millis);
            if let Some(left_out) = recent.admit("refused", "a", now) {
                lines += 1;
                numbers += left_out;
            }
        }
        assert_eq!(lines, 4);
        assert!(recent.ended(start + Duration::from_secs(200)).is_empty(), "the minute is not over");
        let ended = recent.ended(start + Duration::from_secs(260));
        assert_eq!(ended.len(), 1);
        assert_eq!(lines + numbers + ended[0].count, 200_000);
        assert_eq!(recent.admit("refused", "a", start + Duration::from_secs(261)), Some(0), "begun anew");
    }

    #[test]
    fn strangers_cannot_fill_memory_nor_the_log() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        let lines = (0..100_000).filter(|n| recent.admit("denied", &n.to_string(), start).is_some()).count();
        assert_eq!(lines, MOST_SUBJECTS + 1);
        assert_eq!(recent.0["denied"].len(), MOST_SUBJECTS + 1);
        let ended = recent.ended(start + PERIOD);
        let others = LeftOut { cause: "denied", subject: OTHERS.into(), count: 100_000 - 65 };
        assert_eq!(ended, [others]);
        assert_eq!(recent.admit("denied", "c", start + PERIOD), Some(0), "places are free again");
    }
}
