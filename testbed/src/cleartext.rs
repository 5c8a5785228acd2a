//! One HTTP/1.1 request over TCP and its answer, for health, metrics and management interfaces.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::Context;

use crate::namespace::Namespace;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Head, as sent.
    pub head: String,
    /// Body.
    pub body: String,
}

/// GET from inside `namespace`.
pub fn get(namespace: &Namespace, to: SocketAddr, host: &str, path: &str) -> anyhow::Result<Answer> {
    send(namespace, to, format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
}

/// POST from inside `namespace`.
pub fn post(namespace: &Namespace, to: SocketAddr, path: &str, body: &str) -> anyhow::Result<Answer> {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    send(namespace, to, format!("{head}Content-Length: {length}\r\n\r\n{body}"))
}

/// Sends `request` as it is from inside `namespace` and reads until the peer closes.
pub fn send(namespace: &Namespace, to: SocketAddr, request: impl Into<Vec<u8>>) -> anyhow::Result<Answer> {
    let request = request.into();
    namespace.await_inside(move || exchange(to, &request))?
}

fn exchange(to: SocketAddr, request: &[u8]) -> anyhow::Result<Answer> {
    let mut stream =
        TcpStream::connect_timeout(&to, PATIENCE).with_context(|| format!("cannot reach {to}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).with_context(|| format!("{to} does not answer"))?;
    parse(&String::from_utf8_lossy(&bytes)).with_context(|| format!("{to} does not speak HTTP"))
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

const PATIENCE: Duration = Duration::from_secs(5);
