//! Which ports are guarded, and at which addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proxy_common::maps::{GuardedAddress, PORT_NUMBERS, PortEntry};

use crate::config::{self, Network};

/// Which ports are guarded, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports {
    /// Where hellos are judged; an unspecified address stands for every one of its family.
    hello: Vec<SocketAddr>,
    cleartext: Vec<u16>,
}

impl Ports {
    /// From the settings: hellos are judged at the addresses of `listen.https`, or on `guard.hello_ports` of every address, since
    /// those lead here by a translation; packets are counted on these ports and those of `listen.http`.
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
        Self { hello, cleartext: listen.http.iter().map(SocketAddr::port).collect() }
    }

    /// What is guarded on each port; the kernel looks at the source of packets only if some networks are denied.
    #[expect(clippy::large_stack_arrays, reason = "64 KiB, once, on a stack of megabytes")]
    pub(super) fn table(&self, deny: &[Network]) -> Box<[PortEntry; PORT_NUMBERS]> {
        let mut table = Box::new([PortEntry::default(); PORT_NUMBERS]);
        let cleartext = self.cleartext.iter().map(|port| (*port, PortEntry::COUNTED));
        for (port, flags) in
            self.hello.iter().map(|address| (address.port(), entry(address))).chain(cleartext)
        {
            if let Some(entry) = table.get_mut(usize::from(port)) {
                *entry = entry.and(flags);
                if !deny.is_empty() {
                    *entry = entry.and(PortEntry::DENY);
                }
            }
        }
        table
    }

    /// The addresses that stand for themselves.
    pub(super) fn addresses(&self) -> Vec<GuardedAddress> {
        let single = self.hello.iter().filter(|address| !address.ip().is_unspecified());
        single.map(guarded).collect()
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
        let counted = PortEntry::COUNTED;
        let listen = config::ListenConfig::default();
        for (given, expected) in [
            (vec![], vec![(8080, counted), (8443, every)]),
            (vec![443], vec![(443, every), (8080, counted)]),
            (vec![8080, 443], vec![(443, every), (8080, every)]),
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
