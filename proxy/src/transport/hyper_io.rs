//! hyper's `Read` and `Write` for a byte stream.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::rt::ReadBufCursor;

use super::{ByteStream, Outgoing};

/// A byte stream as hyper reads and writes it.
#[derive(Debug)]
pub struct HyperIo<S> {
    stream: S,
}

impl<S: ByteStream> HyperIo<S> {
    /// Around `stream`.
    pub fn new(stream: S) -> Self {
        Self { stream }
    }

    /// See [`ByteStream::outgoing`].
    pub fn outgoing(&self) -> Outgoing {
        self.stream.outgoing()
    }
}

impl<S: ByteStream> hyper::rt::Read for HyperIo<S> {
    #[expect(unsafe_code, reason = "hyper lends memory that is not initialised")]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // SAFETY: a byte stream only writes into what it is lent, and takes nothing back.
        let place = unsafe { buffer.as_mut() };
        let count = ready!(self.stream.poll_read(cx, place))?;
        // SAFETY: so many bytes were read to the beginning of `place`.
        unsafe { buffer.advance(count) };
        Poll::Ready(Ok(()))
    }
}

impl<S: ByteStream> hyper::rt::Write for HyperIo<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.poll_write(cx, slices)
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
