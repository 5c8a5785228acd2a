//! Bodies in transit: one frame at a time, so that neither side is read faster than the other takes.
//! Invariants: a response that breaks off upstream breaks off downstream (`a_truncated_answer_is_not_made_whole`); when a client goes
//! away, its upstream connection is closed (`a_client_that_leaves_ends_the_request_upstream`).

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::{
    metrics::RequestOutcome,
    min_rate::{MinRate, ProgressTimer},
    request_log::RequestRecord,
    rewrite,
    upload::length,
    upstream::UpstreamBody,
};
use crate::clock::now;

/// The body of a response to a client.
pub struct Body(BodySource);

enum BodySource {
    Own(OwnBody),
    Relay(Box<RelayedBody>),
}

/// Bytes of our own, none of them empty.
struct OwnBody {
    bytes: VecDeque<Bytes>,
    /// How much is given at once.
    piece: usize,
}

/// An upstream's response body on its way to a client.
struct RelayedBody {
    /// None if it has broken off.
    upstream: Option<UpstreamBody>,
    /// How much is read at once.
    piece: usize,
    progress_timer: ProgressTimer,
    record: Option<Box<RequestRecord>>,
}

impl Body {
    /// Bytes of our own.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self::parts([bytes])
    }

    /// The same in parts: what many responses have in common is in memory once.
    pub(super) fn parts(parts: impl IntoIterator<Item = Bytes>) -> Self {
        let bytes = parts.into_iter().filter(|part| !part.is_empty()).collect();
        Self(BodySource::Own(OwnBody { bytes, piece: PIECE }))
    }

    /// An upstream's response, which may be silent as long as `min_rate` lets it.
    pub(super) fn relay(upstream: UpstreamBody, min_rate: MinRate, record: Box<RequestRecord>) -> Self {
        let mut relay = RelayedBody {
            upstream: Some(upstream),
            piece: PIECE,
            progress_timer: ProgressTimer::new(min_rate),
            record: Some(record),
        };
        // A body that says it is over is never polled, as those of HEAD, 204 and 304 (RFC 9110 §6.4.1).
        relay.end_if_over();
        Self(BodySource::Relay(Box::new(relay)))
    }
}

impl Body {
    /// Pieces to come are of about `bytes`.
    pub(crate) fn request(&mut self, bytes: usize) {
        match &mut self.0 {
            BodySource::Own(own) => own.piece = bytes.max(1),
            BodySource::Relay(relay) => relay.piece = bytes,
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

impl OwnBody {
    fn next(&mut self) -> Option<Bytes> {
        let first = self.bytes.front_mut()?;
        if first.len() <= self.piece {
            return self.bytes.pop_front();
        }
        Some(first.split_to(self.piece))
    }

    fn left(&self) -> u64 {
        self.bytes.iter().map(length).sum()
    }
}

impl RelayedBody {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let Some(upstream) = &mut self.upstream else { return Poll::Ready(None) };
        match upstream.poll_data(cx, self.piece) {
            Poll::Ready(Ok(Some(data))) => {
                self.progress_timer.min_rate.arrived(length(&data), now());
                if let Some(record) = &mut self.record {
                    record.sent_bytes += length(&data);
                }
                self.end_if_over();
                Poll::Ready(Some(Ok(data)))
            }
            Poll::Ready(Ok(None)) => {
                self.end_if_over();
                Poll::Ready(None)
            }
            Poll::Ready(Err(error)) => self.break_off(RequestOutcome::Truncated, error),
            Poll::Pending => {
                ready!(self.progress_timer.poll_lost(cx));
                self.break_off(RequestOutcome::Stalled, io::ErrorKind::TimedOut.into())
            }
        }
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.upstream.as_mut()?.take_trailers().and_then(rewrite::trailers)
    }

    fn end_if_over(&mut self) {
        let Some(upstream) = self.upstream.as_mut().filter(|upstream| upstream.is_over()) else { return };
        if let Some(mut record) = self.record.take() {
            record.outcome = RequestOutcome::Forward;
        }
        upstream.release(now());
    }

    /// RFC 9112 §8: what is incomplete must be seen to be; upon an error the connection is closed, or the stream reset.
    fn break_off(&mut self, outcome: RequestOutcome, error: io::Error) -> Poll<Option<io::Result<Bytes>>> {
        if let Some(mut record) = self.record.take() {
            record.outcome = outcome;
        }
        self.upstream = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.0 {
            BodySource::Own(own) => Poll::Ready(own.next().map(|piece| Ok(Frame::data(piece)))),
            BodySource::Relay(relay) => match ready!(relay.poll_data(cx)) {
                Some(data) => Poll::Ready(Some(data.map(Frame::data))),
                None => Poll::Ready(relay.take_trailers().map(|trailers| Ok(Frame::trailers(trailers)))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            BodySource::Own(own) => own.bytes.is_empty(),
            BodySource::Relay(relay) => {
                let is_over = |upstream: &UpstreamBody| upstream.is_over() && !upstream.has_trailers();
                relay.upstream.as_ref().is_some_and(is_over)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            BodySource::Own(own) => SizeHint::with_exact(own.left()),
            BodySource::Relay(relay) => {
                let left = relay.upstream.as_ref().and_then(UpstreamBody::left);
                left.map_or_else(SizeHint::new, SizeHint::with_exact)
            }
        }
    }
}

/// How much is read at once of a response before its reader says how much it takes.
const PIECE: usize = 16 * 1024;
