//! How a request came, as the upstream is told it: `X-Forwarded-*` and `Forwarded`.
//! Not here: whose word is taken for it (`trusted_proxies`).
//! Invariant: without a trusted proxy, nothing of it is the client's (`the_clients_own_claims_never_reach_the_upstream`).

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, InvalidHeaderValue},
};

use super::{
    authority::Authority,
    trusted_proxies::{X_FORWARDED_FOR, joined},
};

/// The values of the fields.
pub(super) struct Passage {
    hops: HeaderValue,
    scheme: HeaderValue,
    host: HeaderValue,
    port: HeaderValue,
    forwarded: Option<HeaderValue>,
}

impl Passage {
    /// As the connection alone says it.
    pub(super) fn direct(
        host: &Authority,
        client: IpAddr,
        public_port: &HeaderValue,
    ) -> Result<Self, InvalidHeaderValue> {
        Ok(Self {
            hops: address(client.to_canonical())?,
            scheme: HeaderValue::from_static("https"),
            host: host.value()?,
            port: public_port.clone(),
            forwarded: None,
        })
    }

    /// As `proxy`, which is trusted, says it in `headers`, and that the request came from there.
    pub(super) fn behind(self, proxy: IpAddr, headers: &HeaderMap) -> Result<Self, InvalidHeaderValue> {
        let proxy = proxy.to_canonical();
        let element = self.element(proxy);
        let forwarded = joined(headers, &header::FORWARDED).map(|before| appended(before, &element));
        let hops = appended(joined(headers, &X_FORWARDED_FOR).unwrap_or_default(), &proxy.to_string())?;
        let single = |name, is_valid: fn(&[u8]) -> bool| {
            let mut values = headers.get_all(name).iter();
            let value = values.next().filter(|value| is_valid(value.as_bytes()));
            value.filter(|_| values.next().is_none()).cloned()
        };
        Ok(Self {
            hops,
            scheme: single(X_FORWARDED_PROTO, |value| [&b"http"[..], b"https"].contains(&value))
                .unwrap_or(self.scheme),
            host: single(X_FORWARDED_HOST, |value| Authority::parse(value, 443).is_some())
                .unwrap_or(self.host),
            port: single(X_FORWARDED_PORT, is_port).unwrap_or(self.port),
            forwarded: forwarded.transpose()?,
        })
    }

    /// What this proxy adds to `Forwarded` (RFC 7239 §4): who it was connected from, and for what.
    fn element(&self, proxy: IpAddr) -> String {
        // RFC 7239 §6: an address of IPv6 is in brackets, and so needs quotes.
        let node = match proxy {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("\"[{address}]\""),
        };
        // What was parsed as an authority is ASCII, and holds neither quotes nor backslashes.
        let host = self.host.to_str().unwrap_or_default();
        format!("for={node};host=\"{host}\";proto=https")
    }

    /// Sets the fields; there are none of these names any more.
    pub(super) fn set(self, headers: &mut HeaderMap) {
        headers.insert(X_FORWARDED_FOR, self.hops);
        headers.insert(X_FORWARDED_PROTO, self.scheme);
        headers.insert(X_FORWARDED_HOST, self.host);
        headers.insert(X_FORWARDED_PORT, self.port);
        if let Some(forwarded) = self.forwarded {
            headers.insert(header::FORWARDED, forwarded);
        }
    }
}

/// `address` as a field's value. Every request has one: std's formatting of an IPv4 address takes ten times as long.
fn address(address: IpAddr) -> Result<HeaderValue, InvalidHeaderValue> {
    let IpAddr::V4(address) = address else { return HeaderValue::try_from(address.to_string()) };
    let mut text = String::with_capacity("255.255.255.255".len());
    let mut digits = itoa::Buffer::new();
    for (index, octet) in address.octets().into_iter().enumerate() {
        if index > 0 {
            text.push('.');
        }
        text.push_str(digits.format(octet));
    }
    HeaderValue::try_from(text)
}

fn appended(mut list: Vec<u8>, element: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    if !list.is_empty() {
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(element.as_bytes());
    HeaderValue::from_bytes(&list)
}

fn is_port(value: &[u8]) -> bool {
    let is_plain = value.iter().all(u8::is_ascii_digit);
    is_plain && std::str::from_utf8(value).is_ok_and(|text| text.parse::<u16>().is_ok_and(|port| port > 0))
}

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
