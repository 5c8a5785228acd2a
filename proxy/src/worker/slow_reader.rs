//! Whether a peer reads what it is sent at `limits.minimum_rate`, the rate that also applies to bodies it sends.
//!
//! The kernel's buffer holds megabytes, and reports room only when a third is free: only the acknowledgements show what a slow peer has
//! read. They are checked once per window.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use crate::{forward::min_rate, transport::Outgoing};

/// The rule for one connection. A peer that stops is found between one window and two after it has.
#[derive(Debug)]
pub(super) struct SlowReader {
    window: Duration,
    least: u64,
    mark: Cell<Option<Mark>>,
}

/// The state at the start of a window.
#[derive(Debug, Clone, Copy)]
struct Mark {
    since: Instant,
    then: Outgoing,
}

/// The state now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// Everything was acknowledged.
    Done,
    /// Data is unacknowledged, but moving.
    Moving,
    /// Data was unacknowledged for a whole window, and too little of it arrived.
    Stuck,
}

impl SlowReader {
    /// At least one byte in `window`, and `rate` bytes per second averaged over it, as long as there is something to take.
    pub(super) fn new(window: Duration, rate: u64) -> Self {
        Self { window, least: min_rate::least(window, rate), mark: Cell::new(None) }
    }

    /// Something was given to the peer; `outgoing` is asked once in a window only.
    pub(super) fn gave(&self, now: Instant, outgoing: impl FnOnce() -> Outgoing) {
        if self.mark.get().is_none() {
            self.mark.set(Some(Mark { since: now, then: outgoing() }));
        }
    }

    /// When to check again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.mark.get().map(|mark| mark.since + self.window)
    }

    /// Checks; a window is followed by another as long as data is unacknowledged.
    pub(super) fn judge(&self, now: Instant, outgoing: Outgoing) -> Flow {
        let flow = if outgoing.acknowledged >= outgoing.given { Flow::Done } else { Flow::Moving };
        let Some(mark) = self.mark.get().filter(|mark| now >= mark.since + self.window) else { return flow };
        // What was on its way at the mark has arrived: whether the peer was asked for more than it took is not known yet.
        let arrived = outgoing.acknowledged >= mark.then.given;
        let taken = outgoing.acknowledged.saturating_sub(mark.then.acknowledged);
        if !arrived && taken < self.least {
            return Flow::Stuck;
        }
        self.mark.set((flow == Flow::Moving).then_some(Mark { since: now, then: outgoing }));
        flow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_mins(1);
    const MEGABYTES: u64 = 4 << 20;

    fn at(given: u64, acknowledged: u64) -> Outgoing {
        Outgoing { given, acknowledged }
    }

    /// Gives `given` bytes at once to a peer that takes `rate` bytes per second, and looks when asked to.
    fn last_of(given: u64, rate: u64, windows: u64) -> Flow {
        let (start, slow_reader) = (Instant::now(), SlowReader::new(WINDOW, 240));
        slow_reader.gave(start, || at(given, 0));
        let mut flow = Flow::Moving;
        for _ in 0..windows {
            let Some(deadline) = slow_reader.deadline() else { break };
            let taken = (deadline - start).as_secs() * rate;
            flow = slow_reader.judge(deadline, at(given, taken.min(given)));
            if flow == Flow::Stuck {
                break;
            }
        }
        flow
    }

    #[test]
    fn a_peer_below_the_rate_is_stuck_and_one_above_is_not() {
        for (rate, wanted) in
            [(0, Flow::Stuck), (239, Flow::Stuck), (240, Flow::Moving), (10_000, Flow::Moving)]
        {
            assert_eq!(last_of(MEGABYTES, rate, 5), wanted, "{rate} B/s");
        }
        assert_eq!(last_of(MEGABYTES, 100_000, 5), Flow::Done);
        assert_eq!(last_of(10, 1, 1), Flow::Done, "a little that arrives is enough");
    }

    #[test]
    fn time_in_which_nothing_is_on_its_way_does_not_count() {
        let (start, slow_reader) = (Instant::now(), SlowReader::new(WINDOW, 240));
        slow_reader.gave(start, || at(100, 0));
        // The first answer was taken at once; another was given just before the window's end.
        let end = start + WINDOW;
        assert_eq!(slow_reader.judge(end, at(MEGABYTES, 100)), Flow::Moving);
        assert_eq!(
            slow_reader.judge(end + WINDOW / 2, at(MEGABYTES, 100)),
            Flow::Moving,
            "its window has just begun"
        );
        assert_eq!(slow_reader.judge(end + WINDOW, at(MEGABYTES, 100)), Flow::Stuck);
    }

    #[test]
    fn a_connection_that_has_said_all_has_no_deadline() {
        let (start, slow_reader) = (Instant::now(), SlowReader::new(WINDOW, 240));
        assert_eq!(slow_reader.deadline(), None);
        slow_reader.gave(start, || at(100, 0));
        assert_eq!(slow_reader.judge(start + WINDOW, at(100, 100)), Flow::Done);
        assert_eq!(slow_reader.deadline(), None);
    }
}
