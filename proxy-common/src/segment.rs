//! From a frame to the TCP segment in it: Ethernet with at most two VLAN tags, IPv4 with options, IPv6 with at most four
//! extension headers, TCP with options.
//! Not here: what the payload says (`client_hello`), what becomes of the packet (`decide`).
//! Invariants: never panics and never reads a length it has not checked (`any_bytes_are_walked_without_a_panic`);
//! padding behind the datagram is not payload (`ethernet_padding_is_not_payload`).

use crate::maps::SourceAddress;
use crate::source::ByteSource;

/// A TCP segment and where it lies in its frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// IPv4 or IPv6.
    pub family: Family,
    /// Where the IP header begins.
    pub network_offset: u32,
    /// Where the TCP header begins.
    pub transport_offset: u32,
    /// Where the payload begins.
    pub payload_offset: u32,
    /// Payload in bytes.
    pub payload_bytes: u32,
    /// The sender's port.
    pub source_port: u16,
    /// The receiver's port.
    pub destination_port: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number, meaningful with [`Segment::ACK`].
    pub acknowledgment: u32,
    /// Data offset, reserved bits and control bits: bytes 12 and 13 of the header (RFC 9293 §3.1).
    pub offset_and_flags: u16,
    /// The checksum as received, perhaps a partial one.
    pub checksum: u16,
}

impl Segment {
    /// No more data from the sender.
    pub const FIN: u16 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u16 = 0x02;
    /// Reset the connection.
    pub const RST: u16 = 0x04;
    /// Push.
    pub const PSH: u16 = 0x08;
    /// The acknowledgment number counts.
    pub const ACK: u16 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u16 = 0x20;

    /// Finds the TCP segment in a frame.
    ///
    /// # Errors
    /// Says why there is none to be judged.
    #[inline]
    pub fn find<S: ByteSource + ?Sized>(frame: &S) -> Result<Self, Unjudged> {
        let datagram = Datagram::find(frame)?;
        if datagram.is_fragment { Err(Unjudged::Fragment) } else { Self::within(frame, &datagram) }
    }

    /// The TCP segment that a datagram holds.
    ///
    /// # Errors
    /// Says why there is none to be judged.
    #[inline]
    pub fn within<S: ByteSource + ?Sized>(frame: &S, datagram: &Datagram) -> Result<Self, Unjudged> {
        walk_tcp(frame, datagram).ok_or(Unjudged::Unparsed)
    }

    /// Whether any of `flags` is set.
    #[must_use]
    #[inline]
    pub const fn has(&self, flags: u16) -> bool {
        self.offset_and_flags & flags != 0
    }
}

/// Version of the Internet protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// RFC 791
    Ipv4,
    /// RFC 8200
    Ipv6,
}

/// Why a frame has no segment to be judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unjudged {
    /// Another protocol.
    NotTcp,
    /// A fragment that is not the first: its ports are in another packet.
    Fragment,
    /// More headers than are walked, a header that contradicts itself, or a frame cut short.
    Unparsed,
}

/// An IP datagram that holds TCP, or the first fragment of one: where it begins and ends in the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Datagram {
    /// IPv4 or IPv6.
    pub family: Family,
    /// Whether it is a fragment, whose segment is judged by nobody here: it may end anywhere behind the ports.
    pub is_fragment: bool,
    network_offset: u32,
    content: u32,
    end: u32,
}

impl Datagram {
    /// Finds the datagram in a frame.
    ///
    /// # Errors
    /// Says why there is none whose segment could be judged.
    #[inline]
    pub fn find<S: ByteSource + ?Sized>(frame: &S) -> Result<Self, Unjudged> {
        let (protocol, network_offset) = skip_ethernet(frame)?;
        match protocol {
            IPV4 => walk_ipv4(frame, network_offset),
            IPV6 => walk_ipv6(frame, network_offset),
            _ => Err(Unjudged::NotTcp),
        }
    }

    /// The receiver's port.
    ///
    /// # Errors
    /// The datagram ends before it.
    #[inline]
    pub fn destination_port<S: ByteSource + ?Sized>(&self, frame: &S) -> Result<u16, Unjudged> {
        let offset = self.content + 2;
        let inside = offset + 2 <= self.end;
        if inside { frame.load_u16(offset).ok_or(Unjudged::Unparsed) } else { Err(Unjudged::Unparsed) }
    }

    /// The sender's address; none when the frame ends before it.
    #[inline]
    pub fn source<S: ByteSource + ?Sized>(&self, frame: &S) -> Option<SourceAddress> {
        let at = self.network_offset;
        match self.family {
            Family::Ipv4 => frame.load_u32(at + IPV4_SOURCE_AT).map(SourceAddress::ipv4),
            Family::Ipv6 => {
                let high = frame.load_u64(at + IPV6_SOURCE_AT)?;
                let low = frame.load_u64(at + IPV6_SOURCE_AT + 8)?;
                Some(SourceAddress::ipv6(u128::from(high) << 64 | u128::from(low)))
            }
        }
    }
}

#[inline]
fn skip_ethernet<S: ByteSource + ?Sized>(frame: &S) -> Result<(u16, u32), Unjudged> {
    let load = |offset| frame.load_u16(offset).ok_or(Unjudged::Unparsed);
    let mut protocol = load(ETHERTYPE_OFFSET)?;
    let mut offset = ETHERNET_BYTES;
    for _ in 0..MAX_VLAN_TAGS {
        if !is_vlan(protocol) {
            break;
        }
        protocol = load(offset + 2)?;
        offset += VLAN_TAG_BYTES;
    }
    if is_vlan(protocol) { Err(Unjudged::Unparsed) } else { Ok((protocol, offset)) }
}

#[inline]
fn walk_ipv4<S: ByteSource + ?Sized>(frame: &S, offset: u32) -> Result<Datagram, Unjudged> {
    let start = frame.load_u64(offset).ok_or(Unjudged::Unparsed)?;
    let time_and_protocol = frame.load_u16(offset + 8).ok_or(Unjudged::Unparsed)?;
    let [version_and_words, _, total_high, total_low, _, _, fragment_high, fragment_low] =
        start.to_be_bytes();
    // RFC 791 §3.1: the length of the header is in words, the least is five.
    let header_bytes = 4 * u32::from(version_and_words & 0xf);
    let total = u32::from(u16::from_be_bytes([total_high, total_low]));
    let end = offset + total;
    if version_and_words >> 4 != 4 || header_bytes < 20 || total < header_bytes || !frame.reaches(end) {
        return Err(Unjudged::Unparsed);
    }
    if time_and_protocol.to_be_bytes()[1] != TCP {
        return Err(Unjudged::NotTcp);
    }
    // RFC 791 §3.1: Don't Fragment, More Fragments, and the offset in thirteen bits; the first fragment has none, and at least eight bytes.
    let fragment = u16::from_be_bytes([fragment_high, fragment_low]);
    if fragment & 0x1fff != 0 {
        return Err(Unjudged::Fragment);
    }
    let is_fragment = fragment & 0x2000 != 0;
    Ok(Datagram {
        family: Family::Ipv4,
        is_fragment,
        network_offset: offset,
        content: offset + header_bytes,
        end,
    })
}

#[inline]
fn walk_ipv6<S: ByteSource + ?Sized>(frame: &S, offset: u32) -> Result<Datagram, Unjudged> {
    let start = frame.load_u64(offset).ok_or(Unjudged::Unparsed)?;
    let [version, _, _, _, length_high, length_low, mut next, _] = start.to_be_bytes();
    let mut content = offset + IPV6_BYTES;
    let end = content + u32::from(u16::from_be_bytes([length_high, length_low]));
    let mut is_fragment = false;
    if version >> 4 != 6 || !frame.reaches(end) {
        return Err(Unjudged::Unparsed);
    }
    for _ in 0..MAX_EXTENSION_HEADERS {
        if !is_extension_header(next) {
            break;
        }
        let [following, length] = frame.load_u16(content).ok_or(Unjudged::Unparsed)?.to_be_bytes();
        // RFC 8200 §4.3: in units of 8 bytes, not counting the first; RFC 4302 §2.2: in units of 4, less two.
        content += match next {
            // RFC 8200 §4.5: the offset is above three bits; an atomic fragment (RFC 6946) is left to the kernel like any other.
            FRAGMENT if frame.load_u16(content + 2).ok_or(Unjudged::Unparsed)? >> 3 != 0 => {
                return Err(Unjudged::Fragment);
            }
            FRAGMENT => {
                is_fragment = true;
                8
            }
            AUTHENTICATION => 4 * (u32::from(length) + 2),
            _ => 8 * (u32::from(length) + 1),
        };
        next = following;
    }
    match next {
        TCP => Ok(Datagram { family: Family::Ipv6, is_fragment, network_offset: offset, content, end }),
        next if is_extension_header(next) => Err(Unjudged::Unparsed),
        _ => Err(Unjudged::NotTcp),
    }
}

/// None when the header contradicts itself or the datagram.
#[inline]
fn walk_tcp<S: ByteSource + ?Sized>(frame: &S, datagram: &Datagram) -> Option<Segment> {
    let offset = datagram.content;
    let ports = frame.load_u32(offset)?;
    let offset_and_flags = frame.load_u16(offset + 12)?;
    // RFC 9293 §3.1: the data offset is in words, the least is five.
    let header_bytes = 4 * u32::from(offset_and_flags >> 12);
    let payload_offset = offset + header_bytes;
    if header_bytes < 20 || payload_offset > datagram.end {
        return None;
    }
    let [s1, s0, d1, d0] = ports.to_be_bytes();
    Some(Segment {
        family: datagram.family,
        network_offset: datagram.network_offset,
        transport_offset: offset,
        payload_offset,
        payload_bytes: datagram.end - payload_offset,
        source_port: u16::from_be_bytes([s1, s0]),
        destination_port: u16::from_be_bytes([d1, d0]),
        sequence: frame.load_u32(offset + 4)?,
        acknowledgment: frame.load_u32(offset + 8)?,
        offset_and_flags,
        checksum: frame.load_u16(offset + 16)?,
    })
}

/// IEEE 802.1Q customer tag, 802.1ad service tag.
#[inline]
const fn is_vlan(protocol: u16) -> bool {
    matches!(protocol, 0x8100 | 0x88a8)
}

/// Those a TCP segment may stand behind: hop-by-hop options, routing, fragment, authentication, destination options,
/// mobility, host identity, shim6 (RFC 7045 §4, the registry it makes).
#[inline]
const fn is_extension_header(next: u8) -> bool {
    matches!(next, 0 | 43 | FRAGMENT | AUTHENTICATION | 60 | 135 | 139 | 140)
}

/// Most VLAN tags that are walked.
pub const MAX_VLAN_TAGS: u32 = 2;
/// Most IPv6 extension headers that are walked.
pub const MAX_EXTENSION_HEADERS: u32 = 4;

const ETHERTYPE_OFFSET: u32 = 12;
const ETHERNET_BYTES: u32 = 14;
const VLAN_TAG_BYTES: u32 = 4;
const IPV6_BYTES: u32 = 40;
/// RFC 791 §3.1
const IPV4_SOURCE_AT: u32 = 12;
/// RFC 8200 §3
const IPV6_SOURCE_AT: u32 = 8;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;

#[cfg(test)]
mod tests;
