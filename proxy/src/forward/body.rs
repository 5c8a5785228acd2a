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
    compression::Encoder,
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
    /// What compresses it, if it is to be.
    encoder: Option<Box<Encoder>>,
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

    /// An upstream's response, which may be silent as long as `min_rate` lets it, and is compressed by `encoder` if there is one.
    pub(super) fn relay(
        upstream: UpstreamBody,
        encoder: Option<Box<Encoder>>,
        min_rate: MinRate,
        record: Box<RequestRecord>,
    ) -> Self {
        let mut relay = RelayedBody {
            upstream: Some(upstream),
            piece: PIECE,
            progress_timer: ProgressTimer::new(min_rate),
            encoder,
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
    /// The next data for the client.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let next = if self.encoder.is_some() {
            ready!(self.poll_encoded(cx))
        } else {
            ready!(self.poll_received(cx, self.piece))
        };
        if let (Some(Ok(data)), Some(record)) = (&next, &mut self.record) {
            record.sent_bytes += length(data);
        }
        self.end_if_over();
        Poll::Ready(next)
    }

    /// What comes out of the encoder. What the upstream has sent so far is not held back once it sends nothing more for now, as between two
    /// events of a stream of them.
    fn poll_encoded(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        // What compresses well may be read for long before anything comes out: other tasks have their turn.
        for _ in 0..PIECES_AT_ONCE {
            let received = match self.poll_received(cx, PIECE) {
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(received) => Poll::Ready(received.transpose().unwrap_or_default()),
                Poll::Pending => Poll::Pending,
            };
            let Some(encoder) = self.encoder.as_mut().filter(|encoder| !encoder.is_finished()) else {
                return Poll::Ready(None);
            };
            let output = match &received {
                Poll::Ready(Some(data)) => encoder.put(data),
                Poll::Ready(None) => encoder.finish(),
                Poll::Pending => encoder.flush(),
            };
            let output = match output {
                Ok(output) => output,
                Err(error) => return self.break_off(RequestOutcome::Truncated, error),
            };
            if let Some(record) = &self.record {
                let before = if let Poll::Ready(Some(data)) = &received { length(data) } else { 0 };
                record.compressed(before, length(&output));
            }
            if !output.is_empty() {
                return Poll::Ready(Some(Ok(output)));
            }
            ready!(received);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The next data of the upstream, at most `most` bytes.
    fn poll_received(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<Option<io::Result<Bytes>>> {
        let Some(upstream) = &mut self.upstream else { return Poll::Ready(None) };
        match upstream.poll_data(cx, most) {
            Poll::Ready(Ok(Some(data))) => {
                self.progress_timer.min_rate.arrived(length(&data), now());
                Poll::Ready(Some(Ok(data)))
            }
            Poll::Ready(Ok(None)) => Poll::Ready(None),
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

    /// Whether all of it was read, and has come out of the encoder.
    fn is_over(&self) -> bool {
        self.upstream.as_ref().is_some_and(UpstreamBody::is_over)
            && self.encoder.as_ref().is_none_or(|encoder| encoder.is_finished())
    }

    fn end_if_over(&mut self) {
        if !self.is_over() {
            return;
        }
        let Some(upstream) = self.upstream.as_mut() else { return };
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
                let has_trailers = relay.upstream.as_ref().is_some_and(UpstreamBody::has_trailers);
                relay.is_over() && !has_trailers
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            BodySource::Own(own) => SizeHint::with_exact(own.left()),
            BodySource::Relay(relay) => {
                // How much comes out of the encoder nobody knows before.
                let upstream = relay.upstream.as_ref().filter(|_| relay.encoder.is_none());
                let left = upstream.and_then(UpstreamBody::left);
                left.map_or_else(SizeHint::new, SizeHint::with_exact)
            }
        }
    }
}

/// How much is read at once of a response before its reader says how much it takes.
const PIECE: usize = 16 * 1024;
/// How many of them are compressed at once, in at most 0.3 ms each.
const PIECES_AT_ONCE: usize = 2;
