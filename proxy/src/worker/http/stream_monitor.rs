//! A stream between hyper and a client that reports when bytes come in and go out.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use hyper::rt::ReadBufCursor;

use super::ClientStream;
use crate::clock::now;
use crate::worker::{activity::Activity, slow_reader::SlowReader};

/// Shares its stream with the task that watches its progress.
pub(super) struct StreamMonitor<S> {
    pub(super) stream: Rc<RefCell<S>>,
    pub(super) activity: Activity,
    pub(super) slow_reader: Rc<SlowReader>,
}

impl<S: ClientStream> StreamMonitor<S> {
    /// `count` bytes were written.
    fn wrote(&self, count: io::Result<usize>) -> Poll<io::Result<usize>> {
        self.slow_reader.gave(now(), || self.stream.borrow().outgoing());
        Poll::Ready(count)
    }
}

impl<S: ClientStream> hyper::rt::Read for StreamMonitor<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut *self.stream.borrow_mut()).poll_read(cx, buffer))?;
        self.activity.received(now());
        Poll::Ready(Ok(()))
    }
}

impl<S: ClientStream> hyper::rt::Write for StreamMonitor<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut *self.stream.borrow_mut()).poll_write(cx, bytes));
        self.wrote(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut *self.stream.borrow_mut()).poll_write_vectored(cx, slices));
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(cx)
    }
}
