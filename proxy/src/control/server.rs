//! HTTP/1.1 for few and trusted clients, bounded all the same.

use std::{convert::Infallible, fmt, future::Future, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use crate::telemetry::admit_line;

/// What an answer carries.
pub(super) type ControlResponse = Response<Full<Bytes>>;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SocketPeer {
    /// A process of this machine, by its user.
    Uid(u32),
    /// A client of the port, or a process that the kernel does not name.
    Unknown,
}

impl fmt::Display for SocketPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(uid) => write!(f, "uid {uid}"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// A listening socket of either family.
pub(super) trait Door: Send + 'static {
    /// Its connections.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The next one, and whose it is.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Io, SocketPeer)>> + Send;
}

impl Door for TcpListener {
    type Io = tokio::net::TcpStream;
    async fn accept(&self) -> io::Result<(Self::Io, SocketPeer)> {
        TcpListener::accept(self).await.map(|(stream, _)| (stream, SocketPeer::Unknown))
    }
}

impl Door for UnixListener {
    type Io = tokio::net::UnixStream;
    async fn accept(&self) -> io::Result<(Self::Io, SocketPeer)> {
        let (stream, _) = UnixListener::accept(self).await?;
        // unix(7), SO_PEERCRED: as it was at connect.
        let caller = stream.peer_cred().map_or(SocketPeer::Unknown, |peer| SocketPeer::Uid(peer.uid()));
        Ok((stream, caller))
    }
}

/// Places for the connections of one listener.
pub(super) fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(CONNECTIONS))
}

/// Waits until all of `places` are free, as they are when every connection is closed.
pub(super) async fn vacated(places: &Semaphore) {
    let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
    let _ = places.acquire_many(all).await;
}

/// Answers requests at the listener `door`, each connection at one of `places`, until it is dropped; connections go on then.
pub(super) async fn serve<D, F, Fut>(door: D, places: Arc<Semaphore>, answer: F)
where
    D: Door,
    F: Fn(SocketPeer, Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ControlResponse> + Send + 'static,
{
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match door.accept().await {
            Ok((io, caller)) => drop(tokio::spawn(converse(io, caller, answer.clone(), place))),
            Err(error) => {
                if let Some(left_out) = admit_line("control_accept_failed", &error.kind().to_string()) {
                    tracing::warn!(%error, left_out, "control connection could not be accepted");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn converse<F, Fut>(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    caller: SocketPeer,
    answer: F,
    _place: OwnedSemaphorePermit,
) where
    F: Fn(SocketPeer, Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ControlResponse> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = answer(caller, request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    // What a client breaks off, or holds for longer than a scrape ever takes, is not worth a line.
    let _ = tokio::time::timeout(LIFE, bounded_http1().serve_connection(TokioIo::new(io), service)).await;
}

/// How the control plane speaks HTTP/1.1: with bounds to a header section's size and time.
pub(crate) fn bounded_http1() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_headers(FIELDS).max_buf_size(HEAD_SIZE);
    http
}

const CONNECTIONS: usize = 32;
const FIELDS: usize = 64;
const HEAD_SIZE: usize = 16 * 1024;
const HEAD: Duration = Duration::from_secs(10);
/// How long a connection may be open.
pub(crate) const LIFE: Duration = Duration::from_mins(5);
const PAUSE: Duration = Duration::from_millis(100);
