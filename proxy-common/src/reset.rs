//! How a segment becomes a TCP reset: in place, for the server's own socket; or as an answer to the client.
//! Not here: which of the two is due (the kernel program asks for the socket).
//! Invariants: checksums hold (`a_segment_turned_into_a_reset_keeps_a_valid_checksum`,
//! `an_answer_to_the_client_has_valid_checksums`).

use crate::segment::Segment;

/// A segment's third word and checksum, as they are written back to make it a reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InPlace {
    /// For [`OFFSET_AND_FLAGS_AT`] of the TCP header.
    pub offset_and_flags: [u8; 2],
    /// For [`CHECKSUM_AT`] of the TCP header.
    pub checksum: [u8; 2],
}

/// Position of data offset and flags in a TCP header (RFC 9293 §3.1).
pub const OFFSET_AND_FLAGS_AT: u32 = 12;
/// Position of the checksum in a TCP header (RFC 9293 §3.1).
pub const CHECKSUM_AT: u32 = 16;
/// The segment itself as a reset. Its sequence number is the next the socket waits for, so the reset is exact and
/// needs no challenge (RFC 5961 §3.2); the payload stays and is ignored.
#[must_use]
#[inline]
pub fn in_place(segment: &Segment) -> InPlace {
    let cleared = Segment::FIN | Segment::SYN | Segment::PSH | Segment::URG;
    let word = segment.offset_and_flags & !cleared | Segment::RST;
    // RFC 1624 §3, equation 3: HC' = ~(~HC + ~m + m'). A partial checksum does not cover the flags yet and is believed
    // by the receiving stack, so it may change too.
    let sum = u64::from(!segment.checksum) + u64::from(!segment.offset_and_flags) + u64::from(word);
    InPlace { offset_and_flags: word.to_be_bytes(), checksum: complement(sum).to_be_bytes() }
}

/// The IPv4 header of an answer to the client; `addresses` are source and destination of its segment.
#[must_use]
#[inline]
pub fn ipv4_header(addresses: [u8; 8]) -> [u8; 20] {
    let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
    // RFC 791 §3.1: no options, 40 bytes; RFC 6864 §4: identification means nothing with Don't Fragment.
    let header = [0x45, 0, 0, 40, 0, 0, 0x40, 0, HOP_LIMIT, TCP, 0, 0, d0, d1, d2, d3, s0, s1, s2, s3];
    let [c1, c0] = complement(sum(&header)).to_be_bytes();
    [0x45, 0, 0, 40, 0, 0, 0x40, 0, HOP_LIMIT, TCP, c1, c0, d0, d1, d2, d3, s0, s1, s2, s3]
}

/// What stands before the addresses in the IPv6 header of an answer to the client (RFC 8200 §3): no traffic class or
/// flow label, 20 bytes of payload.
pub const IPV6_HEADER_START: [u8; 8] = [0x60, 0, 0, 0, 0, 20, TCP, HOP_LIMIT];

/// The TCP header of an answer to the client; `addresses` are source and destination of its segment, in any order.
///
/// RFC 9293 §3.10.7.1: the reset takes its sequence number from the acknowledgment; without one it is zero and
/// acknowledges what the segment occupies.
#[must_use]
#[inline]
pub fn tcp_header<const N: usize>(segment: &Segment, addresses: &[u8; N]) -> [u8; 20] {
    let end = u32::from(segment.has(Segment::FIN));
    let (sequence, acknowledgment, flags) = if segment.has(Segment::ACK) {
        (segment.acknowledgment, 0, Segment::RST)
    } else {
        let acknowledgment = segment.sequence.wrapping_add(segment.payload_bytes).wrapping_add(end);
        (0, acknowledgment, Segment::RST | Segment::ACK)
    };
    let [s1, s0] = segment.destination_port.to_be_bytes();
    let [d1, d0] = segment.source_port.to_be_bytes();
    let [q3, q2, q1, q0] = sequence.to_be_bytes();
    let [a3, a2, a1, a0] = acknowledgment.to_be_bytes();
    let [f1, f0] = (FIVE_WORDS | flags).to_be_bytes();
    let header = [s1, s0, d1, d0, q3, q2, q1, q0, a3, a2, a1, a0, f1, f0, 0, 0, 0, 0, 0, 0];
    // RFC 9293 §3.1: the pseudo-header is both addresses, the protocol and the length.
    let [c1, c0] = complement(sum(&header) + sum(addresses) + u64::from(TCP) + 20).to_be_bytes();
    [s1, s0, d1, d0, q3, q2, q1, q0, a3, a2, a1, a0, f1, f0, 0, 0, c1, c0, 0, 0]
}

/// Sum of 16-bit words (RFC 1071 §1), not yet folded.
#[inline]
fn sum<const N: usize>(bytes: &[u8; N]) -> u64 {
    let (words, _) = bytes.as_chunks::<2>();
    words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum()
}

/// Folds a sum and takes its ones' complement (RFC 1071 §1).
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
fn complement(sum: u64) -> u16 {
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !(folded as u16)
}

const HOP_LIMIT: u8 = 64;
const TCP: u8 = 6;
const FIVE_WORDS: u16 = 5 << 12;

#[cfg(test)]
mod tests;
