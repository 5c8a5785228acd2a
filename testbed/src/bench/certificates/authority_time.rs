//! The CA's own time in an order: while it has a request that it has not answered, from a challenge that was taken until it is validated,
//! and from a finalization until the certificate is issued. The last two end where Pebble's log says so, read each millisecond. What else
//! passes until the order is done is the client's: its work, and the pauses between its questions.

use std::{
    fs::File,
    io::Read,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::relay::Exchange;

/// Something that the CA has done by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Milestone {
    Validated,
    Issued,
}

impl Milestone {
    fn of(line: &str) -> Option<Self> {
        if line.contains("set VALID by completed challenge") {
            return Some(Self::Validated);
        }
        line.contains("Issued certificate serial").then_some(Self::Issued)
    }

    /// The request that asks for it, as the relay names it.
    fn asked_by(self) -> &'static str {
        match self {
            Self::Validated => "challenge",
            Self::Issued => "finalize",
        }
    }
}

type Milestones = Arc<Mutex<Vec<(Milestone, Instant)>>>;
type Span = (Instant, Instant);

/// Reads Pebble's log while it is written.
pub(super) struct LogReader {
    seen: Milestones,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LogReader {
    /// From the end of what is there.
    pub(super) fn start(log: &Path) -> anyhow::Result<Self> {
        let mut file = File::open(log)?;
        file.read_to_end(&mut Vec::new())?;
        let (seen, ends) = (Milestones::default(), Arc::new(AtomicBool::new(false)));
        let (into, stop) = (Arc::clone(&seen), Arc::clone(&ends));
        let thread = thread::spawn(move || follow(file, &into, &stop));
        Ok(Self { seen, ends, thread: Some(thread) })
    }

    /// What the CA needed within `order` for `exchanges`, and forgets what was read.
    pub(super) fn own_time(&self, exchanges: &[Exchange], order: Span) -> Duration {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        let answering = exchanges.iter().map(|exchange| (exchange.begun, exchange.ended));
        let working = seen.iter().filter_map(|(milestone, at)| {
            let asks = |exchange: &&Exchange| exchange.names.iter().any(|name| name == milestone.asked_by());
            let asked = exchanges.iter().filter(asks).filter(|exchange| exchange.begun <= *at);
            Some((asked.map(|exchange| exchange.begun).max()?, *at))
        });
        covered(answering.chain(working).collect(), order)
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn follow(mut file: File, seen: &Milestones, ends: &AtomicBool) {
    let mut unread = String::new();
    while !ends.load(Ordering::Relaxed) {
        // A log that cannot be read shows as an order without the CA's own work.
        let read = file.read_to_string(&mut unread).unwrap_or_default();
        if read > 0 {
            let now = Instant::now();
            let whole = unread.rfind('\n').map_or(0, |end| end + 1);
            let lines = unread.drain(..whole).collect::<String>();
            let found = lines.lines().filter_map(Milestone::of).map(|milestone| (milestone, now));
            seen.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
        }
        thread::park_timeout(PERIOD);
    }
}

/// How much of `within` the `spans` cover together.
fn covered(mut spans: Vec<Span>, within: Span) -> Duration {
    spans.sort_unstable();
    let (mut sum, mut until) = (Duration::ZERO, within.0);
    for (begun, ended) in spans {
        let (begun, ended) = (begun.max(until), ended.min(within.1));
        sum += ended.saturating_duration_since(begun);
        until = until.max(ended);
    }
    sum
}

const PERIOD: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_that_overlap_count_once_and_none_beyond_the_order() {
        let zero = Instant::now();
        let at = |millis| zero + Duration::from_millis(millis);
        for (spans, sum) in [
            (&[][..], 0),
            (&[(20, 30)], 10),
            (&[(20, 30), (20, 25), (28, 40)], 20),
            (&[(30, 40), (10, 20)], 20),
            (&[(0, 15), (95, 120)], 10),
            (&[(0, 200), (20, 30)], 90),
            (&[(0, 5), (150, 160)], 0),
        ] {
            let spans = spans.iter().map(|(begun, ended)| (at(*begun), at(*ended))).collect();
            assert_eq!(covered(spans, (at(10), at(100))), Duration::from_millis(sum), "{sum}");
        }
    }

    #[test]
    fn pebbles_log_says_what_was_validated_and_issued() {
        for (line, milestone) in [
            (
                "Pebble 2026/11/30 18:50:03 authz 3f set VALID by completed challenge 9k",
                Some(Milestone::Validated),
            ),
            ("Pebble 2026/11/30 18:50:03 Issued certificate serial 5c for order 7d", Some(Milestone::Issued)),
            ("Pebble 2026/11/30 18:50:03 Order 7d is fully authorized. Processing finalization", None),
        ] {
            assert_eq!(Milestone::of(line), milestone, "{line}");
        }
    }
}
