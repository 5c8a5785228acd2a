//! hyper's `Read` and `Write` over a plain stream.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::rt::ReadBufCursor;

use super::{Chunk, Outgoing, Stream};

/// A stream as hyper reads and writes it in cleartext.
#[derive(Debug)]
pub struct HyperIo<S> {
    stream: S,
    unread: Option<Chunk>,
}

impl<S: Stream> HyperIo<S> {
    /// Around `stream`.
    pub fn new(stream: S) -> Self {
        Self { stream, unread: None }
    }

    /// See [`Stream::outgoing`].
    pub fn outgoing(&self) -> Outgoing {
        self.stream.outgoing()
    }
}

impl<S: Stream> hyper::rt::Read for HyperIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let chunk = match self.unread.take() {
            Some(chunk) => chunk,
            None => ready!(self.stream.poll_recv(cx))?,
        };
        self.unread = lend(chunk, buffer);
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream> hyper::rt::Write for HyperIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.stream.poll_send_ready(cx))?;
        let mut chunk = Chunk::empty();
        let count = chunk.fill(bytes);
        self.stream.send(chunk);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(cx)
    }
}

/// Copies what fits of `chunk` into `buffer`, and returns the rest.
fn lend(mut chunk: Chunk, mut buffer: ReadBufCursor<'_>) -> Option<Chunk> {
    let fitting = chunk.split_at_checked(buffer.remaining()).map_or(&*chunk, |(fitting, _)| fitting);
    let count = fitting.len();
    buffer.put_slice(fitting);
    chunk.advance(count);
    (!chunk.is_empty()).then_some(chunk)
}
