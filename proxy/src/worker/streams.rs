//! The streams of an HTTP/2 connection, each a task of this worker and each held to the minimum rate of bodies.
//!
//! Flow control lets a client stall one stream, and what it holds upstream, while its connection looks busy (RFC 9113 §10.5). The time
//! that a stream's response data waits to be read counts as the client's.

use std::{
    future::{Future, poll_fn},
    rc::Rc,
};

use super::{
    metrics::WorkerMetrics,
    response_buffer::{ConnectionBuffer, StreamBuffer},
};
use crate::{config, forward::min_rate::MinRate};

/// Runs streams, and resets those whose client takes too little, or that hold most when memory is short.
#[derive(Clone)]
pub(super) struct Streams {
    connection: Rc<ConnectionBuffer>,
    limits: config::LimitsConfig,
    metrics: WorkerMetrics,
}

impl Streams {
    pub(super) fn new(
        connection: Rc<ConnectionBuffer>,
        limits: &config::LimitsConfig,
        metrics: &WorkerMetrics,
    ) -> Self {
        Self { connection, limits: limits.clone(), metrics: metrics.clone() }
    }
}

impl<F: Future + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let min_rate = MinRate::new(*self.limits.idle, self.limits.minimum_rate);
        let (buffer, metrics) = (self.connection.stream(Some(min_rate)), self.metrics.clone());
        tokio::task::spawn_local(async move {
            tokio::select! {
                biased;
                _ = CURRENT.scope(Rc::clone(&buffer), stream) => {}
                // Dropped with its end of the stream, it is reset (RFC 9113 §5.4.2).
                why = poll_fn(|cx| buffer.poll_ended(cx)) => metrics.ended.bump(why),
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
