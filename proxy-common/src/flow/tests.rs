extern crate std;

use std::collections::HashSet;
use std::vec::Vec;

use super::*;
use crate::client_hello::{HelloProgress, feed};
use crate::fixture::{Frame, Hello};

const NOW: u64 = 1_000_000_000_000;

fn flow(frame: &Frame) -> Flow {
    let bytes = frame.bytes();
    Flow::of(bytes.as_slice(), &Segment::find(bytes.as_slice()).unwrap()).unwrap()
}

fn entry(flow: Flow) -> FlowEntry {
    let mut entry = FlowEntry { flow, written_ns: NOW, start: 100, next: 300, ..FlowEntry::default() };
    entry.close();
    entry
}

#[test]
fn an_entry_is_read_by_its_own_flow_alone() {
    let plain = Frame::with(*b"payload");
    let entry = entry(flow(&plain));
    for (frame, place) in [
        (plain.clone(), Place::Next),
        (Frame { vlan_tags: [0x8100].into(), ipv4_option_words: 3, ..plain.clone() }, Place::Next),
        (Frame { source_port: 1, ..plain.clone() }, Place::Unknown),
        (Frame { port: 444, ..plain.clone() }, Place::Unknown),
        (Frame::ipv6(*b"payload"), Place::Unknown),
    ] {
        assert_eq!(entry.place(&flow(&frame), 300, NOW), place, "{frame:?}");
    }
    assert_eq!(FlowEntry::default().place(&Flow::default(), 0, 0), Place::Unknown, "an empty slot");
}

#[test]
fn a_segment_has_its_place_by_its_first_byte_alone() {
    let flow = flow(&Frame::with(*b"payload"));
    let entry = entry(flow);
    let late = NOW + REMEMBERED_NS;
    for (sequence, now_ns, place) in [
        (100, NOW, Place::Start),
        (300, NOW, Place::Next),
        (300, late, Place::Next),
        (101, NOW, Place::OutOfOrder),
        (99, NOW, Place::Elsewhere),
        (100 + (1 << 30), NOW, Place::Elsewhere),
        (299, NOW, Place::OutOfOrder),
        (301, NOW, Place::OutOfOrder),
        (300, late + 1, Place::NextExpired),
        (301, late + 1, Place::Expired),
        (100, late + 1, Place::Expired),
    ] {
        assert_eq!(entry.place(&flow, sequence, now_ns), place, "{sequence} at {now_ns}");
    }
    let mut charged = FlowEntry { next: 100, charged: 1, ..entry };
    charged.close();
    for (sequence, place) in [(100, Place::Start), (300, Place::Elsewhere)] {
        assert_eq!(charged.place(&flow, sequence, NOW), place, "{sequence}, nothing to be read on");
    }
}

/// Two entries of one flow, a walk in each, as 64-bit words.
fn two_entries() -> [FlowEntry; 2] {
    let hello = Hello::with("shop.example.com").bytes();
    let mut name = NameBuffer::new();
    [80, 120].map(|bytes| {
        let mut entry = entry(flow(&Frame::with(*b"payload")));
        assert_eq!(feed(&mut entry.state, &hello[..bytes], &mut name), HelloProgress::Incomplete);
        entry.next = 100 + u32::try_from(bytes).unwrap();
        entry.written_ns += bytes as u64;
        entry.close();
        entry
    })
}

#[test]
fn an_entry_torn_between_two_writes_is_none() {
    let [old, new] = two_entries();
    let torn = |tear: fn(&mut FlowEntry, &FlowEntry)| {
        let mut entry = old;
        tear(&mut entry, &new);
        entry.place(&old.flow, entry.next, NOW)
    };
    assert_eq!(torn(|_, _| {}), Place::Next, "whole");
    for (what, place) in [
        ("the state", torn(|entry, new| entry.state = new.state)),
        ("the position", torn(|entry, new| entry.next = new.next)),
        ("the time", torn(|entry, new| entry.written_ns = new.written_ns)),
        ("the seal", torn(|entry, new| entry.seal = new.seal)),
        ("all but the state", torn(|entry, new| *entry = FlowEntry { state: entry.state, ..*new })),
    ] {
        assert_eq!(place, Place::Unknown, "{what}");
    }
}

#[test]
fn a_cut_name_goes_with_its_entry_alone() {
    let [old, new] = two_entries();
    let (mut name, mut kept) = (NameBuffer::new(), CutName::default());
    name.bytes_mut()[..3].copy_from_slice(b"sho");
    kept.keep(&name, &old);
    let mut restored = NameBuffer::new();
    assert_eq!(kept.restore(&mut restored, &old), Some(()));
    assert_eq!(restored.name(3), b"sho");
    assert_eq!(kept.restore(&mut restored, &new), None);
    kept.words[31][7] ^= 1;
    assert_eq!(kept.restore(&mut restored, &old), None);
}

#[test]
fn flows_spread_over_the_slots() {
    for ipv6 in [false, true] {
        let ports: Vec<_> = (1024..=u16::MAX)
            .map(|source_port| {
                let frame = Frame { ipv6, source_port, ..Frame::with([]) };
                flow(&frame).slot()
            })
            .collect();
        let slots: HashSet<_> = ports.iter().map(|slot| slot.index).collect();
        // Of 64,512 flows in 65,536 slots, some 41,000 are met by chance.
        assert!(slots.len() > 35_000, "{} slots, IPv6: {ipv6}", slots.len());
        assert!(ports.iter().all(|slot| slot.tag != 0 && slot.index < SLOTS && slot.cut_name() < CUT_NAMES));
    }
}
