//! A stream to a client that reports when bytes come in and go out.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    mem::MaybeUninit,
    rc::Rc,
    task::{Context, Poll, ready},
};

use crate::{
    clock::now,
    transport::{ByteStream, Outgoing},
    worker::{activity::Activity, slow_reader::SlowReader},
};

/// Shares its stream with the task that watches its progress.
pub(super) struct StreamMonitor<S> {
    pub(super) stream: Rc<RefCell<S>>,
    pub(super) activity: Activity,
    pub(super) slow_reader: Rc<SlowReader>,
}

impl<S: ByteStream> ByteStream for StreamMonitor<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, place: &mut [MaybeUninit<u8>]) -> Poll<io::Result<usize>> {
        let count = ready!(self.stream.borrow_mut().poll_read(cx, place))?;
        self.activity.received(now());
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = ready!(self.stream.borrow_mut().poll_write(cx, slices));
        self.slow_reader.gave(now(), || self.outgoing());
        Poll::Ready(written)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.borrow_mut().poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.borrow_mut().poll_shutdown(cx)
    }

    fn outgoing(&self) -> Outgoing {
        self.stream.borrow().outgoing()
    }

    fn is_silent(&mut self) -> bool {
        self.stream.borrow_mut().is_silent()
    }

    fn reset_on_drop(&self) {
        self.stream.borrow().reset_on_drop();
    }
}
