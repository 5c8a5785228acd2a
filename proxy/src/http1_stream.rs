//! The byte stream of an HTTP/1.1 connection, in either role: what was received of it, and the messages that go out.
//! Not here: what the bytes mean (`http1`), which messages there are (`client_stream`, `forward`).

use std::{
    io::{self, IoSlice},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};

use crate::{
    http1::{BodyPart, BodyReader},
    transport::ByteStream,
};

/// A stream, and what was received of it and not read yet.
pub(crate) struct Http1Stream {
    stream: Box<dyn ByteStream>,
    pub(crate) received: BytesMut,
    /// The peer sends nothing more (RFC 8446 §6.1); it may still read.
    has_ended: bool,
}

impl Http1Stream {
    pub(crate) fn new(stream: impl ByteStream) -> Self {
        Self { stream: Box::new(stream), received: BytesMut::new(), has_ended: false }
    }

    /// Receives at most `most` bytes more, where the end of the stream is a fault.
    pub(crate) fn poll_receive(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<()>> {
        match ready!(self.poll_read(cx, most))? {
            0 => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// The next data of the body that `reader` reads, at most `most` bytes; none behind its end.
    pub(crate) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut BodyReader,
        most: usize,
    ) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            match reader.read(&mut self.received, most).map_err(io::Error::other)? {
                BodyPart::Data(data) => return Poll::Ready(Ok(Some(data))),
                BodyPart::End(_) => return Poll::Ready(Ok(None)),
                BodyPart::Incomplete => {}
            }
            // Not `poll_receive`: an orderly end may be the body's, and an end that TLS reports as an error never is (RFC 8446 §6.1).
            if ready!(self.poll_read(cx, most))? == 0 {
                reader.close().map_err(io::Error::other)?;
            }
        }
    }

    /// Receives at most `most` bytes more; how many. 0 is the end of what the peer sends, also when it is asked for again.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        if self.has_ended {
            return Poll::Ready(Ok(0));
        }
        let count = ready!(self.stream.poll_read_buffer(cx, &mut self.received, most))?;
        self.has_ended = count == 0;
        Poll::Ready(Ok(count))
    }

    /// Whether the peer has said that it sends nothing more.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Ready when all of `bytes` was taken over; [`Http1Stream::poll_flush`] moves it on.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &mut impl Buf) -> Poll<io::Result<()>> {
        while bytes.has_remaining() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = bytes.chunks_vectored(&mut slices);
            let count = ready!(self.stream.poll_write(cx, slices.get(..filled).unwrap_or_default()))?;
            bytes.advance(count);
        }
        Poll::Ready(Ok(()))
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_flush(cx)
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(cx)
    }

    /// Whether there is nothing to read, not even the stream's end.
    pub(crate) fn is_silent(&mut self) -> bool {
        self.received.is_empty() && self.stream.is_silent()
    }
}

/// Of a message: its header section, and a piece of its body with its framing.
const SLICES: usize = 4;
