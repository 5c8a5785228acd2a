//! Listeners and byte streams of one worker, over io_uring or, where the ring is refused, epoll.
//! Not here: TLS (`tls`), HTTP (`forward`), which sockets there are (`worker` is handed them by `main`).
//! Invariants: no other room knows tokio-uring; both back ends pass the same conformance tests; a dropped stream leaves
//! no operation behind that holds its socket open.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    task::{Context, Poll},
};

/// One of the two ways to reach the kernel; a worker's rooms are generic over it.
pub trait Transport: Clone + 'static {
    /// Its streams, accepted and connected ones alike.
    type Stream: Stream;
    /// Its listeners.
    type Listener: Listener<Stream = Self::Stream>;

    /// Takes over a listening socket; it was bound by `main`.
    fn listen(&self, socket: std::net::TcpListener) -> io::Result<Self::Listener>;

    /// Connects to an upstream; `TCP_NODELAY` is set.
    ///
    /// # Cancel safety
    /// A dropped future closes the socket it was connecting.
    fn connect(&self, to: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>>;
}

/// A listening socket.
pub trait Listener: 'static {
    /// What it accepts.
    type Stream: Stream;

    /// The next connection and its peer; `TCP_NODELAY` is set.
    ///
    /// # Cancel safety
    /// Safe: a connection that the kernel had handed over when the future was dropped is returned by the next call.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Stream, SocketAddr)>>;

    /// Where it listens.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A byte stream whose operations own their buffers, as a ring demands.
///
/// Dropping it closes the socket both ways, whatever is in flight; nothing is left behind in the ring.
pub trait Stream: Unpin + 'static {
    /// The next bytes; an empty chunk is the end of the stream. No buffer is held while there is nothing to read.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>>;

    /// Ready while fewer bytes than the back end's limit are on their way; an error is the stream's end.
    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Gives `chunk` to the kernel behind those given before. Only after [`Stream::poll_send_ready`] was ready.
    fn send(&mut self, chunk: Chunk);

    /// Ready when all that was sent has been taken by the kernel.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Flushes, then ends our direction (FIN); the peer's stays open.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// Received bytes, or bytes to send, in a buffer of the worker's pool, to which it returns when dropped.
#[derive(Debug)]
pub struct Chunk {
    // the transport room fills this in; `Deref<Target = [u8]>`, `Chunk::with_capacity`, `spare`, `advance` are promised
    bytes: Vec<u8>,
}

impl Chunk {
    /// The usual size of a pooled buffer, bytes: one TLS record with its overhead (RFC 8446 §5.2).
    pub const SIZE: usize = 16 * 1024 + 512;

    /// A copy of `bytes` in pooled memory.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec() }
    }
}

impl std::ops::Deref for Chunk {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The back end a process chose at start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    /// io_uring.
    Uring,
    /// epoll.
    Epoll,
}

impl Backend {
    /// `auto` proves the ring by a send and a receive on an `AF_UNIX` pair and else takes epoll, saying why once;
    /// `uring` fails where the ring does.
    pub fn choose(_io: crate::config::Io) -> io::Result<Self> {
        todo!()
    }
}
