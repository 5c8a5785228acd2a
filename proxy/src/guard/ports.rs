//! Which ports are guarded.

use std::net::SocketAddr;

use proxy_common::maps::PortEntry;

use crate::config;

/// Which ports are guarded, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports {
    hello: Vec<u16>,
    cleartext: Vec<u16>,
}

impl Ports {
    /// From the settings: hellos are judged on `guard.hello_ports`, else on the ports of `listen.https`; packets are counted
    /// there and on the ports of `listen.http`.
    #[must_use]
    pub fn of(guard: &config::GuardConfig, listen: &config::ListenConfig) -> Self {
        let ports = |addresses: &[SocketAddr]| addresses.iter().map(SocketAddr::port).collect::<Vec<_>>();
        let hello =
            if guard.hello_ports.is_empty() { ports(&listen.https) } else { guard.hello_ports.clone() };
        Self { hello, cleartext: ports(&listen.http) }
    }

    pub(super) fn entries(&self) -> Vec<(u16, PortEntry)> {
        let all = || self.hello.iter().chain(&self.cleartext).copied();
        let mut entries: Vec<(u16, PortEntry)> = all().map(|port| (port, self.entry(port))).collect();
        entries.sort_unstable_by_key(|(port, _)| *port);
        entries.dedup();
        entries
    }

    fn entry(&self, port: u16) -> PortEntry {
        PortEntry { flags: if self.hello.contains(&port) { PortEntry::HELLO } else { 0 } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hello_ports_follow_the_listeners_unless_they_are_given() {
        let (hello, counted) = (PortEntry { flags: PortEntry::HELLO }, PortEntry { flags: 0 });
        let listen = config::ListenConfig::default();
        for (given, expected) in [
            (vec![], vec![(8080, counted), (8443, hello)]),
            (vec![443], vec![(443, hello), (8080, counted)]),
            (vec![8080, 443], vec![(443, hello), (8080, hello)]),
        ] {
            let guard = config::GuardConfig { hello_ports: given.clone(), ..config::GuardConfig::default() };
            assert_eq!(Ports::of(&guard, &listen).entries(), expected, "hello_ports = {given:?}");
        }
    }
}
