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
    held: Rules,
}

/// The rule of each network; none for a number that is no rule.
type Rules = HashMap<(SourceAddress, u32), Option<SourceRule>>;

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
        for (source, bits) in superfluous(&self.held, config) {
            absent_is_removed(self.map.remove(&Key::new(bits, source)))?;
            self.held.remove(&(source, bits));
        }
        Ok(())
    }
}

/// Those that are held and not wanted, exemptions last.
fn superfluous(held: &Rules, config: &GuardConfig) -> Vec<(SourceAddress, u32)> {
    let wanted: HashMap<_, _> = wanted(config).collect();
    let mut others: Vec<_> = held.iter().filter(|(held, _)| !wanted.contains_key(*held)).collect();
    others.sort_unstable_by_key(|(_, rule)| **rule == Some(SourceRule::Exempt));
    others.into_iter().map(|(network, _)| *network).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(list: &[&str]) -> Vec<Network> {
        list.iter().map(|text| Network::try_from((*text).to_owned()).unwrap()).collect()
    }

    #[test]
    fn who_is_exempt_from_a_denial_is_so_as_long_as_it_is_held() {
        let deny = networks(&["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]);
        let exempt = networks(&["10.1.0.0/16", "2001:db8:1::/48", "192.0.2.7/32"]);
        let config = GuardConfig { deny, exempt, ..GuardConfig::default() };
        let is_exempt = |rule: &SourceRule| *rule == SourceRule::Exempt;
        let entered: Vec<_> = wanted(&config).map(|(_, rule)| rule).collect();
        assert_eq!(entered.iter().position(|rule| !is_exempt(rule)), Some(3), "exemptions first");
        let held: Rules = wanted(&config).map(|(network, rule)| (network, Some(rule))).collect();
        let removed = superfluous(&held, &GuardConfig::default());
        let rules: Vec<_> = removed.iter().filter_map(|network| held[network]).collect();
        assert_eq!((rules.len(), rules.iter().position(is_exempt)), (6, Some(3)), "exemptions last");
    }
}
