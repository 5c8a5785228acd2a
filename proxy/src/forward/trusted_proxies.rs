//! Whose word is taken for how a request came: HTTP proxies in front of this one, such as a CDN.
//! Not here: what the upstream is told (`passage`), load balancers that pass TCP on (`worker::origin`).
//! Invariant: a client chooses no address but its own (`a_client_chooses_no_address_but_its_own`): only what trusted proxies have written is
//! read, from the nearest on.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
};

use super::Downstream;
use crate::{
    config::{Network, contain},
    field_name::FieldName,
    fields::Fields,
};

/// The networks of the proxies.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<Network>);

impl TrustedProxies {
    /// In these networks.
    #[must_use]
    pub fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    /// Whether `peer` is one.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        contain(&self.0, peer)
    }

    /// The connection as a request with `headers` sees it: its client is who a trusted peer says it is.
    pub(crate) fn see<'a>(&self, downstream: &'a Downstream, fields: &Fields) -> Cow<'a, Downstream> {
        let proxy = downstream.peer;
        if !self.trusts(proxy.ip()) {
            return Cow::Borrowed(downstream);
        }
        let (peer, through) = (self.client(proxy, fields), Some(proxy.ip()));
        Cow::Owned(Downstream { peer, through, ..downstream.clone() })
    }

    /// The last address, from the right, that a trusted proxy has written: the first that is not a proxy itself. What is no address
    /// ends the search, since nobody says who wrote it.
    fn client(&self, proxy: SocketAddr, fields: &Fields) -> SocketAddr {
        let mut client = proxy;
        // Bounded by `limits.header_size`.
        for hop in fields.list(FieldName::XForwardedFor).rev() {
            let Some(said) = address(hop) else { break };
            client = said;
            if !self.trusts(said.ip()) {
                break;
            }
        }
        client
    }
}

/// An address as proxies write it, with a port or without, which is 0 then.
fn address(hop: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(hop).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let without_port = || bare.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, 0));
    let read: SocketAddr = text.parse().ok().or_else(without_port)?;
    Some(SocketAddr::new(read.ip().to_canonical(), read.port()))
}

/// The elements of all fields of one name, in order.
pub(super) fn joined(fields: &Fields, name: FieldName) -> Option<Vec<u8>> {
    let values: Vec<&[u8]> = fields.values(name).filter(|value| !value.is_empty()).collect();
    (!values.is_empty()).then(|| values.join(&b", "[..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, fields: &[&str]) -> (String, Option<String>) {
        let networks =
            ["10.0.0.0/8", "2001:db8:1::/48"].map(|text| Network::try_from(text.to_owned()).unwrap());
        let proxies = TrustedProxies::new(networks.to_vec());
        let downstream = Downstream {
            peer: peer.parse().unwrap(),
            local: None,
            server_name: None,
            tls: None,
            through: None,
        };
        let mut written = Fields::default();
        for value in fields {
            written.push(FieldName::XForwardedFor, value);
        }
        let seen = proxies.see(&downstream, &written);
        (seen.peer.to_string(), seen.through.map(|proxy| proxy.to_string()))
    }

    #[test]
    fn a_client_chooses_no_address_but_its_own() {
        for (peer, fields, client) in [
            // Not trusted: whatever it writes is its own invention.
            ("192.0.2.9:7", &["203.0.113.1"][..], "192.0.2.9:7"),
            ("192.0.2.9:7", &[], "192.0.2.9:7"),
            ("[2001:db8:2::1]:7", &["203.0.113.1"], "[2001:db8:2::1]:7"),
            // One proxy; what stands left of what it wrote is the client's invention.
            ("10.0.0.1:7", &["203.0.113.1"], "203.0.113.1:0"),
            ("10.0.0.1:7", &["198.51.100.66, 203.0.113.1"], "203.0.113.1:0"),
            ("10.0.0.1:7", &["10.0.0.9, 203.0.113.1"], "203.0.113.1:0"),
            ("10.0.0.1:7", &["198.51.100.66", "203.0.113.1"], "203.0.113.1:0"),
            ("10.0.0.1:7", &["garbage, 203.0.113.1 "], "203.0.113.1:0"),
            ("[2001:db8:1::7]:7", &["203.0.113.1:5678"], "203.0.113.1:5678"),
            ("[::ffff:10.0.0.1]:7", &["2001:db8:2::1"], "[2001:db8:2::1]:0"),
            ("10.0.0.1:7", &["[2001:db8:2::1]"], "[2001:db8:2::1]:0"),
            ("10.0.0.1:7", &["[2001:db8:2::1]:9"], "[2001:db8:2::1]:9"),
            // Two proxies.
            ("10.0.0.1:7", &["198.51.100.66, 203.0.113.1, 10.9.9.9"], "203.0.113.1:0"),
            ("10.0.0.1:7", &["198.51.100.66,203.0.113.1,2001:db8:1::5,10.9.9.9"], "203.0.113.1:0"),
            // A proxy that does not know, or that asks for itself.
            ("10.0.0.1:7", &[], "10.0.0.1:7"),
            ("10.0.0.1:7", &[""], "10.0.0.1:7"),
            ("10.0.0.1:7", &["203.0.113.1, unknown"], "10.0.0.1:7"),
            ("10.0.0.1:7", &["203.0.113.1, unknown, 10.9.9.9"], "10.9.9.9:0"),
            ("10.0.0.1:7", &["203.0.113.1,"], "10.0.0.1:7"),
            ("10.0.0.1:7", &["10.9.9.9, 10.8.8.8"], "10.9.9.9:0"),
        ] {
            let (seen, through) = seen(peer, fields);
            assert_eq!(seen, client, "{peer} {fields:?}");
            let is_trusted = peer.starts_with("10.") || peer.contains(":1::") || peer.contains("ffff:10.");
            assert_eq!(through.is_some(), is_trusted, "{peer}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_client_writes_before_a_proxy_changes_nothing(written in "[ -~]{0,60}") {
            let chain = format!("{written}, 203.0.113.1, 10.9.9.9");
            proptest::prop_assert_eq!(seen("10.0.0.1:7", &[&chain]).0, "203.0.113.1:0");
            proptest::prop_assert_eq!(seen("10.0.0.1:7", &[&written, "203.0.113.1"]).0, "203.0.113.1:0");
        }
    }
}
