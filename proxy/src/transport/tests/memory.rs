//! Streams in memory on a paused clock, for time limits. A paused clock jumps to the next timer once every task waits: with sockets it
//! would jump while the kernel still has bytes on the way.
//! Not here: what depends on a kernel (`conformance`); a stream counts as acknowledged what fits between the two sides.

use std::{
    cell::RefCell,
    collections::HashMap,
    future::Future,
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    sync::mpsc,
};

use super::conformance::loopback;
use crate::transport::{Chunk, Listener, Outgoing, SEND_LIMIT, Stream, Transport, queue::SendQueue};

/// A network of one process: who listens under which address.
#[derive(Clone, Default)]
pub(crate) struct Memory(Rc<RefCell<HashMap<SocketAddr, mpsc::UnboundedSender<DuplexStream>>>>);

impl Memory {
    /// A listener that the test plays, under an address that no other has.
    pub(crate) fn bind(&self) -> MemoryListener {
        self.listen(loopback()).unwrap()
    }

    /// The client's side of a connection to `address`.
    pub(crate) fn dial(&self, address: SocketAddr) -> io::Result<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(BETWEEN);
        let listeners = self.0.borrow();
        let listener = listeners.get(&address).ok_or(io::ErrorKind::ConnectionRefused)?;
        listener.send(theirs).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(ours)
    }

    /// Both sides of a connection: one as Gatehouse has it, and its peer's.
    pub(crate) fn pair() -> (MemoryStream, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(BETWEEN);
        (MemoryStream::new(ours), theirs)
    }
}

impl Transport for Memory {
    type Stream = MemoryStream;
    type Listener = MemoryListener;

    fn run<F: Future>(main: impl FnOnce(Self) -> F) -> io::Result<F::Output> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build()?;
        Ok(tokio::task::LocalSet::new().block_on(&runtime, async { main(Self::default()).await }))
    }

    fn listen(&self, socket: std::net::TcpListener) -> io::Result<MemoryListener> {
        let (tell, connections) = mpsc::unbounded_channel();
        let address = socket.local_addr()?;
        self.0.borrow_mut().insert(address, tell);
        Ok(MemoryListener { connections, address, _reserved: socket })
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<MemoryStream> {
        self.dial(to).map(MemoryStream::new)
    }

    async fn connect_unix(&self, _: &Path) -> io::Result<MemoryStream> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A listener, whose address is reserved in the kernel for as long as it is there.
pub(crate) struct MemoryListener {
    connections: mpsc::UnboundedReceiver<DuplexStream>,
    pub(crate) address: SocketAddr,
    _reserved: std::net::TcpListener,
}

impl MemoryListener {
    /// The next connection, as the peer of Gatehouse has it.
    pub(crate) async fn accept(&mut self) -> DuplexStream {
        self.connections.recv().await.unwrap()
    }
}

impl Listener for MemoryListener {
    type Stream = MemoryStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(MemoryStream, SocketAddr)>> {
        let connection = ready!(self.connections.poll_recv(cx)).ok_or(io::ErrorKind::NotConnected)?;
        Poll::Ready(Ok((MemoryStream::new(connection), (Ipv4Addr::LOCALHOST, 1).into())))
    }
}

/// One side of a connection.
pub(crate) struct MemoryStream {
    side: DuplexStream,
    queue: SendQueue,
}

impl MemoryStream {
    fn new(side: DuplexStream) -> Self {
        Self { side, queue: SendQueue::default() }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<()>> {
        while self.queue.bytes() > limit {
            let Some(chunk) = self.queue.front().next() else { break };
            let count = ready!(Pin::new(&mut self.side).poll_write(cx, chunk))?;
            self.queue.taken(count);
        }
        Poll::Ready(Ok(()))
    }
}

impl Stream for MemoryStream {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        Chunk::poll_received(|place| self.poll_recv_into(cx, place))
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write(cx, SEND_LIMIT)
    }

    fn poll_recv_into(
        &mut self,
        cx: &mut Context<'_>,
        place: &mut [MaybeUninit<u8>],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::uninit(place);
        ready!(Pin::new(&mut self.side).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn send(&mut self, chunk: Chunk) {
        self.queue.push(chunk);
    }

    fn send_now(&mut self, _: &[IoSlice<'_>]) -> usize {
        0
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write(cx, 0)
    }

    fn outgoing(&self) -> Outgoing {
        self.queue.outgoing(0)
    }

    /// A pipe cannot be looked into; no case keeps an upstream connection over one.
    fn is_silent(&self) -> bool {
        true
    }

    fn local_address(&self) -> Option<SocketAddr> {
        None
    }

    /// A pipe keeps nothing behind its drop.
    fn reset_on_drop(&self) {}

    /// A pipe's peer does not vanish.
    fn probe_peer(&self) {}

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.side).poll_shutdown(cx)
    }
}

/// Bytes that one side may have sent and the other not read: the receive buffer of a socket.
pub(crate) const BETWEEN: usize = 64 << 10;
