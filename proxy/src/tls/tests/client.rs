//! Certificates and clients of the tests.

use std::{net::TcpStream, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, ClientConnection, NamedGroup, RootCertStore, ServerConfig, StreamOwned,
    SupportedProtocolVersion,
    client::{
        ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
        Tls13ClientSessionValue,
    },
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, ServerName},
    sign::CertifiedKey,
};

use super::{ServerConfigs, tickets::TicketKeys};
use crate::config::TlsVersion;

pub(super) type Blocking = StreamOwned<ClientConnection, TcpStream>;

/// Certificates of `good.example` and `other.example`, and clients that trust them.
pub(super) struct Authority {
    certificates: Vec<(&'static str, Arc<CertifiedKey>)>,
    configs: ServerConfigs,
}

impl Authority {
    pub(super) fn new() -> Self {
        let certificates = ["good.example", "other.example"].map(|name| (name, self_signed(name)));
        let tickets = TicketKeys::new(Duration::from_hours(12), &prometheus::Registry::new()).unwrap();
        Self { certificates: certificates.into(), configs: ServerConfigs::new(tickets) }
    }

    pub(super) fn server(&self, name: &str) -> Arc<ServerConfig> {
        self.server_from(name, TlsVersion::Tls12)
    }

    /// One that refuses versions below `minimum`.
    pub(super) fn server_from(&self, name: &str, minimum: TlsVersion) -> Arc<ServerConfig> {
        let server_name = crate::name::ServerName::parse(name).unwrap();
        self.configs.serving(&server_name, self.certificate(name), minimum).unwrap()
    }

    pub(super) fn answering(&self, name: &str) -> Arc<ServerConfig> {
        self.configs.answering(self.certificate(name)).unwrap()
    }

    fn certificate(&self, name: &str) -> Arc<CertifiedKey> {
        Arc::clone(&self.certificates.iter().find(|(own, _)| *own == name).unwrap().1)
    }

    pub(super) fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> Client {
        let mut roots = RootCertStore::empty();
        for (_, certificate) in &self.certificates {
            roots.add(certificate.cert[0].clone()).unwrap();
        }
        let mut config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.enable_secret_extraction = true;
        Client(config.into())
    }

    /// A client that keeps sessions of all names as if they were of one.
    pub(super) fn careless_client(&self, versions: &[&'static SupportedProtocolVersion]) -> Client {
        let mut config = (*self.client(versions).0).clone();
        config.resumption = Resumption::store(Arc::new(Careless(ClientSessionMemoryCache::new(8))));
        Client(config.into())
    }
}

pub(super) struct Client(Arc<ClientConfig>);

impl Client {
    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }

    pub(super) fn with_protocols(&self, protocols: &[&str]) -> Self {
        let mut config = (*self.0).clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Self(config.into())
    }

    /// What this client does on a socket that is connected: `talk`, in a session with `name`.
    pub(super) fn talk<R: 'static>(
        &self,
        name: &'static str,
        talk: impl FnOnce(Blocking) -> R + Send + 'static,
    ) -> Box<dyn FnOnce(TcpStream) -> R + Send> {
        let connection = self.connection(name);
        Box::new(move |socket| talk(StreamOwned::new(connection, socket)))
    }

    /// The first flight to `name`.
    pub(super) fn hello(&self, name: &'static str) -> Vec<u8> {
        let mut hello = Vec::new();
        self.connection(name).write_tls(&mut hello).unwrap();
        hello
    }

    fn connection(&self, name: &'static str) -> ClientConnection {
        ClientConnection::new(self.config(), name.try_into().unwrap()).unwrap()
    }
}

fn self_signed(name: &str) -> Arc<CertifiedKey> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let provider = aws_lc_rs::default_provider();
    Arc::new(CertifiedKey::from_der(vec![certificate.der().clone()], key, &provider).unwrap())
}

#[derive(Debug)]
struct Careless(ClientSessionMemoryCache);

fn anyone() -> ServerName<'static> {
    "anyone.example".try_into().unwrap()
}

impl ClientSessionStore for Careless {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(anyone(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&anyone())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(anyone(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&anyone())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&anyone());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(anyone(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&anyone())
    }
}
