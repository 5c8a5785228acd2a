//! Clients that ask over TLS and read nothing of what they are answered, and floods of them.

use std::{
    fmt,
    io::Write,
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::AsFd,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, anyhow};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use socket2::{Domain, Socket, Type};

use crate::{authority, namespace::Namespace};

/// What a client asks for before it stops reading.
#[derive(Debug, Clone)]
pub enum Ask {
    /// One GET over HTTP/1.1.
    Http1 {
        /// Its path.
        path: String,
    },
    /// GETs over HTTP/2 with flow-control windows of 2^30 bytes.
    Http2 {
        /// How many, on streams of their own.
        streams: u32,
        /// The path of each.
        path: String,
    },
    /// POSTs over HTTP/2 whose bodies never come.
    Http2WithoutBody {
        /// How many, on streams of their own.
        streams: u32,
        /// The path of each.
        path: String,
    },
}

impl Ask {
    /// The ALPN protocol it is asked over (RFC 7301).
    fn protocol(&self) -> &'static [u8] {
        match self {
            Self::Http1 { .. } => b"http/1.1",
            Self::Http2 { .. } | Self::Http2WithoutBody { .. } => b"h2",
        }
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        match self {
            Self::Http1 { path } => format!("GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n").into_bytes(),
            Self::Http2 { streams, path } => {
                http2(*streams, &fields(GET, name, path), END_HEADERS | END_STREAM)
            }
            Self::Http2WithoutBody { streams, path } => {
                http2(*streams, &fields(POST, name, path), END_HEADERS)
            }
        }
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http1 { path } => write!(f, "GET {path} over HTTP/1.1"),
            Self::Http2 { streams, path } => write!(f, "{streams} x GET {path} over HTTP/2"),
            Self::Http2WithoutBody { streams, path } => {
                write!(f, "{streams} x POST {path} without a body over HTTP/2")
            }
        }
    }
}

/// TLS settings of a client that speaks the protocol of `ask` and trusts `roots`.
pub fn config(ask: &Ask, roots: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let mut config =
        ClientConfig::builder().with_root_certificates(authority::roots(roots)?).with_no_client_auth();
    config.alpn_protocols = vec![ask.protocol().to_vec()];
    Ok(Arc::new(config))
}

/// A connection that has asked, and is never read from again.
pub struct NonReader(StreamOwned<ClientConnection, TcpStream>);

impl NonReader {
    /// Connects, from the address `source` if one is given, shakes hands for `name` and asks.
    pub fn connect(
        source: Option<IpAddr>,
        to: SocketAddr,
        name: &str,
        config: Arc<ClientConfig>,
        ask: &Ask,
    ) -> anyhow::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.connect_timeout(&to.into(), PATIENCE)?;
        let socket = TcpStream::from(socket);
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let connection = ClientConnection::new(config, ServerName::try_from(name.to_owned())?)?;
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        stream.write_all(&ask.bytes(name))?;
        stream.flush()?;
        Ok(Self(stream))
    }

    /// Whether the server keeps the connection, as far as can be seen without reading.
    pub fn is_open(&self) -> anyhow::Result<bool> {
        let mut watched = [PollFd::new(self.0.sock.as_fd(), PollFlags::from_bits_retain(libc::POLLRDHUP))];
        Ok(poll(&mut watched, PollTimeout::ZERO)? == 0)
    }
}

/// What a flood does.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where to.
    pub to: SocketAddr,
    /// For which name.
    pub name: String,
    /// From which addresses.
    pub sources: Vec<IpAddr>,
    /// Over how many connections at once, from each.
    pub connections_per_source: usize,
    /// What each of them asks.
    pub ask: Ask,
}

/// A flood under way. A connection that the server closes is replaced.
pub struct Flood {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
}

#[derive(Debug, Default)]
struct Counts {
    connected: AtomicU64,
    refused: AtomicU64,
    closed: AtomicU64,
}

/// What a flood saw.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Connections made.
    pub connected: u64,
    /// Connections that came to no handshake.
    pub refused: u64,
    /// Connections the server closed.
    pub closed: u64,
}

impl Flood {
    /// Starts it from inside `namespace`, trusting `roots`.
    pub fn start(namespace: &Namespace, roots: &Path, plan: &Plan) -> anyhow::Result<Self> {
        let config = config(&plan.ask, roots)?;
        let mut flood = Self { stop: Arc::default(), counts: Arc::default(), threads: Vec::new() };
        let places: Vec<IpAddr> =
            std::iter::repeat_n(&plan.sources, plan.connections_per_source).flatten().copied().collect();
        for share in places.chunks(places.len().div_ceil(THREADS).max(1)) {
            let mut attacker = Attacker {
                plan: plan.clone(),
                config: Arc::clone(&config),
                open: share.iter().map(|source| (*source, None)).collect(),
            };
            let (stop, counts) = (Arc::clone(&flood.stop), Arc::clone(&flood.counts));
            flood.threads.push(namespace.thread(move || {
                while !stop.load(Ordering::Relaxed) {
                    attacker.fill_up(&stop, &counts)?;
                    thread::park_timeout(ROUND);
                }
                Ok(())
            })?);
        }
        Ok(flood)
    }

    /// What was seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { connected, refused, closed } = &*self.counts;
        Seen { connected: of(connected), refused: of(refused), closed: of(closed) }
    }

    /// Closes all connections.
    pub fn stop(self) -> anyhow::Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.seen();
        for thread in self.threads {
            thread.join().map_err(|_| anyhow!("a thread of the flood panicked"))??;
        }
        Ok(seen)
    }
}

struct Attacker {
    plan: Plan,
    config: Arc<ClientConfig>,
    open: Vec<(IpAddr, Option<NonReader>)>,
}

impl Attacker {
    /// Connects where there is no connection, or none any more.
    fn fill_up(&mut self, stop: &AtomicBool, counts: &Counts) -> anyhow::Result<()> {
        let Self { plan, config, open } = self;
        for (source, slot) in open {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            match slot.as_ref().map(NonReader::is_open).transpose()? {
                Some(true) => continue,
                Some(false) => _ = counts.closed.fetch_add(1, Ordering::Relaxed),
                None => {}
            }
            let connected =
                NonReader::connect(Some(*source), plan.to, &plan.name, Arc::clone(config), &plan.ask);
            let count = if connected.is_ok() { &counts.connected } else { &counts.refused };
            count.fetch_add(1, Ordering::Relaxed);
            *slot = connected.ok();
        }
        Ok(())
    }
}

/// The client's preface, windows that never close, and `streams` requests (RFC 9113 §3.4, §6.5.2, §6.9).
fn http2(streams: u32, fields: &[u8], flags: u8) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let initial_window = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &WINDOW.to_be_bytes()].concat();
    push_frame(&mut bytes, SETTINGS, 0, 0, &initial_window);
    push_frame(&mut bytes, WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes());
    for number in 0..streams {
        push_frame(&mut bytes, HEADERS, flags, 2 * number + 1, fields);
    }
    bytes
}

/// RFC 9113 §4.1.
fn push_frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    bytes.extend_from_slice(length.get(1..).unwrap_or_default());
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}

/// A field section without Huffman codes: method and scheme from the static table, the rest as literals (RFC 7541 §6).
fn fields(method: u8, name: &str, path: &str) -> Vec<u8> {
    let mut bytes = vec![method, SCHEME_HTTPS];
    for (index, value) in [(AUTHORITY, name), (PATH, path)] {
        bytes.push(index);
        // RFC 7541 §5.1: one byte says a length below 127; names and paths of tests are shorter.
        bytes.push(u8::try_from(value.len()).unwrap_or(u8::MAX) & 0x7f);
        bytes.extend_from_slice(value.as_bytes());
    }
    bytes
}

/// Asks from where the caller is, as often as `connections` says.
pub fn several(
    connections: usize,
    to: SocketAddr,
    name: &str,
    roots: &Path,
    ask: &Ask,
) -> anyhow::Result<Vec<NonReader>> {
    let config = config(ask, roots)?;
    let connect = |_| NonReader::connect(None, to, name, Arc::clone(&config), ask);
    (0..connections).map(connect).collect::<anyhow::Result<_>>().with_context(|| ask.to_string())
}

const GET: u8 = 0x82;
const POST: u8 = 0x83;
const SCHEME_HTTPS: u8 = 0x87;
const AUTHORITY: u8 = 0x01;
const PATH: u8 = 0x04;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: u16 = 4;
const WINDOW: u32 = 1 << 30;
const THREADS: usize = 4;
const ROUND: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_one_frame_of_headers() {
        let asked = Ask::Http2 { streams: 2, path: "/a".to_owned() }.bytes("b.test");
        // Behind preface, SETTINGS of one entry and WINDOW_UPDATE.
        let frames = &asked[24 + 9 + 6 + 9 + 4..];
        let frame = |stream| {
            [&[0, 0, 14, 1, 5, 0, 0, 0, stream, 0x82, 0x87, 1, 6][..], b"b.test", &[4, 2], b"/a"].concat()
        };
        assert_eq!(frames, [frame(1), frame(3)].concat());
    }
}
