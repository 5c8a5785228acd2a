//! What the guard tells user space of a name that it rejects: part of what `ABI` counts.

use super::{RejectCause, SourceAddress};
use crate::name_hash::{MAX_NAME_BYTES, NAME_WORDS, NameBuffer};

/// A rejected name, as [`super::map_names::REJECTED_NAMES`] holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(8))]
pub struct RejectedName {
    words: [[u8; 8]; NAME_WORDS],
    name_bytes: u32,
    cause: u32,
    source: SourceAddress,
    reserved: u32,
}

const _: () = assert!(size_of::<RejectedName>() == SIZE);

impl RejectedName {
    /// One that says nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            words: [[0; 8]; NAME_WORDS],
            name_bytes: 0,
            cause: 0,
            source: SourceAddress::ipv4(0),
            reserved: 0,
        }
    }

    /// Says that the name in the first `bytes` of `name`, from `source`, is rejected. What lies behind them is of earlier names.
    #[inline]
    pub fn fill(&mut self, name: &NameBuffer, bytes: u32, cause: RejectCause, source: SourceAddress) {
        name.copy_to(&mut self.words);
        self.name_bytes = bytes;
        self.cause = match cause {
            RejectCause::Foreign => FOREIGN,
            RejectCause::Denied => DENIED,
        };
        self.source = source;
    }

    /// Reads what a ring holds; none if that is no rejected name.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SIZE] = bytes.try_into().ok()?;
        let (words, rest) = bytes.split_first_chunk::<{ 8 * NAME_WORDS }>()?;
        let (name_bytes, rest) = rest.split_first_chunk()?;
        let (cause, rest) = rest.split_first_chunk()?;
        let source = SourceAddress::read(rest.first_chunk()?)?;
        let mut read = Self { name_bytes: u32::from_ne_bytes(*name_bytes), source, ..Self::new() };
        read.words.as_flattened_mut().copy_from_slice(words);
        read.cause = u32::from_ne_bytes(*cause);
        let is_one =
            (1..=MAX_NAME_BYTES).contains(&read.name_bytes) && [FOREIGN, DENIED].contains(&read.cause);
        is_one.then_some(read)
    }

    /// The name, as the hello has it.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.words.as_flattened().get(..self.name_bytes as usize).unwrap_or_default()
    }

    /// Why it was rejected.
    #[must_use]
    pub const fn cause(&self) -> RejectCause {
        if self.cause == DENIED { RejectCause::Denied } else { RejectCause::Foreign }
    }

    /// Who sent it.
    #[must_use]
    pub const fn source(&self) -> SourceAddress {
        self.source
    }
}

impl Default for RejectedName {
    fn default() -> Self {
        Self::new()
    }
}

const SIZE: usize = 8 * NAME_WORDS + 4 + 4 + 20 + 4;
const FOREIGN: u32 = 1;
const DENIED: u32 = 2;

/// Bytes of the ring: some 440 names, which is more than a quarter of a second's at the highest rate.
pub const REJECTED_NAMES_BYTES: u32 = 1 << 17;

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// As it lies in memory.
    fn bytes(of: &RejectedName) -> Vec<u8> {
        let mut bytes = of.words.as_flattened().to_vec();
        bytes.extend(of.name_bytes.to_ne_bytes());
        bytes.extend(of.cause.to_ne_bytes());
        bytes.extend(of.source.bytes());
        bytes.extend([0; 4]);
        bytes
    }

    #[test]
    fn what_was_said_is_read() {
        let mut name = NameBuffer::new();
        name.bytes_mut()[..20].copy_from_slice(b"foreign.exampleOLDER");
        for (cause, source) in [
            (RejectCause::Foreign, SourceAddress::ipv4(0xc000_0207)),
            (RejectCause::Denied, SourceAddress::ipv6(7)),
        ] {
            let mut said = RejectedName::new();
            said.fill(&name, 15, cause, source);
            let read = RejectedName::read(&bytes(&said)).unwrap();
            assert_eq!((read.name(), read.cause(), read.source()), (&b"foreign.example"[..], cause, source));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), SIZE), length: u32, cause in 0..4_u32) {
            bytes[256..260].copy_from_slice(&(length % 300).to_ne_bytes());
            bytes[260..264].copy_from_slice(&cause.to_ne_bytes());
            bytes[264] = 4;
            let read = RejectedName::read(&bytes);
            let is_one = (1..=254).contains(&(length % 300)) && (1..=2).contains(&cause);
            prop_assert_eq!(read.is_some(), is_one);
            prop_assert!(read.is_none_or(|read| read.name().len() == (length % 300) as usize));
            prop_assert_eq!(RejectedName::read(&bytes[1..]), None);
        }
    }
}
