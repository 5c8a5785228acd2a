//! A connected socket of either family over epoll.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};

/// A socket that tokio watches.
#[derive(Debug)]
pub(super) enum EpollSocket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

macro_rules! on_either {
    ($this:expr, $socket:ident => $call:expr) => {
        match $this {
            EpollSocket::Tcp($socket) => $call,
            EpollSocket::Unix($socket) => $call,
        }
    };
}

impl EpollSocket {
    pub(super) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        on_either!(self, socket => socket.try_write_vectored(slices))
    }

    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_either!(self, socket => socket.poll_write_ready(cx))
    }

    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_either!(self, socket => socket.poll_read_ready(cx))
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_either!(self, socket => Pin::new(socket).poll_read(cx, buffer))
    }

    pub(super) fn try_io<R>(
        &self,
        interest: Interest,
        operate: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        on_either!(self, socket => socket.try_io(interest, operate))
    }
}

impl AsFd for EpollSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        on_either!(self, socket => socket.as_fd())
    }
}

impl AsRawFd for EpollSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
