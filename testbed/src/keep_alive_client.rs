//! One connection that is kept, for what curl does not do: a request between two events, bytes as they are.

use std::{
    io::{BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

use crate::{authority, namespace::Namespace};

/// A connection that speaks HTTP/1.1, over TLS unless [`Cleartext`].
pub struct Kept<S = StreamOwned<ClientConnection, TcpStream>> {
    stream: S,
    name: String,
}

/// A socket whose answers are received in few pieces.
pub struct Cleartext(BufReader<TcpStream>);

impl Read for Cleartext {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for Cleartext {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.get_mut().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.get_mut().flush()
    }
}

impl Kept<Cleartext> {
    /// Connects from where the caller is, without TLS.
    pub fn cleartext(to: SocketAddr, name: &str) -> anyhow::Result<Self> {
        let socket =
            TcpStream::connect_timeout(&to, PATIENCE).with_context(|| format!("cannot reach {to}"))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        Ok(Self { stream: Cleartext(BufReader::new(socket)), name: name.to_owned() })
    }
}

impl Kept {
    /// Connects from inside `namespace` and shakes hands for `name`, trusting `roots`.
    pub fn connect(namespace: &Namespace, to: SocketAddr, name: &str, roots: &Path) -> anyhow::Result<Self> {
        let config =
            ClientConfig::builder().with_root_certificates(authority::roots(roots)?).with_no_client_auth();
        let socket = namespace.await_inside(move || TcpStream::connect_timeout(&to, PATIENCE))?;
        Self::over(socket.with_context(|| format!("cannot reach {to}"))?, name, Arc::new(config))
    }

    /// Connects from where the caller is and shakes hands for `name`.
    pub fn connect_with(to: SocketAddr, name: &str, config: Arc<ClientConfig>) -> anyhow::Result<Self> {
        let socket = TcpStream::connect_timeout(&to, PATIENCE);
        Self::over(socket.with_context(|| format!("cannot reach {to}"))?, name, config)
    }

    fn over(socket: TcpStream, name: &str, config: Arc<ClientConfig>) -> anyhow::Result<Self> {
        let connection = ClientConnection::new(config, ServerName::try_from(name.to_owned())?)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self { stream, name: name.to_owned() })
    }

    /// The certificate the server presented, in DER.
    pub fn certificate(&self) -> anyhow::Result<Vec<u8>> {
        let chain = self.stream.conn.peer_certificates().context("no certificate was presented")?;
        Ok(chain.first().context("an empty chain was presented")?.to_vec())
    }
}

impl<S: Read + Write> Kept<S> {
    /// GET on the kept connection: the answer's status.
    pub fn get(&mut self, path: &str) -> anyhow::Result<u16> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.name);
        self.send(request.as_bytes())
    }

    /// Sends bytes as they are and reads one answer: its status.
    pub fn send(&mut self, request: &[u8]) -> anyhow::Result<u16> {
        Ok(self.exchange(request)?.0)
    }

    /// Sends bytes as they are and reads one answer: its status and its body.
    pub fn exchange(&mut self, request: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
        self.stream.write_all(request)?;
        self.stream.flush()?;
        let (status, length) = self.head()?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((status, body))
    }

    /// GET on the kept connection, of whose answer nothing is read.
    pub fn ask(&mut self, path: &str) -> anyhow::Result<()> {
        self.stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.name).as_bytes())?;
        Ok(self.stream.flush()?)
    }

    fn head(&mut self) -> anyhow::Result<(u16, usize)> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            ensure!(self.stream.read(&mut byte)? == 1 && head.len() < MAX_HEAD, "no head, but {head:?}");
            head.extend_from_slice(&byte);
        }
        let head = String::from_utf8(head)?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        let length = head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        Ok((status, length.unwrap_or(0)))
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
const MAX_HEAD: usize = 64 << 10;
