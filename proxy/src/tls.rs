//! From a byte stream to a TLS stream: the ClientHello first, then a configuration chosen by the caller, then the bridge
//! between hyper and rustls in memory.
//! Not here: which names are served (`domains`), where certificates come from (`certificates`).

use std::{sync::Arc, time::Duration};

use rustls::{ServerConfig, sign::CertifiedKey};

use crate::{name::ServerName, transport::Stream};

/// What a ClientHello asks for, copied out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The name, absent when the client sent none (RFC 6066 §3).
    pub server_name: Option<ServerName>,
    /// Whether the client speaks only `acme-tls/1` (RFC 8737 §3).
    pub acme_challenge: bool,
}

/// A connection that has told its ClientHello and waits for our answer.
pub struct Pending<S> {
    stream: S,
}

/// Why a connection ended before its handshake did. Indexes `gatehouse_tls_handshakes_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeEnd {
    /// Nothing was sent, or not a whole ClientHello in time.
    HelloTimeout,
    /// The peer closed first.
    Closed,
    /// Plain HTTP on the TLS port; answered with one fixed 400.
    PlainHttp,
    /// Not TLS, or a ClientHello rustls refuses.
    Malformed,
    /// The peer broke the handshake or sent an alert.
    Failed,
    /// The flights took too long.
    HandshakeTimeout,
}

/// Alerts we choose ourselves (RFC 8446 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alert {
    /// 112, `unrecognized_name` (RFC 6066 §3).
    UnrecognizedName,
    /// 80, `internal_error`: the certificate could not be had in time.
    InternalError,
}

/// Reads the ClientHello within `limit`. Plain HTTP and malformed hellos are answered here.
pub async fn read_hello<S: Stream>(
    _stream: S,
    _limit: Duration,
) -> Result<(Hello, Pending<S>), HandshakeEnd> {
    todo!()
}

impl<S: Stream> Pending<S> {
    /// Completes the handshake with `config`; each flight has `limit`.
    pub async fn accept(
        self,
        _config: Arc<ServerConfig>,
        _limit: Duration,
    ) -> Result<TlsStream<S>, HandshakeEnd> {
        todo!()
    }

    /// Ends the connection with `alert`.
    pub async fn refuse(self, _alert: Alert) {
        drop(self.stream);
    }
}

/// Plaintext over TLS over a transport stream; hyper's `Read` and `Write`. Server and client side.
pub struct TlsStream<S> {
    stream: S,
}

impl<S: Stream> TlsStream<S> {
    /// Whether ALPN chose `h2` (RFC 9113 §3.2).
    #[must_use]
    pub fn is_http2(&self) -> bool {
        let _ = &self.stream;
        todo!()
    }
}

/// Connects TLS over `stream` to an upstream, verified against `config`'s roots for `name`.
pub async fn connect<S: Stream>(
    _stream: S,
    _name: rustls::pki_types::ServerName<'static>,
    _config: Arc<rustls::ClientConfig>,
    _limit: Duration,
) -> std::io::Result<TlsStream<S>> {
    todo!()
}

/// Builds server configurations around certificates: versions, ALPN `h2` and `http/1.1`, tickets of this process.
/// One per process; cheap per certificate.
pub struct ServerConfigs {}

impl ServerConfigs {
    /// With fresh ticket keys.
    pub fn new() -> Result<Self, rustls::Error> {
        Ok(Self {})
    }

    /// The configuration that presents `certificate`.
    #[must_use]
    pub fn serving(&self, _certificate: Arc<CertifiedKey>) -> Arc<ServerConfig> {
        todo!()
    }

    /// The configuration that answers a tls-alpn-01 validation (RFC 8737 §3).
    #[must_use]
    pub fn answering(&self, _challenge: Arc<CertifiedKey>) -> Arc<ServerConfig> {
        todo!()
    }
}
