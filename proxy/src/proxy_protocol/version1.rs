//! Section 2.1: one line of text.

use std::{net::IpAddr, str};

use super::{HeaderFault, Origin, ProxyHeader, client, proxied_client::Addresses};

/// The line at the start of `received`, which begins with [`SIGNATURE`] as far as it goes.
pub(super) fn parse(received: &[u8]) -> Result<Option<ProxyHeader>, HeaderFault> {
    let window = received.get(..LONGEST_LINE).unwrap_or(received);
    let Some(length) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if window.len() < LONGEST_LINE { Ok(None) } else { Err(HeaderFault::Malformed) };
    };
    let line = window.get(SIGNATURE.len()..length).and_then(|line| str::from_utf8(line).ok());
    let origin = line.and_then(origin).ok_or(HeaderFault::Malformed)?;
    Ok(Some(ProxyHeader { origin, bytes: length + 2 }))
}

fn origin(line: &str) -> Option<Origin> {
    // "the receiver must ignore anything presented before the CRLF"
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Some(Origin::Itself);
    }
    let mut words = line.split(' ');
    let family = words.next()?;
    let addresses = [words.next()?, words.next()?];
    let ports = [port(words.next()?)?, port(words.next()?)?];
    if words.next().is_some() {
        return None;
    }
    let mut read = addresses.iter().map(|address| match family {
        "TCP4" => address.parse().map(IpAddr::V4).ok(),
        "TCP6" => address.parse().map(IpAddr::V6).ok(),
        _ => None,
    });
    let (source, _destination) = (read.next()??, read.next()??);
    let [source_port, _] = ports;
    Some(client(source, source_port))
}

/// "represented as a decimal number in the range [0..65535] inclusive", without a leading zero.
fn port(text: &str) -> Option<u16> {
    let is_plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

/// The line for a connection between these.
pub(super) fn header(Addresses { source, destination }: Addresses) -> Vec<u8> {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

/// The line for a connection that is for nobody else.
pub(super) fn of_ourselves() -> Vec<u8> {
    b"PROXY UNKNOWN\r\n".to_vec()
}

pub(super) const SIGNATURE: &[u8] = b"PROXY ";
/// Its CRLF included.
const LONGEST_LINE: usize = 107;
