//! An upstream's response is read only while its client can take more of it.
//!
//! hyper reads the next piece of a body as soon as the last was taken, and grows its buffer while pieces keep coming: for a client that
//! does not read, two large pieces would be buffered on every stream. So a connection is read from only when somebody waits for data, and
//! only as much as they ask for.

use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use hyper::rt::ReadBufCursor;

use crate::transport::poll_read_at_most;

/// How many bytes may be read from an upstream at once, now; shared by the connection's stream and the reader of its answer.
#[derive(Debug, Clone)]
pub(in crate::forward) struct Demand(Rc<DemandState>);

#[derive(Debug)]
struct DemandState {
    /// 0 while nobody waits.
    bytes: Cell<usize>,
    reading: RefCell<Option<Waker>>,
}

impl Demand {
    /// Of a connection that waits for a header section, or for its end.
    pub(super) fn new() -> Self {
        Self(Rc::new(DemandState { bytes: Cell::new(HEAD), reading: RefCell::default() }))
    }

    /// The reader waits for more of the body, and takes about `bytes` at once.
    pub(in crate::forward) fn open(&self, bytes: usize) {
        // hyper takes a read that fills its buffer for a sign that a larger buffer is wanted.
        self.set(bytes.saturating_sub(1).max(1));
    }

    /// The reader has what it waited for.
    pub(in crate::forward) fn close(&self) {
        self.0.bytes.set(0);
    }

    /// The body has ended: what comes next is another header section, or the connection's end.
    pub(super) fn reset(&self) {
        self.set(HEAD);
    }

    fn set(&self, bytes: usize) {
        if self.0.bytes.replace(bytes) == 0
            && let Some(reading) = self.0.reading.borrow_mut().take()
        {
            reading.wake();
        }
    }

    fn poll_open(&self, cx: &mut Context<'_>) -> Poll<usize> {
        match self.0.bytes.get() {
            0 => {
                self.0.reading.replace(Some(cx.waker().clone()));
                Poll::Pending
            }
            bytes => Poll::Ready(bytes),
        }
    }
}

/// A stream to an upstream, read from on demand.
pub(super) struct OnDemand<S> {
    stream: S,
    demand: Demand,
}

impl<S> OnDemand<S> {
    pub(super) fn new(stream: S, demand: Demand) -> Self {
        Self { stream, demand }
    }
}

impl<S: hyper::rt::Read + Unpin> hyper::rt::Read for OnDemand<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let limit = std::task::ready!(self.demand.poll_open(cx));
        poll_read_at_most(Pin::new(&mut self.stream), cx, buffer, limit)
    }
}

impl<S: hyper::rt::Write + Unpin> hyper::rt::Write for OnDemand<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// How much of a header section is read at once; body bytes that come with it are held.
const HEAD: usize = 8 * 1024 - 1;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use hyper::rt::{Read as _, ReadBuf};

    use super::*;

    /// Always has bytes.
    struct Endless;

    impl hyper::rt::Read for Endless {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            mut buffer: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            let bytes = vec![b'x'; buffer.remaining()];
            buffer.put_slice(&bytes);
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn nothing_is_read_that_nobody_waits_for() {
        let demand = Demand::new();
        let mut stream = OnDemand::new(Endless, demand.clone());
        let mut read = || {
            let mut memory = vec![0; 64 * 1024];
            let mut buffer = ReadBuf::new(&mut memory);
            let mut cx = Context::from_waker(Waker::noop());
            let read = Pin::new(&mut stream).poll_read(&mut cx, buffer.unfilled());
            read.is_ready().then(|| buffer.filled().len())
        };
        assert_eq!(read(), Some(HEAD));
        demand.close();
        assert_eq!(read(), None);
        demand.open(32 * 1024);
        assert_eq!(read(), Some(32 * 1024 - 1));
        demand.close();
        demand.reset();
        assert_eq!(read(), Some(HEAD));
    }
}
