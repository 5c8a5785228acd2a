//! The one way to stderr: a bounded queue and a thread that empties it, so that no worker waits for the reader.
//! Invariant: every line that is lost is counted: one for which the queue has no room (`a_reader_that_lags_costs_lines_and_no_time`), and
//! those that cannot be written (`lines_that_cannot_be_written_are_counted_and_the_next_begins_a_line`).

use std::{
    io::{self, Write},
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread,
    time::Duration,
};

use crate::clock;

use prometheus::{IntCounter, Registry};
use tracing_subscriber::fmt::MakeWriter;

/// Where finished lines go; cheap to clone.
#[derive(Clone)]
pub struct Lines {
    queue: SyncSender<LogMessage>,
    dropped: IntCounter,
}

enum LogMessage {
    Line(Vec<u8>),
    /// Answered by closing, once all before it is written.
    Flush(SyncSender<()>),
}

impl Lines {
    /// Starts the thread that writes to `out`; it ends with the last clone.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let dropped = dropped().map_err(io::Error::other)?;
        let (queue, lines) = sync_channel(CAPACITY);
        let lost = dropped.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || write(&lines, out, &lost))?;
        Ok(Self { queue, dropped })
    }

    /// Shows in `registry` how many lines were dropped.
    pub fn measure(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.dropped.clone()))
    }

    /// Queues `line`, which ends in its newline, or drops it.
    pub fn push(&self, line: Vec<u8>) {
        if self.queue.try_send(LogMessage::Line(line)).is_err() {
            self.dropped.inc();
        }
    }

    /// Waits until all that was pushed before is written, at most for `limit`.
    pub fn flush(&self, limit: Duration) {
        let until = clock::now() + limit;
        let (done, finished) = sync_channel(0);
        let mut message = LogMessage::Flush(done);
        while clock::now() < until {
            match self.queue.try_send(message) {
                Ok(()) => {
                    let _ = finished.recv_timeout(until.saturating_duration_since(clock::now()));
                    return;
                }
                Err(TrySendError::Full(back)) => message = back,
                Err(TrySendError::Disconnected(_)) => return,
            }
            thread::park_timeout(RETRY);
        }
    }
}

/// The counter of lost lines.
pub(super) fn dropped() -> Result<IntCounter, prometheus::Error> {
    IntCounter::new(
        DROPPED,
        "Log lines lost because stderr was not read fast enough, or could not be written.",
    )
}

/// One event of `tracing`, which writes it in one piece.
pub struct Event<'a>(&'a Lines);

impl Write for Event<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Event<'a>;
    fn make_writer(&'a self) -> Event<'a> {
        Event(self)
    }
}

/// Writes what is there in one call, then waits for more.
fn write(queue: &Receiver<LogMessage>, mut out: impl Write, lost: &IntCounter) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut is_amid_line = false;
    while let Ok(first) = queue.recv() {
        let mut waiting = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                LogMessage::Line(line) => batch.extend_from_slice(&line),
                LogMessage::Flush(done) => waiting.push(done),
            }
            next = if batch.len() < BATCH { queue.try_recv().ok() } else { None };
        }
        is_amid_line = is_amid_line && write_most(b"\n", &mut out) == 0;
        let written = if is_amid_line { 0 } else { write_most(&batch, &mut out) };
        let (whole, unwritten) = batch.split_at_checked(written).unwrap_or_default();
        lost.inc_by(unwritten.split_inclusive(|byte| *byte == b'\n').count() as u64);
        is_amid_line |= whole.last().is_some_and(|byte| *byte != b'\n');
        batch.clear();
        drop(waiting);
    }
}

/// Writes until all is written or `out` fails, as a file on a full disk does; how many bytes.
fn write_most(bytes: &[u8], out: &mut impl Write) -> usize {
    let mut written = 0;
    while let Some(left) = bytes.get(written..).filter(|left| !left.is_empty()) {
        match out.write(left) {
            Ok(0) => break,
            Ok(count) => written += count,
            // Whoever shares stderr may have made it non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::park_timeout(RETRY),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    written
}

const DROPPED: &str = "gatehouse_log_lines_dropped_total";
const CAPACITY: usize = 4096;
const BATCH: usize = 64 * 1024;
const RETRY: Duration = Duration::from_millis(5);

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Arc, Mutex, mpsc};

    use super::*;

    /// What was written so far.
    #[derive(Clone, Default)]
    pub(crate) struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Kept {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Takes bytes only when told to.
    struct Stuck(Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Answers in turn; behind the last answer it takes all.
    struct Script(Kept, std::vec::IntoIter<io::Result<usize>>);

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let most = self.1.next().unwrap_or(Ok(bytes.len()))?;
            self.0.write(bytes.get(..most).unwrap_or(bytes))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_the_next_begins_a_line() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let (kept, busy) = (Kept::default(), io::ErrorKind::WouldBlock.into());
        let script = vec![Err(busy), Ok(5), Err(full()), Err(full())];
        let lines = Lines::start(Script(kept.clone(), script.into_iter())).unwrap();
        for line in ["first line\n", "second\n", "third\n", "fourth\n"] {
            lines.push(line.as_bytes().to_vec());
            lines.flush(Duration::from_secs(10));
        }
        assert_eq!(kept.text(), "first\nthird\nfourth\n");
        assert_eq!(lines.dropped.get(), 2);
    }

    #[test]
    fn lines_are_written_in_order_by_the_time_of_the_flush() {
        let kept = Kept::default();
        let lines = Lines::start(kept.clone()).unwrap();
        for i in 0..1000 {
            lines.push(format!("{i}\n").into_bytes());
        }
        lines.flush(Duration::from_secs(10));
        let wanted: Vec<_> = (0..1000).map(|i| i.to_string()).collect();
        assert_eq!(kept.text().lines().collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn a_reader_that_lags_costs_lines_and_no_time() {
        let (go, wait) = mpsc::channel();
        let lines = Lines::start(Stuck(wait)).unwrap();
        for _ in 0..3 * CAPACITY {
            lines.push(vec![b'x'; 100]);
        }
        assert!(lines.dropped.get() > 0, "nothing was dropped");
        drop(go);
    }
}
