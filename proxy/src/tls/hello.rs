//! Reads the ClientHello, and the ways a connection can end there.

use std::{future::poll_fn, io, sync::Arc, time::Duration};

use rustls::{
    PeerIncompatible, ServerConfig,
    server::{Accepted, Acceptor, ClientHello, UnbufferedServerConnection},
};

use super::{
    HandshakeEnd, alert::Alert, handshake::shake, lingering_close::lingering_close, stream::TlsStream,
};
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
    /// The ClientHello, and whatever came with it.
    received: Vec<u8>,
}

/// Reads the ClientHello within `limit`. Plain HTTP and malformed hellos are answered here.
pub async fn read_hello<S: Stream>(
    mut stream: S,
    limit: Duration,
) -> Result<(HelloFacts, Pending<S>), HandshakeEnd> {
    let mut received = Vec::new();
    let read = tokio::time::timeout(limit, read_into(&mut stream, &mut received)).await;
    match read.map_err(|_| HandshakeEnd::HelloTimeout)? {
        Ok(hello) => Ok((hello, Pending { stream, received })),
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
        let side = UnbufferedServerConnection::new(config).map_err(|error| end_of(&error))?;
        shake(self.stream, side, self.received, limit).await.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => HandshakeEnd::HandshakeTimeout,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => HandshakeEnd::Closed,
            _ => error.get_ref().and_then(|error| error.downcast_ref()).map_or(HandshakeEnd::Failed, end_of),
        })
    }

    /// Ends the connection with a fatal `alert` in a record of its own (RFC 8446 §5.1, §6.2).
    pub async fn refuse(self, alert: Alert) {
        let [level, description] = alert.bytes();
        say_and_close(self.stream, &[21, 3, 3, 0, 2, level, description]).await;
    }
}

/// What a handshake that rustls refused is counted as.
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

/// Reads until there is a hello; `received` is all that has come by then.
async fn read_into<S: Stream>(stream: &mut S, received: &mut Vec<u8>) -> Result<HelloFacts, Refused> {
    let closed = || Refused { end: HandshakeEnd::Closed, answer: None };
    let mut acceptor = Acceptor::default();
    loop {
        let mut chunk = poll_fn(|cx| stream.poll_recv(cx)).await.map_err(|_| closed())?;
        if chunk.is_empty() {
            return Err(closed());
        }
        if received.is_empty() && speaks_http(&chunk) {
            return Err(Refused { end: HandshakeEnd::PlainHttp, answer: Some(PLAIN_HTTP.into()) });
        }
        received.extend_from_slice(&chunk);
        if let Some(accepted) = digest(&mut acceptor, &mut chunk)? {
            return Ok(HelloFacts::of(&accepted.client_hello()));
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
