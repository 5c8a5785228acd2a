//! Frames and hellos as tests and benchmarks send them, byte by byte, so that they can also be wrong.
//! Not here: what they ought to lead to.

#[expect(clippy::panic, clippy::indexing_slicing, reason = "for tests alone, which fail by a panic")]
pub mod fuzz;
pub mod model;
#[expect(clippy::panic, clippy::indexing_slicing, reason = "for tests alone, which fail by a panic")]
pub mod segments;

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;

use crate::segment::Segment;

/// An Ethernet frame with a TCP segment, from a client at port 40000 to a server at port 443.
#[derive(Clone, Debug)]
pub struct Frame {
    /// IPv6 instead of IPv4.
    pub ipv6: bool,
    /// Ethertype of each VLAN tag.
    pub vlan_tags: Vec<u16>,
    /// Words of IPv4 options.
    pub ipv4_option_words: u8,
    /// Protocol numbers of IPv6 extension headers; each is eight bytes long.
    pub extension_headers: Vec<u8>,
    /// Flags and offset of an IPv4 fragment.
    pub fragment: u16,
    /// The protocol in the IP header.
    pub protocol: u8,
    /// Words of TCP options.
    pub tcp_option_words: u8,
    /// TCP flags.
    pub flags: u16,
    /// The last byte of the client's address.
    pub client: u8,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub port: u16,
    /// Sequence number.
    pub sequence: u32,
    /// TCP payload.
    pub payload: Vec<u8>,
    /// Bytes behind the datagram.
    pub padding: usize,
}

impl Frame {
    /// The client's addresses and port.
    pub const CLIENT: ([u8; 4], [u8; 16], u16) =
        ([192, 0, 2, 1], [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 40000);
    /// The server's addresses.
    pub const SERVER: ([u8; 4], [u8; 16]) =
        ([192, 0, 2, 2], [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    /// The first sequence number of a client's data.
    pub const SEQUENCE: u32 = 0x1000_0001;
    /// The segment's acknowledgment number.
    pub const ACKNOWLEDGMENT: u32 = 0x2000_0002;

    /// A plain data segment over IPv4.
    #[must_use]
    pub fn with(payload: impl Into<Vec<u8>>) -> Self {
        Self {
            ipv6: false,
            vlan_tags: Vec::new(),
            ipv4_option_words: 0,
            extension_headers: Vec::new(),
            fragment: 0,
            protocol: TCP,
            tcp_option_words: 0,
            flags: Segment::ACK | Segment::PSH,
            client: 1,
            source_port: Self::CLIENT.2,
            port: 443,
            sequence: Self::SEQUENCE,
            payload: payload.into(),
            padding: 0,
        }
    }

    /// A plain data segment over IPv6.
    #[must_use]
    pub fn ipv6(payload: impl Into<Vec<u8>>) -> Self {
        Self { ipv6: true, ..Self::with(payload) }
    }

    /// The frame's bytes, checksums included.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        for (tag, number) in self.vlan_tags.iter().zip(100u16..) {
            bytes.extend(tag.to_be_bytes());
            bytes.extend(number.to_be_bytes());
        }
        let segment = self.segment();
        if self.ipv6 {
            self.push_ipv6(&mut bytes, &segment);
        } else {
            self.push_ipv4(&mut bytes, &segment);
        }
        bytes.extend(segment);
        bytes.extend(vec![0xee; self.padding]);
        bytes
    }

    const fn ipv4_client(&self) -> [u8; 4] {
        let [a, b, c, _] = Self::CLIENT.0;
        [a, b, c, self.client]
    }

    const fn ipv6_client(&self) -> [u8; 16] {
        (u128::from_be_bytes(Self::CLIENT.1) & !0xff | self.client as u128).to_be_bytes()
    }

    fn segment(&self) -> Vec<u8> {
        let words = 5 + u16::from(self.tcp_option_words);
        let mut bytes = Vec::new();
        bytes.extend(self.source_port.to_be_bytes());
        bytes.extend(self.port.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(Self::ACKNOWLEDGMENT.to_be_bytes());
        bytes.extend((words << 12 | self.flags).to_be_bytes());
        bytes.extend([0xff, 0xff, 0, 0, 0, 0]);
        bytes.extend(vec![1; 4 * usize::from(self.tcp_option_words)]);
        bytes.extend(&self.payload);
        let addresses = if self.ipv6 {
            [self.ipv6_client(), Self::SERVER.1].concat()
        } else {
            [self.ipv4_client(), Self::SERVER.0].concat()
        };
        let checksum = tcp_checksum(&addresses, &bytes);
        bytes.splice(16..18, checksum.to_be_bytes());
        bytes
    }

    fn push_ipv4(&self, bytes: &mut Vec<u8>, segment: &[u8]) {
        let mut header = vec![0x45 + self.ipv4_option_words, 0];
        header.extend(length(20 + 4 * usize::from(self.ipv4_option_words) + segment.len()));
        header.extend([0, 1]);
        header.extend(self.fragment.to_be_bytes());
        header.extend([64, self.protocol, 0, 0]);
        header.extend(self.ipv4_client());
        header.extend(Self::SERVER.0);
        header.extend(vec![1; 4 * usize::from(self.ipv4_option_words)]);
        let checksum = !fold(&header, 0);
        header.splice(10..12, checksum.to_be_bytes());
        bytes.extend([0x08, 0]);
        bytes.extend(header);
    }

    fn push_ipv6(&self, bytes: &mut Vec<u8>, segment: &[u8]) {
        let chain: Vec<u8> = self.extension_headers.iter().copied().chain([self.protocol]).collect();
        bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        bytes.extend(length(8 * self.extension_headers.len() + segment.len()));
        bytes.extend([chain.first().copied().unwrap_or(TCP), 64]);
        bytes.extend(self.ipv6_client());
        bytes.extend(Self::SERVER.1);
        for (header, next) in chain.iter().zip(chain.iter().skip(1)) {
            // The first and only fragment (RFC 6946), or padding of four bytes (RFC 8200 §4.2); a length of zero is eight bytes.
            let [kind, length] = if *header == FRAGMENT { [0, 0] } else { [1, 4] };
            bytes.extend([*next, 0, kind, length, 0, 0, 0, 0]);
        }
    }
}

/// A ClientHello as TLS 1.3 clients send it.
#[derive(Clone, Debug)]
pub struct Hello {
    /// The server name; none leaves the extension out.
    pub name: Option<Vec<u8>>,
    /// Bytes of the key share: 32 for X25519, 1216 with ML-KEM-768.
    pub key_share_bytes: usize,
    /// Extensions before that of the name, apart from the key share.
    pub extensions_before: usize,
    /// Whether the key share comes before the name.
    pub key_share_first: bool,
    /// Most bytes of a TLS record.
    pub record_bytes: usize,
}

impl Hello {
    /// A hello for a name, with a classical key share.
    #[must_use]
    pub fn with(name: impl AsRef<[u8]>) -> Self {
        Self { name: Some(name.as_ref().to_vec()), ..Self::nameless() }
    }

    /// A hello without `server_name`.
    #[must_use]
    pub const fn nameless() -> Self {
        Self {
            name: None,
            key_share_bytes: 32,
            extensions_before: 3,
            key_share_first: false,
            record_bytes: 1 << 14,
        }
    }

    /// The hello in its records.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for fragment in self.message().chunks(self.record_bytes) {
            bytes.extend([22, 3, 1]);
            bytes.extend(length(fragment.len()));
            bytes.extend(fragment);
        }
        bytes
    }

    fn message(&self) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([0x5a; 32]);
        body.push(32);
        body.extend([0xa5; 32]);
        body.extend([0, 6, 0x13, 1, 0x13, 2, 0x13, 3, 1, 0]);
        let extensions = self.extensions();
        body.extend(length(extensions.len()));
        body.extend(extensions);
        let mut message = vec![1, 0];
        message.extend(length(body.len()));
        message.extend(body);
        message
    }

    fn extensions(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in (0x5a00u16..).take(self.extensions_before) {
            push_extension(&mut bytes, number, &[7; 6]);
        }
        let key_share = self.key_share();
        if self.key_share_first {
            push_extension(&mut bytes, 51, &key_share);
        }
        if let Some(name) = &self.name {
            push_extension(&mut bytes, 0, &name_list(name));
        }
        if !self.key_share_first {
            push_extension(&mut bytes, 51, &key_share);
        }
        push_extension(&mut bytes, 43, &[4, 3, 4, 3, 3]);
        bytes
    }

    fn key_share(&self) -> Vec<u8> {
        let mut bytes = length(self.key_share_bytes + 4).to_vec();
        bytes.extend([0x11, 0xec]);
        bytes.extend(length(self.key_share_bytes));
        bytes.extend(vec![0x33; self.key_share_bytes]);
        bytes
    }
}

/// The content of a `server_name` extension (RFC 6066 §3).
#[must_use]
pub fn name_list(name: &[u8]) -> Vec<u8> {
    let mut bytes = length(name.len() + 3).to_vec();
    bytes.push(0);
    bytes.extend(length(name.len()));
    bytes.extend(name);
    bytes
}

/// The checksum that a TCP segment should carry where it now carries zero; 0 for one that carries the right one.
#[must_use]
pub fn tcp_checksum(addresses: &[u8], segment: &[u8]) -> u16 {
    !fold(
        segment,
        fold(addresses, u32::from(TCP) + u32::from(u16::from_be_bytes(length(segment.len())))).into(),
    )
}

/// The ones' complement sum of a header: `0xffff` when its checksum is right.
#[must_use]
pub fn header_sum(header: &[u8]) -> u16 {
    fold(header, 0)
}

fn push_extension(bytes: &mut Vec<u8>, kind: u16, content: &[u8]) {
    bytes.extend(kind.to_be_bytes());
    bytes.extend(length(content.len()));
    bytes.extend(content);
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}

fn fold(bytes: &[u8], start: u32) -> u16 {
    let sum = bytes.chunks(2).fold(start, |sum, pair| {
        let high = pair.first().copied().unwrap_or_default();
        let low = pair.get(1).copied().unwrap_or_default();
        let sum = sum + u32::from(u16::from_be_bytes([high, low]));
        (sum & 0xffff) + (sum >> 16)
    });
    u16::try_from(sum).unwrap_or(u16::MAX)
}

/// RFC 8200 §4.5
const FRAGMENT: u8 = 44;
const TCP: u8 = 6;
