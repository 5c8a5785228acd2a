//! When a connection's time is up, and what is to be done then.

use std::time::Instant;

use super::{
    activity::{Activity, Pastime},
    metrics::Ended,
    outflow::{Flow, Outflow},
};
use crate::transport::Outgoing;

/// The limits of one connection in time.
#[derive(Debug)]
pub(super) struct Watchdog<'a> {
    pub(super) activity: &'a Activity,
    pub(super) outflow: &'a Outflow,
}

/// What is to be done about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    GoOn,
    /// It may say goodbye.
    Close(Ended),
    /// It is dropped as it is.
    Cut(Ended),
}

impl Watchdog<'_> {
    /// When to judge, as things stand.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.activity.deadline(), self.outflow.deadline()].into_iter().flatten().min()
    }

    pub(super) fn judge(&self, now: Instant, outgoing: Outgoing) -> Verdict {
        let flow = self.outflow.judge(now, outgoing);
        if flow == Flow::Stuck {
            self.activity.cut();
            return Verdict::Cut(Ended::NotReading);
        }
        match self.activity.overdue(now) {
            None => Verdict::GoOn,
            // hyper is done with an answer long before its reader: idle is who has taken everything and asks for nothing.
            Some(Pastime::Idle) if flow == Flow::Moving => {
                self.activity.still_sending(now);
                Verdict::GoOn
            }
            Some(Pastime::Idle) => Verdict::Close(Ended::Idle),
            Some(Pastime::Head) => Verdict::Close(Ended::Head),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::worker::activity::{Limits, now};

    const WINDOW: Duration = Duration::from_mins(1);

    #[test]
    fn a_reader_of_a_finished_answer_is_not_idle() {
        let start = now();
        let activity = Activity::new(Limits { idle: WINDOW, head: None }, start);
        let outflow = Outflow::new(WINDOW, 240);
        let watchdog = Watchdog { activity: &activity, outflow: &outflow };
        let outgoing = |acknowledged| Outgoing { given: 1 << 20, acknowledged };
        outflow.gave(start, || outgoing(0));
        for (minutes, acknowledged, wanted) in [
            (1, 500_000, Verdict::GoOn),
            (2, 1_000_000, Verdict::GoOn),
            (3, 1 << 20, Verdict::Close(Ended::Idle)),
        ] {
            let at = watchdog.deadline().unwrap();
            assert_eq!(at, start + WINDOW * minutes);
            assert_eq!(watchdog.judge(at, outgoing(acknowledged)), wanted, "after {minutes} minutes");
        }
        assert!(!activity.is_cut());
    }

    #[test]
    fn a_reader_that_stops_is_cut_also_within_a_request() {
        let start = now();
        let activity = Activity::new(Limits { idle: WINDOW, head: Some(WINDOW) }, start);
        let outflow = Outflow::new(WINDOW, 240);
        let watchdog = Watchdog { activity: &activity, outflow: &outflow };
        let _request = activity.begin();
        let stuck = Outgoing { given: 1 << 20, acknowledged: 1000 };
        outflow.gave(start, || stuck);
        assert_eq!(watchdog.judge(start + WINDOW, stuck), Verdict::Cut(Ended::NotReading));
        assert!(activity.is_cut());
    }
}
