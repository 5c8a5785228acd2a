//! One HTTP/1.1 connection to an upstream. It has no task of its own: whoever waits for the response drives it.

use std::{
    cell::RefCell,
    future::{Future as _, poll_fn},
    io, mem,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::StatusCode;

use super::{
    deadline::within,
    failure::UpstreamFailure,
    request_writer::{RequestWriter, WriteFailure},
    slots::Slot,
};
use crate::{
    clock::now,
    http1::{BodyReader, ResponseHead, ResponsePart, ResponseReader},
    http1_stream::Http1Stream,
    lazy_timer::LazyTimer,
    proxy_protocol::ProxiedClient,
    target::EndpointAddress,
    transport::ByteStream,
};

/// An open connection. Dropping it closes it, whatever is in progress.
pub(super) struct Connection {
    stream: Http1Stream,
    pub(super) peer: EndpointAddress,
    pub(super) opened_at: Instant,
    sending: Sending,
    /// For the response that is waited for; one request after the other.
    timer: LazyTimer,
    /// While the rest of a request is sent by a task of its own, that task has the stream's wakers, and passes each wake on to `reader`.
    writer: Option<Waker>,
    reader: Option<Waker>,
    /// Whom it is for, if its endpoint was told so.
    client: Option<Rc<ProxiedClient>>,
    /// The right to be open, where that is bounded. Behind the stream, which is closed first.
    slot: Option<Slot>,
}

/// How far the last request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    Sends,
    Sent,
    /// The upstream takes no more of it.
    Failed,
}

impl Connection {
    /// Speaks HTTP/1.1 over `stream`, whose other end is `peer`.
    pub(super) fn new(stream: impl ByteStream, peer: EndpointAddress) -> Self {
        let (stream, opened_at) = (Http1Stream::new(stream), now());
        let (sending, timer) = (Sending::Sent, LazyTimer::default());
        let (client, slot) = (None, None);
        Self { stream, peer, opened_at, sending, timer, writer: None, reader: None, client, slot }
    }

    /// Says whom it is for.
    pub(super) fn dedicate(&mut self, client: Option<Rc<ProxiedClient>>) {
        self.client = client;
    }

    /// Whether it is for this client, or for anybody if there is none.
    pub(super) fn is_for(&self, client: Option<&ProxiedClient>) -> bool {
        self.client.as_deref() == client
    }

    /// Is open by the right of `slot`.
    pub(super) fn hold(&mut self, slot: Option<Slot>) {
        self.slot = slot;
    }

    /// Whether a request can go out: the last one did, and the upstream has neither closed the connection nor said anything unasked.
    pub(super) fn is_ready(&mut self) -> bool {
        self.is_sent() && self.stream.is_silent()
    }

    /// How far the last request has come.
    pub(super) fn sending(&self) -> Sending {
        self.sending
    }

    /// Its stream with what was received behind the last response's header section, and its slot; none if the request was not sent whole.
    pub(super) fn into_stream(self) -> Option<(Http1Stream, Option<Slot>)> {
        self.is_sent().then_some((self.stream, self.slot))
    }

    /// Whether all of the last request was sent.
    pub(super) fn is_sent(&self) -> bool {
        self.sending == Sending::Sent
    }

    /// Sends `request` and waits for the header section of its response, at most for `limit`.
    ///
    /// # Cancel safety
    /// After a dropped future, the connection must be dropped, too.
    pub(super) async fn exchange(
        &mut self,
        request: &mut RequestWriter,
        limit: Duration,
    ) -> Result<ResponseHead, UpstreamFailure> {
        let progress = request.upload().progress();
        let mut reader = ResponseReader::default();
        let mut patience = request.awaits_continue().then(|| Box::pin(tokio::time::sleep(CONTINUE)));
        self.sending = Sending::Sends;
        let mut timer = mem::take(&mut self.timer);
        let answering = poll_fn(|cx| {
            if patience.as_mut().is_some_and(|patience| patience.as_mut().poll(cx).is_ready()) {
                patience = None;
                request.proceed();
            }
            self.poll_answer(cx, &mut reader, request)
        });
        let head = within(limit, &progress, &mut timer, answering)
            .await
            .map_err(|_| UpstreamFailure::ResponseTimeout)??;
        self.timer = timer;
        if request.awaits_continue() {
            // The client was never told to send its body.
            self.sending = Sending::Failed;
        }
        Ok(head)
    }

    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut ResponseReader,
        request: &mut RequestWriter,
    ) -> Poll<Result<ResponseHead, UpstreamFailure>> {
        loop {
            if self.sending == Sending::Sends
                && let Poll::Ready(Err(WriteFailure::Client(end))) = self.poll_write(cx, request)
            {
                return Poll::Ready(Err(end.into()));
            }
            // Also behind an upstream that takes no more of the request: it may have answered it (RFC 9112 §9.5).
            match ready!(self.poll_part(cx, reader, request))? {
                ResponsePart::Final(head) => return Poll::Ready(Ok(head)),
                ResponsePart::Interim(interim) if interim.status == StatusCode::CONTINUE => request.proceed(),
                ResponsePart::Interim(interim) => request.upload().send_interim(interim),
            }
        }
    }

    fn poll_part(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut ResponseReader,
        request: &RequestWriter,
    ) -> Poll<Result<ResponsePart, UpstreamFailure>> {
        let most = if request.terms().is_multiplexed { HEAD_OF_MANY } else { HEAD };
        loop {
            if let Some(part) = reader.read(&mut self.stream.received, request.method())? {
                return Poll::Ready(Ok(part));
            }
            ready!(self.stream.poll_receive(cx, most)).map_err(UpstreamFailure::Closed)?;
        }
    }

    /// The next data of a response's body, at most `most` bytes; none behind its end.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut BodyReader,
        most: usize,
    ) -> Poll<io::Result<Option<Bytes>>> {
        let Some(writer) = &self.writer else { return self.stream.poll_body(cx, reader, most) };
        self.reader = Some(cx.waker().clone());
        self.stream.poll_body(&mut Context::from_waker(writer), reader, most)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        request: &mut RequestWriter,
    ) -> Poll<Result<(), WriteFailure>> {
        let written = request.poll_write(cx, &mut self.stream);
        self.sending = match &written {
            Poll::Pending => Sending::Sends,
            Poll::Ready(Ok(())) => Sending::Sent,
            Poll::Ready(Err(_)) => Sending::Failed,
        };
        written
    }

    /// [`Connection::poll_write`] in a task of its own.
    fn poll_write_apart(&mut self, cx: &mut Context<'_>, request: &mut RequestWriter) -> Poll<()> {
        let written = self.poll_write(cx, request);
        self.writer = written.is_pending().then(|| cx.waker().clone());
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        written.map(drop)
    }
}

/// Sends the rest of a request whose response has begun: a client that does not take the response may still send the request.
///
/// # Cancel safety
/// After a dropped future, the connection must be dropped, too.
pub(super) async fn send_rest(connection: Rc<RefCell<Connection>>, mut request: RequestWriter) {
    poll_fn(|cx| connection.borrow_mut().poll_write_apart(cx, &mut request)).await;
}

/// How long an upstream is waited for before its client is told to send the body: it may know nothing of the expectation (RFC 9110
/// §10.1.1).
const CONTINUE: Duration = Duration::from_secs(1);
/// How much of a header section is read at once; body bytes that come with it are held.
const HEAD: usize = 8 * 1024;
/// The same for a client that may leave a hundred responses unread.
const HEAD_OF_MANY: usize = 2 * 1024;
