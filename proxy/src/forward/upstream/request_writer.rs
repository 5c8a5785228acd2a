//! A request on its way to an upstream.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Method, request};

use crate::{
    forward::{
        rewrite::Framing,
        upload::{Upload, UploadEnd},
    },
    http1::{self, BodyWriter, Outgoing, WrongLength},
    transport::ByteStream,
};

/// Writes one request: its header section, then its body as the client sends it.
pub(in crate::forward) struct RequestWriter {
    head: Bytes,
    method: Method,
    framing: Framing,
    upload: Upload,
    body: BodyWriter,
    unsent: Outgoing<Bytes>,
    progress: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// There is more of the body.
    Body,
    /// All of the request is in `unsent`, or was written.
    Flush,
}

/// Why a request was not written to its end.
#[derive(Debug)]
pub(super) enum WriteFailure {
    Client(UploadEnd),
    /// The upstream takes no more. It may have answered: its side of the connection tells.
    Upstream,
}

impl RequestWriter {
    pub(in crate::forward) fn new(head: &request::Parts, framing: Framing, upload: Upload) -> Self {
        let bytes = http1::request_head(head);
        Self {
            unsent: Outgoing::new(bytes.clone()),
            head: bytes,
            method: head.method.clone(),
            framing,
            upload,
            body: body_writer(framing),
            progress: Progress::Body,
        }
    }

    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    pub(in crate::forward) fn upload(&mut self) -> &mut Upload {
        &mut self.upload
    }

    /// Prepares to write the same once more, if that is safe: RFC 9110 §9.2.2, a proxy repeats only idempotent requests on its own; a body
    /// that was written is no longer there.
    pub(super) fn rewind(&mut self) -> bool {
        let is_repeatable = self.framing == Framing::Empty && IDEMPOTENT.contains(&self.method);
        if is_repeatable {
            self.unsent = Outgoing::new(self.head.clone());
            self.progress = Progress::Body;
        }
        is_repeatable
    }

    /// Ready when the kernel has all of the request.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut dyn ByteStream,
    ) -> Poll<Result<(), WriteFailure>> {
        loop {
            // The first bytes of a body share the header section's send, if they are there.
            let is_filled = self.poll_fill(cx)?;
            while !self.unsent.is_empty() {
                let written = ready!(stream.poll_write(cx, &self.unsent.slices()));
                self.unsent.advance(written.map_err(|_| WriteFailure::Upstream)?);
            }
            let flushed = stream.poll_flush(cx).map_err(|_| WriteFailure::Upstream)?;
            if self.progress == Progress::Flush {
                return flushed.map(Ok);
            }
            ready!(is_filled);
        }
    }

    /// Takes the next of the body from the client, once the last was written.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteFailure>> {
        if self.progress == Progress::Flush || self.unsent.has_body() {
            return Poll::Ready(Ok(()));
        }
        let (data, is_last) = match ready!(self.upload.poll_next(cx)) {
            Some(Ok(data)) => (data, self.upload.is_over()),
            Some(Err(end)) => return Poll::Ready(Err(WriteFailure::Client(end))),
            None => (Bytes::new(), true),
        };
        // More or less than was announced: the client is at fault, and the upstream must not take the rest for another request.
        let wrong = |WrongLength| WriteFailure::Client(UploadEnd::Gone);
        let (before, behind) = self.body.frame(data.len(), is_last).map_err(wrong)?;
        if is_last {
            self.progress = Progress::Flush;
        }
        self.unsent.set_body(before, Some(data), behind);
        Poll::Ready(Ok(()))
    }
}

fn body_writer(framing: Framing) -> BodyWriter {
    match framing {
        Framing::Empty => BodyWriter::Length { left: 0 },
        Framing::Length(left) => BodyWriter::Length { left },
        Framing::Chunked => BodyWriter::Chunked,
    }
}

const IDEMPOTENT: &[Method] =
    &[Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE];
