//! Section 2.2: a binary header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{HeaderFault, LONGEST, Origin, ProxyHeader, client, proxied_client::Addresses};
use crate::name::ServerName;

/// The header at the start of `received`, which begins with [`SIGNATURE`] as far as it goes.
pub(super) fn parse(received: &[u8]) -> Result<Option<ProxyHeader>, HeaderFault> {
    let Some((fixed, rest)) = received.split_first_chunk::<FIXED>() else { return Ok(None) };
    let [.., version_and_command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let command = command(version_and_command).ok_or(HeaderFault::Malformed)?;
    if FIXED + length > LONGEST {
        return Err(HeaderFault::Malformed);
    }
    let Some(block) = rest.get(..length) else { return Ok(None) };
    let origin = match command {
        // "must discard the protocol block including the family which is ignored"
        Command::Local => Some(Origin::Itself),
        Command::Proxy => origin(family, block),
    };
    let origin = origin.ok_or(HeaderFault::Malformed)?;
    Ok(Some(ProxyHeader { origin, bytes: FIXED + length }))
}

enum Command {
    Local,
    Proxy,
}

/// "other values are unassigned and must not be emitted by senders. Receivers must drop connections presenting unexpected values here."
fn command(version_and_command: u8) -> Option<Command> {
    match version_and_command {
        LOCAL => Some(Command::Local),
        PROXY => Some(Command::Proxy),
        _ => None,
    }
}

/// Who `block` says the client is.
fn origin(family: u8, block: &[u8]) -> Option<Origin> {
    match family {
        TCP4 => {
            let (addresses, fields) = block.split_first_chunk::<12>()?;
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses;
            let source = IpAddr::V4(Ipv4Addr::new(a, b, c, d));
            are_fields(fields).then(|| client(source, u16::from_be_bytes([high, low])))
        }
        TCP6 => {
            let (source, rest) = block.split_first_chunk::<16>()?;
            let (rest, fields) = rest.split_first_chunk::<20>()?;
            let [.., high, low, _, _] = *rest;
            let source = IpAddr::V6(Ipv6Addr::from(*source));
            are_fields(fields).then(|| client(source, u16::from_be_bytes([high, low])))
        }
        // Unspecified, datagrams, Unix sockets: "automatically falls back to the UNSPEC mode for the valid combinations of family and
        // protocol that it does not support".
        UNSPECIFIED | 0x12 | 0x22 | 0x31 | 0x32 => Some(Origin::Itself),
        _ => None,
    }
}

/// Whether `rest` is a list of fields of type, length and value (section 2.2.1 on). None of them is used; of a checksum "the receiver
/// [...] may choose to ignore" it.
fn are_fields(mut rest: &[u8]) -> bool {
    // Each round takes three bytes at least of a bounded block.
    while let Some((&[_, high, low], value)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some(next) = value.get(length..) else { return false };
        rest = next;
    }
    rest.is_empty()
}

/// The header for a connection between these, for which a client has asked by `server_name`.
pub(super) fn header(addresses: Addresses, server_name: Option<&ServerName>) -> Vec<u8> {
    let Addresses { source, destination } = addresses;
    let mut block = Vec::new();
    for address in [source.ip(), destination.ip()] {
        match address {
            IpAddr::V4(address) => block.extend(address.octets()),
            IpAddr::V6(address) => block.extend(address.octets()),
        }
    }
    block.extend([source.port(), destination.port()].map(u16::to_be_bytes).as_flattened());
    // Of what follows the header, not of what the client speaks.
    put_field(&mut block, ALPN, b"http/1.1");
    if let Some(name) = server_name {
        put_field(&mut block, AUTHORITY, name.as_str().as_bytes());
    }
    written(PROXY, if source.is_ipv4() { TCP4 } else { TCP6 }, &block)
}

/// The header for a connection that is for nobody else.
pub(super) fn of_ourselves() -> Vec<u8> {
    written(LOCAL, UNSPECIFIED, &[])
}

/// `block` is some hundred bytes.
fn written(version_and_command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap_or(u16::MAX).to_be_bytes();
    [SIGNATURE, &[version_and_command, family], &length, block].concat()
}

/// Sections 2.2.1 and 2.2.2; a name has at most 253 bytes.
fn put_field(block: &mut Vec<u8>, kind: u8, value: &[u8]) {
    block.push(kind);
    block.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    block.extend(value);
}

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED: usize = 16;
/// Version 2, and the command.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
/// `PP2_TYPE_ALPN` and `PP2_TYPE_AUTHORITY`.
const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
