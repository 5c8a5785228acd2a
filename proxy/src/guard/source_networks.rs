//! The map `SOURCE_NETWORKS`, kept in step with `guard.deny` and `guard.exempt`.
//! Not here: on which ports the kernel looks at it (`maps`).

use std::{collections::HashMap, net::IpAddr};

use aya::maps::{
    MapData, MapError,
    lpm_trie::{Key, LpmTrie},
};
use proxy_common::maps::{SOURCE_NETWORKS_CAPACITY, SourceAddress, SourceRule};

use super::error::absent_is_removed;
use crate::config::{GuardConfig, Network};

/// The map, and what user space knows of it.
pub(super) struct SourceNetworks {
    map: LpmTrie<MapData, SourceAddress, u32>,
    /// The rule of each; none for a number that is no rule.
    held: HashMap<(SourceAddress, u32), Option<SourceRule>>,
}

impl SourceNetworks {
    /// Reads what a predecessor left.
    pub(super) fn adopt(map: LpmTrie<MapData, SourceAddress, u32>) -> Result<Self, MapError> {
        let mut networks = Self { map, held: HashMap::new() };
        networks.read()?;
        Ok(networks)
    }

    /// Reads what the map holds: somebody else may have written.
    pub(super) fn read(&mut self) -> Result<(), MapError> {
        // A network removed meanwhile starts the kernel's walk again, so it is bounded.
        let most = usize::try_from(SOURCE_NETWORKS_CAPACITY).unwrap_or(usize::MAX);
        let entries = self.map.iter().take(most).collect::<Result<Vec<_>, _>>()?;
        let rule =
            |(key, rule): &(Key<SourceAddress>, u32)| ((key.data(), key.prefix_len()), SourceRule::of(*rule));
        self.held = entries.iter().map(rule).collect();
        Ok(())
    }

    /// Enters those that are new or have another rule: exemptions before the denials that they are exempt from.
    pub(super) fn add(&mut self, config: &GuardConfig) -> Result<(), MapError> {
        for ((source, bits), rule) in wanted(config) {
            if self.held.get(&(source, bits)) != Some(&Some(rule)) {
                self.map.insert(&Key::new(bits, source), rule as u32, 0)?;
                self.held.insert((source, bits), Some(rule));
            }
        }
        Ok(())
    }

    /// Removes all others: denials before the exemptions from them.
    pub(super) fn retain(&mut self, config: &GuardConfig) -> Result<(), MapError> {
        let wanted: HashMap<_, _> = wanted(config).collect();
        let others = self.held.iter().filter(|(held, _)| !wanted.contains_key(*held));
        let mut others: Vec<_> =
            others.map(|(held, rule)| (*rule == Some(SourceRule::Exempt), *held)).collect();
        others.sort_unstable_by_key(|(is_exempt, _)| *is_exempt);
        for (_, (source, bits)) in others {
            absent_is_removed(self.map.remove(&Key::new(bits, source)))?;
            self.held.remove(&(source, bits));
        }
        Ok(())
    }
}

fn wanted(config: &GuardConfig) -> impl Iterator<Item = ((SourceAddress, u32), SourceRule)> {
    let exempt = config.exempt.iter().map(|network| (prefix(network), SourceRule::Exempt));
    exempt.chain(config.deny.iter().map(|network| (prefix(network), SourceRule::Deny)))
}

/// The key of a network, and its bits that count.
pub(super) fn prefix(network: &Network) -> (SourceAddress, u32) {
    let source = match network.network() {
        IpAddr::V4(address) => SourceAddress::ipv4(address.to_bits()),
        IpAddr::V6(address) => SourceAddress::ipv6(address.to_bits()),
    };
    (source, SourceAddress::FAMILY_BITS + u32::from(network.prefix_len()))
}
