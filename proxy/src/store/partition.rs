//! Which partition of an index a key falls in: an attribute of items, hence the same on every instance and in every release.

/// FNV-1a of `key`, its last byte, modulo `partitions`, of which there are at most 256 and at least one.
pub(super) fn partition(key: &str, partitions: u8) -> u8 {
    let hash = key.bytes().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    let [.., last] = hash.to_be_bytes();
    last.checked_rem(partitions).unwrap_or_default()
}

/// The published parameters of the 64-bit FNV.
const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stays_in_its_partition_for_ever() {
        // Last bytes of the published test vectors.
        for (key, last_byte) in [("", 0x25), ("a", 0x8c), ("foobar", 0xe8)] {
            assert_eq!(partition(key, 8), last_byte % 8, "{key:?}");
            assert_eq!(partition(key, u8::MAX), last_byte, "{key:?}");
        }
    }
}
