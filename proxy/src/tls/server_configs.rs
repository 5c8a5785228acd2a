//! Server configurations for certificates.

use std::sync::Arc;

use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    version,
};

use super::tickets::TicketKeys;
use crate::{config::TlsVersion, name::ServerName};

/// Builds server configurations: TLS from a least version on, ALPN `h2` and `http/1.1`, tickets that any of them accepts for the same
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

    /// The configuration that presents `certificate` to clients of `name` that speak at least `minimum`.
    pub fn serving(
        &self,
        name: &ServerName,
        certificate: Arc<CertifiedKey>,
        minimum: TlsVersion,
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = self.presenting(certificate, minimum)?;
        // RFC 7301 §3.2: the server chooses, by its own preference.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = self.tickets.ticketer(name, minimum);
        // RFC 8446 §4.6.1 leaves the number free. One ticket, not two: the second is for clients that open connections in
        // parallel, and costs each handshake.
        config.send_tls13_tickets = 1;
        Ok(Arc::new(config))
    }

    /// The configuration that answers a tls-alpn-01 validation (RFC 8737 §3).
    pub fn answering(&self, challenge: Arc<CertifiedKey>) -> Result<Arc<ServerConfig>, rustls::Error> {
        // RFC 8737 §3 asks for 1.2 at least, whatever the name is served with.
        let mut config = self.presenting(challenge, TlsVersion::Tls12)?;
        config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    fn presenting(
        &self,
        certificate: Arc<CertifiedKey>,
        minimum: TlsVersion,
    ) -> Result<ServerConfig, rustls::Error> {
        let versions: &[&SupportedProtocolVersion] = match minimum {
            TlsVersion::Tls12 => &[&version::TLS13, &version::TLS12],
            TlsVersion::Tls13 => &[&version::TLS13],
        };
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Presents(certificate)));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // The records behind the handshake are ours.
        config.enable_secret_extraction = true;
        Ok(config)
    }
}

/// One certificate, whatever name a client asks for: the name was checked before the configuration was chosen, or there is but one.
#[derive(Debug)]
pub(crate) struct Presents(pub(crate) Arc<CertifiedKey>);

impl ResolvesServerCert for Presents {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
