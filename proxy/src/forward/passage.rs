//! How a request came, as the upstream is told it: `X-Forwarded-*` and `Forwarded`.
//! Not here: whose word is taken for it (`trusted_proxies`).
//! Invariant: without a trusted proxy, nothing of it is the client's (`the_clients_own_claims_never_reach_the_upstream`).

use std::net::IpAddr;

use http::HeaderValue;

use super::{authority::Authority, trusted_proxies::joined};
use crate::{field_name::FieldName, fields::Fields};

/// What a trusted proxy says of it; the rest is as the connection has it.
#[derive(Default)]
pub(super) struct Passage {
    hops: Option<Vec<u8>>,
    scheme: Option<Vec<u8>>,
    host: Option<Vec<u8>>,
    port: Option<Vec<u8>>,
    forwarded: Option<Vec<u8>>,
}

impl Passage {
    /// Of a request for `host` that came through this trusted proxy, if any.
    pub(super) fn of(fields: &Fields, host: &Authority, through: Option<IpAddr>) -> Self {
        let Some(proxy) = through.map(|proxy| proxy.to_canonical()) else { return Self::default() };
        let forwarded = joined(fields, FieldName::Forwarded);
        let hops = joined(fields, FieldName::XForwardedFor).unwrap_or_default();
        let said = |name, is_valid: fn(&[u8]) -> bool| {
            fields.only(name).filter(|value| is_valid(value)).map(<[u8]>::to_vec)
        };
        Self {
            hops: Some(appended(hops, &proxy.to_string())),
            scheme: said(FieldName::XForwardedProto, |value| [&b"http"[..], b"https"].contains(&value)),
            host: said(FieldName::XForwardedHost, |value| Authority::parse(value, 443).is_some()),
            port: said(FieldName::XForwardedPort, is_port),
            forwarded: forwarded.map(|before| appended(before, &element(proxy, host))),
        }
    }

    /// Adds the fields; there are none of these names any more. The connection is of `client`, for `host` at `public_port`.
    pub(super) fn put(
        self,
        fields: &mut Fields,
        client: IpAddr,
        host: &Authority,
        public_port: &HeaderValue,
    ) {
        match self.hops {
            Some(hops) => fields.push(FieldName::XForwardedFor, hops),
            None => {
                fields.push_with(FieldName::XForwardedFor, |text| put_address(text, client.to_canonical()));
            }
        }
        fields.push(FieldName::XForwardedProto, self.scheme.as_deref().unwrap_or(b"https"));
        match self.host {
            Some(said) => fields.push(FieldName::XForwardedHost, said),
            None => fields.push_with(FieldName::XForwardedHost, |text| host.put(text)),
        }
        fields.push(FieldName::XForwardedPort, self.port.as_deref().unwrap_or(public_port.as_bytes()));
        if let Some(forwarded) = self.forwarded {
            fields.push(FieldName::Forwarded, forwarded);
        }
    }
}

/// What this proxy adds to `Forwarded` (RFC 7239 §4): who it was connected from, and for what.
fn element(proxy: IpAddr, host: &Authority) -> String {
    // RFC 7239 §6: an address of IPv6 is in brackets, and so needs quotes.
    let node = match proxy {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    };
    // What was parsed as an authority holds neither quotes nor backslashes.
    format!("for={node};host=\"{host}\";proto=https")
}

/// Every request has one: std's formatting of an IPv4 address takes ten times as long.
fn put_address(text: &mut Vec<u8>, address: IpAddr) {
    let IpAddr::V4(address) = address else { return text.extend_from_slice(address.to_string().as_bytes()) };
    let mut digits = itoa::Buffer::new();
    for (index, octet) in address.octets().into_iter().enumerate() {
        if index > 0 {
            text.push(b'.');
        }
        text.extend_from_slice(digits.format(octet).as_bytes());
    }
}

fn appended(mut list: Vec<u8>, element: &str) -> Vec<u8> {
    if !list.is_empty() {
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(element.as_bytes());
    list
}

fn is_port(value: &[u8]) -> bool {
    let is_plain = value.iter().all(u8::is_ascii_digit);
    is_plain && std::str::from_utf8(value).is_ok_and(|text| text.parse::<u16>().is_ok_and(|port| port > 0))
}
