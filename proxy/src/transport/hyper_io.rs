//! hyper's `Read` and `Write` for a plain stream, with a limit on what hyper reads at once.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::rt::{ReadBuf, ReadBufCursor};

use super::{Outgoing, Stream};

/// A stream as hyper reads and writes it in cleartext.
#[derive(Debug)]
pub struct HyperIo<S> {
    stream: S,
}

impl<S: Stream> HyperIo<S> {
    /// Around `stream`.
    pub fn new(stream: S) -> Self {
        Self { stream }
    }

    /// See [`Stream::outgoing`].
    pub fn outgoing(&self) -> Outgoing {
        self.stream.outgoing()
    }
}

impl<S: Stream> hyper::rt::Read for HyperIo<S> {
    #[expect(unsafe_code, reason = "hyper lends memory that is not initialised")]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // SAFETY: `poll_recv_into` writes into what it is lent, and takes nothing back.
        let place = unsafe { buffer.as_mut() };
        let count = ready!(self.stream.poll_recv_into(cx, place))?;
        // SAFETY: so many bytes were received to the beginning of `place`.
        unsafe { buffer.advance(count) };
        Poll::Ready(Ok(()))
    }
}

/// Reads at most `limit` bytes of `stream` into `buffer`.
#[expect(unsafe_code, reason = "hyper lends memory that is not initialised")]
pub fn poll_read_at_most(
    stream: Pin<&mut impl hyper::rt::Read>,
    cx: &mut Context<'_>,
    mut buffer: ReadBufCursor<'_>,
    limit: usize,
) -> Poll<io::Result<()>> {
    if buffer.remaining() <= limit {
        return stream.poll_read(cx, buffer);
    }
    // SAFETY: what is borrowed is only written to, by `poll_read` of the same contract, and nothing of it is taken back.
    let (place, _) = unsafe { buffer.as_mut() }.split_at_mut(limit);
    let mut part = ReadBuf::uninit(place);
    ready!(stream.poll_read(cx, part.unfilled()))?;
    let count = part.filled().len();
    // SAFETY: `part` begins where `buffer` does, and so many bytes of it are filled.
    unsafe { buffer.advance(count) };
    Poll::Ready(Ok(()))
}

impl<S: Stream> hyper::rt::Write for HyperIo<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.stream.poll_send_ready(cx))?;
        Poll::Ready(Ok(self.stream.write(slices)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(cx)
    }
}
