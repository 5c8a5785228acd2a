//! A stream of HTTP/2 that carries another protocol (RFC 8441), with a client or with an upstream: hyper's, as a stream of bytes.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::{
    rt::{Read as _, ReadBuf, Write as _},
    upgrade::Upgraded,
};

use crate::transport::{ByteStream, Outgoing};

/// A stream of HTTP/2 as a stream of bytes. What is written waits for the peer's window (RFC 9113 §5.2).
pub(crate) struct UpgradedStream(Upgraded);

impl UpgradedStream {
    pub(crate) fn new(upgraded: Upgraded) -> Self {
        Self(upgraded)
    }
}

impl ByteStream for UpgradedStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, place: &mut [MaybeUninit<u8>]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::uninit(place);
        ready!(Pin::new(&mut self.0).poll_read(cx, buffer.unfilled()))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    /// Its connection's transport is watched instead.
    fn outgoing(&self) -> Outgoing {
        Outgoing { given: 0, acknowledged: 0 }
    }

    fn is_silent(&mut self) -> bool {
        false
    }

    /// A stream of HTTP/2 is none of its connection's.
    fn reset_on_drop(&self) {}
}
