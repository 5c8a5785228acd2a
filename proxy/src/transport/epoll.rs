//! The back end over epoll: tokio's own sockets, readiness first.

use std::{
    future::Future,
    io::{self, IoSlice},
    net::SocketAddr,
    task::{Context, Poll, ready},
};

use tokio::net::{TcpListener, TcpStream};

use super::{
    Chunk, Listener, Outgoing, SEND_LIMIT, Stream, Transport, queue::SendQueue, socket::unacknowledged,
};

/// Sockets over epoll.
#[derive(Debug, Clone, Copy)]
pub struct Epoll;

impl Transport for Epoll {
    type Stream = EpollStream;
    type Listener = EpollListener;

    fn run<F: Future>(main: impl FnOnce(Self) -> F) -> io::Result<F::Output> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(tokio::task::LocalSet::new().block_on(&runtime, async { main(Self).await }))
    }

    fn listen(&self, socket: std::net::TcpListener) -> io::Result<EpollListener> {
        socket.set_nonblocking(true)?;
        Ok(EpollListener { socket: TcpListener::from_std(socket)? })
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<EpollStream> {
        EpollStream::new(TcpStream::connect(to).await?)
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
        Poll::Ready(EpollStream::new(socket).map(|stream| (stream, peer)))
    }
}

/// A connection.
#[derive(Debug)]
pub struct EpollStream {
    socket: TcpStream,
    queue: SendQueue,
}

impl EpollStream {
    fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self { socket, queue: SendQueue::default() })
    }

    /// Writes until at most `limit` bytes are left.
    fn poll_write(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<()>> {
        while self.queue.bytes() > limit {
            let slices: Vec<IoSlice<'_>> = self.queue.front().map(|chunk| IoSlice::new(chunk)).collect();
            match self.socket.try_write_vectored(&slices) {
                Ok(count) => self.queue.taken(count),
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
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            let mut chunk = Chunk::empty();
            match self.socket.try_read_buf(chunk.bytes_mut()) {
                Ok(_) => return Poll::Ready(Ok(chunk)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write(cx, SEND_LIMIT)
    }

    fn send(&mut self, chunk: Chunk) {
        self.queue.push(chunk);
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write(cx, 0)
    }

    fn outgoing(&self) -> Outgoing {
        self.queue.outgoing(unacknowledged(&self.socket))
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
