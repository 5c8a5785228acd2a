//! The floor: what the work would cost without TLS and HTTP, in [`crate::floor`], as a process of its own.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
};

use anyhow::{Context, ensure};

use super::{
    client::Client,
    subject::{Subject, free_port, pinned},
    work::Work,
};

/// Relays between cleartext clients and the upstream.
pub(super) struct Floors {
    plain: Subject,
    sealing: Subject,
}

impl Floors {
    /// Starts both. Their clients send what Gatehouse, a `binary`, sends to an upstream for the same request.
    pub(super) fn start(folder: &Path, binary: &Path, upstream: &Subject) -> anyhow::Result<Self> {
        let fields = sent_by_gatehouse(folder, binary)?;
        let plain = relay(folder, upstream, &[])?.with_fields(fields);
        Ok(Self { plain, sealing: relay(folder, upstream, &["--seal"])? })
    }

    /// The one that `work` is held against: nothing but its bytes for requests, one pass of AES-GCM for bodies. A handshake has none.
    pub(super) fn of(&self, work: Work) -> Option<&Subject> {
        match work {
            Work::KeptAlive => Some(&self.plain),
            Work::Download | Work::Upload => Some(&self.sealing),
            Work::Resumed | Work::FullHandshake => None,
        }
    }
}

fn relay(folder: &Path, upstream: &Subject, more: &[&str]) -> anyhow::Result<Subject> {
    let port = free_port()?;
    let mut command = pinned(std::env::current_exe()?)?;
    command.args(["floor", "--listen", &port.to_string(), "--to", &upstream.port().to_string()]).args(more);
    let log = folder.join(format!("floor-{port}.log"));
    Subject::start("floor", port, command, &log, None)
}

/// The fields that an upstream gets for a request without any.
fn sent_by_gatehouse(folder: &Path, binary: &Path) -> anyhow::Result<Vec<String>> {
    let folder = folder.join("sent");
    std::fs::create_dir_all(&folder)?;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let gatehouse = Subject::gatehouse(&folder, binary, "epoll", listener.local_addr()?.port())?;
    let client = Client::new(&gatehouse)?;
    let asking =
        std::thread::spawn(move || client.exchange(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").map(drop));
    let head = receive_head(&mut listener.accept()?.0)?;
    asking.join().map_err(|_| anyhow::anyhow!("the client panicked"))??;
    // wrk writes a Host of its own unless it finds one by this spelling.
    let spelled =
        |line: &str| line.strip_prefix("host:").map_or(line.to_owned(), |host| format!("Host:{host}"));
    let fields: Vec<String> = head.lines().skip(1).filter(|line| !line.is_empty()).map(spelled).collect();
    ensure!(head.starts_with("GET / HTTP/1.1") && fields.len() > 2, "Gatehouse sent {head:?}");
    Ok(fields)
}

fn receive_head(stream: &mut TcpStream) -> anyhow::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        ensure!(
            stream.read(&mut byte)? == 1 && head.len() < MOST_HEAD,
            "no request, but {}",
            head.escape_ascii()
        );
        head.extend(byte);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
    String::from_utf8(head).context("the request is not text")
}

const MOST_HEAD: usize = 16 << 10;
