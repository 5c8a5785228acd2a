//! A request's body on its way to the upstream.

use std::{
    cell::Cell,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use super::{
    min_rate::{MinRate, ProgressTimer},
    rewrite::{self, Framing},
};
use crate::{
    client_stream::{Gone, RequestBody},
    clock::now,
    http1::InterimResponse,
};
use bytes::Bytes;
use http::HeaderMap;

/// A request's body on its way to the upstream; its client must keep up a rate.
pub(super) struct Upload {
    body: RequestBody,
    /// Data that came before the upstream was asked.
    first: Option<Bytes>,
    /// Before anything of it came.
    announced: Framing,
    passes_trailers: bool,
    progress_timer: ProgressTimer,
    progress: Rc<UploadProgress>,
    given_up: GivenUp,
}

/// Whether nobody wants the rest of an upload.
#[derive(Debug)]
enum GivenUp {
    /// Who is to hear of it.
    No(Option<Waker>),
    Yes,
}

/// The state of an upload, for those who do not send it.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum UploadEnd {
    /// The client did not keep up the rate.
    #[error("the client sent its body too slowly")]
    Slow,
    /// The client went away.
    #[error("the client went away")]
    Gone,
}

impl Upload {
    pub(super) fn new(body: RequestBody, passes_trailers: bool, min_rate: MinRate) -> Self {
        let since = now();
        let state =
            if body.is_over() { UploadState::Complete { since } } else { UploadState::Given { since } };
        let progress = Rc::new(UploadProgress { bytes: Cell::new(0), state: Cell::new(state) });
        let progress_timer = ProgressTimer::new(min_rate);
        let announced = match body.left() {
            Some(0) => Framing::Empty,
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        Self {
            body,
            first: None,
            announced,
            passes_trailers,
            progress_timer,
            progress,
            given_up: GivenUp::No(None),
        }
    }

    /// Waits for the body's first bytes, and stores them for the upstream.
    pub(super) async fn begin(&mut self) -> Result<(), UploadEnd> {
        let first = poll_fn(|cx| self.poll_next(cx)).await.transpose()?;
        self.first = first.filter(|data| !data.is_empty());
        Ok(())
    }

    /// Whether the client sends nothing before the upstream has said so (RFC 9110 §10.1.1).
    pub(super) fn awaits_continue(&self) -> bool {
        self.first.is_none() && self.body.awaits_continue()
    }

    /// Passes an interim response of the upstream on to the client.
    pub(super) fn send_interim(&self, interim: InterimResponse) {
        self.body.send_interim(interim.status, &rewrite::interim(interim.fields));
    }

    pub(super) fn progress(&self) -> Rc<UploadProgress> {
        Rc::clone(&self.progress)
    }

    /// How the end of the body is to be marked. It follows from the body alone, never from the client's fields.
    pub(super) fn framing(&self) -> Framing {
        match self.announced {
            // A stream's end may come in a frame of its own that carries no data (RFC 9113 §8.1).
            Framing::Chunked if self.body.is_http2() && self.is_over() => Framing::Empty,
            announced => announced,
        }
    }

    /// How many bytes are to come, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        self.body.left().map(|left| left + self.first.as_ref().map_or(0, length))
    }

    /// Ready when nobody wants the rest; for the one task that sends it.
    pub(super) fn poll_given_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.given_up {
            GivenUp::Yes => Poll::Ready(()),
            GivenUp::No(waiting) => {
                *waiting = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Ends it: nobody wants the rest.
    pub(super) fn give_up(&mut self) {
        (self.body, self.first) = (RequestBody::broken(), None);
        if let GivenUp::No(Some(waiting)) = std::mem::replace(&mut self.given_up, GivenUp::Yes) {
            waiting.wake();
        }
    }

    /// The trailer section behind the body, once, as the upstream may see it.
    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        let trailers = self.body.take_trailers().filter(|_| self.passes_trailers);
        trailers.and_then(rewrite::trailers)
    }

    /// Whether nothing more comes.
    pub(super) fn is_over(&self) -> bool {
        self.first.is_none() && self.body.is_over()
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
        let Self { body, progress_timer, progress, .. } = self;
        let Poll::Ready(next) = body.poll_data(cx) else {
            progress.set(UploadState::Awaited);
            ready!(progress_timer.poll_lost(cx));
            return Poll::Ready(Some(Err(progress.end(UploadEnd::Slow))));
        };
        let since = now();
        let is_over = match &next {
            Some(Ok(data)) => {
                progress_timer.min_rate.arrived(length(data), since);
                progress.bytes.set(progress.bytes.get() + length(data));
                // A body of known length is not read beyond it.
                body.is_over()
            }
            Some(Err(Gone)) => return Poll::Ready(Some(Err(progress.end(UploadEnd::Gone)))),
            None => true,
        };
        progress.set(if is_over { UploadState::Complete { since } } else { UploadState::Given { since } });
        Poll::Ready(next.map(|data| data.map_err(|Gone| UploadEnd::Gone)))
    }
}

pub(super) fn length(bytes: &Bytes) -> u64 {
    bytes.len() as u64
}
