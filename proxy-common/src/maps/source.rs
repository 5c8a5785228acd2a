//! Where packets come from, as maps hold it: part of what `ABI` counts.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A packet's source, or the network in which it is, as the key of an `LPM_TRIE`. Its family stands first, for `::/0` holds no IPv4
/// address. In bytes, so that there is no order of theirs to mistake.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(C)]
pub struct SourceAddress {
    family: [u8; 4],
    address: [u8; 16],
}

impl SourceAddress {
    /// Bits before the address, which belong to each prefix.
    pub const FAMILY_BITS: u32 = 32;
    /// Bits of a whole key.
    pub const BITS: u32 = Self::FAMILY_BITS + 128;

    /// From an IPv4 address.
    #[must_use]
    #[inline]
    pub const fn ipv4(address: u32) -> Self {
        let [a, b, c, d] = address.to_be_bytes();
        Self { family: [4, 0, 0, 0], address: [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] }
    }

    /// From an IPv6 address.
    #[must_use]
    #[inline]
    pub const fn ipv6(address: u128) -> Self {
        Self { family: [6, 0, 0, 0], address: address.to_be_bytes() }
    }

    /// From the bytes of a key; none if its family is neither.
    #[must_use]
    pub fn read(bytes: &[u8; 20]) -> Option<Self> {
        let (family, address) = bytes.split_first_chunk::<4>()?;
        let is_family = matches!(family, [4 | 6, ..]);
        is_family.then_some(Self { family: *family, address: *address.first_chunk()? })
    }

    /// The address itself.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        let [a, b, c, d, ..] = self.address;
        match self.family {
            [4, ..] => Ipv4Addr::new(a, b, c, d).into(),
            _ => Ipv6Addr::from(self.address).into(),
        }
    }

    /// The bytes of the key.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> impl Iterator<Item = u8> {
        self.family.into_iter().chain(self.address)
    }

    /// The source as SYNs are counted: an IPv4 address, or the /64 of an IPv6 address, which is one client's (RFC 6177). IPv4 addresses lie
    /// in `ff00::/8`, which holds no sources (RFC 4291 §2.7); packets that say so nevertheless are counted as one source.
    #[must_use]
    #[inline]
    pub const fn counted(&self) -> u64 {
        let Some(high) = self.address.first_chunk() else { return 0 };
        let high = u64::from_be_bytes(*high);
        match self.family {
            [4, ..] => 0xffff_ffff_0000_0000 | high >> 32,
            _ if high >> 56 == 0xff => 0,
            _ => high,
        }
    }

    /// How many leading bits it has in common with another.
    #[must_use]
    pub fn shares(&self, other: &Self) -> u32 {
        let bytes = |source: &Self| source.family.into_iter().chain(source.address);
        let differing = bytes(self).zip(bytes(other)).map(|(ours, theirs)| (ours ^ theirs).leading_zeros());
        let mut shared = 0;
        for same in differing {
            shared += same;
            if same < u8::BITS {
                break;
            }
        }
        shared
    }
}

/// What is done with packets from a network, unless a smaller network in it has a rule of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u32)]
pub enum SourceRule {
    /// They are dropped.
    Deny = 1,
    /// They are neither dropped nor counted against a budget of their source.
    Exempt = 2,
}

impl SourceRule {
    /// The rule behind the number in [`super::map_names::SOURCE_NETWORKS`].
    #[must_use]
    #[inline]
    pub const fn of(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Deny),
            2 => Some(Self::Exempt),
            _ => None,
        }
    }
}

/// Networks that [`super::map_names::SOURCE_NETWORKS`] can hold. Half of them can be configured: one list takes the place of another entry by
/// entry, first those that are new.
pub const SOURCE_NETWORKS_CAPACITY: u32 = 1 << 18;
