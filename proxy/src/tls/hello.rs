//! Reads the ClientHello, and the ways a connection can end there.

use std::{future::poll_fn, io, sync::Arc, time::Duration};

use rustls::{
    PeerIncompatible, ServerConfig,
    server::{Accepted, Acceptor, ClientHello},
};

use super::{HandshakeEnd, bridge::TlsStream, lingering_close::lingering_close};
use crate::{
    name::ServerName,
    transport::{Chunk, Stream},
};

/// What a ClientHello asks for, copied out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloFacts {
    /// The name; absent when the client sent none, or one for which no certificate is possible (RFC 6066 §3).
    pub server_name: Option<ServerName>,
    /// Whether this is a tls-alpn-01 validation (RFC 8737 §3: its ALPN list holds `acme-tls/1` and nothing else).
    pub acme_challenge: bool,
}

/// A connection whose ClientHello was read, and which waits for our answer.
pub struct Pending<S> {
    stream: S,
    accepted: Accepted,
    undigested: Option<Chunk>,
}

/// Alerts that we send ourselves (RFC 8446 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Alert {
    /// The certificate could not be obtained in time.
    InternalError = 80,
    /// The name is not served here (RFC 6066 §3).
    UnrecognizedName = 112,
}

/// Reads the ClientHello within `limit`. Plain HTTP and malformed hellos are answered here.
pub async fn read_hello<S: Stream>(
    mut stream: S,
    limit: Duration,
) -> Result<(HelloFacts, Pending<S>), HandshakeEnd> {
    let mut acceptor = Acceptor::default();
    let read = tokio::time::timeout(limit, read_into(&mut stream, &mut acceptor)).await;
    match read.map_err(|_| HandshakeEnd::HelloTimeout)? {
        Ok((accepted, undigested)) => {
            let hello = HelloFacts::of(&accepted.client_hello());
            Ok((hello, Pending { stream, accepted, undigested }))
        }
        Err(end) => {
            if let Some(answer) = end.answer {
                say_and_close(stream, &answer).await;
            }
            Err(end.end)
        }
    }
}

impl<S: Stream> Pending<S> {
    /// Completes the handshake with `config` within `limit`.
    pub async fn accept(
        self,
        config: Arc<ServerConfig>,
        limit: Duration,
    ) -> Result<TlsStream<S>, HandshakeEnd> {
        let connection = match self.accepted.into_connection(config) {
            Ok(connection) => connection,
            Err((error, mut alert)) => {
                let mut answer = Vec::new();
                if alert.write_all(&mut answer).is_ok() {
                    say_and_close(self.stream, &answer).await;
                }
                return Err(end_of(&error));
            }
        };
        let mut stream = TlsStream::new(self.stream, connection.into(), self.undigested);
        stream.handshake(limit).await.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => HandshakeEnd::HandshakeTimeout,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => HandshakeEnd::Closed,
            _ => HandshakeEnd::Failed,
        })?;
        Ok(stream)
    }

    /// Ends the connection with a fatal `alert` in a record of its own (RFC 8446 §5.1, §6.2).
    pub async fn refuse(self, alert: Alert) {
        say_and_close(self.stream, &[21, 3, 3, 0, 2, 2, alert as u8]).await;
    }
}

/// What a handshake that rustls refused to begin is counted as.
fn end_of(error: &rustls::Error) -> HandshakeEnd {
    match error {
        rustls::Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        ) => HandshakeEnd::Version,
        _ => HandshakeEnd::Failed,
    }
}

impl HelloFacts {
    fn of(hello: &ClientHello<'_>) -> Self {
        let mut protocols = hello.alpn().into_iter().flatten();
        let acme_challenge = protocols.next() == Some(ACME_TLS) && protocols.next().is_none();
        let server_name = hello.server_name().and_then(|name| ServerName::parse(name).ok());
        Self { server_name, acme_challenge }
    }
}

struct Refused {
    end: HandshakeEnd,
    answer: Option<Vec<u8>>,
}

async fn read_into<S: Stream>(
    stream: &mut S,
    acceptor: &mut Acceptor,
) -> Result<(Accepted, Option<Chunk>), Refused> {
    let closed = || Refused { end: HandshakeEnd::Closed, answer: None };
    let mut first = true;
    loop {
        let mut chunk = poll_fn(|cx| stream.poll_recv(cx)).await.map_err(|_| closed())?;
        if chunk.is_empty() {
            return Err(closed());
        }
        if std::mem::take(&mut first) && speaks_http(&chunk) {
            return Err(Refused { end: HandshakeEnd::PlainHttp, answer: Some(PLAIN_HTTP.into()) });
        }
        if let Some(accepted) = digest(acceptor, &mut chunk)? {
            return Ok((accepted, Some(chunk).filter(|chunk| !chunk.is_empty())));
        }
    }
}

/// Feeds `chunk` to the acceptor until it has a hello, or the chunk is used up.
fn digest(acceptor: &mut Acceptor, chunk: &mut Chunk) -> Result<Option<Accepted>, Refused> {
    let malformed = |answer| Refused { end: HandshakeEnd::Malformed, answer };
    while !chunk.is_empty() {
        let digested = acceptor.read_tls(&mut &**chunk).map_err(|_| malformed(None))?;
        chunk.advance(digested);
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(Some(accepted)),
            Ok(None) if digested > 0 => {}
            Ok(None) => return Err(malformed(None)),
            Err((_, mut alert)) => {
                let mut answer = Vec::new();
                let written = alert.write_all(&mut answer);
                return Err(malformed(written.is_ok().then_some(answer)));
            }
        }
    }
    Ok(None)
}

/// A TLS record begins with its content type, 20 to 24 (RFC 8446 §5.1); a request line begins with a capital letter.
fn speaks_http(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(u8::is_ascii_uppercase)
}

async fn say_and_close<S: Stream>(mut stream: S, answer: &[u8]) {
    stream.send(Chunk::copy_of(answer));
    lingering_close(&mut stream).await;
}

const ACME_TLS: &[u8] = b"acme-tls/1";
const PLAIN_HTTP: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 59\r\n\
    Connection: close\r\n\r\nThis port speaks HTTPS only. Begin the address with https.\n";

#[cfg(test)]
mod tests;
