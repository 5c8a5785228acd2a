//! How upstreams are spoken to over TLS: one configuration for each offer of versions of HTTP, and for each of the settings that endpoints name.

use std::{collections::BTreeMap, io, sync::Arc};

use rustls::{ClientConfig, client::Resumption, pki_types};

use super::{
    failure::UpstreamFailure,
    tls_settings::{NamedTls, TlsSettings},
};
use crate::{
    name::ServerName,
    target::{Endpoint, TargetHost, TlsName, UpstreamProtocol},
};

/// One worker's: sessions are resumed within it, so that no lock is shared between workers, and by endpoints of the same settings alone.
pub(super) struct TlsConfigs {
    usual: Option<ByProtocol>,
    named: BTreeMap<TlsName, Named>,
}

struct Named {
    configs: Option<ByProtocol>,
    server_name: Option<ServerName>,
}

struct ByProtocol {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    auto: Arc<ClientConfig>,
}

/// How one endpoint is spoken to, and whose certificate it must present.
pub(super) type EndpointTls = (Arc<ClientConfig>, pki_types::ServerName<'static>);

impl TlsConfigs {
    /// After the process's `settings`.
    pub(super) fn new(settings: &TlsSettings) -> Self {
        let named = settings.named.iter().map(|(name, NamedTls { config, server_name })| {
            let configs = config.as_ref().map(ByProtocol::new);
            (name.clone(), Named { configs, server_name: server_name.clone() })
        });
        Self { usual: settings.usual.as_ref().map(ByProtocol::new), named: named.collect() }
    }

    /// How a connection to `endpoint` begins that is for `protocol`.
    pub(super) fn of(
        &self,
        endpoint: &Endpoint,
        protocol: UpstreamProtocol,
    ) -> Result<EndpointTls, UpstreamFailure> {
        let (configs, server_name) = match &endpoint.tls {
            None => (self.usual.as_ref(), None),
            Some(name) => {
                let named = self.named.get(name);
                let named = named.ok_or_else(|| UpstreamFailure::UnknownTls { name: name.clone() })?;
                (named.configs.as_ref(), named.server_name.as_ref())
            }
        };
        let config = configs.ok_or(UpstreamFailure::NoRoots)?.of(protocol);
        Ok((config, server_name.map_or_else(|| own_name(endpoint), dns_name)?))
    }
}

impl ByProtocol {
    fn new(config: &ClientConfig) -> Self {
        let (http1, http2) = (b"http/1.1".as_slice(), b"h2".as_slice());
        Self {
            http1: offering(config, &[http1]),
            http2: offering(config, &[http2]),
            // RFC 7301 §3.1: in descending order of preference.
            auto: offering(config, &[http2, http1]),
        }
    }

    fn of(&self, protocol: UpstreamProtocol) -> Arc<ClientConfig> {
        match protocol {
            UpstreamProtocol::Http1 => Arc::clone(&self.http1),
            UpstreamProtocol::Http2 => Arc::clone(&self.http2),
            UpstreamProtocol::Auto => Arc::clone(&self.auto),
        }
    }
}

/// The endpoint's own host, for SNI and verification (RFC 6066 §3; an address is verified as such, RFC 6125 §1.7.2).
fn own_name(endpoint: &Endpoint) -> Result<pki_types::ServerName<'static>, UpstreamFailure> {
    match endpoint.host() {
        Some(TargetHost::Address(address)) => Ok(pki_types::ServerName::IpAddress((*address).into())),
        Some(TargetHost::Name(name)) => dns_name(name),
        None => Err(UpstreamFailure::Untrusted(io::Error::other("a Unix socket has no name to verify"))),
    }
}

fn dns_name(name: &ServerName) -> Result<pki_types::ServerName<'static>, UpstreamFailure> {
    pki_types::ServerName::try_from(name.as_str().to_owned())
        .map_err(|error| UpstreamFailure::Untrusted(io::Error::other(error)))
}

/// With `protocols` as what ALPN offers (RFC 7301).
fn offering(config: &ClientConfig, protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    // The records behind the handshake are ours.
    config.enable_secret_extraction = true;
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Arc::new(config)
}

/// TLS sessions that are remembered.
const SESSIONS: usize = 256;
