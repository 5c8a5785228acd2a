//! A request's body on its way to the upstream.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Incoming};

use super::{
    min_rate::{MinRate, ProgressTimer},
    rewrite::Framing,
};
use crate::clock::now;

/// A request's body on its way to the upstream; its client must keep up a rate.
pub(super) struct Upload {
    incoming: Option<Incoming>,
    /// Data that came before the upstream was asked.
    first: Option<Bytes>,
    progress_timer: ProgressTimer,
    progress: Rc<UploadProgress>,
}

/// The state of an upload while hyper owns the body.
#[derive(Debug)]
pub(super) struct UploadProgress {
    bytes: Cell<u64>,
    state: Cell<UploadState>,
}

/// Where an upload stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UploadState {
    /// The client has more to send.
    Awaited,
    /// All that came was given to the upstream.
    Given { since: Instant },
    /// The complete body was sent to the upstream.
    Complete { since: Instant },
    /// The client sent no complete body.
    Broken(UploadEnd),
}

/// How an upload ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UploadEnd {
    /// The client did not keep up the rate.
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

    /// Waits for the body's first bytes, and stores them for the upstream.
    pub(super) async fn begin(&mut self) -> Result<(), UploadEnd> {
        self.first = poll_fn(|cx| self.poll_next(cx)).await.transpose()?;
        Ok(())
    }

    pub(super) fn progress(&self) -> Rc<UploadProgress> {
        Rc::clone(&self.progress)
    }

    /// How the end of the body is to be marked. It follows from the body alone, never from the client's fields.
    pub(super) fn framing(&self) -> Framing {
        match self.incoming.as_ref().map(|incoming| incoming.size_hint().exact()) {
            None => Framing::Empty,
            Some(Some(length)) => Framing::Length(length),
            Some(None) => Framing::Chunked,
        }
    }

    /// Whether nothing more comes.
    pub(super) fn is_over(&self) -> bool {
        self.first.is_none() && self.incoming.as_ref().is_none_or(HttpBody::is_end_stream)
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

    fn end(&self, end: UploadEnd) -> UploadEnd {
        self.set(UploadState::Broken(end));
        end
    }
}

impl Upload {
    /// The next data of the body.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UploadEnd>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let Self { incoming, progress_timer, progress, .. } = self;
        let Some(body) = incoming else { return Poll::Ready(None) };
        loop {
            match Pin::new(&mut *body).poll_frame(cx) {
                // RFC 9110 §6.5.1: trailers may be discarded; a field in them must never be taken for one of the header section.
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
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(progress.end(UploadEnd::Gone)))),
                Poll::Ready(None) => {
                    progress.set(UploadState::Complete { since: now() });
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    progress.set(UploadState::Awaited);
                    std::task::ready!(progress_timer.poll_lost(cx));
                    return Poll::Ready(Some(Err(progress.end(UploadEnd::Slow))));
                }
            }
        }
    }
}

pub(super) fn length(bytes: &Bytes) -> u64 {
    bytes.len() as u64
}
