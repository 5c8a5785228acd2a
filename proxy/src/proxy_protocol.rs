//! The PROXY header: who a load balancer says its client is, before the first byte of the connection itself (HAProxy,
//! proxy-protocol.txt, versions 1 and 2); read from load balancers in front, and written to targets that want one.
//! Not here: who may send one, and what becomes of who sends none (`worker`); which targets get one (`forward`).
//! Invariants: the same bytes mean the same however they are cut (`a_mutated_corpus_means_the_same_however_it_is_cut`); no more than
//! [`LONGEST`] bytes are waited for; a header that is not exactly as the specification has it is none; what is written is read
//! (`what_is_written_is_read_and_what_follows_is_left`).

mod proxied_client;
mod version1;
mod version2;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use self::proxied_client::Addresses;
pub use self::proxied_client::ProxiedClient;
use crate::{label, target::ProxyProtocolVersion};

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The client.
    Client(SocketAddr),
    /// The connection is the load balancer's own, such as a check of health, or it does not know the client: the connection's own
    /// addresses hold (sections 2.1, `UNKNOWN`, and 2.2, `LOCAL` and families that are not of TCP over IP).
    Itself,
}

/// A complete header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Who the client is.
    pub origin: Origin,
    /// Its length: the connection's own first byte follows.
    pub bytes: usize,
}

label! {
    /// Why bytes are no header.
    pub enum HeaderFault["fault"] {
        /// They begin otherwise: none was sent.
        Absent = "absent",
        /// They begin as one, and break the rules.
        Malformed = "malformed",
    }
}

/// Reads the header at the start of `received`; `None` asks for more bytes.
pub fn parse(received: &[u8]) -> Result<Option<ProxyHeader>, HeaderFault> {
    let begins = |signature: &[u8]| received.iter().zip(signature).all(|(byte, expected)| byte == expected);
    if begins(version2::SIGNATURE) {
        return version2::parse(received);
    }
    if begins(version1::SIGNATURE) { version1::parse(received) } else { Err(HeaderFault::Absent) }
}

/// The header for a connection that is for `client`, or for ourselves, such as a check of health.
#[must_use]
pub fn header(version: ProxyProtocolVersion, client: Option<&ProxiedClient>) -> Vec<u8> {
    match (version, client) {
        (ProxyProtocolVersion::V1, Some(client)) => version1::header(Addresses::of(client)),
        (ProxyProtocolVersion::V1, None) => version1::of_ourselves(),
        (ProxyProtocolVersion::V2, Some(client)) => {
            version2::header(Addresses::of(client), client.server_name.as_ref())
        }
        (ProxyProtocolVersion::V2, None) => version2::of_ourselves(),
    }
}

/// An address as the rest of Gatehouse compares it: IPv4 clients may be written in IPv6 (RFC 4291 §2.5.5.2).
fn client(address: IpAddr, port: u16) -> Origin {
    Origin::Client(SocketAddr::new(address.to_canonical(), port))
}

/// The longest header that is read. Version 1 has 107 bytes at most. Version 2 may have 65,551; senders keep it below the first segment's
/// 536 with their usual fields, and the rest is room for certificates' names.
pub const LONGEST: usize = 4096;
