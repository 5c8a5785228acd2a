//! Server configurations for certificates.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::tickets::TicketKeys;
use crate::name::ServerName;

/// Builds server configurations: TLS 1.2 and 1.3, ALPN `h2` and `http/1.1`, tickets that any of them accepts for the same
/// server name (RFC 6066 §3: a session is not resumed under another; its key depends on the name, and rustls compares it, too).
/// One per process; cheap per certificate.
pub struct ServerConfigs {
    provider: Arc<CryptoProvider>,
    tickets: TicketKeys,
}

impl ServerConfigs {
    /// Whose sessions resume by `tickets`.
    #[must_use]
    pub fn new(tickets: TicketKeys) -> Self {
        Self { provider: Arc::new(aws_lc_rs::default_provider()), tickets }
    }

    /// The configuration that presents `certificate` to clients of `name`.
    pub fn serving(
        &self,
        name: &ServerName,
        certificate: Arc<CertifiedKey>,
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = self.presenting(certificate)?;
        // RFC 7301 §3.2: the server chooses, by its own preference.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = self.tickets.ticketer(name);
        // RFC 8446 §4.6.1 leaves the number free. One ticket, not two: the second is for clients that open connections in
        // parallel, and costs each handshake.
        config.send_tls13_tickets = 1;
        Ok(Arc::new(config))
    }

    /// The configuration that answers a tls-alpn-01 validation (RFC 8737 §3).
    pub fn answering(&self, challenge: Arc<CertifiedKey>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = self.presenting(challenge)?;
        config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    fn presenting(&self, certificate: Arc<CertifiedKey>) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Presents(certificate)));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }
}

/// The name was checked before the configuration was chosen: only one certificate is left.
#[derive(Debug)]
struct Presents(Arc<CertifiedKey>);

impl ResolvesServerCert for Presents {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
