//! Connections that carry another protocol after HTTP agreed to it, as WebSocket's do: an origin that echoes, and clients that see how long they
//! may go on.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{authority, namespace::Namespace, service::Service};

/// Switches to `websocket` and sends back what comes, until dropped.
pub fn echo(namespace: &Namespace, address: SocketAddr) -> anyhow::Result<Service> {
    Service::start(namespace, address, accept)
}

async fn accept(listener: TcpListener) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        tokio::task::spawn_local(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && head.len() < LONGEST_HEAD {
                head.push(stream.read_u8().await?);
            }
            stream.write_all(switched(&head).as_bytes()).await?;
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await
        });
    }
}

/// The agreement to the handshake in `head`, with the proof that it was read (RFC 6455 §4.2.2).
fn switched(head: &[u8]) -> String {
    let head = String::from_utf8_lossy(head);
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let key = fields.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
    let text = format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key.map_or("", |(_, key)| key.trim()));
    let proof = BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {proof}\r\n\r\n"
    )
}

/// What a client saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Messages that came back.
    pub echoed: u64,
    /// For how long each tunnel was open that the server has closed, and how the client saw it.
    pub closed: Vec<(Duration, String)>,
    /// What should not happen: a tunnel that was not opened, or an echo that is none.
    pub failures: Vec<String>,
}

/// A client that opens a tunnel again whenever the server has closed it; dropped, it ends.
#[derive(Debug)]
pub struct Client {
    seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// Starts it inside `namespace`, trusting `roots`.
    pub fn start(namespace: &Namespace, to: SocketAddr, name: &str, roots: &Path) -> anyhow::Result<Self> {
        let config =
            ClientConfig::builder().with_root_certificates(authority::roots(roots)?).with_no_client_auth();
        let tunnels = Tunnels { to, name: name.to_owned(), config: Arc::new(config) };
        let (seen, over) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
        let (saw, is_over) = (Arc::clone(&seen), Arc::clone(&over));
        let thread = namespace.thread(move || {
            while !is_over.load(Ordering::Relaxed) {
                if let Err(error) = tunnels.use_one(&saw, &is_over) {
                    note(&saw, |seen| seen.failures.push(format!("{error:#}")));
                    thread::park_timeout(BREATH);
                }
            }
        })?;
        Ok(Self { seen, over, thread: Some(thread) })
    }

    /// So far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Tunnels {
    to: SocketAddr,
    name: String,
    config: Arc<ClientConfig>,
}

impl Tunnels {
    /// Opens one and sends messages until the server closes it, or it is over.
    fn use_one(&self, seen: &Mutex<Seen>, over: &AtomicBool) -> anyhow::Result<()> {
        let mut stream = self.open()?;
        let opened = Instant::now();
        let mut number: u64 = 0;
        while !over.load(Ordering::Relaxed) {
            number += 1;
            let sent = number.to_be_bytes();
            let mut back = [0; 8];
            let outcome = stream.write_all(&sent).and_then(|()| stream.flush());
            // Whichever of both finds the end: the server may close between a message and its echo.
            if let Err(error) = outcome.and_then(|()| stream.read_exact(&mut back)) {
                note(seen, |seen| seen.closed.push((opened.elapsed(), error.to_string())));
                return Ok(());
            }
            ensure!(back == sent, "message {number} came back as {back:?}");
            note(seen, |seen| seen.echoed += 1);
            thread::park_timeout(BREATH);
        }
        Ok(())
    }

    fn open(&self) -> anyhow::Result<StreamOwned<ClientConnection, TcpStream>> {
        let socket = TcpStream::connect_timeout(&self.to, PATIENCE).context("no connection")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(self.name.clone())?;
        let mut stream = StreamOwned::new(ClientConnection::new(Arc::clone(&self.config), name)?, socket);
        write!(stream, "GET /tunnel HTTP/1.1\r\nHost: {}\r\n{OFFER}\r\n\r\n", self.name)?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && head.len() < LONGEST_HEAD {
            let mut byte = [0];
            stream.read_exact(&mut byte).context("the answer breaks off")?;
            head.extend(byte);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        ensure!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Ok(stream)
    }
}

fn note(seen: &Mutex<Seen>, change: impl FnOnce(&mut Seen)) {
    change(&mut seen.lock().unwrap_or_else(PoisonError::into_inner));
}

const OFFER: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
const LONGEST_HEAD: usize = 8 << 10;
const BREATH: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(10);
