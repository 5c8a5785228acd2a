//! Where a target may lie: a name or a tenant must not lead the proxy to itself, to its host or to its cloud's secrets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Who chose an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::forward) enum ChosenBy {
    /// The configuration holds the literal.
    Configuration,
    /// A domain entry holds the literal.
    Entry,
    /// A name resolved to it.
    Resolution,
}

/// What is permitted beyond the rule, and which addresses are our own.
#[derive(Debug, Clone, Default)]
pub(super) struct Whereabouts {
    pub(super) permitted: Vec<IpNet>,
    pub(super) own: Vec<IpAddr>,
}

impl Whereabouts {
    /// Whether a target may lie at `address`.
    pub(super) fn permit(&self, address: IpAddr, chosen_by: ChosenBy) -> bool {
        let real = embedded(address);
        if self.permitted.iter().any(|network| network.contains(&real)) {
            return true;
        }
        match chosen_by {
            ChosenBy::Configuration => true,
            // Whoever may write entries means a service beside the proxy, never the cloud's metadata.
            ChosenBy::Entry => !is_secret(real),
            ChosenBy::Resolution => !is_secret(real) && !real.is_loopback() && !self.own.contains(&real),
        }
    }
}

/// The IPv4 address that an IPv6 address stands for, where it does: mapped (RFC 4291 §2.5.5.2), and NAT64 (RFC 6052 §2.1).
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    match v6.octets() {
        [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] => Ipv4Addr::new(a, b, c, d).into(),
        _ => v6.to_canonical(),
    }
}

/// Neither a host nor anybody's service: unspecified, link-local, multicast, or a cloud's metadata.
fn is_secret(address: IpAddr) -> bool {
    let nowhere = match address {
        // RFC 1122 §3.2.1.3: all of 0.0.0.0/8 is "this host".
        IpAddr::V4(v4) => {
            v4.octets().first() == Some(&0) || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast()
        }
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_unicast_link_local() || v6.is_multicast(),
    };
    nowhere || METADATA.contains(&address)
}

/// Metadata services outside of link-local: AWS over IPv6, Azure's wire server, Alibaba, Oracle.
const METADATA: &[IpAddr] = &[
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

#[cfg(test)]
mod tests {
    use super::{ChosenBy::*, *};

    #[test]
    fn names_never_lead_to_the_host_or_its_secrets() {
        let whereabouts = Whereabouts {
            permitted: vec!["127.0.0.9/32".parse().unwrap()],
            own: vec!["198.51.100.1".parse().unwrap()],
        };
        for (address, resolution, entry, configuration) in [
            ("192.0.2.1", true, true, true),
            ("10.0.0.1", true, true, true),
            ("2001:db8::1", true, true, true),
            ("127.0.0.1", false, true, true),
            ("127.0.0.9", true, true, true),
            ("::1", false, true, true),
            ("::ffff:127.0.0.1", false, true, true),
            ("198.51.100.1", false, true, true),
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
        ] {
            let permitted =
                [Resolution, Entry, Configuration].map(|by| whereabouts.permit(address.parse().unwrap(), by));
            assert_eq!(permitted, [resolution, entry, configuration], "{address}");
        }
    }
}
