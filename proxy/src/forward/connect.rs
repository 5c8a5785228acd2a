//! New connections to targets: address, TCP, TLS, HTTP/1.1.

use std::{
    cell::RefCell,
    collections::HashMap,
    fs, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::client::conn::http1;
use ipnet::IpNet;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use rustls_platform_verifier::Verifier;
use tokio::runtime::Handle;

use super::{failure::Failure, pool::Sender};
use crate::{
    config,
    name::ServerName,
    target::{Scheme, Target, TargetHost},
    tls,
    transport::{HyperIo, Transport},
};

/// How targets are reached; one for the process.
#[derive(Clone)]
pub struct Upstreams {
    pub(super) config: config::Upstream,
    tls: Arc<ClientConfig>,
    permitted: Arc<[IpNet]>,
    own: Arc<[IpAddr]>,
    control: Handle,
}

/// Why targets cannot be reached at all.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The file of further roots.
    #[error("upstream.roots: `{}` holds no certificates that can be read; write a PEM file of CA certificates", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// What ails it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The system's verifier.
    #[error("certificates of targets cannot be verified here")]
    Verifier(#[from] rustls::Error),
}

impl Upstreams {
    /// `named` are targets the operator wrote down: where they give an address, it is permitted. Names are resolved on
    /// `control`.
    pub fn new<'a>(
        config: &config::Upstream,
        named: impl IntoIterator<Item = &'a Target>,
        control: Handle,
    ) -> Result<Self, UpstreamError> {
        let literal = |target: &Target| match target.host {
            TargetHost::Address(address) => Some(IpNet::from(address)),
            TargetHost::Name(_) => None,
        };
        let permitted =
            named.into_iter().filter_map(literal).chain(config.permitted_networks.iter().copied()).collect();
        let tls = Arc::new(client_config(config.roots.as_deref())?);
        Ok(Self { config: config.clone(), tls, permitted, own: own_addresses(), control })
    }

    /// Loopback, link-local (the metadata service among them), multicast, unspecified and this machine's own addresses lead
    /// to what was never meant for strangers.
    fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let internal = match address {
            IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_broadcast(),
            IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || address == METADATA_V6,
        };
        let refused =
            internal || address.is_multicast() || address.is_unspecified() || self.own.contains(&address);
        !refused || self.permitted.iter().any(|network| network.contains(&address))
    }
}

fn client_config(roots: Option<&Path>) -> Result<ClientConfig, UpstreamError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let further = roots.map(further_roots).transpose()?.unwrap_or_default();
    let verifier = Verifier::new_with_extra_roots(further, Arc::clone(&provider))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn further_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, UpstreamError> {
    let refuse = |source| UpstreamError::Roots { path: path.to_owned(), source };
    let text = fs::read(path).map_err(|error| refuse(error.into()))?;
    let roots: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| refuse(error.into()))?;
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(roots.iter().cloned());
    if added == 0 {
        return Err(refuse("no CA certificate in it".into()));
    }
    Ok(roots)
}

fn own_addresses() -> Arc<[IpAddr]> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
    });
    addresses.collect()
}

/// One worker's way to its targets.
pub(super) struct Connector<T> {
    transport: T,
    resolved: Rc<RefCell<HashMap<ServerName, Resolved>>>,
}

struct Resolved {
    addresses: Vec<IpAddr>,
    until: Instant,
}

impl<T: Transport> Connector<T> {
    pub(super) fn new(transport: T) -> Self {
        Self { transport, resolved: Rc::default() }
    }

    /// A fresh connection to `target`, within `upstream.connect_timeout`.
    pub(super) async fn connect(&self, target: &Target, upstreams: &Upstreams) -> Result<Sender, Failure> {
        let limit = *upstreams.config.connect_timeout;
        tokio::time::timeout(limit, self.connected(target, upstreams, limit))
            .await
            .map_err(|_| Failure::ConnectTimeout)?
    }

    async fn connected(
        &self,
        target: &Target,
        upstreams: &Upstreams,
        limit: Duration,
    ) -> Result<Sender, Failure> {
        let addresses = self.addresses(target, upstreams).await?;
        let stream = self.reach(&addresses, target.port).await?;
        match target.scheme {
            Scheme::Http => speak(HyperIo::new(stream)).await,
            Scheme::Https => {
                let config = Arc::clone(&upstreams.tls);
                let stream = tls::connect(stream, expected(&target.host)?, config, limit).await;
                speak(stream.map_err(Failure::Unreachable)?).await
            }
        }
    }

    /// The first address that answers, in the resolver's order (RFC 6724).
    async fn reach(&self, addresses: &[IpAddr], port: u16) -> Result<T::Stream, Failure> {
        let mut last = Failure::Unresolved;
        for &address in addresses.iter().take(ADDRESSES) {
            match self.transport.connect(SocketAddr::new(address, port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Failure::Unreachable(error),
            }
        }
        Err(last)
    }

    async fn addresses(&self, target: &Target, upstreams: &Upstreams) -> Result<Vec<IpAddr>, Failure> {
        let addresses = match &target.host {
            TargetHost::Address(address) => vec![*address],
            TargetHost::Name(name) => self.resolve(name, upstreams).await?,
        };
        let permitted: Vec<_> = addresses.into_iter().filter(|address| upstreams.permits(*address)).collect();
        if permitted.is_empty() { Err(Failure::Forbidden) } else { Ok(permitted) }
    }

    /// getaddrinfo blocks, so it runs on the control runtime; its answer is kept for a moment.
    async fn resolve(&self, name: &ServerName, upstreams: &Upstreams) -> Result<Vec<IpAddr>, Failure> {
        let now = tokio::time::Instant::now().into_std();
        if let Some(resolved) = self.resolved.borrow().get(name).filter(|resolved| now < resolved.until) {
            return Ok(resolved.addresses.clone());
        }
        let host = name.to_string();
        let lookup = upstreams.control.spawn(async move {
            tokio::net::lookup_host((host, 0))
                .await
                .map(|found| found.map(|address| address.ip()).collect::<Vec<_>>())
        });
        let mut addresses =
            lookup.await.map_err(|_| Failure::Unresolved)?.map_err(|_| Failure::Unresolved)?;
        addresses.dedup();
        let mut kept = self.resolved.borrow_mut();
        if kept.len() >= NAMES {
            kept.retain(|_, resolved| now < resolved.until);
        }
        if kept.len() < NAMES {
            kept.insert(name.clone(), Resolved { addresses: addresses.clone(), until: now + RESOLVED_FOR });
        }
        Ok(addresses)
    }
}

fn expected(host: &TargetHost) -> Result<rustls::pki_types::ServerName<'static>, Failure> {
    match host {
        TargetHost::Address(address) => Ok((*address).into()),
        TargetHost::Name(name) => {
            name.to_string().try_into().map_err(|error| Failure::Unreachable(io::Error::other(error)))
        }
    }
}

async fn speak<S>(stream: S) -> Result<Sender, Failure>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(stream).await.map_err(Failure::Closed)?;
    // Ends by itself: with its last sender, or with the connection.
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to a target ended");
        }
    });
    Ok(sender)
}

/// The metadata service over IPv6 ("Access instance metadata", EC2 User Guide).
const METADATA_V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254));
/// Addresses tried for one connection.
const ADDRESSES: usize = 4;
/// getaddrinfo does not tell how long an answer holds; this is short beside any TTL in use.
const RESOLVED_FOR: Duration = Duration::from_secs(5);
const NAMES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn targets_lie_where_strangers_may_go_or_where_the_operator_said() {
        let config = config::Upstream {
            permitted_networks: vec!["127.0.0.0/30".parse().unwrap()],
            ..Default::default()
        };
        let named = [Target::parse("http://169.254.10.10:80").unwrap()];
        let upstreams = Upstreams::new(&config, &named, Handle::current()).unwrap();
        for (address, permitted) in [
            ("192.0.2.1", true),
            ("10.0.0.5", true),
            ("2001:db8::1", true),
            ("127.0.0.1", true),
            ("127.0.0.9", false),
            ("::1", false),
            ("::ffff:127.0.0.9", false),
            ("169.254.169.254", false),
            ("169.254.10.10", true),
            ("fd00:ec2::254", false),
            ("fe80::1", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
        ] {
            assert_eq!(upstreams.permits(address.parse().unwrap()), permitted, "{address}");
        }
    }
}
