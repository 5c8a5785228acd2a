//! Addresses that targets may have: no name and no tenant may lead the proxy to itself, to its host or to its cloud's secrets.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use arc_swap::ArcSwap;
use ipnet::IpNet;

use crate::{
    config::{self, SocketPrefix},
    domains::admin::Permits,
    target::{EndpointAddress, SocketPath, TlsName},
};

/// Who chose an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::forward) enum ChosenBy {
    /// The configuration holds the literal.
    Configuration,
    /// A domain entry holds the literal.
    Entry,
    /// A name resolved to it.
    Resolution,
}

/// Where targets may lie: networks and sockets permitted and forbidden by settings, and our own addresses.
#[derive(Debug, Default)]
pub struct AddressPolicy {
    pub(super) permitted: Vec<IpNet>,
    /// For targets of entries.
    pub(super) forbidden: Vec<IpNet>,
    /// For targets of entries.
    pub(super) permitted_sockets: Vec<SocketPrefix>,
    /// Settings for TLS that targets of entries may use.
    pub(super) entry_tls: BTreeSet<TlsName>,
    /// Where the fleet is reached.
    pub(super) edge: Vec<IpNet>,
    /// This host's.
    pub(super) own: ArcSwap<Vec<IpAddr>>,
}

/// Whether a target may have an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    Permitted,
    Forbidden,
    /// A request there would come back to us.
    Edge,
}

impl AddressPolicy {
    /// From the settings and this host's present addresses.
    #[must_use]
    pub fn of(limits: &config::UpstreamConfig) -> Self {
        Self {
            permitted: networks(&limits.permitted_networks),
            forbidden: networks(&limits.forbidden_networks),
            permitted_sockets: limits.permitted_sockets.clone(),
            entry_tls: entry_tls(limits),
            edge: networks(&limits.edge_addresses),
            own: ArcSwap::from_pointee(own_addresses()),
        }
    }

    /// Whether a domain entry may lead to `address`.
    #[must_use]
    pub fn permits_entry(&self, address: &EndpointAddress) -> bool {
        match address {
            EndpointAddress::Tcp(address) => {
                self.place(address.ip(), ChosenBy::Entry) == Placement::Permitted
            }
            EndpointAddress::Unix(path) => self.permits_socket(path, ChosenBy::Entry),
        }
    }

    /// [`AddressPolicy::permits_entry`] for those who decide without knowing of policies.
    #[must_use]
    pub fn entry_permits(self: &Arc<Self>) -> Permits {
        let policy = Arc::clone(self);
        Arc::new(move |address| policy.permits_entry(address))
    }

    /// Settings for TLS that targets of entries may use.
    #[must_use]
    pub fn entry_tls(&self) -> &BTreeSet<TlsName> {
        &self.entry_tls
    }

    /// Whether a target may use the settings `name` for TLS.
    pub(super) fn permits_tls(&self, name: &TlsName, chosen_by: ChosenBy) -> bool {
        match chosen_by {
            ChosenBy::Configuration => true,
            ChosenBy::Entry | ChosenBy::Resolution => self.entry_tls.contains(name),
        }
    }

    /// Whether a target may be at the socket `path`.
    pub(super) fn permits_socket(&self, path: &SocketPath, chosen_by: ChosenBy) -> bool {
        match chosen_by {
            ChosenBy::Configuration => true,
            ChosenBy::Entry | ChosenBy::Resolution => {
                self.permitted_sockets.iter().any(|prefix| prefix.covers(path))
            }
        }
    }

    /// Reads our own addresses again.
    pub(super) fn refresh(&self) {
        self.own.store(Arc::new(own_addresses()));
    }

    /// Whether a target may have `address`.
    pub(super) fn place(&self, address: IpAddr, chosen_by: ChosenBy) -> Placement {
        if contains(&self.permitted, address) {
            return Placement::Permitted;
        }
        let meant = meanings(address);
        if meant.iter().any(|meant| contains(&self.edge, *meant)) {
            return Placement::Edge;
        }
        match chosen_by {
            ChosenBy::Configuration => Placement::Permitted,
            // The author of an entry, and the owner of a name's DNS, may be untrusted.
            ChosenBy::Entry | ChosenBy::Resolution if meant.iter().all(|meant| self.is_harmless(*meant)) => {
                Placement::Permitted
            }
            ChosenBy::Entry | ChosenBy::Resolution => Placement::Forbidden,
        }
    }

    fn is_harmless(&self, address: IpAddr) -> bool {
        let is_here = address.is_loopback() || self.own.load().contains(&address);
        let is_refused = is_here || is_secret(address) || contains(&self.forbidden, address);
        contains(&self.permitted, address) || !is_refused
    }
}

fn entry_tls(limits: &config::UpstreamConfig) -> BTreeSet<TlsName> {
    let permitted = limits.tls.iter().filter(|(_, tls)| tls.entries);
    permitted.map(|(name, _)| name.clone()).collect()
}

fn networks(configured: &[config::Network]) -> Vec<IpNet> {
    configured.iter().map(|network| **network).collect()
}

fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// The addresses of this host's interfaces now; without them the rule against ourselves is the listed networks' alone.
fn own_addresses() -> Vec<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().map_err(|error| {
        tracing::warn!(%error, "this host's addresses cannot be read; targets on them are not refused");
    });
    let addresses = interfaces.into_iter().flatten().filter_map(|interface| interface.address);
    addresses
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|socket| IpAddr::V4(socket.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|socket| IpAddr::V6(socket.ip())))
        })
        .collect()
}

/// The IPv4 address that an IPv6 address stands for, where it does: mapped (RFC 4291 §2.5.5.2), and NAT64 (RFC 6052 §2.1).
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    match v6.octets() {
        [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] => Ipv4Addr::new(a, b, c, d).into(),
        _ => v6.to_canonical(),
    }
}

/// The addresses that packets to `address` may reach: itself or the IPv4 address it holds. Of a Teredo address both its server
/// and its client (the latter inverted) are meant (RFC 4380 §4); of a 6to4 address the router (RFC 3056 §2).
fn meanings(address: IpAddr) -> Vec<IpAddr> {
    let real = embedded(address);
    let IpAddr::V6(v6) = real else { return vec![real] };
    match v6.segments() {
        [0x2002, high, low, ..] => vec![real, v4_of(high, low)],
        [0x2001, 0, server_high, server_low, _, _, high, low] => {
            vec![real, v4_of(server_high, server_low), v4_of(!high, !low)]
        }
        _ => vec![real],
    }
}

fn v4_of(high: u16, low: u16) -> IpAddr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)).into()
}

/// Not an ordinary host: unspecified, link-local, multicast, or a cloud's metadata service.
fn is_secret(address: IpAddr) -> bool {
    let nowhere = match address {
        // RFC 1122 §3.2.1.3: all of 0.0.0.0/8 is "this host".
        IpAddr::V4(v4) => {
            v4.octets().first() == Some(&0) || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast()
        }
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_unicast_link_local() || v6.is_multicast(),
    };
    let is_network = match address {
        IpAddr::V4(_) => false,
        // AWS's services over IPv6; and RFC 8215, where the local network alone knows which IPv4 address is meant.
        IpAddr::V6(v6) => matches!(v6.segments(), [0xfd00, 0x0ec2, ..] | [0x0064, 0xff9b, 0x0001, ..]),
    };
    nowhere || is_network || METADATA.contains(&address)
}

/// Metadata services outside of link-local: Azure's wire server, Alibaba, Oracle; over IPv6 Akamai, Scaleway, Oracle, Google.
const METADATA: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

#[cfg(test)]
mod tests {
    use super::{ChosenBy::*, *};

    /// Whether a resolver, an entry and the settings may lead there.
    const ADDRESSES: &[(&str, bool, bool, bool)] = &[
        ("192.0.2.1", true, true, true),
        ("10.0.0.1", true, true, true),
        ("10.1.2.3", false, false, true),
        ("64:ff9b::a01:203", false, false, true),
        ("2001:db8::1", true, true, true),
        ("127.0.0.1", false, false, true),
        ("127.0.0.9", true, true, true),
        ("::1", false, false, true),
        ("::ffff:127.0.0.1", false, false, true),
        ("::ffff:127.0.0.9", true, true, true),
        ("198.51.100.1", false, false, true),
        ("64:ff9b::c633:6401", false, false, true),
        ("64:ff9b::c000:201", true, true, true),
        ("64:ff9b:1::c000:201", false, false, true),
        ("64:ff9b:1:ffff:ffff:ffff:c000:201", false, false, true),
        ("64:ff9b:2::c000:201", true, true, true),
        ("2002:7f00:1::1", false, false, true),
        ("2002:a9fe:a9fe::", false, false, true),
        ("2002:c000:201::1", true, true, true),
        ("2001:0:c000:201::80ff:fffe", false, false, true),
        ("2001:0:7f00:1::3fff:fdfe", false, false, true),
        ("2001:0:c000:201::3fff:fdfe", true, true, true),
        ("2001:0:c000:201::5601:5601", false, false, true),
        ("2001:db8:7f00:1::1", true, true, true),
        ("fd00:ec2::1", false, false, true),
        ("fd00:ec2:ffff::254", false, false, true),
        ("fd00:ec3::254", true, true, true),
        ("fd00:a9fe:a9fe::1", false, false, true),
        ("fd00:42::42", false, false, true),
        ("fd00:c1::a9fe:a9fe", false, false, true),
        ("fd20:ce::254", false, false, true),
        ("2001:db8:5::1", false, false, true),
        ("169.254.169.254", false, false, true),
        ("::ffff:169.254.169.254", false, false, true),
        ("64:ff9b::a9fe:a9fe", false, false, true),
        ("fe80::1", false, false, true),
        ("fd00:ec2::254", false, false, true),
        ("168.63.129.16", false, false, true),
        ("0.0.0.0", false, false, true),
        ("0.1.2.3", false, false, true),
        ("::", false, false, true),
        ("224.0.0.1", false, false, true),
    ];

    #[test]
    fn names_never_lead_to_the_host_or_its_secrets() {
        let address_policy = AddressPolicy {
            permitted: vec!["127.0.0.9/32".parse().unwrap()],
            forbidden: vec!["10.1.0.0/16".parse().unwrap()],
            edge: vec!["203.0.113.0/24".parse().unwrap()],
            permitted_sockets: Vec::new(),
            entry_tls: BTreeSet::new(),
            own: ArcSwap::from_pointee(vec![
                "198.51.100.1".parse().unwrap(),
                "2001:db8:5::1".parse().unwrap(),
            ]),
        };
        for (address, resolution, entry, configuration) in ADDRESSES {
            let placed = [Resolution, Entry, Configuration]
                .map(|by| address_policy.place(address.parse().unwrap(), by));
            let expected = [resolution, entry, configuration]
                .map(|may| if *may { Placement::Permitted } else { Placement::Forbidden });
            assert_eq!(placed, expected, "{address}");
        }
        for address in ["203.0.113.7", "::ffff:203.0.113.7", "64:ff9b::cb00:7107"] {
            for by in [Resolution, Entry, Configuration] {
                let placed = address_policy.place(address.parse().unwrap(), by);
                assert_eq!(placed, Placement::Edge, "{address}");
            }
        }
    }

    #[test]
    fn an_entry_leads_to_no_socket_that_the_settings_do_not_list() {
        let permitted_sockets = vec!["/run/apps/".to_owned().try_into().unwrap()];
        let address_policy = AddressPolicy { permitted_sockets, ..AddressPolicy::default() };
        for (path, entry) in [("/run/apps/shop.sock", true), ("/run/gatehouse/control.sock", false)] {
            let path = SocketPath::parse(path).unwrap();
            let permitted = [Entry, Configuration].map(|by| address_policy.permits_socket(&path, by));
            assert_eq!(permitted, [entry, true], "{path}");
            assert_eq!(address_policy.permits_entry(&EndpointAddress::Unix(path)), entry);
        }
    }
}
