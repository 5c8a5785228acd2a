//! A client that sends bytes as they are, and reads answers.

use std::{
    fmt,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use testbed::namespace::Namespace;

use super::message::latin1;

/// A TLS connection.
pub(super) struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    received: Vec<u8>,
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Whether the connection ends with it.
    pub(super) is_last: bool,
    /// Whether it breaks off.
    pub(super) is_cut: bool,
}

/// Who answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Author {
    /// The origin's program, which counts its requests.
    Program { serial: u64 },
    /// The server that the program runs on, which it has not asked.
    Server,
    /// Gatehouse.
    Gatehouse,
}

impl Client {
    pub(super) fn connect(
        namespace: &Namespace,
        to: SocketAddr,
        name: &str,
        config: &Arc<ClientConfig>,
    ) -> anyhow::Result<Self> {
        let socket = namespace.inside(move || TcpStream::connect_timeout(&to, PATIENCE))??;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        let connection = ClientConnection::new(Arc::clone(config), ServerName::try_from(name.to_owned())?)?;
        Ok(Self { stream: StreamOwned::new(connection, socket), received: Vec::new() })
    }

    /// Sends `bytes`, in pieces that end at `cuts`. A server that has answered may take no more.
    pub(super) fn send(&mut self, bytes: &[u8], cuts: &[usize]) {
        let mut begin = 0;
        for cut in cuts.iter().copied().chain([bytes.len()]) {
            let sent = self.stream.write_all(&bytes[begin..cut]).and_then(|()| self.stream.flush());
            if sent.is_err() {
                return;
            }
            begin = cut;
        }
    }

    /// The next final answer; none when the connection has ended instead.
    pub(super) fn answer(&mut self, to_head: bool) -> anyhow::Result<Option<Answer>> {
        loop {
            let Some(answer) = self.any_answer(to_head)? else { return Ok(None) };
            if answer.status >= 200 {
                return Ok(Some(answer));
            }
        }
    }

    /// The next answer, be it an interim one.
    pub(super) fn any_answer(&mut self, to_head: bool) -> anyhow::Result<Option<Answer>> {
        let end = loop {
            if let Some(at) = find(&self.received, b"\r\n\r\n") {
                break at + 4;
            }
            if !self.receive()? {
                ensure!(
                    self.received.is_empty(),
                    "cut within a header section: {}",
                    self.received.escape_ascii()
                );
                return Ok(None);
            }
        };
        let head = latin1(&self.received.drain(..end).collect::<Vec<_>>());
        let mut answer = parse(&head).with_context(|| head.clone())?;
        if answer.status >= 200 && !to_head && ![204, 304].contains(&answer.status) {
            if let Some(body) = self.body(&mut answer)? {
                answer.body = body;
            } else {
                (answer.is_cut, answer.is_last) = (true, true);
            }
        }
        Ok(Some(answer))
    }

    /// The body; none where the connection ends before it does.
    fn body(&mut self, answer: &mut Answer) -> anyhow::Result<Option<Vec<u8>>> {
        if let Some(length) = answer.field("content-length") {
            let length = length.parse()?;
            return self.take(length);
        }
        if answer.field("transfer-encoding").is_none() {
            answer.is_last = true;
            while self.receive()? {}
            return Ok(Some(std::mem::take(&mut self.received)));
        }
        let mut body = Vec::new();
        loop {
            while find(&self.received, b"\r\n").is_none() {
                if !self.receive()? {
                    return Ok(None);
                }
            }
            let end = find(&self.received, b"\r\n").context("no line")?;
            let size = usize::from_str_radix(&latin1(&self.received[..end]), 16)?;
            self.received.drain(..end + 2);
            let Some(chunk) = self.take(size + 2)? else { return Ok(None) };
            if size == 0 {
                return Ok(Some(body));
            }
            body.extend(&chunk[..size]);
        }
    }

    fn take(&mut self, length: usize) -> anyhow::Result<Option<Vec<u8>>> {
        while self.received.len() < length {
            if !self.receive()? {
                return Ok(None);
            }
        }
        Ok(Some(self.received.drain(..length).collect()))
    }

    /// Receives more; false at the connection's end, however it came about.
    fn receive(&mut self) -> anyhow::Result<bool> {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.received.extend(&buffer[..count]);
                Ok(true)
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                bail!("no answer within {PATIENCE:?}")
            }
            Err(_) => Ok(self.receive_alone()),
        }
    }

    /// The same where nothing can be sent any more: rustls's stream would do that first, and fail, although an answer is there.
    fn receive_alone(&mut self) -> bool {
        let (connection, socket) = (&mut self.stream.conn, &mut self.stream.sock);
        let mut buffer = [0; 16 << 10];
        loop {
            match connection.reader().read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    self.received.extend(&buffer[..count]);
                    return true;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
            let is_read = connection.read_tls(socket).is_ok_and(|count| count > 0);
            if !is_read || connection.process_new_packets().is_err() {
                return false;
            }
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.status, self.fields, latin1(&self.body[..self.body.len().min(300)]))
    }
}

impl Answer {
    pub(super) fn new(status: u16, fields: Vec<(String, String)>, body: Vec<u8>) -> Self {
        let mut answer = Self { status, fields, body, is_last: false, is_cut: false };
        answer.is_last = answer.field("connection") == Some("close");
        answer
    }

    /// One of which nothing came.
    pub(super) fn cut() -> Self {
        Self { is_cut: true, is_last: true, ..Self::new(0, Vec::new(), Vec::new()) }
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn author(&self) -> anyhow::Result<Author> {
        if let Some(serial) = self.field("x-origin") {
            return Ok(Author::Program { serial: serial.parse()? });
        }
        // Our error page has a policy; what is answered to what is no request has neither a body nor a type.
        let is_page = self.field("content-security-policy").is_some()
            && self.field("cache-control") == Some("no-store");
        let is_bare = self
            .fields
            .iter()
            .all(|(name, _)| ["content-length", "connection", "date"].contains(&name.as_str()));
        let is_ours = is_page || (is_bare && self.field("content-length") == Some("0"));
        Ok(if is_ours { Author::Gatehouse } else { Author::Server })
    }
}

fn parse(head: &str) -> anyhow::Result<Answer> {
    let mut lines = head.trim_end().split("\r\n");
    let status =
        lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)).context("no status line")?;
    let fields = lines.map(|line| line.split_once(": ").or(line.split_once(':')).context("no field"));
    let fields = fields.map(|field| field.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())));
    Ok(Answer::new(status.parse()?, fields.collect::<Result<_, _>>()?, Vec::new()))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

const PATIENCE: Duration = Duration::from_secs(20);
