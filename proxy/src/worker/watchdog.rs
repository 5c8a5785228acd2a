//! When a connection's time is up, and what happens then.

use std::{rc::Rc, time::Instant};

use super::{
    activity::{Activity, IdleKind},
    metrics::LimitReached,
    slow_reader::{Flow, SlowReader},
};
use crate::transport::Outgoing;

/// The time limits of one connection.
#[derive(Debug)]
pub(super) struct Watchdog {
    pub(super) activity: Activity,
    pub(super) slow_reader: Rc<SlowReader>,
}

/// What is to be done about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WatchdogVerdict {
    GoOn,
    /// It is closed in order, once what has begun is over: within a header section, at once.
    Close(LimitReached),
    /// It is dropped as it is.
    Cut(LimitReached),
}

impl Watchdog {
    /// When to check again, as of now.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.activity.deadline(), self.slow_reader.deadline()].into_iter().flatten().min()
    }

    pub(super) fn judge(&self, now: Instant, outgoing: Outgoing) -> WatchdogVerdict {
        let flow = self.slow_reader.judge(now, outgoing);
        if flow == Flow::Stuck {
            self.activity.cut();
            return WatchdogVerdict::Cut(LimitReached::NotReading);
        }
        match self.activity.overdue(now) {
            None => WatchdogVerdict::GoOn,
            // A response is finished long before its client has read it: idle means that everything was read and nothing is asked.
            Some(IdleKind::Idle) if self.activity.still_sends(now, outgoing) => WatchdogVerdict::GoOn,
            Some(IdleKind::Idle) => WatchdogVerdict::Close(LimitReached::Idle),
            Some(IdleKind::Head) => WatchdogVerdict::Close(LimitReached::Head),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{clock::now, worker::activity::IdleLimits};

    const WINDOW: Duration = Duration::from_mins(1);

    #[test]
    fn a_reader_of_a_finished_answer_is_not_idle() {
        let start = now();
        let activity = Activity::new(IdleLimits { idle: WINDOW, head: None }, start);
        let slow_reader = Rc::new(SlowReader::new(WINDOW, 240));
        let watchdog = Watchdog { activity: activity.clone(), slow_reader: Rc::clone(&slow_reader) };
        let outgoing = |acknowledged| Outgoing { given: 1 << 20, acknowledged };
        slow_reader.gave(start, || outgoing(0));
        for (minutes, acknowledged, wanted) in [
            (1, 500_000, WatchdogVerdict::GoOn),
            (2, 1_000_000, WatchdogVerdict::GoOn),
            (3, 1 << 20, WatchdogVerdict::Close(LimitReached::Idle)),
        ] {
            let at = watchdog.deadline().unwrap();
            assert_eq!(at, start + WINDOW * minutes);
            assert_eq!(watchdog.judge(at, outgoing(acknowledged)), wanted, "after {minutes} minutes");
        }
        assert!(!activity.is_cut());
    }

    #[test]
    fn answers_to_pings_keep_no_connection() {
        let start = now();
        let activity = Activity::new(IdleLimits { idle: WINDOW, head: None }, start);
        let slow_reader = Rc::new(SlowReader::new(WINDOW, 240));
        let watchdog = Watchdog { activity: activity.clone(), slow_reader: Rc::clone(&slow_reader) };
        // Each time it is looked at, the last answer was not acknowledged yet.
        let outgoing = |given| Outgoing { given, acknowledged: given - 17 };
        for (minutes, given, wanted) in
            [(1, 17_000, WatchdogVerdict::GoOn), (2, 34_000, WatchdogVerdict::Close(LimitReached::Idle))]
        {
            let at = watchdog.deadline().unwrap();
            assert_eq!(at, start + WINDOW * minutes);
            slow_reader.gave(at, || outgoing(given));
            assert_eq!(watchdog.judge(at, outgoing(given)), wanted, "after {minutes} minutes");
        }
    }

    #[test]
    fn a_reader_that_stops_is_cut_also_within_a_request() {
        let start = now();
        let activity = Activity::new(IdleLimits { idle: WINDOW, head: Some(WINDOW) }, start);
        let slow_reader = Rc::new(SlowReader::new(WINDOW, 240));
        let watchdog = Watchdog { activity: activity.clone(), slow_reader: Rc::clone(&slow_reader) };
        let _request = activity.begin();
        let stuck = Outgoing { given: 1 << 20, acknowledged: 1000 };
        slow_reader.gave(start, || stuck);
        assert_eq!(watchdog.judge(start + WINDOW, stuck), WatchdogVerdict::Cut(LimitReached::NotReading));
        assert!(activity.is_cut());
    }
}
