//! A capture of packets as `tcpdump -w` and Wireshark write it: pcap (draft-ietf-opsawg-pcap) or pcapng
//! (draft-ietf-opsawg-pcapng). What is read was written by strangers' packets, and the file by anybody.
//! Not here: what the packets lead to (`flows`).

use std::borrow::Cow;

mod next_generation;

use next_generation::Blocks;

/// A file of packets, of which the beginning has been understood.
#[derive(Clone)]
pub(crate) struct Capture<'a>(Packets<'a>);

/// Its packets, in the order of the file. An error is the last.
#[derive(Clone)]
pub(super) enum Packets<'a> {
    Classic(Records<'a>),
    NextGeneration(Blocks<'a>),
}

/// A packet of a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    /// When it was captured: nanoseconds since an instant that is the same for the whole file.
    pub(super) at_ns: u64,
    link: Link,
    bytes: &'a [u8],
}

/// Why a file is no capture that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CaptureError {
    /// Another format.
    #[error("it begins neither like pcap nor like pcapng; write one with `tcpdump -w FILE`")]
    Format,
    /// Packets of a kind of network that is not read.
    #[error(
        "packets of link type {0} are not read; capture on an Ethernet interface or on `any` (link types 1, 0, 101, 108, 113, 228, 229, 276)"
    )]
    Link(u32),
    /// Lengths that contradict each other.
    #[error("byte {at}: {what}; write the file again, as with `tcpdump -r FILE -w NEW`")]
    Malformed {
        /// Where.
        at: usize,
        /// What.
        what: &'static str,
    },
}

/// What stands before the IP header (<https://www.tcpdump.org/linktypes.html>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// Ethernet's header.
    Ethernet,
    /// This many bytes, and the version of IP tells itself.
    Ip { behind: usize },
    /// Linux' "cooked" headers, with the `EtherType` at `protocol`.
    Cooked { protocol: usize, behind: usize },
}

impl<'a> Capture<'a> {
    /// Understands how `bytes` begin.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, CaptureError> {
        if next_generation::begins(bytes) {
            return Ok(Self(Packets::NextGeneration(Blocks::new(bytes))));
        }
        Records::read(bytes).map(Packets::Classic).map(Self)
    }

    pub(super) fn packets(&self) -> Packets<'a> {
        self.0.clone()
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Classic(records) => records.next().map(Ok),
            Self::NextGeneration(blocks) => blocks.next(),
        }
    }
}

impl<'a> Packet<'a> {
    /// As an Ethernet frame, which the guard reads.
    pub(super) fn frame(&self) -> Cow<'a, [u8]> {
        let (protocol, behind) = match self.link {
            Link::Ethernet => return Cow::Borrowed(self.bytes),
            Link::Ip { behind } => (self.bytes.get(behind).and_then(|first| ethertype(*first)), behind),
            Link::Cooked { protocol, behind } => (two_bytes(self.bytes, protocol), behind),
        };
        let (Some(protocol), Some(datagram)) = (protocol, self.bytes.get(behind..)) else {
            return Cow::Borrowed(&[]);
        };
        Cow::Owned([&[0; 12][..], &protocol, datagram].concat())
    }
}

/// RFC 791 §3.1, RFC 8200 §3: the version stands in the first four bits of both.
fn ethertype(first: u8) -> Option<[u8; 2]> {
    match first >> 4 {
        4 => Some([0x08, 0x00]),
        6 => Some([0x86, 0xdd]),
        _ => None,
    }
}

fn two_bytes(bytes: &[u8], at: usize) -> Option<[u8; 2]> {
    bytes.get(at..)?.first_chunk().copied()
}

impl Link {
    fn of(number: u32) -> Result<Self, CaptureError> {
        match number {
            1 => Ok(Self::Ethernet),
            // LINKTYPE_NULL and LINKTYPE_LOOP: four bytes whose order is the capturing machine's.
            0 | 108 => Ok(Self::Ip { behind: 4 }),
            // LINKTYPE_RAW, and what OpenBSD and others write for it; LINKTYPE_IPV4, LINKTYPE_IPV6.
            12 | 14 | 101 | 228 | 229 => Ok(Self::Ip { behind: 0 }),
            113 => Ok(Self::Cooked { protocol: 14, behind: 16 }),
            276 => Ok(Self::Cooked { protocol: 0, behind: 20 }),
            other => Err(CaptureError::Link(other)),
        }
    }
}

/// The order of bytes in a file's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        })
    }

    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = two_bytes(bytes, at)?;
        Some(match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        })
    }

    /// A length, which no file has that is larger than memory.
    fn length(self, bytes: &[u8], at: usize) -> Option<usize> {
        self.u32(bytes, at).map(|length| usize::try_from(length).unwrap_or(usize::MAX))
    }
}

/// The records of a pcap file.
#[derive(Clone)]
pub(super) struct Records<'a> {
    rest: &'a [u8],
    order: ByteOrder,
    /// Nanoseconds in a unit of the second number of a time.
    unit_ns: u64,
    link: Link,
}

impl<'a> Records<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, CaptureError> {
        let (order, unit_ns) = match bytes.first_chunk::<4>() {
            Some([0xd4, 0xc3, 0xb2, 0xa1]) => (ByteOrder::Little, 1_000),
            Some([0xa1, 0xb2, 0xc3, 0xd4]) => (ByteOrder::Big, 1_000),
            Some([0x4d, 0x3c, 0xb2, 0xa1]) => (ByteOrder::Little, 1),
            Some([0xa1, 0xb2, 0x3c, 0x4d]) => (ByteOrder::Big, 1),
            _ => return Err(CaptureError::Format),
        };
        let rest = bytes.get(CLASSIC_HEADER_BYTES..).ok_or(CaptureError::Format)?;
        let link = order.u32(bytes, 20).ok_or(CaptureError::Format)?;
        // The upper bits say how long the frames' check sequence is.
        Ok(Self { rest, order, unit_ns, link: Link::of(link & 0xffff)? })
    }

    /// The next packet; none where the file ends, be it within one, as when its writer was killed.
    fn next(&mut self) -> Option<Packet<'a>> {
        let seconds = u64::from(self.order.u32(self.rest, 0)?);
        let part = u64::from(self.order.u32(self.rest, 4)?);
        let end = self.order.length(self.rest, 8)?.checked_add(RECORD_HEADER_BYTES)?;
        let bytes = self.rest.get(RECORD_HEADER_BYTES..end)?;
        self.rest = self.rest.get(end..)?;
        let at_ns = (seconds * 1_000_000_000).saturating_add(part.saturating_mul(self.unit_ns));
        Some(Packet { at_ns, link: self.link, bytes })
    }
}

const CLASSIC_HEADER_BYTES: usize = 24;
const RECORD_HEADER_BYTES: usize = 16;

#[cfg(test)]
pub(super) mod tests;
