//! Bodies on their way: what is answered to clients, and what watches over a body that is streamed.

use std::{
    cell::Cell,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use crate::config;

/// What is answered: a page of ours, or an upstream's body as it comes.
pub struct Body {
    content: Content,
    on_end: Option<OnEnd>,
}

/// Where a body comes from.
pub(super) enum Content {
    Page(Option<Bytes>),
    Upstream(Box<Paced>),
}

/// Called once, with how the body ended.
pub(super) type OnEnd = Box<dyn FnOnce(End)>;

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It was handed over to its end.
    Whole,
    /// It broke off, or its receiver went away.
    Cut,
}

impl Body {
    /// A page held in memory.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn page(content: impl Into<Bytes>) -> Self {
        Self::new(Content::Page(Some(content.into())), Box::new(|_| {}))
    }

    /// `on_end` is called when the body has ended or is given up.
    pub(super) fn new(content: Content, on_end: OnEnd) -> Self {
        let mut body = Self { content, on_end: Some(on_end) };
        if body.is_end_stream() {
            body.end(End::Whole);
        }
        body
    }

    fn end(&mut self, end: End) {
        if let Some(on_end) = self.on_end.take() {
            on_end(end);
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let frame = match &mut self.content {
            Content::Page(page) => page.take().map(|bytes| Ok(Frame::data(bytes))),
            Content::Upstream(body) => ready!(Pin::new(&mut **body).poll_frame(cx)),
        };
        match &frame {
            Some(Err(_)) => self.end(End::Cut),
            Some(Ok(_)) if !self.is_end_stream() => {}
            Some(Ok(_)) | None => self.end(End::Whole),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Page(page) => page.is_none(),
            Content::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Page(page) => SizeHint::with_exact(page.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Content::Upstream(body) => body.size_hint(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.end(End::Cut);
    }
}

/// What is sent to an upstream: nothing, or the client's body as it comes.
pub(super) struct Outgoing(Option<Paced>);

impl Outgoing {
    pub(super) fn new(body: Option<Paced>) -> Self {
        Self(body)
    }

    pub(super) fn into_body(self) -> Option<Paced> {
        self.0
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut self.0 {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

/// A body that may not stall: without a byte for the idle time, or slower than the minimum rate over it, it ends in an error.
pub(super) struct Paced {
    body: Incoming,
    limits: Pace,
    window: Instant,
    window_bytes: u64,
    sleep: Pin<Box<Sleep>>,
    progress: Progress,
}

/// How far a body has come, for whoever waits for it to be sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress(Rc<State>);

#[derive(Debug, Default)]
struct State {
    bytes: Cell<u64>,
    done: Cell<bool>,
    stalled: Cell<bool>,
}

impl Progress {
    /// Of a body that is over, or not.
    pub(super) fn of_body(over: bool) -> Self {
        let progress = Self::default();
        progress.0.done.set(over);
        progress
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.0.bytes.get()
    }

    /// Whether the body has been read to its end.
    pub(super) fn is_done(&self) -> bool {
        self.0.done.get()
    }

    /// Whether it ended because its sender was too slow.
    pub(super) fn has_stalled(&self) -> bool {
        self.0.stalled.get()
    }
}

/// How slow a body may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    idle: Duration,
    minimum_bytes: u64,
}

impl From<&config::Limits> for Pace {
    fn from(limits: &config::Limits) -> Self {
        Self { idle: *limits.idle, minimum_bytes: limits.minimum_rate.saturating_mul(limits.idle.as_secs()) }
    }
}

impl Paced {
    pub(super) fn new(body: Incoming, limits: Pace) -> (Self, Progress) {
        let progress = Progress::of_body(body.is_end_stream());
        let now = tokio::time::Instant::now();
        let sleep = Box::pin(tokio::time::sleep_until(now + limits.idle));
        let paced =
            Self { body, limits, window: now.into_std(), window_bytes: 0, sleep, progress: progress.clone() };
        (paced, progress)
    }

    fn took(&mut self, bytes: usize) {
        let now = tokio::time::Instant::now();
        self.window_bytes = self.window_bytes.saturating_add(bytes as u64);
        self.progress.0.bytes.set(self.progress.0.bytes.get().saturating_add(bytes as u64));
        if now.into_std().duration_since(self.window) >= self.limits.idle / 2
            && self.window_bytes >= self.limits.minimum_bytes
        {
            self.window = now.into_std();
            self.window_bytes = 0;
            self.sleep.as_mut().reset(now + self.limits.idle);
        }
    }
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(self.sleep.as_mut().poll(cx));
                self.progress.0.stalled.set(true);
                return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
            }
        };
        match &frame {
            Some(Ok(frame)) => self.took(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(_)) => {}
            None => self.progress.0.done.set(true),
        }
        if self.body.is_end_stream() {
            self.progress.0.done.set(true);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
