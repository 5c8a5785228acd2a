//! Settings of the addresses to listen on.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{network::Network, proxy_protocol::ProxyProtocol};

section! {
    /// Addresses to listen on.
    pub struct ListenConfig {
        /// Addresses that accept TLS connections.
        https: Vec<SocketAddr> = both_families(8443),
        /// Addresses that accept cleartext HTTP, for redirects to HTTPS, ACME challenges and `/health`.
        http: Vec<SocketAddr> = both_families(8080),
        /// The port in redirects to HTTPS; absent, the port of the first `listen.https` address.
        public_https_port: Option<u16> = None => "443",
        /// Whether another process may listen at the same addresses and accept part of the connections, for instance a successor
        /// that is started while this instance drains. Under systemd it is not needed: sockets are handed over.
        share_ports: bool = false,
        /// Load balancers that tell by a PROXY header, version 1 or 2, who their client is, at `listen.https` and `listen.http`. From
        /// the networks in `from` each connection must begin with one, and its address is the client's everywhere; from elsewhere none
        /// is read. The guard does not judge a ClientHello that shares a segment with a header.
        proxy_protocol: Option<ProxyProtocol> = None => "{ from = [\"10.0.0.0/8\"] }",
        /// Networks of HTTP proxies in front, such as a CDN's. From there `X-Forwarded-*` and `Forwarded` are kept and extended instead of
        /// replaced, and a request's client is the last address in `X-Forwarded-For` that is in none of these networks.
        trusted_proxies: Vec<Network> = Vec::new() => "[\"198.51.100.0/24\"]",
    }
}

impl ListenConfig {
    /// The port at which clients reach the edge: what redirects name, and checks of customers' names connect to.
    #[must_use]
    pub fn public_port(&self) -> u16 {
        self.public_https_port.or(self.https.first().map(SocketAddr::port)).unwrap_or(HTTPS)
    }
}

fn both_families(port: u16) -> Vec<SocketAddr> {
    vec![(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()]
}

/// RFC 9110 §4.2.2.
const HTTPS: u16 = 443;
