//! Names as the guard's maps know them: keyed 64-bit hashes, of the whole name and of what follows its first dot.
//! Not here: which names are allowed; the parsing that finds a name (`client_hello`).
//! Invariants: case and one trailing dot do not matter (`case_and_one_trailing_dot_do_not_matter`); a wildcard covers
//! exactly one label (`wildcard_covers_exactly_one_label`); an exact name and a wildcard suffix of the same bytes
//! differ (`exact_and_wildcard_are_separate_domains`).

use crate::maps::NameKey;
use crate::seal::mix;
use crate::siphash::SipHash;

/// The longest name a hello may carry: 253 bytes as text and a trailing dot (RFC 1035 §2.3.4).
pub const MAX_NAME_BYTES: u32 = 254;

/// Words that a name may occupy.
pub const NAME_WORDS: usize = 32;
const _: () = assert!(8 * NAME_WORDS >= MAX_NAME_BYTES as usize);

/// The hash of an exact name, under which `NAMES` and `DENIALS` hold it.
///
/// Bytes beyond [`MAX_NAME_BYTES`] are not hashed: no name that a hello carries has them.
#[must_use]
pub fn exact(key: &NameKey, name: &[u8]) -> u64 {
    NameBuffer::with(name).exact(key)
}

/// The hash of a wildcard, under which `NAMES` holds it: `suffix` of `*.example.com` is `example.com`.
#[must_use]
pub fn wildcard(key: &NameKey, suffix: &[u8]) -> u64 {
    NameBuffer::with(suffix).hash(key.k0, key.k1 ^ WILDCARD, HashedPart::Whole)
}

/// The bytes of one name, read as words, and which of them are hashed.
///
/// Larger than any name, so that a bound on where a piece begins and one on how long it is suffice for the kernel's
/// verifier. What is known of the name lies beside it in memory: the verifier takes a value from there for any value, and
/// so follows what comes after a loop once, not once for each length.
#[repr(C, align(8))]
pub struct NameBuffer {
    words: [[u8; 8]; WORDS as usize],
    /// Length without a trailing dot.
    bytes: u32,
    /// Where the part after the first dot begins; 0 when there is none.
    suffix: u32,
}

impl NameBuffer {
    /// An empty buffer.
    #[must_use]
    pub const fn new() -> Self {
        Self { words: [[0; 8]; WORDS as usize], bytes: 0, suffix: 0 }
    }

    /// The room for bytes, to be filled.
    #[inline]
    pub const fn bytes_mut(&mut self) -> &mut [u8] {
        self.words.as_flattened_mut()
    }

    /// The first `bytes`, as they were in the hello.
    #[must_use]
    pub fn name(&self, bytes: u32) -> &[u8] {
        self.words.as_flattened().get(..bytes as usize).unwrap_or_default()
    }

    /// Copies what a name may occupy.
    #[inline]
    pub fn copy_to(&self, words: &mut [[u8; 8]; NAME_WORDS]) {
        if let Some(name) = self.words.first_chunk() {
            *words = *name;
        }
    }

    /// Takes back what [`NameBuffer::copy_to`] gave.
    #[inline]
    pub fn copy_from(&mut self, words: &[[u8; 8]; NAME_WORDS]) {
        if let Some(name) = self.words.first_chunk_mut() {
            *name = *words;
        }
    }

    /// Goes into a seal with what a name may occupy.
    #[inline(never)]
    pub(crate) fn fold(&self, seal: u64) -> u64 {
        let words = self.words.iter().take(NAME_WORDS);
        words.fold(seal, |seal, word| mix(seal, u64::from_le_bytes(*word)))
    }

    /// The name is in the first `bytes`: finds its parts.
    #[inline(never)]
    pub fn measure(&mut self, bytes: u32) {
        let dotted = bytes > 0 && self.word_at(bytes.wrapping_sub(1)) & 0xff == u64::from(b'.');
        self.bytes = bytes.saturating_sub(dotted.into());
        let suffix = self.first_dot().saturating_add(1);
        self.suffix = if suffix < self.bytes { suffix } else { 0 };
    }

    /// The hash of the whole name.
    #[must_use]
    #[inline]
    pub fn exact(&self, key: &NameKey) -> u64 {
        self.hash(key.k0, key.k1, HashedPart::Whole)
    }

    /// The hash of what follows the first dot; none when nothing does.
    #[must_use]
    #[inline]
    pub fn wildcard(&self, key: &NameKey) -> Option<u64> {
        if self.suffix == 0 { None } else { Some(self.hash(key.k0, key.k1 ^ WILDCARD, HashedPart::Suffix)) }
    }

    /// Whether the first `bytes` are an IP address rather than a name.
    ///
    /// An IPv6 address has a colon among its first five bytes; an IPv4 address is digits and dots. Both are enough to
    /// tell that the bytes are no DNS name a certificate is served for.
    #[must_use]
    #[inline]
    pub fn is_address(&self, bytes: u32) -> bool {
        let (first, second) = (self.word(0), self.word(1));
        if lanes_equal(first & tail_mask(bytes), b':') != 0 {
            return true;
        }
        bytes <= LONGEST_IPV4
            && only_digits_and_dots(first, bytes)
            && only_digits_and_dots(second, bytes.saturating_sub(8))
    }

    fn with(name: &[u8]) -> Self {
        let mut buffer = Self::new();
        let mut bytes = 0;
        for (slot, byte) in buffer.bytes_mut().iter_mut().zip(name).take(MAX_NAME_BYTES as usize) {
            *slot = *byte;
            bytes += 1;
        }
        buffer.measure(bytes);
        buffer
    }

    #[inline(never)]
    fn hash(&self, k0: u64, k1: u64, part: HashedPart) -> u64 {
        let from = match part {
            HashedPart::Whole => 0,
            HashedPart::Suffix => self.suffix,
        };
        let bytes = self.bytes.wrapping_sub(from) & 0xff;
        let mut sip = SipHash::new(NameKey { k0, k1 });
        let whole = bytes / 8;
        for index in 0..MAX_NAME_WORDS {
            if index >= whole {
                break;
            }
            sip.absorb(lower(self.word_at(from.wrapping_add(8 * index))));
        }
        let tail = lower(self.word_at(from.wrapping_add(8 * whole))) & tail_mask(bytes % 8);
        sip.absorb(tail | u64::from(bytes) << 56);
        sip.finish()
    }

    /// Position of the first dot, or beyond any name; a label has at most 63 bytes (RFC 1035 §2.3.4), so eight words hold
    /// one.
    #[inline]
    fn first_dot(&self) -> u32 {
        for index in 0..MAX_LABEL_WORDS {
            let dots = lanes_equal(self.word(index), b'.');
            if dots != 0 {
                return 8 * index + dots.trailing_zeros() / 8;
            }
        }
        u32::MAX
    }

    /// Eight bytes from any position.
    #[inline]
    fn word_at(&self, from: u32) -> u64 {
        let (index, shift) = (from / 8, 8 * (from % 8));
        let low = self.word(index) >> shift;
        // Shifting by 64 is no shift: two steps make a whole word vanish when `from` is aligned.
        let high = self.word(index.wrapping_add(1)) << (56 - shift) << 8;
        low | high
    }

    #[inline]
    fn word(&self, index: u32) -> u64 {
        let word = self.words.get((index % WORDS) as usize);
        u64::from_le_bytes(*word.unwrap_or(&[0; 8]))
    }
}

#[derive(Clone, Copy)]
enum HashedPart {
    Whole,
    Suffix,
}

impl Default for NameBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// Upper-case ASCII letters to lower case, eight at a time.
#[inline]
const fn lower(word: u64) -> u64 {
    let seven_bits = word & (0x7f * LANES);
    let from_a = seven_bits + (0x80 - b'A' as u64) * LANES;
    let beyond_z = seven_bits + (0x7f - b'Z' as u64) * LANES;
    let ascii = !word & (0x80 * LANES);
    let upper = ascii & (from_a ^ beyond_z);
    word | upper >> 2
}

/// The top bit of each byte that equals `byte`; exact, since no carry leaves a byte.
#[inline]
const fn lanes_equal(word: u64, byte: u8) -> u64 {
    let difference = word ^ (byte as u64 * LANES);
    let seven_bits = (difference & (0x7f * LANES)) + 0x7f * LANES;
    !(seven_bits | difference) & (0x80 * LANES)
}

/// The top bit of each byte that is a decimal digit.
#[inline]
const fn digit_lanes(word: u64) -> u64 {
    let seven_bits = word & (0x7f * LANES);
    let from_0 = seven_bits + (0x80 - b'0' as u64) * LANES;
    let beyond_9 = seven_bits + (0x7f - b'9' as u64) * LANES;
    !word & (0x80 * LANES) & (from_0 ^ beyond_9)
}

#[inline]
const fn only_digits_and_dots(word: u64, len: u32) -> bool {
    let wanted = tail_mask(len) & (0x80 * LANES);
    (digit_lanes(word) | lanes_equal(word, b'.')) & wanted == wanted
}

/// The low `len` bytes of a word; all of them from 8 on.
#[inline]
const fn tail_mask(len: u32) -> u64 {
    if len >= 8 { u64::MAX } else { (1 << (8 * len)) - 1 }
}

const WORDS: u32 = 64;
const MAX_NAME_WORDS: u32 = MAX_NAME_BYTES.div_ceil(8);
const MAX_LABEL_WORDS: u32 = 8;
/// `255.255.255.255`
const LONGEST_IPV4: u32 = 15;
/// One in every byte.
const LANES: u64 = 0x0101_0101_0101_0101;
/// Exact names and wildcards are hashed under keys that differ by this, so `example.com` never equals `*.example.com`.
const WILDCARD: u64 = u64::from_be_bytes(*b"wildcard");

#[cfg(test)]
mod tests {
    extern crate std;

    use core::hash::Hasher;
    use std::vec::Vec;

    use proptest::prelude::*;
    use siphasher::sip::SipHasher13;

    use super::*;

    const KEY: NameKey = NameKey { k0: 0x0706_0504_0302_0100, k1: 0x0f0e_0d0c_0b0a_0908 };

    fn second_opinion(key: NameKey, name: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(key.k0, key.k1);
        hasher.write(name);
        hasher.finish()
    }

    fn hashes(name: &str) -> (u64, Option<u64>) {
        let mut buffer = NameBuffer::new();
        // What an earlier name left behind must not matter.
        buffer.bytes_mut().fill(b'.');
        buffer.bytes_mut()[..name.len()].copy_from_slice(name.as_bytes());
        buffer.measure(u32::try_from(name.len()).unwrap());
        (buffer.exact(&KEY), buffer.wildcard(&KEY))
    }

    #[test]
    fn wildcard_covers_exactly_one_label() {
        let suffix = Some(wildcard(&KEY, b"example.com"));
        for (name, covered) in [
            ("a.example.com", true),
            ("A.eXample.COM", true),
            ("a.example.com.", true),
            ("xn--bcher-kva.example.com", true),
            (".example.com", true),
            ("a.b.example.com", false),
            ("example.com", false),
            ("aexample.com", false),
            ("a.example.com.evil", false),
        ] {
            assert_eq!(hashes(name).1 == suffix, covered, "{name}");
        }
    }

    #[test]
    fn names_without_a_dot_have_no_wildcard() {
        for name in ["localhost", "localhost.", "a", "."] {
            assert_eq!(hashes(name).1, None, "{name}");
        }
    }

    #[test]
    fn case_and_one_trailing_dot_do_not_matter() {
        let plain = exact(&KEY, b"shop.example.com");
        for (name, same) in [
            ("SHOP.example.COM", true),
            ("shop.example.com.", true),
            ("shop.example.com..", false),
            ("shop-example.com", false),
            ("shop.example.co", false),
        ] {
            assert_eq!(hashes(name).0 == plain, same, "{name}");
            assert_eq!(exact(&KEY, name.as_bytes()), hashes(name).0, "{name}");
        }
    }

    #[test]
    fn exact_and_wildcard_are_separate_domains() {
        assert_ne!(exact(&KEY, b"example.com"), wildcard(&KEY, b"example.com"));
    }

    #[test]
    fn addresses_are_told_from_names() {
        for (text, address) in [
            ("192.0.2.1", true),
            ("255.255.255.255", true),
            ("1.1", true),
            ("::1", true),
            ("2001:db8::1", true),
            ("192.0.2.1.example", false),
            ("1.example.com", false),
            ("4.3.2.1.in-addr.arpa", false),
            ("a", false),
            ("192.168.100.100a", false),
        ] {
            let buffer = NameBuffer::with(text.as_bytes());
            assert_eq!(buffer.is_address(u32::try_from(text.len()).unwrap()), address, "{text}");
        }
    }

    mod properties {
        use super::*;

        proptest! {
            #[test]
            fn hash_equals_a_second_implementation(
                name in proptest::collection::vec(any::<u8>(), 0..=MAX_NAME_BYTES as usize), k0: u64, k1: u64,
            ) {
                let key = NameKey { k0, k1 };
                let separate = NameKey { k0, k1: k1 ^ WILDCARD };
                let mut plain: Vec<u8> = name.to_ascii_lowercase();
                if plain.last() == Some(&b'.') {
                    plain.pop();
                }
                prop_assert_eq!(exact(&key, &name), second_opinion(key, &plain));
                prop_assert_eq!(wildcard(&key, &name), second_opinion(separate, &plain));
            }

            #[test]
            fn the_name_in_a_hello_hashes_like_the_name_in_a_table(
                first in "[A-Za-z0-9-]{1,63}", rest in "[A-Za-z0-9-]{1,60}(\\.[A-Za-z0-9-]{1,60}){0,2}",
            ) {
                let name = std::format!("{first}.{rest}");
                let seen = hashes(&name);
                prop_assert_eq!(seen.0, exact(&KEY, name.as_bytes()));
                prop_assert_eq!(seen.1, Some(wildcard(&KEY, rest.as_bytes())));
            }
        }
    }
}
