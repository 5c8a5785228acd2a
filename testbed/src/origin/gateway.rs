//! A `FastCGI` responder: one request per connection, its variables and its body recorded.

use std::{cell::RefCell, net::SocketAddr, rc::Rc};

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{Reading, Readings, sha256};
use crate::{namespace::Namespace, service::Service};

/// A running responder.
pub(super) struct Gateway {
    _service: Service,
}

#[derive(Default)]
struct Record {
    serial: u64,
    readings: Vec<Reading>,
}

impl Gateway {
    pub(super) fn start(edge: &Namespace, address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self { _service: Service::start(edge, address, serve)? })
    }
}

async fn serve(listener: TcpListener) {
    let record = Rc::new(RefCell::new(Record::default()));
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let record = Rc::clone(&record);
        tokio::task::spawn_local(async move {
            // A server that gives a request up gets no answer.
            let _ = respond(stream, &record).await;
        });
    }
}

async fn respond(mut stream: TcpStream, record: &RefCell<Record>) -> anyhow::Result<()> {
    let request = receive(&mut stream).await?;
    let is_head = request.variable("REQUEST_METHOD") == "HEAD";
    let (serial, body) = record.borrow_mut().answer(&request)?;
    let head = format!("Status: 200 OK\r\nContent-Type: text/plain\r\nX-Origin: {serial}\r\n\r\n");
    let body = if is_head { Vec::new() } else { body };
    let mut answer = Vec::new();
    for piece in [head.into_bytes(), body].concat().chunks(MOST_CONTENT) {
        put(&mut answer, STDOUT, piece)?;
    }
    put(&mut answer, STDOUT, b"")?;
    put(&mut answer, END_REQUEST, &[0; 8])?;
    stream.write_all(&answer).await?;
    Ok(stream.shutdown().await?)
}

impl Record {
    fn answer(&mut self, request: &Request) -> anyhow::Result<(u64, Vec<u8>)> {
        self.serial += 1;
        let reading = request.reading(self.serial);
        if !reading.target.starts_with("/sentinel?") {
            self.readings.push(reading);
            return Ok((self.serial, b"ok\n".to_vec()));
        }
        let readings = Readings { own: reading, readings: std::mem::take(&mut self.readings) };
        Ok((self.serial, serde_json::to_vec(&readings)?))
    }
}

/// A request as a server passed it on.
struct Request {
    variables: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn variable(&self, name: &str) -> &str {
        self.variables.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }

    fn reading(&self, serial: u64) -> Reading {
        let fields = self.variables.iter().filter_map(|(name, value)| {
            let is_plain = ["CONTENT_TYPE", "CONTENT_LENGTH"].contains(&name.as_str()) && !value.is_empty();
            let name = name.strip_prefix("HTTP_").or(is_plain.then_some(name))?;
            Some((name.to_owned(), value.clone()))
        });
        Reading {
            serial,
            connection: self.variable("REMOTE_PORT").to_owned(),
            method: self.variable("REQUEST_METHOD").to_owned(),
            target: self.variable("REQUEST_URI").to_owned(),
            fields: fields.collect(),
            bytes: self.body.len() as u64,
            sha256: sha256(&self.body),
        }
    }
}

/// Reads records until both streams have ended: variables, and standard input.
async fn receive(stream: &mut TcpStream) -> anyhow::Result<Request> {
    let (mut variables, mut body) = (Vec::new(), Vec::new());
    loop {
        let mut header = [0; 8];
        stream.read_exact(&mut header).await?;
        let [version, kind, _, _, high, low, padding, _] = header;
        ensure!(version == 1, "FastCGI version {version}");
        let length = usize::from(u16::from_be_bytes([high, low]));
        let mut content = vec![0; length + usize::from(padding)];
        stream.read_exact(&mut content).await?;
        content.truncate(length);
        match kind {
            PARAMS => variables.extend(content),
            STDIN if length > 0 => body.extend(content),
            STDIN => break,
            BEGIN_REQUEST => {}
            kind => anyhow::bail!("FastCGI record {kind}"),
        }
    }
    Ok(Request { variables: pairs(&variables)?, body })
}

/// Name-value pairs: each length has one byte, or four of which the first has its highest bit set.
fn pairs(mut bytes: &[u8]) -> anyhow::Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    while !bytes.is_empty() {
        let (name, value) = (length(&mut bytes)?, length(&mut bytes)?);
        let mut text = |length: usize| {
            let (text, rest) = bytes.split_at_checked(length).context("a pair is cut")?;
            bytes = rest;
            anyhow::Ok(text.iter().copied().map(char::from).collect::<String>())
        };
        pairs.push((text(name)?, text(value)?));
    }
    Ok(pairs)
}

fn length(bytes: &mut &[u8]) -> anyhow::Result<usize> {
    let (first, rest) = bytes.split_first().context("a length is missing")?;
    if first & 0x80 == 0 {
        *bytes = rest;
        return Ok(usize::from(*first));
    }
    let (four, rest) = bytes.split_first_chunk::<4>().context("a length is cut")?;
    *bytes = rest;
    Ok(usize::try_from(u32::from_be_bytes(*four) & 0x7fff_ffff)?)
}

fn put(answer: &mut Vec<u8>, kind: u8, content: &[u8]) -> anyhow::Result<()> {
    let [high, low] = u16::try_from(content.len())?.to_be_bytes();
    answer.extend([1, kind, 0, 1, high, low, 0, 0]);
    answer.extend(content);
    Ok(())
}

const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const MOST_CONTENT: usize = 32 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_both_sizes_are_read() {
        let long = "v".repeat(200);
        let mut bytes = vec![1, 2];
        bytes.extend(b"abc");
        bytes.extend([1, 0x80, 0, 0, 200]);
        bytes.extend(b"x");
        bytes.extend(long.as_bytes());
        let read = pairs(&bytes).unwrap();
        assert_eq!(read, [("a".to_owned(), "bc".to_owned()), ("x".to_owned(), long)]);
        assert!(pairs(&bytes[..bytes.len() - 1]).is_err() && pairs(&[0x80, 0]).is_err());
    }
}
