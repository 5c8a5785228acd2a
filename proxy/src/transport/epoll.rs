//! The back end over epoll: tokio's own sockets, readiness first.

use std::{
    future::Future,
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::SocketAddr,
    path::Path,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{Interest, ReadBuf},
    net::{TcpListener, TcpStream},
    runtime::LocalOptions,
};

use super::{
    Chunk, Listener, Outgoing, SEND_LIMIT, Stream, Transport,
    epoll_socket::EpollSocket,
    queue::SendQueue,
    socket::{is_silent, local_address, probe_peer, reset_on_close, unacknowledged},
    unix,
};

/// Sockets over epoll.
#[derive(Debug, Clone, Copy)]
pub struct Epoll;

impl Transport for Epoll {
    type Stream = EpollStream;
    type Listener = EpollListener;

    fn run<F: Future>(main: impl FnOnce(Self) -> F) -> io::Result<F::Output> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        Ok(runtime.block_on(async { main(Self).await }))
    }

    fn listen(&self, socket: std::net::TcpListener) -> io::Result<EpollListener> {
        socket.set_nonblocking(true)?;
        Ok(EpollListener { socket: TcpListener::from_std(socket)? })
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<EpollStream> {
        EpollStream::tcp(TcpStream::connect(to).await?)
    }

    async fn connect_unix(&self, to: &Path) -> io::Result<EpollStream> {
        unix::connect(to).await.map(|socket| EpollStream::new(EpollSocket::Unix(socket)))
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct EpollListener {
    socket: TcpListener,
}

impl Listener for EpollListener {
    type Stream = EpollStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(EpollStream, SocketAddr)>> {
        let (socket, peer) = ready!(self.socket.poll_accept(cx))?;
        Poll::Ready(EpollStream::tcp(socket).map(|stream| (stream, peer)))
    }
}

/// A connection.
#[derive(Debug)]
pub struct EpollStream {
    socket: EpollSocket,
    queue: SendQueue,
}

impl EpollStream {
    fn tcp(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self::new(EpollSocket::Tcp(socket)))
    }

    fn new(socket: EpollSocket) -> Self {
        Self { socket, queue: SendQueue::default() }
    }

    /// Writes until at most `limit` bytes are left.
    fn poll_write(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<()>> {
        while self.queue.bytes() > limit {
            match self.queue.write_by(|slices| self.socket.try_write_vectored(slices)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.socket.poll_write_ready(cx))?;
                }
                Err(error) => {
                    self.queue.clear();
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Stream for EpollStream {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        ready!(self.socket.poll_read_ready(cx))?;
        Chunk::poll_received(|place| self.poll_recv_into(cx, place))
    }

    fn poll_recv_into(
        &mut self,
        cx: &mut Context<'_>,
        place: &mut [MaybeUninit<u8>],
    ) -> Poll<io::Result<usize>> {
        // tokio's own reading, unlike `try_read`, takes a buffer that was not filled for the end of readiness, and so saves
        // the receive that finds nothing.
        let mut buffer = ReadBuf::uninit(place);
        ready!(self.socket.poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write(cx, SEND_LIMIT)
    }

    fn send(&mut self, chunk: Chunk) {
        self.queue.push(chunk);
    }

    fn send_now(&mut self, slices: &[IoSlice<'_>]) -> usize {
        // A failure is reported by the next write of the same bytes, which are queued then.
        if self.queue.bytes() > 0 {
            return 0;
        }
        let count = self.socket.try_write_vectored(slices).unwrap_or(0);
        self.queue.passed_by(count);
        count
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write(cx, 0)
    }

    fn outgoing(&self) -> Outgoing {
        self.queue.outgoing(unacknowledged(&self.socket))
    }

    fn is_silent(&self) -> bool {
        // Nothing has come since the last receive that found nothing, as far as epoll has said: that spares the look.
        let looked = self.socket.try_io(Interest::READABLE, || {
            if is_silent(&self.socket) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        looked.is_err()
    }

    fn local_address(&self) -> Option<SocketAddr> {
        local_address(&self.socket)
    }

    fn reset_on_drop(&self) {
        reset_on_close(&self.socket);
    }

    fn probe_peer(&self) {
        probe_peer(&self.socket);
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Poll::Ready(ended(socket2::SockRef::from(&self.socket).shutdown(std::net::Shutdown::Write)))
    }
}

/// A peer that is gone already needs no FIN.
pub(super) fn ended(shutdown: io::Result<()>) -> io::Result<()> {
    match shutdown {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        other => other,
    }
}
