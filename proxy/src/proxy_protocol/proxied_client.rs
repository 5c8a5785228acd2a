//! Whom a connection to a target is for, as a header of ours says it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::name::ServerName;

/// Whom a connection to a target is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProxiedClient {
    /// The client. Its port is 0 where a proxy in front has not told it.
    pub client: SocketAddr,
    /// Our address, to which the client is connected.
    pub local: SocketAddr,
    /// The name that its handshake was for.
    pub server_name: Option<ServerName>,
}

/// Of one family, as a header has them: an address of IPv4 beside one of IPv6 is written in IPv6 (RFC 4291 §2.5.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
}

impl Addresses {
    pub(super) fn of(client: &ProxiedClient) -> Self {
        let (source, destination) = (client.client.ip().to_canonical(), client.local.ip().to_canonical());
        let (source, destination) = match (source, destination) {
            (IpAddr::V4(_), IpAddr::V4(_)) => (source, destination),
            _ => (IpAddr::V6(in_v6(source)), IpAddr::V6(in_v6(destination))),
        };
        Self {
            source: SocketAddr::new(source, client.client.port()),
            destination: SocketAddr::new(destination, client.local.port()),
        }
    }
}

fn in_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}
