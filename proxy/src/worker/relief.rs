//! What ends when memory is short, so that new connections need not be refused: first the streams that hold most for clients that do not
//! read, then the connections that still hold it. A connection that holds nothing is left alone: then clients are not what uses the
//! memory, and ending them would free little.
//!
//! Weights are multiplied by the number of connections of the same source: a source that holds little on each of a thousand counts like
//! one that holds much. Invariants: a stream whose client reads is not ended while others are enough
//! (`streams_that_stand_still_are_cut_first`), nor where answers are not what uses the memory
//! (`where_answers_are_not_what_uses_the_memory_those_that_are_read_are_left_alone`).

use std::{
    cmp::Reverse,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Shared,
    metrics::LimitReached,
    response_buffer::{ConnectionBuffer, Registry, STREAM_COST, weight},
};
use crate::allocator::release_freed;
use crate::clock::now;

/// How much memory has to be freed; written by the thread that watches memory, read by all workers.
#[derive(Debug, Clone, Default)]
pub struct Excess(Arc<ExcessState>);

#[derive(Debug, Default)]
struct ExcessState {
    bytes: AtomicUsize,
    /// Each measurement is acted upon once.
    measurement: AtomicU64,
}

impl Excess {
    /// `bytes` have to be freed by all workers together.
    pub fn publish(&self, bytes: usize) {
        self.0.bytes.store(bytes, Ordering::Relaxed);
        self.0.measurement.fetch_add(1, Ordering::Release);
    }

    /// What has to be freed, unless the measurement is `seen`.
    fn since(&self, seen: &mut u64) -> usize {
        let measurement = self.0.measurement.load(Ordering::Acquire);
        if std::mem::replace(seen, measurement) == measurement {
            return 0;
        }
        self.0.bytes.load(Ordering::Relaxed)
    }
}

/// Frees this worker's share whenever memory is short, and releases unused memory after a peak.
pub(super) async fn keep(registry: Rc<Registry>, shared: Arc<Shared>) {
    let (mut ticks, mut seen) = (tokio::time::interval(PERIOD), 0);
    let (mut peak, mut relieved) = (Peak { most: 0, looked_at: now() }, false);
    loop {
        ticks.tick().await;
        // What was ended in the last turn has been dropped by its tasks since.
        if peak.is_over(registry.weight(), now()) || relieved {
            release_freed();
        }
        let excess = shared.excess.since(&mut seen) / shared.heartbeat.workers().max(1);
        relieved = excess > 0;
        if relieved {
            relieve(&registry.connections(), excess, now());
        }
    }
}

/// What was held since memory was last released.
struct Peak {
    most: usize,
    looked_at: Instant,
}

impl Peak {
    /// Whether a fair part of the most that was held has been freed; asked once a second at most, since a release takes
    /// milliseconds.
    fn is_over(&mut self, held: usize, now: Instant) -> bool {
        self.most = self.most.max(held);
        if now.saturating_duration_since(self.looked_at) < GIVE_BACK_PERIOD {
            return false;
        }
        self.looked_at = now;
        let over = self.most - held > GIVE_BACK;
        if over {
            self.most = held;
        }
        over
    }
}

/// Ends streams and connections that hold about `excess` bytes.
fn relieve(connections: &[Rc<ConnectionBuffer>], excess: usize, now: Instant) {
    let loads: Vec<Load> = connections.iter().map(|connection| Load::of(connection, now)).collect();
    for cut in choose(&loads, excess) {
        match cut {
            Cut::Connection(index) => {
                if let Some(connection) = connections.get(index) {
                    connection.cut(LimitReached::Memory);
                }
            }
            Cut::Stream(index, number) => {
                let stream =
                    connections.get(index).and_then(|connection| connection.streams().get(number).cloned());
                if let Some(stream) = stream {
                    stream.cut();
                }
            }
        }
    }
}

/// A connection with its weight.
#[derive(Debug, Clone)]
struct Load {
    /// Open connections of its source.
    crowd: usize,
    /// Bytes of responses, including those of streams that were ended.
    held: usize,
    streams: Vec<StreamLoad>,
}

#[derive(Debug, Clone, Copy)]
struct StreamLoad {
    held: usize,
    stands_still: bool,
}

/// What is to end: indices of connections, and of streams within theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Stream(usize, usize),
    Connection(usize),
}

impl Load {
    fn of(connection: &ConnectionBuffer, now: Instant) -> Self {
        let streams = connection.streams();
        let streams = streams.iter().map(|stream| StreamLoad {
            // Data of ended streams may still be held by the connection, and is freed only with it.
            held: if stream.is_cut() { 0 } else { stream.held() },
            stands_still: now.saturating_duration_since(stream.taken_at()) >= STILL,
        });
        Self { crowd: connection.of_source(), held: connection.held(), streams: streams.collect() }
    }

    fn bytes(&self) -> usize {
        weight(1, self.streams.len(), self.held)
    }

    /// Whether its client reads none of its streams.
    fn stands_still(&self) -> bool {
        self.streams.iter().all(|stream| stream.stands_still)
    }
}

fn choose(loads: &[Load], excess: usize) -> Vec<Cut> {
    let mut left = excess;
    let mut take_until_enough = |mut candidates: Vec<Candidate>| -> Vec<Cut> {
        let all = candidates.iter().fold(0_usize, |sum, candidate| sum.saturating_add(candidate.bytes));
        if all < left / WORTHWHILE {
            candidates.retain(|candidate| candidate.stands_still);
        }
        let enough = candidates.into_iter().take_while(|candidate| {
            let needed = left > 0;
            left = left.saturating_sub(candidate.bytes);
            needed
        });
        enough.map(|candidate| candidate.cut).collect()
    };
    let mut cuts = take_until_enough(streams(loads));
    cuts.extend(take_until_enough(connections(loads)));
    cuts
}

/// What may be ended, and what that frees.
struct Candidate {
    cut: Cut,
    bytes: usize,
    stands_still: bool,
}

/// Streams that hold something, in the order they are cut.
fn streams(loads: &[Load]) -> Vec<Candidate> {
    let all = loads.iter().enumerate().flat_map(|(index, load)| {
        let streams = load.streams.iter().enumerate().filter(|(_, stream)| stream.held > 0);
        streams.map(move |(number, stream)| (Cut::Stream(index, number), *stream, load.crowd))
    });
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|(_, stream, crowd)| Reverse((stream.stands_still, stream.held.saturating_mul(*crowd))));
    let candidate = |(cut, stream, _): (Cut, StreamLoad, usize)| Candidate {
        cut,
        bytes: stream.held.saturating_add(STREAM_COST),
        stands_still: stream.stands_still,
    };
    all.into_iter().map(candidate).collect()
}

/// Connections that hold something, in the order they are cut.
fn connections(loads: &[Load]) -> Vec<Candidate> {
    let mut all: Vec<_> = loads.iter().enumerate().filter(|(_, load)| load.held > 0).collect();
    all.sort_by_key(|(_, load)| Reverse(load.bytes().saturating_mul(load.crowd)));
    let candidate = |(index, load): (usize, &Load)| Candidate {
        cut: Cut::Connection(index),
        bytes: load.bytes(),
        stands_still: load.stands_still(),
    };
    all.into_iter().map(candidate).collect()
}

/// Which part of the excess clients that read must hold together to be ended for it: where they hold less, the memory is used by something else,
/// and ending each answer at once would free none of it.
const WORTHWHILE: usize = 8;
/// The smallest amount worth releasing.
const GIVE_BACK: usize = 2 * 1024 * 1024;
const GIVE_BACK_PERIOD: Duration = Duration::from_secs(1);
const PERIOD: Duration = Duration::from_millis(50);
/// A client that has taken nothing for so long is not reading.
const STILL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn load(crowd: usize, streams: &[(usize, bool)]) -> Load {
        let streams: Vec<_> =
            streams.iter().map(|&(held, stands_still)| StreamLoad { held, stands_still }).collect();
        Load { crowd, held: streams.iter().map(|stream| stream.held).sum(), streams }
    }

    #[test]
    fn streams_that_stand_still_are_cut_first() {
        let loads = [
            load(1, &[(200_000, false), (8_000, true)]),
            load(1, &[(30_000, true), (0, true)]),
            load(9, &[(8_000, true)]),
        ];
        for (excess, wanted) in [
            (0, &[][..]),
            (1, &[Cut::Stream(2, 0)]),
            (20_000, &[Cut::Stream(2, 0)]),
            (50_000, &[Cut::Stream(2, 0), Cut::Stream(1, 0)]),
            (81_000, &[Cut::Stream(2, 0), Cut::Stream(1, 0), Cut::Stream(0, 1)]),
            (90_000, &[Cut::Stream(2, 0), Cut::Stream(1, 0), Cut::Stream(0, 1), Cut::Stream(0, 0)]),
        ] {
            assert_eq!(choose(&loads, excess), wanted, "{excess} bytes");
        }
    }

    #[test]
    fn where_streams_are_not_enough_the_heaviest_connections_follow() {
        let cut_before = |crowd| Load { held: 9_000, ..load(crowd, &[(0, true), (0, true)]) };
        let loads = [cut_before(1), cut_before(40), load(40, &[(0, true)]), load(9, &[])];
        assert_eq!(choose(&loads, 1), [Cut::Connection(1)]);
        assert_eq!(
            choose(&loads, 1 << 30),
            [Cut::Connection(1), Cut::Connection(0)],
            "idle ones are left alone"
        );
    }

    /// Domains, certificates and maps may be what uses it.
    #[test]
    fn where_answers_are_not_what_uses_the_memory_those_that_are_read_are_left_alone() {
        let reads = || load(1, &[(400, false)]);
        let excess = WORTHWHILE * 4 * reads().bytes();
        assert_eq!(choose(&[reads()], excess), []);
        let still = load(1, &[(400, true)]);
        assert_eq!(choose(&[reads(), still], excess), [Cut::Stream(1, 0), Cut::Connection(1)]);
        let many: Vec<_> = (0..WORTHWHILE * 8).map(|_| reads()).collect();
        let cuts = choose(&many, excess);
        let streams = cuts.iter().filter(|cut| matches!(cut, Cut::Stream(..)));
        assert_eq!(streams.count(), many.len(), "together they hold enough");
    }

    #[test]
    fn memory_is_given_back_once_after_each_peak() {
        let start = now();
        let mut peak = Peak { most: 0, looked_at: start };
        for (second, held, over) in [
            (1, GIVE_BACK, false),
            (2, 3 * GIVE_BACK, false),
            (3, GIVE_BACK, true),
            (4, GIVE_BACK, false),
            (5, 0, false),
            (6, 9 * GIVE_BACK, false),
            (7, 0, true),
        ] {
            assert_eq!(peak.is_over(held, start + GIVE_BACK_PERIOD * second), over, "second {second}");
        }
        assert!(!peak.is_over(9 * GIVE_BACK, start + GIVE_BACK_PERIOD * 7));
    }

    #[test]
    fn a_measurement_is_acted_upon_once() {
        let (excess, mut seen) = (Excess::default(), 0);
        assert_eq!(excess.since(&mut seen), 0);
        excess.publish(7);
        assert_eq!((excess.since(&mut seen), excess.since(&mut seen)), (7, 0));
    }
}
