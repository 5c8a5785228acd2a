//! The packets of a connection as the guard is asked about it: a SYN, and the segment with the ClientHello. Checksums are left
//! out, for the guard does not look at them.

use std::net::{IpAddr, SocketAddr};

use proxy_common::segment::Segment;

/// An Ethernet frame with a TCP segment. Where the addresses are of two families, there is no such packet.
pub(super) fn frame(
    source: SocketAddr,
    destination: SocketAddr,
    flags: u16,
    payload: &[u8],
) -> Option<Vec<u8>> {
    let mut frame = vec![0; 12];
    let segment_bytes = u16::try_from(TCP_HEADER_BYTES + payload.len()).ok()?;
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend(segment_bytes.checked_add(20)?.to_be_bytes());
            frame.extend([0, 0, 0, 0, 64, TCP, 0, 0]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(segment_bytes.to_be_bytes());
            frame.extend([TCP, 64]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        _ => return None,
    }
    frame.extend(source.port().to_be_bytes());
    frame.extend(destination.port().to_be_bytes());
    // A SYN takes one sequence number (RFC 9293 §3.4), behind which data begins.
    let sequence = FIRST_SEQUENCE + u32::from(flags & Segment::SYN == 0);
    frame.extend(sequence.to_be_bytes());
    frame.extend([0; 4]);
    // RFC 9293 §3.1: the data offset, five words, stands above the control bits.
    frame.extend((5 << 12 | flags).to_be_bytes());
    frame.extend([0xff, 0xff, 0, 0, 0, 0]);
    frame.extend(payload);
    Some(frame)
}

/// A ClientHello for `name` in its record (RFC 8446 §4.1.2), with no extension but the name. Of a name longer than any there is none.
pub(super) fn hello(name: &[u8]) -> Option<Vec<u8>> {
    // RFC 6066 §3: a list of one name of type 0.
    let list = prefixed(&[&[0][..], &prefixed(name)?].concat())?;
    let extension = [&[0, 0][..], &prefixed(&list)?].concat();
    let version_random_and_session = [&[3, 3][..], &[0; 32], &[0]].concat();
    let ciphers_and_compression = [0, 2, 0x13, 1, 1, 0];
    let body = [version_random_and_session, ciphers_and_compression.to_vec(), prefixed(&extension)?].concat();
    let message = [&[1, 0][..], &prefixed(&body)?].concat();
    Some([&[22, 3, 1][..], &prefixed(&message)?].concat())
}

/// `bytes` behind their number in two bytes.
fn prefixed(bytes: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(bytes.len()).ok()?.to_be_bytes();
    Some([&length[..], bytes].concat())
}

const TCP: u8 = 6;
const TCP_HEADER_BYTES: usize = 20;
const FIRST_SEQUENCE: u32 = 1;
