//! HTTP/1.1 with one client: requests one after the other, in the connection's own task.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{StatusCode, Version};
use hyper::body::{Body as _, Frame};

use super::{Connection, date::date, tracked::Tracked};
use crate::{
    client_stream::{ClientStream, RequestBody, RequestEnd},
    clock::now,
    field_name::FieldName,
    fields::Fields,
    forward::{self, Then, Tunnel, TunnelEnd},
    http1::{
        MessageViolation, MessageWriter, RequestHead, RequestLimits, RequestParts, RequestReader,
        ResponseFraming, response_head,
    },
    phase::{Phase, PhaseWatch},
    worker::{
        activity::Activity,
        response_buffer::{Piece, StreamBuffer},
    },
};

/// What a connection is served with.
pub(super) struct Http1<F> {
    pub(super) client: ClientStream,
    pub(super) answer: F,
    pub(super) activity: Activity,
    pub(super) buffer: Rc<StreamBuffer>,
    pub(super) limits: RequestLimits,
    /// Whether more than one request may be answered.
    pub(super) keeps_alive: bool,
    pub(super) ending: Rc<Cell<Ending>>,
    pub(super) phase: PhaseWatch,
}

/// Whether a connection is to end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Ending {
    #[default]
    No,
    /// With its next answer, which says so.
    ByAnswer,
    /// Once what is in progress has ended.
    Now,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Http1End {
    Closed,
    /// What came was no request, and was answered with this status.
    Unparsed(StatusCode),
}

/// A connection in progress.
pub(super) struct Http1Connection {
    serving: Pin<Box<dyn Future<Output = Http1End>>>,
    ending: Rc<Cell<Ending>>,
}

impl Future for Http1Connection {
    type Output = Http1End;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Http1End> {
        self.serving.as_mut().poll(cx)
    }
}

impl Connection for Http1Connection {
    const IS_TOLD_BY_ANSWERS: bool = true;
    fn shut_down(&mut self) {
        self.ending.set(Ending::Now);
    }
    fn follow(&mut self, phase: Phase) {
        let ends = phase.ends_connections();
        self.ending.set(match self.ending.get() {
            Ending::Now => Ending::Now,
            Ending::No | Ending::ByAnswer if ends => Ending::ByAnswer,
            Ending::No | Ending::ByAnswer => Ending::No,
        });
    }
}

impl<F, Fut> Http1<F>
where
    F: Fn(Box<RequestParts>, RequestBody) -> Fut + 'static,
    Fut: Future<Output = forward::Answer> + 'static,
{
    /// Serves the connection to its end.
    pub(super) fn serve(self) -> Http1Connection {
        let ending = Rc::clone(&self.ending);
        Http1Connection { serving: Box::pin(self.answer_requests()), ending }
    }

    async fn answer_requests(self) -> Http1End {
        let mut reader = RequestReader::default();
        loop {
            let request = match poll_fn(|cx| self.poll_request(cx, &mut reader)).await {
                Ok(Some(request)) => request,
                Ok(None) => {
                    self.close().await;
                    return Http1End::Closed;
                }
                Err(RequestEnd::Closed) => {
                    if self.client.has_ended() {
                        self.close().await;
                    }
                    return Http1End::Closed;
                }
                Err(RequestEnd::Violation(violation)) => return self.refuse(violation).await,
            };
            // Boxed: a connection that waits for a request takes no memory for an answer.
            match Box::pin(self.exchange(request)).await {
                Ok(Then::KeepAlive) => {}
                Ok(Then::Close) => {
                    self.close().await;
                    return Http1End::Closed;
                }
                Ok(Then::Tunnel(tunnel)) => {
                    // Boxed: other connections take no memory for one.
                    Box::pin(self.tunnel(*tunnel)).await;
                    return Http1End::Closed;
                }
                Err(ClientGone) => return Http1End::Closed,
            }
            if self.client.has_received() {
                self.activity.received(now());
            }
        }
    }

    /// The next request; none when the connection is to end and nothing of another request has come.
    fn poll_request(
        &self,
        cx: &mut Context<'_>,
        reader: &mut RequestReader,
    ) -> Poll<Result<Option<RequestHead>, RequestEnd>> {
        match self.client.poll_request(cx, reader, self.limits) {
            Poll::Pending if self.ending.get() == Ending::Now && !self.client.has_received() => {
                Poll::Ready(Ok(None))
            }
            request => request.map_ok(Some),
        }
    }

    async fn exchange(&self, request: RequestHead) -> Result<Then, ClientGone> {
        let body = self.client.begin_body(&request);
        let RequestHead { parts, framing, is_persistent, .. } = request;
        let in_progress = self.activity.begin();
        let (method, version) = (parts.method.clone(), parts.version);
        let forward::Answer { status, fields, body, then } =
            self.unless_gone(pin!((self.answer)(parts, body))).await?;
        let ends_body = self.ends_body().await;
        let response_framing = ResponseFraming::new(&method, version, status, body.size_hint().exact());
        // Where the response is complete before the request is, as a refused upload's, what is left of the request ends the connection.
        let outlives_answer = !self.client.is_body_over() && response_framing != ResponseFraming::Chunked;
        let is_kept = is_persistent
            && matches!(then, Then::KeepAlive)
            && framing.is_some()
            && ends_body
            && !outlives_answer
            && response_framing != ResponseFraming::UntilClose
            && self.keeps_alive
            && self.ending.get() == Ending::No
            && (self.client.has_received() || !self.client.has_ended());
        // RFC 9110 §7.8: Connection names an Upgrade. Beside a switch only this response may have one (§15.5.22).
        let asks_upgrade = status == StatusCode::UPGRADE_REQUIRED && fields.has(FieldName::Upgrade);
        let option = match (&then, version) {
            (Then::Tunnel(_), _) => Some("upgrade"),
            (_, _) if asks_upgrade => Some(if is_kept { "upgrade" } else { "close, upgrade" }),
            (Then::KeepAlive | Then::Close, _) if !is_kept => Some("close"),
            (_, Version::HTTP_10) => Some("keep-alive"),
            (_, _) => None,
        };
        let head = response_head(status, &fields, response_framing, option, &date());
        // What is read of a request behind its response is of no other request.
        let _in_progress = (!self.client.is_body_over()).then(|| self.activity.begin());
        let body = Tracked::new(body, Rc::clone(&self.buffer), in_progress, None);
        self.write(response_framing.message(head), body).await?;
        // What has come of a request that was given up meanwhile is read away once more.
        let is_over = self.ends_body().await && self.client.is_body_over();
        Ok(match then {
            Then::Tunnel(tunnel) => Then::Tunnel(tunnel),
            _ if is_kept && is_over => Then::KeepAlive,
            Then::KeepAlive | Then::Close => Then::Close,
        })
    }

    /// As [`ClientStream::ends_body`] says.
    async fn ends_body(&self) -> bool {
        poll_fn(|cx| Poll::Ready(self.client.ends_body(cx))).await
    }

    async fn tunnel(&self, tunnel: Tunnel) {
        let _in_progress = self.activity.begin();
        match tunnel.pass(&self.client, self.phase.clone()).await {
            TunnelEnd::Ended => {}
            TunnelEnd::Closed => self.linger().await,
        }
    }

    /// Waits for an answer; a client that goes away meanwhile gives its request up. One that only sends nothing more gets its response
    /// (RFC 9112 §9.6, RFC 8446 §6.1).
    async fn unless_gone(&self, mut answering: Pin<&mut Fut>) -> Result<forward::Answer, ClientGone> {
        poll_fn(|cx| match answering.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Ok(answer)),
            Poll::Pending => {
                self.client.push_interim(cx);
                self.client.poll_gone(cx).map(|()| Err(ClientGone))
            }
        })
        .await
    }

    async fn write(&self, message: MessageWriter<Piece>, body: Tracked) -> Result<(), ClientGone> {
        let mut writing = Writing { client: &self.client, message, body, broken: None };
        poll_fn(|cx| writing.poll(cx)).await.map_err(|_| ClientGone)
    }

    /// Answers what is no request.
    async fn refuse(&self, violation: MessageViolation) -> Http1End {
        let status = status(violation);
        let mut head =
            response_head(status, &Fields::default(), ResponseFraming::Length(0), Some("close"), &date());
        let refusing = poll_fn(|cx| self.client.poll_write(cx, &mut head));
        if let Ok(Ok(())) = tokio::time::timeout(LINGER, refusing).await {
            self.linger().await;
        }
        Http1End::Unparsed(status)
    }

    async fn close(&self) {
        if self.client.is_body_over() && !self.client.has_received() {
            // A client that does not take it in time gets none.
            let _ = tokio::time::timeout(LINGER, poll_fn(|cx| self.client.poll_shutdown(cx))).await;
        } else {
            self.linger().await;
        }
    }

    /// RFC 9112 §9.6: a connection that is closed with unread bytes is reset, and a reset may overtake the last response.
    async fn linger(&self) {
        let _ = tokio::time::timeout(LINGER, async {
            poll_fn(|cx| self.client.poll_shutdown(cx)).await?;
            let mut left = LINGER_BYTES;
            poll_fn(|cx| self.client.poll_discard(cx, &mut left)).await;
            io::Result::Ok(())
        })
        .await;
    }
}

/// A response on its way to the client.
struct Writing<'a> {
    client: &'a ClientStream,
    message: MessageWriter<Piece>,
    body: Tracked,
    /// Why there is no more of the body.
    broken: Option<io::Error>,
}

impl Writing<'_> {
    /// Ready when the kernel has all of the response, or all that there is of it: what came before a body broke off is the client's, and what
    /// is incomplete must be seen to be (RFC 9112 §8).
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            // The first bytes of a body share the header section's send, if they are there.
            let is_filled = self.poll_fill(cx);
            ready!(self.client.poll_write(cx, &mut self.message))?;
            let flushed = self.client.poll_flush(cx)?;
            if self.broken.is_some() {
                ready!(flushed);
                return Poll::Ready(self.broken.take().map_or(Ok(()), Err));
            }
            if self.message.is_over() {
                return flushed.map(Ok);
            }
            if is_filled.is_pending() {
                ready!(self.client.poll_gone(cx));
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Takes the next piece of the body, once the last was written.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.broken.is_some() || !self.message.needs_body() {
            return Poll::Ready(());
        }
        self.broken = ready!(self.poll_body(cx)).err();
        Poll::Ready(())
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose()?;
        let put = match frame.map(Frame::into_data) {
            Some(Ok(piece)) => self.message.put_body(Some(piece), self.body.is_end_stream()),
            Some(Err(frame)) => self.message.put_end(frame.trailers_ref()),
            None => self.message.put_end(None),
        };
        Poll::Ready(put.map_err(io::Error::other))
    }
}

/// The client closed the connection, or takes no more.
#[derive(Debug)]
struct ClientGone;

fn status(violation: MessageViolation) -> StatusCode {
    match violation {
        MessageViolation::RequestLineSize => StatusCode::URI_TOO_LONG,
        // RFC 6585 §5.
        MessageViolation::HeaderSectionSize => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        MessageViolation::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        MessageViolation::RequestLine
        | MessageViolation::StatusLine
        | MessageViolation::HeaderSection
        | MessageViolation::InterimResponses
        | MessageViolation::ContentLength
        | MessageViolation::TransferEncoding
        | MessageViolation::Chunk
        | MessageViolation::ChunkExtras
        | MessageViolation::TrailerSection => StatusCode::BAD_REQUEST,
    }
}

/// For the last response, and what its client still sends.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests;
