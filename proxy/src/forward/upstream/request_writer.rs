//! A request on its way to an upstream.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, Method, request};

use crate::{
    forward::{
        rewrite::Framing,
        upload::{Upload, UploadEnd},
    },
    http1::{self, MessageWriter, OutgoingFraming, WrongLength},
    http1_stream::Http1Stream,
};

/// Writes one request: its header section, then its body as the client sends it.
pub(in crate::forward) struct RequestWriter {
    head: request::Parts,
    /// In place of the destination's authority.
    host: Option<HeaderValue>,
    framing: Framing,
    upload: Upload,
    message: MessageWriter<Bytes>,
    /// The body waits for the upstream's word, as its client does (RFC 9110 §10.1.1).
    awaits_continue: bool,
}

/// Why a request was not written to its end.
#[derive(Debug)]
pub(super) enum WriteFailure {
    Client(UploadEnd),
    /// The upstream takes no more. It may have answered: its side of the connection tells.
    Upstream,
}

impl RequestWriter {
    /// `head` without Host: that is `host`, or else what the destination decides on.
    pub(in crate::forward) fn new(
        head: request::Parts,
        framing: Framing,
        upload: Upload,
        host: Option<HeaderValue>,
    ) -> Self {
        let message = MessageWriter::new(Bytes::new(), outgoing(framing));
        Self { message, head, host, framing, awaits_continue: upload.awaits_continue(), upload }
    }

    /// Begins to write it, to a destination of this `authority`.
    pub(super) fn address(&mut self, authority: &HeaderValue) {
        let host = self.host.as_ref().unwrap_or(authority);
        self.message = MessageWriter::new(http1::request_head(&self.head, host), outgoing(self.framing));
    }

    /// Whether the body waits for [`RequestWriter::proceed`].
    pub(super) fn awaits_continue(&self) -> bool {
        self.awaits_continue
    }

    /// Lets the client send its body.
    pub(super) fn proceed(&mut self) {
        self.awaits_continue = false;
    }

    pub(super) fn method(&self) -> &Method {
        &self.head.method
    }

    pub(in crate::forward) fn upload(&mut self) -> &mut Upload {
        &mut self.upload
    }

    /// Whether the same may be written once more, though some of it was sent: RFC 9110 §9.2.2, a proxy repeats only idempotent requests on its
    /// own; a body that was written is no longer there.
    pub(super) fn is_repeatable(&self) -> bool {
        self.framing == Framing::Empty && IDEMPOTENT.contains(&self.head.method)
    }

    /// Ready when the kernel has all of the request.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Http1Stream,
    ) -> Poll<Result<(), WriteFailure>> {
        loop {
            // The first bytes of a body share the header section's send, if they are there.
            let is_filled = self.poll_fill(cx)?;
            ready!(stream.poll_write(cx, &mut self.message)).map_err(|_| WriteFailure::Upstream)?;
            let flushed = stream.poll_flush(cx).map_err(|_| WriteFailure::Upstream)?;
            if self.message.is_over() {
                return flushed.map(Ok);
            }
            ready!(is_filled);
        }
    }

    /// Takes the next of the body from the client, once the last was written.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteFailure>> {
        if !self.message.needs_body() {
            return Poll::Ready(Ok(()));
        }
        if self.awaits_continue {
            return Poll::Pending;
        }
        let put = match ready!(self.upload.poll_next(cx)) {
            Some(Ok(data)) => self.message.put_body(Some(data), self.upload.is_over()),
            Some(Err(end)) => return Poll::Ready(Err(WriteFailure::Client(end))),
            None => self.message.put_end(self.upload.take_trailers().as_ref()),
        };
        // The client is at fault.
        Poll::Ready(put.map_err(|WrongLength| WriteFailure::Client(UploadEnd::Gone)))
    }
}

fn outgoing(framing: Framing) -> OutgoingFraming {
    match framing {
        Framing::Empty => OutgoingFraming::Length { left: 0 },
        Framing::Length(left) => OutgoingFraming::Length { left },
        Framing::Chunked => OutgoingFraming::Chunked,
    }
}

const IDEMPOTENT: &[Method] =
    &[Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE];
