//! How upstreams are spoken to over TLS: one configuration for each version of HTTP.

use std::sync::Arc;

use rustls::{ClientConfig, client::Resumption};

use crate::target::UpstreamProtocol;

/// One worker's: sessions are resumed within it, so that no lock is shared between workers.
pub(super) struct TlsConfigs {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

impl TlsConfigs {
    /// After the process's `config`.
    pub(super) fn new(config: &ClientConfig) -> Self {
        Self { http1: offering(config, b"http/1.1"), http2: offering(config, b"h2") }
    }

    pub(super) fn of(&self, protocol: UpstreamProtocol) -> Arc<ClientConfig> {
        match protocol {
            UpstreamProtocol::Http1 => Arc::clone(&self.http1),
            UpstreamProtocol::Http2 => Arc::clone(&self.http2),
        }
    }
}

/// With `protocol` as what ALPN offers (RFC 7301).
fn offering(config: &ClientConfig, protocol: &[u8]) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![protocol.to_vec()];
    // The records behind the handshake are ours.
    config.enable_secret_extraction = true;
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Arc::new(config)
}

/// TLS sessions that are remembered.
const SESSIONS: usize = 256;
