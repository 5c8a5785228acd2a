extern crate std;

use std::vec::Vec;

use super::*;
use crate::fixture::{Frame, header_sum, tcp_checksum};
use crate::source::ByteSource;

fn frames() -> [Frame; 4] {
    let odd = Frame { tcp_option_words: 3, ..Frame::with(*b"odd") };
    [Frame::with(*b"even"), odd, Frame::ipv6(*b"even"), Frame { flags: Segment::PSH, ..Frame::ipv6(*b"x") }]
}

fn addresses(frame: &Frame) -> Vec<u8> {
    if frame.ipv6 {
        [Frame::CLIENT.1, Frame::SERVER.1].concat()
    } else {
        [Frame::CLIENT.0, Frame::SERVER.0].concat()
    }
}

/// The packet that resets the client, and the length of its IP header.
fn answer(frame: &Frame) -> (Vec<u8>, usize) {
    let bytes = frame.bytes();
    let segment = Segment::find(bytes.as_slice()).unwrap();
    if frame.ipv6 {
        let addresses: [u8; 32] = bytes.load(22).unwrap();
        let (source, destination) = addresses.split_at(16);
        let header = [&IPV6_HEADER_START, destination, source].concat();
        ([header, tcp_header(&segment, &addresses).to_vec()].concat(), 40)
    } else {
        let addresses = bytes.load(26).unwrap();
        ([ipv4_header(addresses), tcp_header(&segment, &addresses)].concat(), 20)
    }
}

#[test]
fn a_segment_turned_into_a_reset_keeps_a_valid_checksum() {
    for frame in frames() {
        let mut bytes = frame.bytes();
        let segment = Segment::find(bytes.as_slice()).unwrap();
        let reset = in_place(&segment);
        let transport = segment.transport_offset as usize;
        bytes[transport + 12..][..2].copy_from_slice(&reset.offset_and_flags);
        bytes[transport + 16..][..2].copy_from_slice(&reset.checksum);
        assert_eq!(tcp_checksum(&addresses(&frame), &bytes[transport..]), 0, "{frame:?}");
        let seen = Segment::find(bytes.as_slice()).unwrap();
        assert!(seen.has(Segment::RST) && !seen.has(Segment::PSH | Segment::SYN | Segment::FIN), "{frame:?}");
        assert_eq!(seen.has(Segment::ACK), segment.has(Segment::ACK), "{frame:?}");
        assert_eq!(seen.payload_bytes, segment.payload_bytes, "{frame:?}");
    }
}

#[test]
fn an_answer_to_the_client_has_valid_checksums() {
    for frame in frames() {
        let bytes = frame.bytes();
        let (packet, headers) = answer(&frame);
        assert_eq!(tcp_checksum(&addresses(&frame), &packet[headers..]), 0, "{frame:?}");
        assert!(frame.ipv6 || header_sum(&packet[..20]) == 0xffff, "{frame:?}");
        let seen = Segment::find([&bytes[..14], &packet].concat().as_slice()).unwrap();
        assert_eq!((seen.source_port, seen.destination_port), (443, Frame::CLIENT.2));
        assert_eq!(seen.payload_bytes, 0);
    }
}

#[test]
fn the_reset_answers_the_acknowledgment_or_else_the_data() {
    let data = u32::try_from(b"data".len()).unwrap();
    for (flags, sequence, acknowledgment, control) in [
        (Segment::ACK | Segment::PSH, Frame::ACKNOWLEDGMENT, 0, Segment::RST),
        (Segment::ACK | Segment::FIN, Frame::ACKNOWLEDGMENT, 0, Segment::RST),
        (Segment::PSH, 0, Frame::SEQUENCE + data, Segment::RST | Segment::ACK),
        (Segment::FIN, 0, Frame::SEQUENCE + data + 1, Segment::RST | Segment::ACK),
    ] {
        let frame = Frame { flags, ..Frame::with(*b"data") };
        let bytes = frame.bytes();
        let (packet, _) = answer(&frame);
        let seen = Segment::find([&bytes[..14], &packet].concat().as_slice()).unwrap();
        assert_eq!((seen.sequence, seen.acknowledgment), (sequence, acknowledgment), "flags {flags:#x}");
        assert_eq!(seen.offset_and_flags & 0x3f, control, "flags {flags:#x}");
    }
}
