//! TLS of the API, with the certificate that the fleet has for its name.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::{ServerConfig, crypto::aws_lc_rs, sign::CertifiedKey};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    certificates::{CertificateRefusal, Certificates},
    clock,
    control::ControlContext,
    domains::{Caller, Domains},
    name::ServerName,
    tls::Presents,
};

/// See the module.
pub(super) struct Tls {
    name: ServerName,
    domains: Domains,
    certificates: Certificates,
    /// Of the certificate that was presented last.
    last: Mutex<Option<(Arc<CertifiedKey>, Arc<ServerConfig>)>>,
}

/// Why a connection has come to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    /// The name has no certificate.
    #[error(
        "api.name: there is no certificate for `{name}`: {refusal}; give it an entry, like any other name"
    )]
    NoCertificate {
        /// Which.
        name: ServerName,
        /// Why not.
        refusal: CertificateRefusal,
    },
    /// rustls does not take it.
    #[error("api.name: its certificate cannot be presented")]
    Unfit(#[from] rustls::Error),
    /// The client.
    #[error("the handshake failed")]
    Handshake(#[source] std::io::Error),
}

impl Tls {
    pub(super) fn new(name: ServerName, instance: &ControlContext) -> Self {
        let (domains, certificates) = (instance.domains.clone(), instance.certificates.clone());
        Self { name, domains, certificates, last: Mutex::default() }
    }

    /// The certificate is ordered if there is none, as for any other name.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
        peer: IpAddr,
    ) -> Result<TlsStream<TcpStream>, TlsError> {
        let certificate = self.certificate(peer).await?;
        let acceptor = TlsAcceptor::from(self.presenting(certificate)?);
        let shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
        shaken.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(TlsError::Handshake)
    }

    async fn certificate(&self, peer: IpAddr) -> Result<Arc<CertifiedKey>, TlsError> {
        let refused = |refusal| TlsError::NoCertificate { name: self.name.clone(), refusal };
        let permission = self.domains.permission(&self.name, Caller::Internal).await;
        let slot = self.certificates.obtain(&self.name, &permission, peer).await.map_err(refused)?;
        let current = slot.current(clock::wall()).ok_or_else(|| refused(CertificateRefusal::Failed))?;
        Ok(Arc::clone(&current.key))
    }

    fn presenting(&self, certificate: Arc<CertifiedKey>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, config)) = last.as_ref().filter(|(key, _)| Arc::ptr_eq(key, &certificate)) {
            return Ok(Arc::clone(config));
        }
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Presents(Arc::clone(&certificate))));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let config = Arc::new(config);
        *last = Some((certificate, Arc::clone(&config)));
        Ok(config)
    }
}

const HANDSHAKE: Duration = Duration::from_secs(10);
