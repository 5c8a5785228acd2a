//! From a byte stream to a TLS stream: the ClientHello first, then a configuration chosen by the caller, then rustls's handshake, and from its
//! end on records of our own.
//! Not here: which names are served (`domains`), where certificates come from (`certificates`).
//! Invariants: only ciphertext reaches the transport; a session of one name never resumes under another
//! (`a_session_does_not_resume_under_another_name`); whatever a client sends ends in a [`HandshakeEnd`] (`garbage_never_panics`).

mod alert;
mod handshake;
mod hello;
mod lingering_close;
mod record;
mod record_layer;
mod server_configs;
mod stream;
pub mod tickets;

use std::{io, sync::Arc, time::Duration};

use rustls::{ClientConfig, client::UnbufferedClientConnection};

pub(crate) use self::server_configs::Presents;
pub use self::{
    alert::Alert,
    hello::{HelloFacts, Pending, read_hello},
    server_configs::ServerConfigs,
    stream::TlsStream,
};
use crate::{label, transport::Stream};

label! {
    /// Why a connection ended before its handshake did.
    pub enum HandshakeEnd["outcome"] {
        /// No complete ClientHello in time.
        HelloTimeout = "hello_timeout",
        /// The peer closed first.
        Closed = "closed",
        /// Plain HTTP on the TLS port; answered with one fixed 400.
        PlainHttp = "plain_http",
        /// Not TLS, or a ClientHello rustls refuses.
        Malformed = "malformed",
        /// It speaks no version of TLS that the name is served with; answered with alert 70.
        Version = "protocol_version",
        /// The peer broke the handshake or sent an alert.
        Failed = "handshake_failed",
        /// The handshake messages took too long.
        HandshakeTimeout = "handshake_timeout",
    }
}

/// Connects TLS over `stream` to an upstream, verified for `name` by `config`, which lets its secrets be extracted, within `limit`.
pub async fn connect<S: Stream>(
    stream: S,
    name: rustls::pki_types::ServerName<'static>,
    config: Arc<ClientConfig>,
    limit: Duration,
) -> io::Result<TlsStream<S>> {
    let side = UnbufferedClientConnection::new(config, name).map_err(io::Error::other)?;
    handshake::shake(stream, side, Vec::new(), limit).await
}

#[cfg(test)]
mod tests;
