//! The map `DENIED_NETWORKS`, kept in step with `guard.deny`.
//! Not here: on which ports the kernel looks at it (`maps`).

use std::{collections::HashSet, net::IpAddr};

use aya::maps::{
    MapData, MapError,
    lpm_trie::{Key, LpmTrie},
};
use proxy_common::maps::{DENIED_NETWORKS_CAPACITY, SourceAddress};

use crate::config::Network;

/// The map, and what user space knows of it.
pub(super) struct DeniedNetworks {
    map: LpmTrie<MapData, SourceAddress, u32>,
    held: HashSet<(SourceAddress, u32)>,
}

impl DeniedNetworks {
    /// Reads what a predecessor left.
    pub(super) fn adopt(map: LpmTrie<MapData, SourceAddress, u32>) -> Result<Self, MapError> {
        // A network removed meanwhile starts the kernel's walk again, so it is bounded.
        let most = usize::try_from(DENIED_NETWORKS_CAPACITY).unwrap_or(usize::MAX);
        let keys = map.keys().take(most).collect::<Result<Vec<_>, _>>()?;
        let held = keys.iter().map(|key| (key.data(), key.prefix_len())).collect();
        Ok(Self { map, held })
    }

    /// Enters those of `networks` that are new.
    pub(super) fn add(&mut self, networks: &[Network]) -> Result<(), MapError> {
        for (source, bits) in networks.iter().map(prefix) {
            if !self.held.contains(&(source, bits)) {
                self.map.insert(&Key::new(bits, source), DENIED, 0)?;
                self.held.insert((source, bits));
            }
        }
        Ok(())
    }

    /// Removes all but `networks`.
    pub(super) fn retain(&mut self, networks: &[Network]) -> Result<(), MapError> {
        let wanted: HashSet<_> = networks.iter().map(prefix).collect();
        let others: Vec<_> = self.held.difference(&wanted).copied().collect();
        for (source, bits) in others {
            self.map.remove(&Key::new(bits, source))?;
            self.held.remove(&(source, bits));
        }
        Ok(())
    }
}

/// The key of a network, and its bits that count.
fn prefix(network: &Network) -> (SourceAddress, u32) {
    let source = match network.network() {
        IpAddr::V4(address) => SourceAddress::ipv4(address.to_bits()),
        IpAddr::V6(address) => SourceAddress::ipv6(address.to_bits()),
    };
    (source, SourceAddress::FAMILY_BITS + u32::from(network.prefix_len()))
}

/// The value of each network, which says nothing more.
const DENIED: u32 = 1;
