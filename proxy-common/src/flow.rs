//! What is remembered of a flow between its segments: where the walk through its ClientHello stands, and whether the budget
//! of unknown names was charged for it. Direct-mapped tables; a flow that finds its slot taken takes it over.
//! Not here: what a segment leads to (`decide`), where the tables lie (the kernel program).
//! Invariants: an entry that another flow or CPU has written, in whole or in part, is none
//! (`an_entry_is_read_by_its_own_flow_alone`, `an_entry_torn_between_two_writes_is_none`); only the segment that follows
//! the last one is read on (`a_segment_has_its_place_by_its_first_byte_alone`).

use crate::client_hello::ParserState;
use crate::maps::SourceAddress;
use crate::name_hash::{NAME_WORDS, NameBuffer};
use crate::seal::{ODD, mix};
use crate::segment::{Family, Segment};
use crate::source::ByteSource;

/// Both ends of a connection, as a client's segment names them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Flow {
    /// Source and destination as they are in the packet; IPv4 takes the first word.
    addresses: [u64; 4],
    /// Source and destination port, above them the family.
    ports: u64,
}

/// Where a flow is remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    /// Below [`SLOTS`].
    pub index: u32,
    /// What the slot's hint is while it is this flow's; never 0.
    pub tag: u8,
}

/// How many flows are remembered.
pub const SLOTS: u32 = 1 << 16;
/// How many names that a segment's end has cut are remembered.
pub const CUT_NAMES: u32 = 1 << 12;

impl Flow {
    /// The flow of a segment; none when the frame ends in its headers.
    #[must_use]
    #[inline]
    pub fn of<S: ByteSource + ?Sized>(frame: &S, segment: &Segment) -> Option<Self> {
        let ports = u64::from(segment.source_port) << 16 | u64::from(segment.destination_port);
        let at = segment.network_offset;
        Some(match segment.family {
            Family::Ipv4 => {
                let addresses = frame.load_u64(at + IPV4_ADDRESSES_AT)?;
                Self { addresses: [addresses, 0, 0, 0], ports }
            }
            Family::Ipv6 => {
                let word = |index: u32| frame.load_u64(at + IPV6_ADDRESSES_AT + 8 * index);
                Self { addresses: [word(0)?, word(1)?, word(2)?, word(3)?], ports: ports | IPV6 }
            }
        })
    }

    /// Whose address its segments come from.
    #[must_use]
    #[inline]
    pub const fn source(&self) -> SourceAddress {
        let [first, second, ..] = self.addresses;
        if self.ports & IPV6 == 0 {
            SourceAddress::ipv4((first >> 32) as u32)
        } else {
            SourceAddress::ipv6((first as u128) << 64 | second as u128)
        }
    }

    /// Where it is remembered. No secret goes into it: who makes flows meet in a slot makes one of them pass unjudged, which
    /// is to be had by cutting a hello anyhow.
    #[must_use]
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "parts of a hash")]
    pub const fn slot(&self) -> Slot {
        let [a, b, c, d] = self.addresses;
        let folded = a ^ b.rotate_left(13) ^ c.rotate_left(26) ^ d.rotate_left(39);
        let hash = (folded ^ self.ports.wrapping_mul(ODD)).wrapping_mul(ODD_TOO);
        let hash = hash ^ hash >> 32;
        Slot { index: hash as u32 & (SLOTS - 1), tag: (hash >> 56) as u8 | 1 }
    }

    #[inline]
    const fn seal(&self) -> u64 {
        let [a, b, c, d] = self.addresses;
        mix(mix(mix(mix(mix(ODD, a), b), c), d), self.ports)
    }
}

impl Slot {
    /// Where a cut name of the flow is remembered: below [`CUT_NAMES`].
    #[must_use]
    #[inline]
    pub const fn cut_name(self) -> u32 {
        self.index & (CUT_NAMES - 1)
    }
}

/// What is remembered of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct FlowEntry {
    /// Whose it is.
    pub flow: Flow,
    /// Where the walk stands, if it is to go on.
    pub state: ParserState,
    /// `CLOCK_MONOTONIC` nanoseconds at which it was written.
    pub written_ns: u64,
    /// Sequence number of the hello's first byte.
    pub start: u32,
    /// Sequence number of the byte that `state` waits for; the same as `start` when the walk is not to go on.
    pub next: u32,
    /// Whether the budget of unknown names was charged for this flow: 0 or 1.
    pub charged: u64,
    /// Holds the entry together: other CPUs may write the slot while it is read.
    seal: u64,
}

const _: () = assert!(size_of::<FlowEntry>() == 40 + 64 + 8 + 8 + 8 + 8);

/// Where a segment stands in a flow that is remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Nothing is remembered of this flow.
    Unknown,
    /// It begins where the hello began.
    Start,
    /// It begins elsewhere, in a flow whose walk is not to go on or too far away for it.
    Elsewhere,
    /// It begins where the walk stopped.
    Next,
    /// It begins anywhere else within reach: a part comes again, overlaps or is missing.
    OutOfOrder,
    /// What is remembered is too old.
    Expired,
    /// It begins where the walk stopped, but that is too old.
    NextExpired,
}

impl FlowEntry {
    /// Where a segment of `flow` that begins at `sequence` stands at `now_ns`.
    #[must_use]
    #[inline(never)]
    pub fn place(&self, flow: &Flow, sequence: u32, now_ns: u64) -> Place {
        if self.flow != *flow || self.seal != self.computed_seal() {
            return Place::Unknown;
        }
        let resumable = self.next != self.start;
        if now_ns.saturating_sub(self.written_ns) > REMEMBERED_NS {
            return if resumable && sequence == self.next { Place::NextExpired } else { Place::Expired };
        }
        if sequence == self.start {
            Place::Start
        } else if !resumable {
            Place::Elsewhere
        } else if sequence == self.next {
            Place::Next
        } else if sequence.wrapping_sub(self.start) < REACH {
            Place::OutOfOrder
        } else {
            // Not of the hello that is remembered, which may be a stranger's at a made-up sequence number.
            Place::Elsewhere
        }
    }

    /// Makes it an entry that can be read; to be done last.
    #[inline(never)]
    pub const fn close(&mut self) {
        self.seal = self.computed_seal();
    }

    #[inline]
    const fn computed_seal(&self) -> u64 {
        let positions = (self.start as u64) << 32 | self.next as u64;
        let seal = mix(mix(mix(self.flow.seal(), positions), self.written_ns), self.charged);
        self.state.fold(seal)
    }
}

/// The bytes of a name that a segment's end has cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C, align(8))]
pub struct CutName {
    words: [[u8; 8]; NAME_WORDS],
    seal: u64,
}

const _: () = assert!(size_of::<CutName>() == 264);

impl CutName {
    /// Takes what `name` holds, to go with `entry`, which has been closed.
    #[inline]
    pub fn keep(&mut self, name: &NameBuffer, entry: &FlowEntry) {
        name.copy_to(&mut self.words);
        self.seal = name.fold(entry.seal);
    }

    /// Fills `name` with what was kept together with `entry`; none if it was another.
    #[must_use]
    #[inline]
    pub fn restore(&self, name: &mut NameBuffer, entry: &FlowEntry) -> Option<()> {
        name.copy_from(&self.words);
        // Of the copy, since another CPU may be writing the words.
        (self.seal == name.fold(entry.seal)).then_some(())
    }
}

/// RFC 791 §3.1
pub(crate) const IPV4_ADDRESSES_AT: u32 = 12;
/// RFC 8200 §3
pub(crate) const IPV6_ADDRESSES_AT: u32 = 8;
const IPV6: u64 = 1 << 32;
/// Longer than the handshake of a client may take, and than its first retransmissions.
const REMEMBERED_NS: u64 = 10_000_000_000;
/// Bytes behind the first within which what is remembered of a hello can go on: more than the longest that is walked, with its records' headers.
const REACH: u32 = 1 << 17;
/// Another odd number whose bits look random: the fraction of the square root of 3.
const ODD_TOO: u64 = 0xbb67_ae85_84ca_a73b;

#[cfg(test)]
mod tests;
