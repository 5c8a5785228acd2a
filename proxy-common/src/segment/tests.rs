extern crate std;

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::fixture::Frame;

fn find(frame: &Frame) -> Result<Segment, Unjudged> {
    Segment::find(frame.bytes().as_slice())
}

#[test]
fn headers_of_any_kind_lead_to_the_payload() {
    let plain = Frame::with(*b"payload");
    let ipv6 = Frame::ipv6(*b"payload");
    for frame in [
        plain.clone(),
        Frame { vlan_tags: vec![0x8100], ..plain.clone() },
        Frame { vlan_tags: vec![0x88a8, 0x8100], ..plain.clone() },
        Frame { ipv4_option_words: 10, ..plain.clone() },
        Frame { tcp_option_words: 10, ..plain.clone() },
        Frame { fragment: 0x4000, ..plain },
        ipv6.clone(),
        Frame { vlan_tags: vec![0x8100, 0x8100], ..ipv6.clone() },
        Frame { extension_headers: vec![0], ..ipv6.clone() },
        Frame { extension_headers: vec![0, 43, 60, 135], tcp_option_words: 3, ..ipv6 },
    ] {
        let segment = find(&frame).unwrap_or_else(|why| panic!("{why:?}: {frame:?}"));
        let bytes = frame.bytes();
        let payload = &bytes[segment.payload_offset as usize..][..segment.payload_bytes as usize];
        assert_eq!(payload, b"payload", "{frame:?}");
        assert_eq!((segment.source_port, segment.destination_port), (40000, 443), "{frame:?}");
        assert_eq!((segment.sequence, segment.acknowledgment), (Frame::SEQUENCE, Frame::ACKNOWLEDGMENT));
        assert!(segment.has(Segment::ACK) && !segment.has(Segment::SYN), "{frame:?}");
    }
}

#[test]
fn what_is_no_segment_says_why() {
    let plain = Frame::with(*b"payload");
    let ipv6 = Frame::ipv6(*b"payload");
    for (frame, why) in [
        (Frame { protocol: 17, ..plain.clone() }, Unjudged::NotTcp),
        (Frame { protocol: 17, ..ipv6.clone() }, Unjudged::NotTcp),
        (Frame { extension_headers: vec![0], protocol: 50, ..ipv6.clone() }, Unjudged::NotTcp),
        (Frame { fragment: 0x2000, ..plain.clone() }, Unjudged::Fragment),
        (Frame { fragment: 0x0001, ..plain.clone() }, Unjudged::Fragment),
        (Frame { extension_headers: vec![0, 44], ..ipv6.clone() }, Unjudged::Fragment),
        (Frame { vlan_tags: vec![0x8100; 3], ..plain }, Unjudged::Unparsed),
        (Frame { extension_headers: vec![0, 43, 60, 60, 60], ..ipv6 }, Unjudged::Unparsed),
    ] {
        assert_eq!(find(&frame), Err(why), "{frame:?}");
    }
}

#[test]
fn a_frame_cut_anywhere_in_its_headers_or_datagram_is_unparsed() {
    for frame in [Frame::with(*b"payload"), Frame::ipv6(*b"payload")] {
        let bytes = frame.bytes();
        for end in 0..bytes.len() {
            assert_eq!(Segment::find(&bytes[..end]), Err(Unjudged::Unparsed), "cut at {end}");
        }
    }
}

#[test]
fn lengths_that_contradict_are_unparsed() {
    // (byte, value): version 5, header of 16 bytes, datagram shorter than its header, data offset of 16 bytes,
    // data offset beyond the datagram
    for (at, value) in [(14, 0x55), (14, 0x44), (17, 19), (46, 0x40), (46, 0xf0)] {
        let mut bytes = Frame::with(*b"payload").bytes();
        bytes[at] = value;
        assert_eq!(Segment::find(bytes.as_slice()), Err(Unjudged::Unparsed), "byte {at} is {value:#x}");
    }
}

#[test]
fn ethernet_padding_is_not_payload() {
    for frame in [Frame::with([]), Frame::ipv6([])] {
        let padded = Frame { padding: 6, ..frame };
        assert_eq!(find(&padded).unwrap().payload_bytes, 0);
    }
}

mod properties {
    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_walked_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Segment::find(bytes.as_slice());
        }

        #[test]
        fn mutated_headers_never_lead_outside_the_frame(
            ipv6: bool, flips in proptest::collection::vec((0..100usize, any::<u8>()), 1..6),
        ) {
            let frame = Frame { vlan_tags: vec![0x8100], extension_headers: vec![0, 60], tcp_option_words: 2,
                ipv6, ..Frame::with(*b"payload") };
            let mut bytes: Vec<u8> = frame.bytes();
            for (at, value) in flips {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            if let Ok(segment) = Segment::find(bytes.as_slice()) {
                prop_assert!((segment.payload_offset + segment.payload_bytes) as usize <= bytes.len());
            }
        }
    }
}
