//! The streams of an HTTP/2 connection, each a task of this worker and each held to the pace of bodies.
//!
//! Flow control lets a client starve one stream, and whatever it holds upstream, while its connection is as lively as can be
//! (RFC 9113 §10.5). hyper asks a body for more only when the client's windows have room for what it gave before: the
//! time between is the client's.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    rc::Rc,
    task::{Context, Poll, ready},
};

use super::{
    activity::now,
    metrics::{Ended, Metrics},
};
use crate::{
    config,
    forward::pace::{self, Pace, Patience},
};

/// Runs streams, and resets those whose client takes too little.
#[derive(Clone)]
pub(super) struct Streams {
    limits: config::Limits,
    metrics: Metrics,
}

impl Streams {
    pub(super) fn new(limits: &config::Limits, metrics: &Metrics) -> Self {
        Self { limits: limits.clone(), metrics: metrics.clone() }
    }
}

impl<F: Future + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let (outlet, metrics) = (Rc::new(Outlet::new(&self.limits)), self.metrics.clone());
        tokio::task::spawn_local(async move {
            tokio::select! {
                biased;
                _ = OUTLET.scope(Rc::clone(&outlet), stream) => {}
                // Dropped with its end of the stream, it is reset (RFC 9113 §5.4.2).
                () = poll_fn(|cx| outlet.poll_lost(cx)) => metrics.ended.bump(Ended::StreamNotReading),
            }
        });
    }
}

/// What is known of a stream's answer between its body and its task.
pub(super) struct Outlet {
    patience: RefCell<Patience>,
    piece: usize,
    out: Cell<u64>,
    lost: Cell<bool>,
}

impl Outlet {
    fn new(limits: &config::Limits) -> Self {
        let least = pace::least(*limits.idle, limits.minimum_rate);
        Self {
            patience: RefCell::new(Patience::new(Pace::new(*limits.idle, limits.minimum_rate))),
            piece: usize::try_from(least).unwrap_or(LARGEST_PIECE).clamp(SMALLEST_PIECE, LARGEST_PIECE),
            out: Cell::new(0),
            lost: Cell::new(false),
        }
    }

    /// That of the stream whose task this is; none in HTTP/1.1, where a connection is one stream.
    pub(super) fn current() -> Option<Rc<Self>> {
        OUTLET.try_with(Rc::clone).ok()
    }

    /// How much a body may give at once: what is taken of a piece is not seen, so none may take an honest client longer
    /// than a window.
    pub(super) fn piece(&self) -> usize {
        self.piece
    }

    /// The body is asked for more.
    pub(super) fn taken(&self) {
        self.patience.borrow_mut().pace.arrived(self.out.replace(0), now());
    }

    /// The body gave so much.
    pub(super) fn gave(&self, bytes: usize) {
        self.out.set(bytes as u64);
    }

    /// Whether the client has had its time.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.get()
    }

    fn poll_lost(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.out.get() == 0 {
            return Poll::Pending;
        }
        ready!(self.patience.borrow_mut().poll_lost(cx));
        self.lost.set(true);
        Poll::Ready(())
    }
}

tokio::task_local! {
    static OUTLET: Rc<Outlet>;
}

/// The largest frame a client takes unless it says more (RFC 9113 §6.5.2).
const LARGEST_PIECE: usize = 16 << 10;
/// Where `limits.minimum_rate` asks for less than this in a window, this is asked for all the same.
const SMALLEST_PIECE: usize = 4 << 10;
