//! The back end over io_uring.
//!
//! What the ring asks for, and tokio-uring leaves to its user:
//! an operation owns its buffer until its completion, and dropping its future cancels nothing. So a stream stores the one
//! receive and the one send it has in flight, and its drop shuts the socket down both ways, upon which the kernel completes
//! both; the driver holds descriptor and buffers until then and closes the descriptor after them. A pending accept would take
//! one more connection and leak it, so a listener's drop shuts the listening socket down, upon which accept fails.
//! Sockets are in blocking mode: on a non-blocking one the ring answers EAGAIN instead of waiting.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    os::fd::AsRawFd,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use io_uring::{cqueue, opcode, types};
use tokio_uring::{
    OneshotOutputTransform, UnsubmittedOneshot,
    buf::{BoundedBuf, Slice},
    net::{TcpListener, TcpStream},
};

use super::{Chunk, Listener, SEND_LIMIT, Stream, Transport, epoll::ended, queue::SendQueue};

/// Sockets over io_uring.
#[derive(Debug, Clone, Copy)]
pub struct Uring;

impl Transport for Uring {
    type Stream = UringStream;
    type Listener = UringListener;

    fn run<F: Future>(main: impl FnOnce(Self) -> F) -> io::Result<F::Output> {
        let runtime = tokio_uring::Runtime::new(tokio_uring::builder().entries(RING_ENTRIES))?;
        Ok(runtime.block_on(async { main(Self).await }))
    }

    fn listen(&self, socket: std::net::TcpListener) -> io::Result<UringListener> {
        socket.set_nonblocking(false)?;
        Ok(UringListener { socket: Rc::new(TcpListener::from_std(socket)), accept: None })
    }

    /// Over epoll until connected: a connect in the ring cannot be called back when its time is up.
    async fn connect(&self, to: SocketAddr) -> io::Result<UringStream> {
        let socket = tokio::net::TcpStream::connect(to).await?.into_std()?;
        socket.set_nonblocking(false)?;
        UringStream::new(TcpStream::from_std(socket))
    }
}

/// A listening socket.
pub struct UringListener {
    socket: Rc<TcpListener>,
    accept: Option<Operation<io::Result<(TcpStream, SocketAddr)>>>,
}

impl Listener for UringListener {
    type Stream = UringStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(UringStream, SocketAddr)>> {
        let socket = &self.socket;
        let accept = self.accept.get_or_insert_with(|| {
            let socket = Rc::clone(socket);
            Box::pin(async move { socket.accept().await })
        });
        let accepted = ready!(accept.as_mut().poll(cx));
        self.accept = None;
        Poll::Ready(accepted.and_then(|(socket, peer)| Ok((UringStream::new(socket)?, peer))))
    }
}

impl Drop for UringListener {
    fn drop(&mut self) {
        let _ = nix::sys::socket::shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Both);
    }
}

/// A connection.
pub struct UringStream {
    socket: Rc<TcpStream>,
    receive: Option<Operation<io::Result<Chunk>>>,
    queue: SendQueue,
    sending: Option<Sending>,
}

struct Sending {
    bytes: usize,
    write: Operation<(io::Result<usize>, Vec<Slice<Vec<u8>>>)>,
}

impl UringStream {
    fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self { socket: Rc::new(socket), receive: None, queue: SendQueue::default(), sending: None })
    }

    fn bytes_on_their_way(&self) -> usize {
        self.queue.bytes() + self.sending.as_ref().map_or(0, |sending| sending.bytes)
    }

    /// Writes until at most `limit` bytes are on their way.
    fn poll_write(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<()>> {
        while self.bytes_on_their_way() > limit {
            let socket = &self.socket;
            let queue = &mut self.queue;
            let sending = self.sending.get_or_insert_with(|| start_write(socket, queue.take_batch()));
            let (written, buffers) = ready!(sending.write.as_mut().poll(cx));
            self.sending = None;
            self.queue.put_back(buffers.into_iter().map(chunk_of).collect(), written?);
        }
        Poll::Ready(Ok(()))
    }
}

impl Stream for UringStream {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        let socket = &self.socket;
        let receive = self.receive.get_or_insert_with(|| Box::pin(receive(Rc::clone(socket))));
        let received = ready!(receive.as_mut().poll(cx));
        self.receive = None;
        Poll::Ready(received)
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

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Poll::Ready(ended(self.socket.shutdown(std::net::Shutdown::Write)))
    }
}

impl Drop for UringStream {
    fn drop(&mut self) {
        // Only what is in flight needs it; without, closing the descriptor says the same.
        if self.receive.is_some() || self.sending.is_some() {
            let _ = self.socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Proves the ring: a send and a receive on an `AF_UNIX` pair.
pub(super) fn prove() -> io::Result<()> {
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

/// Waits until there is something to read, and takes a buffer only then.
async fn receive(socket: Rc<TcpStream>) -> io::Result<Chunk> {
    let poll = opcode::PollAdd::new(types::Fd(socket.as_raw_fd()), READABLE).build();
    UnsubmittedOneshot::new(Rc::clone(&socket), Readiness, poll).submit().await?;
    let (bytes, _) = Chunk::empty().into_parts();
    let (count, bytes) = socket.read(bytes).await;
    count.map(|_| Chunk::from_parts(bytes, 0))
}

/// The output of a poll operation: whether it ended well. The socket it holds stays open until then.
struct Readiness;

impl OneshotOutputTransform for Readiness {
    type Output = io::Result<()>;
    type StoredData = Rc<TcpStream>;

    fn transform_oneshot_output(self, _: Rc<TcpStream>, completion: cqueue::Entry) -> io::Result<()> {
        match completion.result() {
            error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
            _ => Ok(()),
        }
    }
}

fn start_write(socket: &Rc<TcpStream>, batch: Vec<Chunk>) -> Sending {
    let socket = Rc::clone(socket);
    let bytes = batch.iter().map(|chunk| chunk.len()).sum();
    let buffers: Vec<_> = batch.into_iter().map(slice_of).collect();
    Sending { bytes, write: Box::pin(async move { socket.writev(buffers).await }) }
}

fn slice_of(chunk: Chunk) -> Slice<Vec<u8>> {
    let (bytes, start) = chunk.into_parts();
    bytes.slice(start..)
}

fn chunk_of(slice: Slice<Vec<u8>>) -> Chunk {
    let start = slice.begin();
    Chunk::from_parts(slice.into_inner(), start)
}

type Operation<T> = Pin<Box<dyn Future<Output = T>>>;

/// Submissions a worker can batch before it has to enter the kernel.
const RING_ENTRIES: u32 = 1024;
#[expect(
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    reason = "poll(2) flags are small positive numbers"
)]
const READABLE: u32 = (libc::POLLIN | libc::POLLRDHUP) as u32;
