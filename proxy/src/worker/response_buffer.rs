//! Response data in memory that clients have not read: bounded per stream, per connection and for the process.
//!
//! A stream's window starts small and grows with what its client reads, so that a fast client gets large pieces and one that does not
//! read costs little. Where its connection or the process holds too much, each stream has the minimum.
//! Invariants: held data is counted exactly, from a piece's creation to its drop (`pieces_are_counted_until_they_are_dropped`); a stream
//! that holds nothing may always hold one piece, so that no other stream's client stops it (`a_stream_never_waits_for_another`).

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::{Rc, Weak},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::{Buf, Bytes};

use super::{
    connections::{Clients, ConnectionSource},
    metrics::LimitReached,
    stream_window::{LEAST, StreamWindow},
};
use crate::clock::now;
use crate::forward::min_rate::{MinRate, ProgressTimer};

/// Bytes of answers that the process holds, and how many it may hold before each stream is held to the least.
#[derive(Debug, Clone)]
pub struct HeldBytes(Arc<Totals>);

#[derive(Debug)]
struct Totals {
    held: AtomicUsize,
    limit: AtomicUsize,
}

impl HeldBytes {
    /// Nothing held, of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Totals { held: AtomicUsize::new(0), limit: AtomicUsize::new(limit) }))
    }

    /// Changes the limit for what is to come.
    pub fn limit(&self, limit: usize) {
        self.0.limit.store(limit, Ordering::Relaxed);
    }

    /// How many bytes are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    fn is_full(&self) -> bool {
        self.held() >= self.0.limit.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        self.0.held.fetch_add(bytes, Ordering::Relaxed);
    }

    fn remove(&self, bytes: usize) {
        self.0.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The connections of one worker, from which some are chosen when memory is short.
pub(super) struct Registry {
    process: HeldBytes,
    connections: RefCell<BTreeMap<u64, Weak<ConnectionBuffer>>>,
    next: Cell<u64>,
    streams: Cell<usize>,
    held: Cell<usize>,
}

impl Registry {
    /// About how much memory its connections take, answers included.
    pub(super) fn weight(&self) -> usize {
        weight(self.connections.borrow().len(), self.streams.get(), self.held.get())
    }

    pub(super) fn new(process: HeldBytes) -> Rc<Self> {
        Rc::new(Self {
            process,
            connections: RefCell::default(),
            next: Cell::new(0),
            streams: Cell::new(0),
            held: Cell::new(0),
        })
    }

    /// A new connection from `source`; it is listed until it is dropped.
    pub(super) fn connection(self: &Rc<Self>, source: ConnectionSource) -> Rc<ConnectionBuffer> {
        let id = self.next.replace(self.next.get() + 1);
        let connection = Rc::new(ConnectionBuffer {
            id,
            registry: Rc::clone(self),
            source,
            held: Cell::new(0),
            streams: RefCell::default(),
            cut: Cell::new(None),
            driver: RefCell::default(),
        });
        self.connections.borrow_mut().insert(id, Rc::downgrade(&connection));
        connection
    }

    /// All connections, in the order they came.
    pub(super) fn connections(&self) -> Vec<Rc<ConnectionBuffer>> {
        self.connections.borrow().values().filter_map(Weak::upgrade).collect()
    }
}

/// Response data that one connection holds.
pub(super) struct ConnectionBuffer {
    id: u64,
    registry: Rc<Registry>,
    source: ConnectionSource,
    held: Cell<usize>,
    streams: RefCell<Vec<Weak<StreamBuffer>>>,
    cut: Cell<Option<LimitReached>>,
    driver: RefCell<Option<Waker>>,
}

impl Drop for ConnectionBuffer {
    fn drop(&mut self) {
        self.registry.connections.borrow_mut().remove(&self.id);
    }
}

impl ConnectionBuffer {
    /// A stream of HTTP/2, held to `min_rate`; or, without one, all answers of an HTTP/1.1 connection, one after the other.
    pub(super) fn stream(self: &Rc<Self>, min_rate: Option<MinRate>) -> Rc<StreamBuffer> {
        let stream = Rc::new(StreamBuffer {
            connection: Rc::clone(self),
            held: Cell::new(0),
            window: Cell::new(StreamWindow::default()),
            waiting: RefCell::default(),
            patience: RefCell::new(min_rate.map(ProgressTimer::new)),
            taken_at: Cell::new(now()),
            ended: Cell::new(None),
            task: RefCell::default(),
        });
        self.registry.streams.set(self.registry.streams.get() + 1);
        let mut streams = self.streams.borrow_mut();
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(Rc::downgrade(&stream));
        stream
    }

    /// Its streams that are open.
    pub(super) fn streams(&self) -> Vec<Rc<StreamBuffer>> {
        self.streams.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    /// Bytes of answers.
    pub(super) fn held(&self) -> usize {
        self.held.get()
    }

    /// How many connections its source has open, itself among them.
    pub(super) fn of_source(&self) -> usize {
        self.source.connections()
    }

    /// Whose requests it carries.
    pub(super) fn clients(&self) -> Clients {
        self.source.clients()
    }

    /// Makes the connection's driver drop it.
    pub(super) fn cut(&self, why: LimitReached) {
        self.cut.set(Some(why));
        if let Some(driver) = self.driver.borrow_mut().take() {
            driver.wake();
        }
    }

    /// Ready when the connection is to be dropped, and why.
    pub(super) fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<LimitReached> {
        if let Some(why) = self.cut.get() {
            return Poll::Ready(why);
        }
        register(&self.driver, cx);
        Poll::Pending
    }

    fn is_crowded(&self) -> bool {
        self.held.get() >= CONNECTION || self.registry.process.is_full()
    }
}

/// Response data that one stream holds.
pub(super) struct StreamBuffer {
    connection: Rc<ConnectionBuffer>,
    held: Cell<usize>,
    window: Cell<StreamWindow>,
    waiting: RefCell<Option<Waker>>,
    patience: RefCell<Option<ProgressTimer>>,
    taken_at: Cell<Instant>,
    ended: Cell<Option<LimitReached>>,
    task: RefCell<Option<Waker>>,
}

impl Drop for StreamBuffer {
    fn drop(&mut self) {
        let streams = &self.connection.registry.streams;
        streams.set(streams.get().saturating_sub(1));
    }
}

impl StreamBuffer {
    /// Ready when another piece may be held, with the size it should have.
    pub(super) fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<usize> {
        if let Some(bytes) = self.window.get().piece(self.held.get(), self.connection.is_crowded()) {
            return Poll::Ready(bytes);
        }
        register(&self.waiting, cx);
        Poll::Pending
    }

    /// Ready when so little is held that the stream's task may end: the rest is neither timed nor reset.
    pub(super) fn poll_finish(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.may_finish() {
            return Poll::Ready(());
        }
        register(&self.waiting, cx);
        Poll::Pending
    }

    /// Whether [`StreamBuffer::poll_finish`] is ready.
    pub(super) fn may_finish(&self) -> bool {
        self.held.get() <= LEAST
    }

    /// Counts `bytes` until the piece is dropped.
    pub(super) fn hold(self: &Rc<Self>, bytes: Bytes) -> Piece {
        let length = bytes.len();
        if self.held.get() == 0 {
            self.taken_at.set(now());
        }
        self.held.set(self.held.get() + length);
        self.connection.held.set(self.connection.held.get() + length);
        let registry = &self.connection.registry;
        registry.held.set(registry.held.get() + length);
        registry.process.add(length);
        Piece { bytes, length, stream: Rc::clone(self) }
    }

    /// Bytes of its answer.
    pub(super) fn held(&self) -> usize {
        self.held.get()
    }

    /// When its client last read something, or there was something to read.
    pub(super) fn taken_at(&self) -> Instant {
        self.taken_at.get()
    }

    /// Frees what it holds, since memory is short: the stream is dropped by its task, in HTTP/1.1 with its connection.
    pub(super) fn cut(&self) {
        if self.patience.borrow().is_none() {
            return self.connection.cut(LimitReached::Memory);
        }
        self.ended.set(Some(LimitReached::StreamMemory));
        if let Some(task) = self.task.borrow_mut().take() {
            task.wake();
        }
    }

    /// Whether it was dropped because its client did not read.
    pub(super) fn is_cut(&self) -> bool {
        self.ended.get().is_some() || self.connection.cut.get().is_some()
    }

    /// Ready when the stream is to be dropped, and why. To be polled after the stream itself.
    pub(super) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<LimitReached> {
        if let Some(why) = self.ended.get() {
            return Poll::Ready(why);
        }
        register(&self.task, cx);
        if self.held.get() == 0 {
            return Poll::Pending;
        }
        let mut patience = self.patience.borrow_mut();
        let Some(patience) = patience.as_mut() else { return Poll::Pending };
        std::task::ready!(patience.poll_lost(cx));
        self.ended.set(Some(LimitReached::StreamNotReading));
        Poll::Ready(LimitReached::StreamNotReading)
    }

    fn taken(&self, bytes: usize) {
        let mut window = self.window.get();
        window.taken(bytes);
        self.window.set(window);
        let now = now();
        self.taken_at.set(now);
        if let Some(patience) = self.patience.borrow_mut().as_mut() {
            patience.min_rate.arrived(bytes as u64, now);
            // What else is held waits from now on, and not from when somebody looks again.
            patience.min_rate.wait(now);
        }
    }

    fn release(&self, bytes: usize) {
        self.held.set(self.held.get().saturating_sub(bytes));
        if self.held.get() == 0
            && let Some(patience) = self.patience.borrow_mut().as_mut()
        {
            patience.min_rate.arrived(0, now());
        }
        self.connection.held.set(self.connection.held.get().saturating_sub(bytes));
        let registry = &self.connection.registry;
        registry.held.set(registry.held.get().saturating_sub(bytes));
        registry.process.remove(bytes);
        if let Some(waiting) = self.waiting.borrow_mut().take() {
            waiting.wake();
        }
    }
}

/// Bytes of an answer on their way to the transport.
pub(super) struct Piece {
    bytes: Bytes,
    length: usize,
    stream: Rc<StreamBuffer>,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.stream.taken(count);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.stream.release(self.length);
    }
}

fn register(place: &RefCell<Option<Waker>>, cx: &mut Context<'_>) {
    let mut waker = place.borrow_mut();
    match &mut *waker {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *waker = Some(cx.waker().clone()),
    }
}

/// About what so many connections and streams take, with the `held` bytes of their answers.
pub(super) fn weight(connections: usize, streams: usize, held: usize) -> usize {
    held.saturating_add(connections.saturating_mul(CONNECTION_COST))
        .saturating_add(streams.saturating_mul(STREAM_COST))
}

/// What a connection may hold before each of its streams is held to `CROWDED`.
const CONNECTION: usize = 256 * 1024;

/// What an idle TLS connection costs, measured.
const CONNECTION_COST: usize = 48 * 1024;
/// What a stream costs beside its answer: its task, its request and the upstream connection it has, measured.
pub(super) const STREAM_COST: usize = 12 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::{
        Connections,
        stream_window::{CROWDED, GROWS_AFTER, LARGEST},
    };

    fn connection(process: HeldBytes) -> Rc<ConnectionBuffer> {
        Registry::new(process).connection(source())
    }

    fn source() -> ConnectionSource {
        Connections::new(9, 9).admit([192, 0, 2, 1].into()).ok().unwrap().source()
    }

    fn bytes(count: usize) -> Bytes {
        vec![0; count].into()
    }

    fn may_hold(stream: &StreamBuffer) -> Option<usize> {
        match stream.poll_piece(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(bytes) => Some(bytes),
            Poll::Pending => None,
        }
    }

    /// Has `stream`'s client take `total` bytes.
    fn take(stream: &Rc<StreamBuffer>, total: usize) {
        let mut piece = stream.hold(bytes(total));
        piece.advance(total);
    }

    #[test]
    fn pieces_are_counted_until_they_are_dropped() {
        let process = HeldBytes::new(1 << 20);
        let connection = connection(process.clone());
        let (one, other) = (connection.stream(None), connection.stream(None));
        let (mut first, second) = (one.hold(bytes(100)), other.hold(bytes(50)));
        first.advance(99);
        assert_eq!((one.held(), connection.held.get(), process.held()), (100, 150, 150));
        drop((first, second));
        assert_eq!((one.held(), connection.held.get(), process.held()), (0, 0, 0));
    }

    #[test]
    fn a_window_grows_with_what_is_taken_and_not_with_what_is_given() {
        let connection = connection(HeldBytes::new(1 << 20));
        let stream = connection.stream(None);
        let first = stream.hold(bytes(LEAST));
        assert_eq!(may_hold(&stream), None);
        drop(first);
        assert_eq!(may_hold(&stream), Some(LEAST), "given up, not taken");
        take(&stream, GROWS_AFTER * LEAST);
        let held = stream.hold(bytes(LEAST));
        assert_eq!(may_hold(&stream), Some(LEAST), "two pieces in a window of twice the least");
        drop(held);
        for _ in 0..10 {
            take(&stream, 16 << 20);
        }
        assert_eq!(may_hold(&stream), Some(LARGEST / 2));
    }

    #[test]
    fn a_stream_never_waits_for_another() {
        for (limit, of_one) in [(1 << 20, CONNECTION), (LEAST, LEAST)] {
            let connection = connection(HeldBytes::new(limit));
            let (one, other) = (connection.stream(None), connection.stream(None));
            let _held = one.hold(bytes(of_one));
            take(&other, GROWS_AFTER * LEAST);
            assert_eq!(may_hold(&other), Some(CROWDED));
            let _piece = other.hold(bytes(CROWDED));
            assert_eq!(may_hold(&other), None, "no more than the least where too much is held");
        }
    }

    #[test]
    fn a_connection_is_listed_until_it_is_dropped() {
        let registry = Registry::new(HeldBytes::new(1));
        let (one, other) = (registry.connection(source()), registry.connection(source()));
        drop(one);
        assert_eq!(registry.connections().len(), 1);
        drop(other);
        assert!(registry.connections().is_empty());
    }
}
