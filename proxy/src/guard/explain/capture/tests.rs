use proxy_common::fixture::{Frame, Hello, fuzz::Corpus};

use super::*;
use crate::{
    config::Config,
    guard::explain::{GuardRules, Knowledge, KnowledgeOrigin, judge},
};

/// A pcap file of little-endian numbers, in microseconds.
pub(in crate::guard::explain) fn classic(link: u32, packets: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0];
    file.extend(link.to_le_bytes());
    for (micros, packet) in packets {
        file.extend((micros / 1_000_000).to_le_bytes());
        file.extend((micros % 1_000_000).to_le_bytes());
        file.extend([length(packet), length(packet)].concat());
        file.extend(packet);
    }
    file
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap().to_le_bytes()
}

/// A block of a pcapng file, padded.
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let padded = body.len().next_multiple_of(4);
    let total = u32::try_from(padded + 12).unwrap().to_le_bytes();
    let padding = vec![0; padded - body.len()];
    [&kind.to_le_bytes()[..], &total, body, &padding, &total].concat()
}

fn section() -> Vec<u8> {
    block(0x0a0d_0d0a, &[&[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0][..], &[0xff; 8]].concat())
}

fn interface(link: u16, options: &[u8]) -> Vec<u8> {
    block(1, &[&link.to_le_bytes()[..], &[0, 0, 0, 0, 4, 0], options].concat())
}

fn enhanced(interface: u32, time: u32, packet: &[u8]) -> Vec<u8> {
    let head = [interface.to_le_bytes(), [0; 4], time.to_le_bytes(), length(packet), length(packet)].concat();
    block(6, &[&head[..], packet].concat())
}

fn simple(packet: &[u8]) -> Vec<u8> {
    block(3, &[&length(packet)[..], packet].concat())
}

fn frames(file: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let packets = Capture::read(file).unwrap().packets();
    packets.map(|packet| packet.unwrap()).map(|packet| (packet.at_ns, packet.frame().into_owned())).collect()
}

fn hello() -> Vec<u8> {
    Frame::with(Hello::with("shop.example.com").bytes()).bytes()
}

#[test]
fn both_formats_give_the_packets_and_their_times() {
    let (frame, options) = (hello(), [9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
    let nanoseconds = interface(1, &options);
    let binary =
        interface(1, &[&[2, 0, 3, 0, b'e', b't', b'h', 0][..], &[9, 0, 1, 0, 0x80 | 1, 0, 0, 0]].concat());
    let other = block(0x0bad, b"passed over");
    for (what, file, expected) in [
        ("pcap", classic(1, &[(1_500_000, frame.clone())]), 1_500_000_000),
        ("microseconds", [section(), interface(1, &[]), other, enhanced(0, 7, &frame)].concat(), 7_000),
        ("nanoseconds", [section(), nanoseconds.clone(), enhanced(0, 7, &frame)].concat(), 7),
        (
            "halves of a second",
            [section(), nanoseconds, binary, enhanced(1, 3, &frame)].concat(),
            1_500_000_000,
        ),
        ("a simple packet", [section(), interface(1, &[]), simple(&frame)].concat(), 0),
    ] {
        assert_eq!(frames(&file), [(expected, frame.clone())], "{what}");
    }
}

#[test]
fn numbers_of_either_order_are_read() {
    let mut file = vec![0xa1, 0xb2, 0x3c, 0x4d, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 1];
    file.extend([0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 3, 7, 8, 9]);
    assert_eq!(frames(&file), [(1_000_000_002, vec![7, 8, 9])]);
}

#[test]
fn what_stands_before_the_ip_header_is_taken_off() {
    let frame = hello();
    let (header, datagram) = frame.split_at(14);
    let expected = [&[0; 12][..], &header[12..], datagram].concat();
    let cooked = [&[0; 14][..], &[0x08, 0], datagram].concat();
    let cooked_too = [&[0x08, 0][..], &[0; 18], datagram].concat();
    for (link, packet) in [
        (101, datagram.to_vec()),
        (228, datagram.to_vec()),
        (0, [&[2, 0, 0, 0][..], datagram].concat()),
        (113, cooked),
        (276, cooked_too),
    ] {
        assert_eq!(frames(&classic(link, &[(0, packet)])), [(0, expected.clone())], "link type {link}");
    }
    for (link, packet) in [(101, vec![]), (101, vec![0xff]), (113, vec![0; 15]), (276, vec![])] {
        assert_eq!(frames(&classic(link, &[(0, packet)])), [(0, vec![])], "link type {link}: cut short");
    }
}

#[test]
fn what_is_no_capture_is_refused_with_a_remedy() {
    let short = block(0x0a0d_0d0a, &[0; 16]);
    let unknown = [section(), enhanced(0, 0, &hello())].concat();
    let odd = [section(), vec![6, 0, 0, 0, 13, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    let cut = [section(), interface(1, &[]), block(6, &[0; 8])].concat();
    let many = [section(), interface(1, &[]).repeat(1001)].concat();
    for (file, told) in [
        (vec![], "begins neither like pcap nor like pcapng; write one with `tcpdump -w FILE`"),
        (b"GET / HTTP/1.1\r\n".to_vec(), "begins neither"),
        (classic(1, &[])[..23].to_vec(), "begins neither"),
        (classic(127, &[]), "link type 127 are not read; capture on an Ethernet interface"),
        (short, "byte 0: a section has no byte-order magic"),
        (unknown, "byte 28: a packet of an interface that is not described"),
        (odd, "byte 28: the length of a block"),
        (cut, "byte 48: a block ends before what it holds"),
        (many, "more than a thousand interfaces"),
    ] {
        let refused = match Capture::read(&file) {
            Ok(capture) => capture.packets().find_map(Result::err).unwrap(),
            Err(error) => error,
        };
        assert!(refused.to_string().contains(told), "{refused}, not {told}");
    }
}

#[test]
fn a_file_that_ends_within_a_packet_gives_those_before() {
    let file = classic(1, &[(0, vec![1]), (1, vec![2])]);
    let next = [section(), interface(1, &[]), enhanced(0, 0, &[1, 2, 3, 4]), enhanced(0, 1, &[2])].concat();
    for cut in 1..17 {
        assert_eq!(frames(&file[..file.len() - cut]).len(), 1, "without the last {cut} bytes");
        assert_eq!(frames(&next[..next.len() - cut]).len(), 1, "without the last {cut} bytes");
    }
}

#[test]
fn a_mutated_corpus_of_captures_is_read_or_refused() {
    let knowledge = Knowledge::new(KnowledgeOrigin::Settings, GuardRules::of_settings(&Config::default()));
    let frame = Frame { port: 8443, ..Frame::with(Hello::with("shop.example.com").bytes()) }.bytes();
    let next =
        [section(), interface(1, &[9, 0, 1, 0, 9, 0, 0, 0]), enhanced(0, 7, &frame), simple(&frame)].concat();
    let seeds =
        vec![classic(1, &[(0, frame.clone()), (9, frame.clone())]), classic(113, &[(0, frame)]), next];
    Corpus::of("capture", seeds).run(|file| {
        let Ok(capture) = Capture::read(file) else { return };
        if let Ok(report) = judge(&capture, &knowledge) {
            let most = u64::try_from(file.len() / RECORD_HEADER_BYTES).unwrap();
            assert!(report.packets <= most, "{} packets", report.packets);
        }
    });
}
