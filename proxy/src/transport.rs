//! Listeners and byte streams of one worker, over epoll or `io_uring`.
//! Not here: TLS (`tls`), HTTP (`forward`), which sockets there are (`run` passes them to `worker`).
//! Invariants: no other module knows tokio-uring; both back ends pass the same conformance tests (`tests::conformance`); an idle stream holds no
//! buffer (`idle_streams_hold_no_buffer`); a dropped stream leaves no operation that keeps its socket open
//! (`drop_with_operations_in_flight_closes_the_socket`); a dropped listener does not stop a copy of it that a successor holds
//! (`a_dropped_listener_leaves_a_successors_copy_listening`).

mod byte_stream;
mod chunk;
mod epoll;
mod epoll_socket;
mod hyper_io;
mod queue;
mod replayed;
pub mod socket;
mod unix;
mod uring;

use std::{
    future::Future,
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::SocketAddr,
    path::Path,
    task::{Context, Poll},
};

use prometheus::Registry;

pub use self::{
    byte_stream::ByteStream, chunk::Chunk, epoll::Epoll, hyper_io::HyperIo, replayed::Replayed, uring::Uring,
};
use crate::{config::Io, label, telemetry::metrics::Gauges};

/// One of the two ways to reach the kernel; a worker's modules are generic over it.
pub trait Transport: Clone + 'static {
    /// Its streams, accepted and connected ones alike.
    type Stream: Stream;
    /// Its listeners.
    type Listener: Listener<Stream = Self::Stream>;

    /// Runs `main` to its end on a runtime of this kind on the current thread; `tokio::task::spawn_local`, timers and
    /// channels work inside.
    fn run<F: Future>(main: impl FnOnce(Self) -> F) -> io::Result<F::Output>;

    /// Takes over a listening socket; it was bound by `main`.
    fn listen(&self, socket: std::net::TcpListener) -> io::Result<Self::Listener>;

    /// Connects to an upstream; `TCP_NODELAY` is set.
    ///
    /// # Cancel safety
    /// A dropped future closes the socket it was connecting.
    fn connect(&self, to: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>>;

    /// Connects to an upstream's Unix socket; one that has no room for another connection is waited for.
    ///
    /// # Cancel safety
    /// A dropped future closes the socket it was connecting.
    fn connect_unix(&self, to: &Path) -> impl Future<Output = io::Result<Self::Stream>>;
}

/// A listening socket. Dropping it ends listening; no connection is taken afterwards.
pub trait Listener: 'static {
    /// What it accepts.
    type Stream: Stream;

    /// The next connection and its peer; `TCP_NODELAY` is set.
    ///
    /// # Cancel safety
    /// Safe: a connection the kernel handed over between two polls is returned by the later one.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Stream, SocketAddr)>>;
}

/// A byte stream whose operations own their buffers, as a ring demands.
///
/// Dropping it closes the socket both ways, whatever is in flight; nothing is left behind in the ring.
pub trait Stream: Unpin + 'static {
    /// The next bytes; an empty chunk is the end of the stream. No buffer is held while there is nothing to read.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>>;

    /// Ready while fewer than [`SEND_LIMIT`] bytes are on their way; an error is the stream's end.
    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// The same, straight into `place`, for a caller that holds memory anyway: how many bytes; 0 is the end of the stream.
    fn poll_recv_into(
        &mut self,
        cx: &mut Context<'_>,
        place: &mut [MaybeUninit<u8>],
    ) -> Poll<io::Result<usize>>;

    /// Queues `chunk` behind those given before; [`Stream::poll_flush`] moves the queue on.
    fn send(&mut self, chunk: Chunk);

    /// Sends of `slices` what the kernel takes at once, unless something is queued; how many bytes that was. An error is reported by
    /// the flush of the same bytes.
    fn send_now(&mut self, slices: &[IoSlice<'_>]) -> usize;

    /// Takes over some of `slices`; how many bytes. Large ones the kernel copies from where they lie; small ones are queued, where
    /// several share a buffer and a send.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> usize {
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let sent = if total >= AT_ONCE { self.send_now(slices) } else { 0 };
        if sent > 0 {
            return sent;
        }
        let mut chunk = Chunk::empty();
        let count = slices.iter().map(|slice| chunk.fill(slice)).sum();
        self.send(chunk);
        count
    }

    /// Ready when all that was sent has been taken by the kernel.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// How far what was sent has come; one system call.
    fn outgoing(&self) -> Outgoing;

    /// Our address, of a connection of TCP; one system call.
    fn local_address(&self) -> Option<SocketAddr>;

    /// Whether the kernel has neither bytes for us nor the stream's end, nor an error; one system call.
    fn is_silent(&self) -> bool;

    /// Has the connection's drop reset it and throw away what is unsent (RFC 9293 §3.10.5). The kernel would keep that, counted by no limit
    /// of ours, for as long as the peer answers its probes (tcp(7), `tcp_orphan_retries`).
    fn reset_on_drop(&self);

    /// Has the kernel ask a silent peer whether it is there (RFC 9293 §3.8.4), and end the connection to one that is not, within minutes.
    fn probe_peer(&self);

    /// Flushes, then ends our direction (FIN, RFC 9293 §3.6); the peer's stays open.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// How far what was given to [`Stream::send`] has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing {
    /// Bytes given since the start.
    pub given: u64,
    /// How many of them the peer's kernel has acknowledged. The kernel's own buffer holds megabytes, so what it has taken
    /// says nothing of the peer.
    pub acknowledged: u64,
}

label! {
    /// The back end a process chose at start.
    pub enum Backend["backend"] {
        /// `io_uring`.
        Uring = "uring",
        /// epoll.
        Epoll = "epoll",
    }
}

impl Backend {
    /// `uring` proves the ring by a send and a receive on an `AF_UNIX` pair, and fails where that does; `auto` is what was measured to take
    /// less time for the same work, which is epoll (BENCHMARKS.md).
    pub fn choose(io: Io) -> Result<Self, RingRefused> {
        match io {
            Io::Auto | Io::Epoll => Ok(Self::Epoll),
            Io::Uring => uring::prove().map(|()| Self::Uring).map_err(|cause| RingRefused { cause }),
        }
    }

    /// Shows the choice as the metric `gatehouse_transport_backend`.
    pub fn register(self, registry: &Registry) -> Result<(), prometheus::Error> {
        let help = "1 for the back end workers use.";
        Gauges::register(registry, "gatehouse_transport_backend", help).map(|chosen| chosen.set(self, 1))
    }
}

/// The ring was asked for and cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "worker.io: `uring` cannot be used here; set `io = \"auto\"` or `\"epoll\"`, or allow io_uring \
     (sysctl kernel.io_uring_disabled=0, a seccomp profile that permits io_uring_setup, io_uring_enter and io_uring_register)"
)]
pub struct RingRefused {
    #[source]
    cause: io::Error,
}

/// Bytes from which on copying them costs more than a system call of their own.
const AT_ONCE: usize = 16 * 1024;

/// Bytes that may be on their way to one peer before its sender has to wait.
pub const SEND_LIMIT: usize = 16 * 1024;

#[cfg(test)]
pub(crate) mod tests;
