//! Bodies in transit: one frame at a time, so that neither side is read faster than the other takes.
//! Invariants: a response that breaks off upstream breaks off downstream (`a_truncated_answer_is_not_made_whole`); when a client goes
//! away, its upstream connection is closed (`a_client_that_leaves_ends_the_request_upstream`).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

use super::{
    metrics::RequestOutcome,
    min_rate::{MinRate, ProgressTimer},
    request_log::RequestRecord,
    upload::length,
    upstream::{Demand, PooledConnection},
};
use crate::clock::now;

/// The body of a response to a client.
pub struct Body(BodySource);

enum BodySource {
    Whole(Option<Bytes>),
    Relay(Box<RelayedBody>),
}

/// An upstream's response body; dropped before its end, it closes the upstream connection.
struct RelayedBody {
    incoming: Incoming,
    demand: Demand,
    /// How much is requested at once.
    request: usize,
    progress_timer: ProgressTimer,
    lease: Option<PooledConnection>,
    record: Option<RequestRecord>,
}

impl Body {
    /// Bytes of our own.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self(BodySource::Whole(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }

    /// An upstream's answer, which may be silent as long as `min_rate` lets it.
    pub(super) fn relay(
        incoming: Incoming,
        lease: PooledConnection,
        min_rate: MinRate,
        record: RequestRecord,
    ) -> Self {
        let mut relay = RelayedBody {
            incoming,
            demand: lease.demand(),
            request: PIECE,
            progress_timer: ProgressTimer::new(min_rate),
            lease: Some(lease),
            record: Some(record),
        };
        // hyper never polls a body that says it is over, as those of HEAD, 204 and 304 do (RFC 9110 §6.4.1).
        relay.end_if_over();
        Self(BodySource::Relay(Box::new(relay)))
    }
}

impl Body {
    /// Pieces to come are of about `bytes`.
    pub(crate) fn request(&mut self, bytes: usize) {
        if let BodySource::Relay(relay) = &mut self.0 {
            relay.request = bytes;
        }
    }

    /// It is about to be dropped because its client reads too slowly.
    pub(crate) fn not_taken(&mut self) {
        if let BodySource::Relay(relay) = &mut self.0
            && let Some(record) = &mut relay.record
        {
            record.outcome = RequestOutcome::ClientNotReading;
        }
    }
}

impl RelayedBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.demand.close();
                let bytes = frame.data_ref().map_or(0, length);
                self.progress_timer.min_rate.arrived(bytes, now());
                if let Some(record) = &mut self.record {
                    record.sent_bytes += bytes;
                }
                self.end_if_over();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.break_off(RequestOutcome::Truncated, io::Error::other(error))
            }
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Pending => match self.progress_timer.poll_lost(cx) {
                Poll::Pending => {
                    self.demand.open(self.request);
                    Poll::Pending
                }
                Poll::Ready(_) => self.break_off(RequestOutcome::Stalled, io::ErrorKind::TimedOut.into()),
            },
        }
    }

    fn end_if_over(&mut self) {
        if self.incoming.is_end_stream() {
            self.end();
        }
    }

    fn end(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.outcome = RequestOutcome::Forward;
        }
        if let Some(lease) = self.lease.take() {
            lease.release(now());
        }
    }

    /// RFC 9112 §8: what is incomplete must be seen to be; hyper closes the connection or resets the stream upon an error.
    fn break_off(
        &mut self,
        outcome: RequestOutcome,
        error: io::Error,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(mut record) = self.record.take() {
            record.outcome = outcome;
        }
        self.lease = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.0 {
            BodySource::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            BodySource::Relay(relay) => loop {
                match std::task::ready!(relay.poll_frame(cx)) {
                    // RFC 9110 §6.5.1: trailers may be discarded.
                    Some(Ok(frame)) if frame.is_trailers() => {}
                    other => return Poll::Ready(other),
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            BodySource::Whole(bytes) => bytes.is_none(),
            BodySource::Relay(relay) => relay.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            BodySource::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, length)),
            BodySource::Relay(relay) => relay.incoming.size_hint(),
        }
    }
}

/// How much is requested at first of a response whose size is unknown.
const PIECE: usize = 16 * 1024;
