//! The back end over `io_uring`.
//!
//! What the ring asks for, and tokio-uring leaves to its user:
//! an operation owns its buffer until its completion, and dropping its future cancels nothing. So a stream stores the one
//! receive and the one send it has in flight, and its drop shuts the socket down both ways, upon which the kernel completes
//! both; the driver holds descriptor and buffers until then and closes the descriptor after them.
//! Accepting and connecting go by readiness (the ring's runtime is tokio's, with epoll): an accept that is dropped in the ring
//! takes one more connection and leaks it, and it could be stopped only by shutting the listening socket down, for a
//! successor who holds a copy of the descriptor, too.
//! Streams are in blocking mode: on a non-blocking socket the ring answers EAGAIN instead of waiting.

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
use tokio::io::unix::AsyncFd;
use tokio_uring::{
    OneshotOutputTransform, UnsubmittedOneshot,
    buf::{BoundedBuf, Slice},
    net::TcpStream,
};

use super::{
    Chunk, Listener, Outgoing, SEND_LIMIT, Stream, Transport,
    epoll::ended,
    queue::SendQueue,
    socket::{unacknowledged, watch},
};

/// Sockets over `io_uring`.
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
        watch(socket).map(|socket| UringListener { socket })
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<UringStream> {
        let socket = tokio::net::TcpStream::connect(to).await?.into_std()?;
        socket.set_nonblocking(false)?;
        UringStream::new(TcpStream::from_std(socket))
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
                return Poll::Ready(
                    UringStream::new(TcpStream::from_std(socket)).map(|stream| (stream, peer)),
                );
            }
        }
    }
}

/// A connection.
pub struct UringStream {
    socket: Rc<TcpStream>,
    receive: Option<Operation<io::Result<Chunk>>>,
    queue: SendQueue,
    sending: Option<Operation<Written>>,
}

impl UringStream {
    fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self { socket: Rc::new(socket), receive: None, queue: SendQueue::default(), sending: None })
    }

    /// Writes until at most `limit` bytes are on their way.
    fn poll_write(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<()>> {
        while self.queue.bytes() > limit {
            let Self { socket, queue, sending, .. } = self;
            let write = sending.get_or_insert_with(|| Box::pin(write(Rc::clone(socket), queue.take_batch())));
            let (written, buffers) = ready!(write.as_mut().poll(cx));
            self.sending = None;
            match written {
                Ok(count) => self.queue.put_back(buffers.into_iter().map(chunk_of).collect(), count),
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

    fn outgoing(&self) -> Outgoing {
        self.queue.outgoing(unacknowledged(&*self.socket))
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
    // On a thread of its own, since the caller may be inside a runtime.
    std::thread::spawn(send_and_receive).join().unwrap_or_else(|_| Err(io::Error::other("the ring failed")))
}

fn send_and_receive() -> io::Result<()> {
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

async fn write(socket: Rc<TcpStream>, batch: Vec<Chunk>) -> Written {
    socket.writev(batch.into_iter().map(slice_of).collect()).await
}

fn slice_of(chunk: Chunk) -> Slice<Vec<u8>> {
    let (bytes, start) = chunk.into_parts();
    bytes.slice(start..)
}

fn chunk_of(slice: Slice<Vec<u8>>) -> Chunk {
    let start = slice.begin();
    Chunk::from_parts(slice.into_inner(), start)
}

/// What the kernel took of a write, and the write's buffers.
type Written = (io::Result<usize>, Vec<Slice<Vec<u8>>>);

type Operation<T> = Pin<Box<dyn Future<Output = T>>>;

/// Submissions a worker can batch before it has to enter the kernel.
const RING_ENTRIES: u32 = 1024;
const READABLE: u32 = (libc::POLLIN | libc::POLLRDHUP) as u32;
