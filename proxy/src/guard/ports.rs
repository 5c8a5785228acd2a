//! Which ports are guarded, and at which addresses.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use proxy_common::maps::{GuardedAddress, PORT_NUMBERS, PortEntry};

use serde::{Deserialize, Serialize};

use crate::config::{self, Network};

/// Which ports are guarded, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Where hellos are judged; an unspecified address stands for every one of its family.
    hello: Vec<SocketAddr>,
    /// Those of them where nobody here listens: a translation of addresses leads from there to the listeners.
    #[serde(default)]
    translated: Vec<u16>,
    cleartext: Vec<u16>,
}

impl Ports {
    /// From the settings: hellos are judged at the addresses of `listen.https`, or on `guard.hello_ports` of every address, since
    /// those lead here by a translation; packets are counted on these ports and those of `listen.http`, and on the port of HTTP where a
    /// translation leads here.
    #[must_use]
    pub fn of(guard: &config::GuardConfig, listen: &config::ListenConfig) -> Self {
        let everywhere: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let on_every_address =
            |port: &u16| everywhere.map(|address| SocketAddr::new(address, *port)).into_iter();
        let hello = if guard.hello_ports.is_empty() {
            listen.https.clone()
        } else {
            guard.hello_ports.iter().flat_map(on_every_address).collect()
        };
        let is_ours = |port: &u16| listen.https.iter().any(|address| address.port() == *port);
        let translated: Vec<u16> = guard.hello_ports.iter().copied().filter(|port| !is_ours(port)).collect();
        let http = (!translated.is_empty()).then_some(HTTP);
        let cleartext = listen.http.iter().map(SocketAddr::port).chain(http).collect();
        Self { hello, translated, cleartext }
    }

    /// What is guarded on each port; the kernel looks at the source of packets only if some networks are denied.
    #[expect(clippy::large_stack_arrays, reason = "64 KiB, once, on a stack of megabytes")]
    pub(super) fn table(&self, deny: &[Network]) -> Box<[PortEntry; PORT_NUMBERS]> {
        let mut table = Box::new([PortEntry::default(); PORT_NUMBERS]);
        for (port, flags) in self.entries(!deny.is_empty()) {
            if let Some(entry) = table.get_mut(usize::from(port)) {
                *entry = entry.and(flags);
            }
        }
        table
    }

    /// What is guarded, port by port; what is said of one port several times is to be joined.
    pub(super) fn entries(&self, denies_networks: bool) -> impl Iterator<Item = (u16, PortEntry)> {
        let cleartext = self.cleartext.iter().map(|port| (*port, PortEntry::COUNTED));
        let deny = if denies_networks { PortEntry::DENY } else { PortEntry::default() };
        let translated = self.translated.iter().map(|port| (*port, PortEntry::TRANSLATED));
        let hello = self.hello.iter().map(|address| (address.port(), entry(address))).chain(translated);
        hello.chain(cleartext).map(move |(port, entry)| (port, entry.and(deny)))
    }

    /// The first port where hellos are judged.
    pub(super) fn first_hello_port(&self) -> Option<u16> {
        self.hello.first().map(SocketAddr::port)
    }

    /// An address to which a client's packets to `port` may go: one where hellos are judged, if there is one; of IPv4 or IPv6, if that is
    /// said.
    pub(super) fn destination(&self, port: u16, is_ipv4: Option<bool>) -> SocketAddr {
        let fits = |address: &&SocketAddr| {
            address.port() == port && is_ipv4.is_none_or(|is_ipv4| address.is_ipv4() == is_ipv4)
        };
        let address = self.hello.iter().find(fits).map(SocketAddr::ip);
        let is_ipv4 = address.map_or(is_ipv4.unwrap_or(true), |address| address.is_ipv4());
        let address = address.filter(|address| !address.is_unspecified());
        SocketAddr::new(address.unwrap_or_else(|| anyone(is_ipv4)), port)
    }

    /// The addresses that stand for themselves.
    pub(super) fn addresses(&self) -> Vec<GuardedAddress> {
        let single = self.hello.iter().filter(|address| !address.ip().is_unspecified());
        single.map(guarded).collect()
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, address) in self.hello.iter().enumerate() {
            write!(f, "{}{address}", if i == 0 { "" } else { " " })?;
        }
        if self.hello.is_empty() { f.write_str("no port") } else { Ok(()) }
    }
}

/// An address of nobody (RFC 5737, RFC 3849).
pub(super) fn anyone(is_ipv4: bool) -> IpAddr {
    if is_ipv4 {
        Ipv4Addr::new(192, 0, 2, 1).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()
    }
}

fn entry(address: &SocketAddr) -> PortEntry {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => PortEntry::HELLO_IPV4,
        IpAddr::V6(ip) if ip.is_unspecified() => PortEntry::HELLO_IPV6,
        IpAddr::V4(_) | IpAddr::V6(_) => PortEntry::HELLO,
    }
}

fn guarded(address: &SocketAddr) -> GuardedAddress {
    match address.ip() {
        IpAddr::V4(ip) => GuardedAddress::ipv4(ip.to_bits(), address.port()),
        IpAddr::V6(ip) => GuardedAddress { address: ip.octets(), port: address.port().into() },
    }
}

/// RFC 9110 §4.2.1
const HTTP: u16 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    /// The ports that are guarded, and how.
    fn entries(ports: &Ports) -> Vec<(usize, PortEntry)> {
        let table = ports.table(&[]);
        let guarded = table.iter().copied().enumerate().filter(|(_, entry)| *entry != PortEntry::default());
        guarded.collect()
    }

    #[test]
    fn hello_ports_follow_the_listeners_unless_they_are_given() {
        let every = PortEntry::HELLO_IPV4.and(PortEntry::HELLO_IPV6);
        let (counted, translated) = (PortEntry::COUNTED, every.and(PortEntry::TRANSLATED));
        let listen = config::ListenConfig::default();
        for (given, expected) in [
            (vec![], vec![(8080, counted), (8443, every)]),
            (vec![8443], vec![(8080, counted), (8443, every)]),
            (vec![443], vec![(80, counted), (443, translated), (8080, counted)]),
            (vec![8443, 443], vec![(80, counted), (443, translated), (8080, counted), (8443, every)]),
        ] {
            let guard = config::GuardConfig { hello_ports: given.clone(), ..config::GuardConfig::default() };
            let ports = Ports::of(&guard, &listen);
            assert_eq!(entries(&ports), expected, "hello_ports = {given:?}");
            assert_eq!(ports.addresses(), [], "hello_ports = {given:?}");
        }
    }

    #[test]
    fn a_listener_on_one_address_guards_that_address() {
        let https = |addresses: &[&str]| config::ListenConfig {
            https: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            http: Vec::new(),
            ..config::ListenConfig::default()
        };
        let ipv4 = GuardedAddress::ipv4(0xc000_0202, 443);
        let ipv6 = GuardedAddress { address: "2001:db8::2".parse::<Ipv6Addr>().unwrap().octets(), port: 443 };
        for (addresses, flags, expected) in [
            (&["192.0.2.2:443"][..], PortEntry::HELLO, vec![ipv4]),
            (&["192.0.2.2:443", "[2001:db8::2]:443"], PortEntry::HELLO, vec![ipv4, ipv6]),
            (&["192.0.2.2:443", "[::]:443"], PortEntry::HELLO_IPV6, vec![ipv4]),
            (&["0.0.0.0:443"], PortEntry::HELLO_IPV4, vec![]),
        ] {
            let ports = Ports::of(&config::GuardConfig::default(), &https(addresses));
            assert_eq!(entries(&ports), [(443, flags)], "{addresses:?}");
            assert_eq!(ports.addresses(), expected, "{addresses:?}");
        }
    }
}
