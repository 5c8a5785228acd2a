//! The streams of an HTTP/2 connection, each a task of this worker and each held to the minimum rate of bodies.
//!
//! Flow control lets a client stall one stream, and what it holds upstream, while its connection looks busy (RFC 9113 §10.5). The time
//! that a stream's response data waits to be read counts as the client's.

use std::{
    future::{Future, poll_fn},
    rc::Rc,
    time::Duration,
};

use super::{
    metrics::WorkerMetrics,
    response_buffer::{ConnectionBuffer, StreamBuffer},
};
use crate::{config, forward::min_rate::MinRate};

/// Runs streams, and resets those whose client takes too little, or that hold most when memory is short.
///
/// hyper keeps a clone within each stream.
#[derive(Clone)]
pub(super) struct Streams(Rc<OfConnection>);

struct OfConnection {
    buffer: Rc<ConnectionBuffer>,
    idle: Duration,
    minimum_rate: u64,
    metrics: WorkerMetrics,
}

impl Streams {
    pub(super) fn new(
        buffer: Rc<ConnectionBuffer>,
        limits: &config::LimitsConfig,
        metrics: &WorkerMetrics,
    ) -> Self {
        let (idle, minimum_rate) = (*limits.idle, limits.minimum_rate);
        Self(Rc::new(OfConnection { buffer, idle, minimum_rate, metrics: metrics.clone() }))
    }
}

impl<F: Future + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let connection = Rc::clone(&self.0);
        let min_rate = MinRate::new(connection.idle, connection.minimum_rate);
        let buffer = connection.buffer.stream(Some(min_rate));
        tokio::task::spawn_local(async move {
            tokio::select! {
                biased;
                _ = CURRENT.scope(Rc::clone(&buffer), stream) => {}
                // Dropped with its end of the stream, it is reset (RFC 9113 §5.4.2).
                why = poll_fn(|cx| buffer.poll_ended(cx)) => connection.metrics.ended.bump(why),
            }
        });
    }
}

/// The buffer of the stream whose task this is; none in HTTP/1.1, where a connection is one stream.
pub(super) fn current() -> Option<Rc<StreamBuffer>> {
    CURRENT.try_with(Rc::clone).ok()
}

tokio::task_local! {
    static CURRENT: Rc<StreamBuffer>;
}
