//! Bodies on their way through: one frame at a time, each side at the pace of the other.
//! Invariants: an answer that breaks off upstream breaks off downstream (`a_truncated_answer_is_not_made_whole`); a client
//! that is gone takes its upstream connection with it (`a_client_that_leaves_ends_the_request_upstream`).

use std::{
    cell::Cell,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

use super::{
    metrics::RequestOutcome,
    min_rate::{MinRate, ProgressTimer, now},
    request_log::RequestRecord,
    upstream::{Demand, PooledConnection, UpstreamFailure},
};

/// What a client is answered with.
pub struct Body(BodySource);

enum BodySource {
    Whole(Option<Bytes>),
    Relay(Box<RelayedBody>),
}

/// An upstream's answer; dropped before its end it takes the upstream connection with it.
struct RelayedBody {
    incoming: Incoming,
    demand: Demand,
    /// How much is asked for at once.
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

    /// It is about to be dropped because its client takes too little of it.
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

/// A request's body on its way to the upstream; its client must keep up a pace.
pub(super) struct Upload {
    incoming: Option<Incoming>,
    /// What came before the upstream was asked.
    first: Option<Bytes>,
    progress_timer: ProgressTimer,
    progress: Rc<UploadProgress>,
}

/// What is known of an upload while hyper has it.
#[derive(Debug)]
pub(super) struct UploadProgress {
    bytes: Cell<u64>,
    state: Cell<UploadState>,
}

/// Where an upload stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UploadState {
    /// The client is to send more.
    Awaited,
    /// All that came was given to the upstream.
    Given { since: Instant },
    /// The whole body was given to the upstream.
    Complete { since: Instant },
    /// The client did not keep up the pace.
    Slow,
    /// The client went away.
    Gone,
}

impl Upload {
    pub(super) fn new(incoming: Incoming, min_rate: MinRate) -> Self {
        let incoming = Some(incoming).filter(|incoming| !incoming.is_end_stream());
        let state = if incoming.is_some() {
            UploadState::Given { since: now() }
        } else {
            UploadState::Complete { since: now() }
        };
        let progress = Rc::new(UploadProgress { bytes: Cell::new(0), state: Cell::new(state) });
        Self { incoming, first: None, progress_timer: ProgressTimer::new(min_rate), progress }
    }

    /// Waits for the body's first bytes, and keeps them for the upstream.
    pub(super) async fn begin(&mut self) -> Result<(), UpstreamFailure> {
        match poll_fn(|cx| self.poll_next(cx)).await.transpose() {
            Ok(first) => {
                self.first = first;
                Ok(())
            }
            Err(_) if self.progress.state() == UploadState::Slow => Err(UpstreamFailure::ClientSlow),
            Err(_) => Err(UpstreamFailure::ClientGone),
        }
    }

    pub(super) fn progress(&self) -> Rc<UploadProgress> {
        Rc::clone(&self.progress)
    }

    /// The same once more, which can only be had of nothing.
    pub(super) fn again(&self) -> Option<Self> {
        if self.incoming.is_some() || self.first.is_some() {
            return None;
        }
        let progress = self.progress();
        Some(Self {
            incoming: None,
            first: None,
            progress_timer: ProgressTimer::new(MinRate::new(std::time::Duration::MAX, 0)),
            progress,
        })
    }
}

impl UploadProgress {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    pub(super) fn state(&self) -> UploadState {
        self.state.get()
    }

    fn set(&self, state: UploadState) {
        self.state.set(state);
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        self.poll_next(cx).map_ok(Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.incoming.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint);
        let first = self.first.as_ref().map_or(0, length);
        let mut whole = SizeHint::new();
        whole.set_lower(rest.lower().saturating_add(first));
        if let Some(upper) = rest.upper() {
            whole.set_upper(upper.saturating_add(first));
        }
        whole
    }
}

impl Upload {
    /// The next bytes of the client's.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let Self { incoming, progress_timer, progress, .. } = self;
        let Some(body) = incoming else { return Poll::Ready(None) };
        loop {
            match Pin::new(&mut *body).poll_frame(cx) {
                // RFC 9110 §6.5.1: trailers may be discarded; a field in them must never pass for one of the head's.
                Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => {}
                Poll::Ready(Some(Ok(frame))) => {
                    let (data, since) = (frame.into_data().unwrap_or_default(), now());
                    progress_timer.min_rate.arrived(length(&data), since);
                    progress.bytes.set(progress.bytes.get() + length(&data));
                    // A body of known length is not polled beyond it.
                    let over = body.is_end_stream() || body.size_hint().exact() == Some(0);
                    progress.set(if over {
                        UploadState::Complete { since }
                    } else {
                        UploadState::Given { since }
                    });
                    return Poll::Ready(Some(Ok(data)));
                }
                Poll::Ready(Some(Err(error))) => {
                    progress.set(UploadState::Gone);
                    return Poll::Ready(Some(Err(io::Error::other(error))));
                }
                Poll::Ready(None) => {
                    progress.set(UploadState::Complete { since: now() });
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    progress.set(UploadState::Awaited);
                    std::task::ready!(progress_timer.poll_lost(cx));
                    progress.set(UploadState::Slow);
                    return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
                }
            }
        }
    }
}

fn length(bytes: &Bytes) -> u64 {
    bytes.len() as u64
}

/// What is asked for at once of an answer of which nothing is known yet.
const PIECE: usize = 16 * 1024;
