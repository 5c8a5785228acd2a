//! The back end over `io_uring`.
//!
//! The ring waits and sends; available data is received by a system call. A receive in the ring would be a second turn of the loop
//! (after the poll that waits without a buffer) or, with buffers that the kernel picks from, a third submission (the buffer's
//! replacement).
//!
//! The ring's rules, which tokio-uring leaves to its user: an operation owns its buffer until its completion, and dropping its future
//! cancels nothing. So a stream stores its one poll and its one send in flight, and its drop shuts the socket down in both directions,
//! upon which the kernel completes both; the driver holds socket and buffers until then, and the last owner closes the socket.
//! Accepting and connecting use readiness (the ring's runtime is tokio's, with epoll): an accept that is dropped in the ring takes one
//! more connection and leaks it, and only shutting down the listening socket would stop it, also for a successor that holds a copy of
//! the descriptor.
//! Streams are in blocking mode: on a non-blocking socket the ring answers EAGAIN instead of waiting.

mod operation;

use std::{
    future::Future,
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::{Shutdown, SocketAddr, TcpStream},
    path::Path,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::Socket;
use tokio::io::unix::AsyncFd;

use self::operation::{AwaitingReadable, Sending};
use super::{
    Chunk, Listener, Outgoing, SEND_LIMIT, Stream, Transport,
    epoll::ended,
    queue::SendQueue,
    socket::{
        is_silent, local_address, probe_peer, receive_now, reset_on_close, send_now, unacknowledged, watch,
    },
    unix,
};

/// Sockets over `io_uring`.
#[derive(Debug, Clone, Copy)]
pub struct Uring;

impl Transport for Uring {
    type Stream = UringStream;
    type Listener = UringListener;

    fn run<F: Future>(main: impl FnOnce(Self) -> F) -> io::Result<F::Output> {
        let mut ring = io_uring::IoUring::builder();
        // The kernel delivers completions when the thread enters it anyway, instead of interrupting it for each (`io_uring_setup(2)`).
        ring.setup_coop_taskrun().setup_single_issuer();
        let mut builder = tokio_uring::builder();
        let runtime = tokio_uring::Runtime::new(builder.entries(RING_ENTRIES).uring_builder(&ring))?;
        Ok(runtime.block_on(async { main(Self).await }))
    }

    fn listen(&self, socket: std::net::TcpListener) -> io::Result<UringListener> {
        watch(socket).map(|socket| UringListener { socket })
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<UringStream> {
        let socket = tokio::net::TcpStream::connect(to).await?.into_std()?;
        socket.set_nonblocking(false)?;
        UringStream::tcp(socket)
    }

    async fn connect_unix(&self, to: &Path) -> io::Result<UringStream> {
        let socket = unix::connect(to).await?.into_std()?;
        socket.set_nonblocking(false)?;
        Ok(UringStream::new(socket.into()))
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct UringListener {
    socket: AsyncFd<std::net::TcpListener>,
}

impl Listener for UringListener {
    type Stream = UringStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(UringStream, SocketAddr)>> {
        loop {
            let mut readiness = ready!(self.socket.poll_read_ready(cx))?;
            // accept(2): the new socket does not inherit O_NONBLOCK on Linux.
            if let Ok(accepted) = readiness.try_io(|socket| socket.get_ref().accept()) {
                let (socket, peer) = accepted?;
                return Poll::Ready(UringStream::tcp(socket).map(|stream| (stream, peer)));
            }
        }
    }
}

/// A connection.
pub struct UringStream {
    socket: Rc<Socket>,
    readable: Option<AwaitingReadable>,
    /// Receives that may yet be tried without asking the ring: after one that filled its buffer, more is likely there.
    eager: u8,
    queue: SendQueue,
    sending: Option<Sending>,
}

impl UringStream {
    fn tcp(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self::new(socket.into()))
    }

    fn new(socket: Socket) -> Self {
        let socket = Rc::new(socket);
        Self { socket, readable: None, eager: 0, queue: SendQueue::default(), sending: None }
    }

    /// Ready when a receive is worth trying.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.eager == 0 {
            let Self { socket, readable, .. } = self;
            let waiting = readable.get_or_insert_with(|| operation::await_readable(socket));
            let readiness = ready!(Pin::new(waiting).poll(cx));
            self.readable = None;
            readiness?;
            self.eager = EAGER;
        }
        Poll::Ready(Ok(()))
    }

    fn receive_now(&mut self, place: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        let received = receive_now(&self.socket, place);
        let filled = received.as_ref().is_ok_and(|count| *count == place.len());
        self.eager = if filled { self.eager.saturating_sub(1) } else { 0 };
        received
    }

    /// Sends until at most `limit` bytes are unsent.
    fn poll_send(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<()>> {
        while self.queue.bytes() > limit {
            let Self { socket, queue, sending, .. } = self;
            // The ring is for what would have to wait.
            if sending.is_none() {
                match queue.write_by(|slices| send_now(socket, slices)) {
                    Ok(()) => continue,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => {
                        queue.clear();
                        return Poll::Ready(Err(error));
                    }
                }
            }
            let sending = sending.get_or_insert_with(|| operation::send(socket, queue.take_batch()));
            let (sent, batch) = ready!(Pin::new(sending).poll(cx));
            self.sending = None;
            match sent {
                Ok(count) => self.queue.put_back(batch, count),
                Err(error) => {
                    self.queue.clear();
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Stream for UringStream {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        loop {
            ready!(self.poll_readable(cx))?;
            let mut chunk = Chunk::empty();
            match chunk.receive(|place| self.receive_now(place)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return Poll::Ready(received.map(|()| chunk)),
            }
        }
    }

    fn poll_recv_into(
        &mut self,
        cx: &mut Context<'_>,
        place: &mut [MaybeUninit<u8>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_readable(cx))?;
            match self.receive_now(place) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return Poll::Ready(received),
            }
        }
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx, SEND_LIMIT)
    }

    fn send(&mut self, chunk: Chunk) {
        self.queue.push(chunk);
    }

    fn send_now(&mut self, slices: &[IoSlice<'_>]) -> usize {
        // A failure is reported by the operation that the same bytes are queued for.
        if self.queue.bytes() > 0 {
            return 0;
        }
        let count = send_now(&self.socket, slices).unwrap_or(0);
        self.queue.passed_by(count);
        count
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx, 0)
    }

    fn outgoing(&self) -> Outgoing {
        self.queue.outgoing(unacknowledged(&*self.socket))
    }

    fn is_silent(&self) -> bool {
        is_silent(&*self.socket)
    }

    fn local_address(&self) -> Option<SocketAddr> {
        local_address(&*self.socket)
    }

    fn reset_on_drop(&self) {
        reset_on_close(&*self.socket);
    }

    fn probe_peer(&self) {
        probe_peer(&*self.socket);
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Poll::Ready(ended(self.socket.shutdown(Shutdown::Write)))
    }
}

impl Drop for UringStream {
    fn drop(&mut self) {
        // Needed only for operations in flight; without them, closing the descriptor does the same.
        if self.readable.is_some() || self.sending.is_some() {
            let _ = self.socket.shutdown(Shutdown::Both);
        }
    }
}

/// Proves the ring: a send and a receive on an `AF_UNIX` pair.
///
/// It has a deadline: what the kernel refuses of a ring that could be made, the runtime retries for ever. The thread is left behind
/// then, since nothing ends a loop in a foreign runtime.
pub(super) fn prove() -> io::Result<()> {
    within(PROBE_DEADLINE, send_and_receive)
}

/// What `probe` says, or that it said nothing by `deadline`; on a thread of its own, since the caller may be inside a runtime.
fn within(deadline: Duration, probe: fn() -> io::Result<()>) -> io::Result<()> {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new().name("ring-probe".to_owned()).spawn(move || {
        let outcome = std::panic::catch_unwind(probe);
        // Nobody listens after the deadline.
        let _ = tell.send(outcome.unwrap_or_else(|_| Err(io::Error::other("the ring failed"))));
    })?;
    told.recv_timeout(deadline).unwrap_or_else(|_| {
        let what = format!("nothing went through the ring within {} ms", deadline.as_millis());
        Err(io::Error::new(io::ErrorKind::TimedOut, what))
    })
}

fn send_and_receive() -> io::Result<()> {
    // Entered by hand first: a refusal is an error here, and an endless loop in the runtime.
    io_uring::IoUring::new(8)?.submit()?;
    let (near, far) = std::os::unix::net::UnixStream::pair()?;
    Uring::run(|_| async move {
        let near = tokio_uring::net::UnixStream::from_std(near);
        let far = tokio_uring::net::UnixStream::from_std(far);
        near.write_all(b"ring".to_vec()).await.0?;
        let (count, bytes) = far.read(Vec::with_capacity(8)).await;
        match (count?, bytes.as_slice()) {
            (4, b"ring") => Ok(()),
            _ => Err(io::Error::other("the ring lost what was sent through it")),
        }
    })?
}

/// Far longer than the probe takes on a busy machine.
const PROBE_DEADLINE: Duration = Duration::from_secs(2);
/// Submissions a worker can batch before it has to enter the kernel.
const RING_ENTRIES: u32 = 1024;
/// Receives in a row before other tasks have their turn.
const EAGER: u8 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_that_hangs_or_panics_is_a_refusal() {
        assert!(within(PROBE_DEADLINE, || Ok(())).is_ok());
        let hung = within(Duration::from_millis(20), || {
            loop {
                std::thread::park();
            }
        });
        assert_eq!(hung.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let failed = within(PROBE_DEADLINE, || Err(io::Error::from_raw_os_error(libc::EPERM)));
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
