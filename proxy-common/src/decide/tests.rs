extern crate std;

use std::collections::HashMap;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::fixture::model::{KEY, Model, NOW};
use crate::fixture::segments::pieces;
use crate::fixture::{Frame, Hello};
use crate::name_hash::exact;

fn judged(frame: &Frame, tables: &Model) -> Result<Verdict, RejectCause> {
    match decide(frame.bytes().as_slice(), tables, &mut Scratch::new()) {
        Decision::Pass(verdict) | Decision::Drop(verdict) => Ok(verdict),
        Decision::Reject(cause, _) => Err(cause),
    }
}

fn hello(name: &str) -> Frame {
    Frame::with(Hello::with(name).bytes())
}

fn with_mode(mode: Mode) -> Model {
    let tables = Model::default();
    Model { settings: GuardSettings { mode: mode as u32, ..tables.settings }, ..tables }
}

#[test]
fn a_denied_source_is_dropped_before_anything_else() {
    let every = PortEntry::HELLO_IPV4.and(PortEntry::HELLO_IPV6).and(PortEntry::DENY);
    let ipv4 = |bits| (SourceAddress::ipv4(0xc000_0200), SourceAddress::FAMILY_BITS + bits, SourceRule::Deny);
    let ipv6 =
        |bits| (SourceAddress::ipv6(0x2001_0db8 << 96), SourceAddress::FAMILY_BITS + bits, SourceRule::Deny);
    let denying = |network| Model {
        ports: HashMap::from([(443, every), (80, PortEntry::DENY), (444, PortEntry::HELLO_IPV4)]),
        source_networks: vec![network],
        ..Model::default()
    };
    let allowed = hello("shop.example.com");
    let allowed_ipv6 = Frame { ipv6: true, ..allowed.clone() };
    let syn = Frame { flags: Segment::SYN, ..Frame::with([]) };
    let (dropped, passed) = (Verdict::DropDeniedSource, Verdict::PassDeniedSource);
    let observing = Model { settings: with_mode(Mode::Observe).settings, ..denying(ipv4(24)) };
    for (what, tables, frame, verdict) in [
        ("an allowed name", denying(ipv4(24)), allowed.clone(), dropped),
        ("a SYN", denying(ipv4(24)), syn.clone(), dropped),
        ("a SYN to 80", denying(ipv4(24)), Frame { port: 80, ..syn.clone() }, dropped),
        ("no payload", denying(ipv4(24)), Frame::with([]), dropped),
        ("a port that does not ask", denying(ipv4(24)), Frame { port: 444, ..syn.clone() }, Verdict::PassSyn),
        ("another port", denying(ipv4(24)), Frame { port: 22, ..syn.clone() }, Verdict::PassUnguarded),
        ("every IPv4 address", denying(ipv4(0)), allowed.clone(), dropped),
        ("this address, .0", denying(ipv4(32)), Frame { client: 0, ..allowed.clone() }, dropped),
        ("its neighbour, .1", denying(ipv4(32)), allowed.clone(), Verdict::PassAllowed),
        ("over IPv6", denying(ipv6(48)), allowed_ipv6.clone(), dropped),
        ("IPv4 in every IPv6 network", denying(ipv6(0)), allowed.clone(), Verdict::PassAllowed),
        ("IPv6 in every IPv4 network", denying(ipv4(0)), allowed_ipv6, Verdict::PassAllowed),
        ("observed", observing, allowed.clone(), passed),
        ("unenforced", Model { enforce_until_ns: NOW, ..denying(ipv4(24)) }, allowed, passed),
    ] {
        assert_eq!(judged(&frame, &tables), Ok(verdict), "{what}");
    }
}

#[test]
fn the_rule_of_the_smallest_network_holds() {
    let network = |bits, rule| (SourceAddress::ipv4(0xc000_0200), SourceAddress::FAMILY_BITS + bits, rule);
    let tables = |source_networks| Model {
        ports: HashMap::from([(443, PortEntry::HELLO_IPV4.and(PortEntry::DENY))]),
        source_networks,
        ..Model::default()
    };
    let (deny, exempt) = (SourceRule::Deny, SourceRule::Exempt);
    for (networks, verdict) in [
        (vec![network(16, deny), network(24, exempt)], Verdict::PassAllowed),
        (vec![network(16, exempt), network(24, deny)], Verdict::DropDeniedSource),
        (vec![network(16, deny), network(32, exempt)], Verdict::DropDeniedSource),
    ] {
        assert_eq!(
            judged(&hello("shop.example.com"), &tables(networks.clone())),
            Ok(verdict),
            "{networks:?}"
        );
    }
}

#[test]
fn a_source_has_its_budget_of_syns_and_no_other_pays_for_it() {
    let limits =
        |settings| GuardSettings { syns_per_source_per_second: 1, syns_per_source_burst: 2, ..settings };
    let tables = |mode| Model {
        settings: limits(with_mode(mode).settings),
        source_networks: vec![(
            SourceAddress::ipv4(0xc000_02c0),
            SourceAddress::FAMILY_BITS + 28,
            SourceRule::Exempt,
        )],
        ..Model::default()
    };
    let syn = |client| Frame { flags: Segment::SYN, client, ..Frame::with([]) };
    let (passed, dropped) = (Ok(Verdict::PassSyn), Ok(Verdict::DropSynExcess));
    let mut strict = tables(Mode::Strict);
    let ipv6 = |client| Frame { ipv6: true, ..syn(client) };
    for (what, frame, verdict) in [
        ("the first", syn(1), passed),
        ("to another port", Frame { port: 80, ..syn(1) }, passed),
        ("the third", syn(1), dropped),
        ("to another port", Frame { port: 80, ..syn(1) }, dropped),
        ("what is not guarded", Frame { port: 22, ..syn(1) }, Ok(Verdict::PassUnguarded)),
        ("no SYN", Frame { client: 1, ..Frame::with([]) }, Ok(Verdict::PassNoHello)),
        ("an allowed name", Frame { client: 1, ..hello("shop.example.com") }, Ok(Verdict::PassAllowed)),
        ("its neighbour", syn(2), passed),
        ("over IPv6", ipv6(1), passed),
        ("the same /64", ipv6(2), passed),
        ("the same /64", ipv6(3), dropped),
    ] {
        assert_eq!(judged(&frame, &strict), verdict, "{what}");
    }
    for _ in 0..9 {
        assert_eq!(judged(&syn(0xc0), &strict), passed, "exempt");
    }
    strict.pass_time(1_000_000_000);
    assert_eq!([judged(&syn(1), &strict), judged(&syn(1), &strict)], [passed, dropped], "a second later");
    let (observing, mut unenforced) = (tables(Mode::Observe), tables(Mode::Strict));
    unenforced.enforce_until_ns = NOW;
    for tables in [observing, unenforced] {
        let seen: Vec<_> = (0..3).map(|_| judged(&syn(1), &tables)).collect();
        assert_eq!(seen, [passed, passed, Ok(Verdict::PassSynExcess)]);
    }
}

#[test]
fn what_cannot_be_judged_passes() {
    let plain = hello("foreign.example");
    let bytes = Hello::with("foreign.example").bytes();
    // A load balancer's PROXY header may share a segment with what follows it; in a segment of its own it is no hello either.
    let header = b"PROXY TCP4 198.51.100.7 192.0.2.1 56324 443\r\n";
    let binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc6\x33\x64\x07\xc0\0\x02\x01\xdc\x04\x01\xbb";
    let many = Hello { extensions_before: 60, ..Hello::with("foreign.example") }.bytes();
    for (frame, verdict) in [
        (Frame { protocol: 17, ..plain.clone() }, Verdict::PassUnguarded),
        (Frame { port: 8443, ..plain.clone() }, Verdict::PassUnguarded),
        (Frame { fragment: 0x2000, ..plain.clone() }, Verdict::PassFragment),
        (Frame { vlan_tags: vec![0x8100; 3], ..plain.clone() }, Verdict::PassUnparsed),
        (Frame { flags: Segment::SYN, ..plain.clone() }, Verdict::PassSyn),
        (Frame { flags: Segment::SYN, port: 80, ..Frame::with([]) }, Verdict::PassSyn),
        (Frame { port: 80, ..plain.clone() }, Verdict::PassNoHello),
        (Frame { flags: Segment::RST, ..plain }, Verdict::PassNoHello),
        (Frame::with([]), Verdict::PassNoHello),
        (Frame::with(*b"GET / HTTP/1.1\r\n"), Verdict::PassNoHello),
        (Frame::with(*header), Verdict::PassNoHello),
        (Frame::with([&header[..], &bytes].concat()), Verdict::PassNoHello),
        (Frame::with(*binary), Verdict::PassNoHello),
        (Frame::with([&binary[..], &bytes].concat()), Verdict::PassNoHello),
        (Frame::with(Hello::nameless().bytes()), Verdict::PassNoName),
        (Frame::with(&bytes[..90]), Verdict::PassIncomplete),
        (hello("192.0.2.1"), Verdict::PassMalformed),
        (Frame::with(many), Verdict::PassTooLong),
    ] {
        assert_eq!(judged(&frame, &Model::default()), Ok(verdict), "{frame:?}");
    }
}

#[test]
fn names_are_allowed_exactly_or_by_one_label() {
    for (name, outcome) in [
        ("shop.example.com", Ok(Verdict::PassAllowed)),
        ("SHOP.Example.COM.", Ok(Verdict::PassAllowed)),
        ("a.example.net", Ok(Verdict::PassAllowed)),
        ("a.b.example.net", Err(RejectCause::Foreign)),
        ("example.net", Err(RejectCause::Foreign)),
        ("example.com", Err(RejectCause::Foreign)),
        ("denied.example", Err(RejectCause::Denied)),
    ] {
        assert_eq!(judged(&hello(name), &Model::default()), outcome, "{name}");
    }
}

#[test]
fn only_an_enforced_mode_rejects() {
    for (mode, enforce_until_ns, outcome) in [
        (Mode::Strict, 0, Ok(Verdict::PassUnenforced)),
        (Mode::Strict, NOW, Ok(Verdict::PassUnenforced)),
        (Mode::Adaptive, NOW, Ok(Verdict::PassUnenforced)),
        (Mode::Observe, NOW + 1, Ok(Verdict::PassObserved)),
        (Mode::Adaptive, NOW + 1, Ok(Verdict::PassUnknown)),
        (Mode::Strict, NOW + 1, Err(RejectCause::Foreign)),
    ] {
        let tables = Model { enforce_until_ns, ..with_mode(mode) };
        assert_eq!(judged(&hello("foreign.example"), &tables), outcome, "{mode:?} until {enforce_until_ns}");
    }
}

#[test]
fn a_mode_that_is_none_observes() {
    let tables = Model::default();
    let tables = Model { settings: GuardSettings { mode: 7, ..tables.settings }, ..tables };
    assert_eq!(judged(&hello("foreign.example"), &tables), Ok(Verdict::PassObserved));
}

/// A hello from another port of the client, and so of another flow.
fn from(source_port: u16, name: &str) -> Frame {
    Frame { source_port, ..hello(name) }
}

#[test]
fn adaptive_rejects_once_the_budget_is_spent() {
    let mut tables = with_mode(Mode::Adaptive);
    let outcomes: Vec<_> = (1..=3).map(|port| judged(&from(port, "foreign.example"), &tables)).collect();
    assert_eq!(outcomes, [Ok(Verdict::PassUnknown), Ok(Verdict::PassUnknown), Err(RejectCause::Foreign)]);
    tables.pass_time(1_000_000_000);
    assert_eq!(judged(&from(4, "foreign.example"), &tables), Ok(Verdict::PassUnknown), "refilled by one");
}

#[test]
fn a_flow_is_charged_once_however_often_its_hello_comes() {
    let tables = with_mode(Mode::Adaptive);
    let bytes = Hello::with("foreign.example").bytes();
    for _ in 0..5 {
        assert_eq!(judged(&from(1, "foreign.example"), &tables), Ok(Verdict::PassUnknown));
        for (part, verdict) in
            pieces(&bytes, &[100]).into_iter().zip([Verdict::PassIncomplete, Verdict::PassUnknown])
        {
            assert_eq!(judged(&Frame { source_port: 2, ..part }, &tables), Ok(verdict));
        }
    }
    let again = Frame { sequence: Frame::SEQUENCE + 500, ..from(1, "foreign.example") };
    assert_eq!(judged(&again, &tables), Ok(Verdict::PassUnknown), "after a HelloRetryRequest");
    let last = pieces(&bytes, &[100]).pop().unwrap();
    assert_eq!(judged(&Frame { source_port: 2, ..last }, &tables), Ok(Verdict::PassNoHello), "its end alone");
    assert_eq!(judged(&from(3, "foreign.example"), &tables), Err(RejectCause::Foreign), "two were charged");
    let syn = Frame { flags: Segment::SYN, ..from(1, "foreign.example") };
    assert_eq!(judged(&syn, &tables), Ok(Verdict::PassSyn));
    assert_eq!(judged(&from(1, "foreign.example"), &tables), Err(RejectCause::Foreign), "another connection");
}

#[test]
fn a_source_spends_its_own_unknown_names_first_and_exempt_ones_that_of_all() {
    let settings = GuardSettings {
        unknown_burst: 6,
        unknown_per_source_burst: 2,
        unknown_per_source_per_second: 1,
        ..with_mode(Mode::Adaptive).settings
    };
    let exempt = (SourceAddress::ipv4(0xc000_02c0), SourceAddress::FAMILY_BITS + 28, SourceRule::Exempt);
    let tables = Model { settings, source_networks: vec![exempt], ..Model::default() };
    let mut port = 0;
    let mut ask = |client| {
        port += 1;
        judged(&Frame { client, ..from(port, "foreign.example") }, &tables)
    };
    let (passed, rejected) = (Ok(Verdict::PassUnknown), Err(RejectCause::Foreign));
    for (what, client, verdicts) in [
        ("one source", 1, &[passed, passed, rejected, rejected][..]),
        ("another", 2, &[passed, passed, rejected]),
        ("exempt, until all is spent", 0xc1, &[passed, passed, rejected]),
        ("a third, when all is spent", 3, &[rejected]),
    ] {
        let seen: Vec<_> = verdicts.iter().map(|_| ask(client)).collect();
        assert_eq!(seen, verdicts, "{what}");
    }
}

#[test]
fn behind_a_translation_of_addresses_unknown_names_have_their_budget_without_a_socket() {
    let every = PortEntry::HELLO_IPV4.and(PortEntry::HELLO_IPV6).and(PortEntry::TRANSLATED);
    let tables =
        Model { has_socket: |_| false, ports: HashMap::from([(443, every)]), ..with_mode(Mode::Adaptive) };
    let seen = [1, 1, 2, 3].map(|port| judged(&from(port, "foreign.example"), &tables));
    let passed = Ok(Verdict::PassUnknown);
    assert_eq!(seen, [passed, passed, passed, Err(RejectCause::Foreign)]);
}

#[test]
fn the_first_fragment_meets_the_rules_and_the_budget_of_its_source() {
    let every = PortEntry::HELLO_IPV4.and(PortEntry::HELLO_IPV6).and(PortEntry::DENY);
    let settings = GuardSettings {
        syns_per_source_per_second: 1,
        syns_per_source_burst: 1,
        ..Model::default().settings
    };
    let denied = (SourceAddress::ipv4(0xc000_02c0), SourceAddress::FAMILY_BITS + 28, SourceRule::Deny);
    let tables = Model {
        settings,
        ports: HashMap::from([(443, every)]),
        source_networks: vec![denied],
        ..Model::default()
    };
    let (ipv4, atomic) = (
        Frame { fragment: 0x2000, ..Frame::with([]) },
        Frame { extension_headers: vec![44], ..Frame::ipv6([]) },
    );
    let (passed, excess) = (Verdict::PassFragment, Verdict::DropSynExcess);
    for (what, frame, verdict) in [
        ("denied", Frame { client: 0xc1, ..ipv4.clone() }, Verdict::DropDeniedSource),
        ("its later fragments", Frame { client: 0xc1, fragment: 3, ..ipv4.clone() }, passed),
        ("another port", Frame { port: 22, ..ipv4.clone() }, Verdict::PassUnguarded),
        ("the first", ipv4.clone(), passed),
        ("one too many of IPv4", ipv4.clone(), excess),
        ("a SYN of its", Frame { flags: Segment::SYN, fragment: 0, ..ipv4 }, excess),
        ("an atomic fragment", atomic.clone(), passed),
        ("one too many of IPv6", atomic, excess),
    ] {
        assert_eq!(judged(&frame, &tables), Ok(verdict), "{what}");
    }
}

#[test]
fn a_segment_without_a_connection_costs_no_budget() {
    let tables = Model { has_socket: |_| false, ..with_mode(Mode::Adaptive) };
    for port in 1..50 {
        assert_eq!(judged(&from(port, "foreign.example"), &tables), Err(RejectCause::Foreign));
    }
    assert_eq!(tables.unknown.get(), 0);
    assert!(!tables.remembers());
}

#[test]
fn a_rejection_says_whether_there_is_a_socket_to_free() {
    let none = Model { has_socket: |_| false, ..Model::default() };
    for (tables, server) in [(Model::default(), ServerSide::Held), (none, ServerSide::Free)] {
        let decision = decide(hello("foreign.example").bytes().as_slice(), &tables, &mut Scratch::new());
        assert_eq!(decision, Decision::Reject(RejectCause::Foreign, server));
    }
}

#[test]
fn hellos_to_addresses_of_other_services_pass() {
    let port = |entry| Model { ports: HashMap::from([(443, entry)]), ..Model::default() };
    let (ours, other) = (Frame::SERVER, u32::from_be_bytes([192, 0, 2, 3]));
    let address = GuardedAddress::ipv4(u32::from_be_bytes(ours.0), 443);
    let ipv6 = GuardedAddress { address: ours.1, port: 443 };
    let with =
        |addresses: &[GuardedAddress]| Model { addresses: addresses.to_vec(), ..port(PortEntry::HELLO) };
    let (rejected, passed) = (Err(RejectCause::Foreign), Ok(Verdict::PassUnguarded));
    for (tables, on_ipv4, on_ipv6) in [
        (port(PortEntry::HELLO_IPV4), rejected, passed),
        (port(PortEntry::HELLO_IPV6), passed, rejected),
        (with(&[]), passed, passed),
        (with(&[address]), rejected, passed),
        (with(&[address, ipv6]), rejected, rejected),
        (with(&[GuardedAddress::ipv4(other, 443)]), passed, passed),
        (with(&[GuardedAddress { port: 444, ..address }]), passed, passed),
    ] {
        let hello = Hello::with("foreign.example").bytes();
        assert_eq!(judged(&Frame::with(hello.clone()), &tables), on_ipv4, "{:?}", tables.addresses);
        assert_eq!(judged(&Frame::ipv6(hello), &tables), on_ipv6, "{:?}", tables.addresses);
    }
}

#[test]
fn a_denial_holds_for_its_time_in_both_modes_and_costs_no_budget() {
    for mode in [Mode::Adaptive, Mode::Strict] {
        let tables = with_mode(mode);
        assert_eq!(judged(&hello("denied.example"), &tables), Err(RejectCause::Denied), "{mode:?}");
        assert_eq!(tables.unknown.get(), 0, "{mode:?}");
    }
    let ended = Model { now_ns: NOW + 1, enforce_until_ns: NOW + 2, ..with_mode(Mode::Adaptive) };
    assert_eq!(judged(&hello("denied.example"), &ended), Ok(Verdict::PassUnknown));
}

#[test]
fn an_allowed_name_passes_though_denied() {
    let mut tables = Model::default();
    tables.denials.insert(exact(&KEY, b"shop.example.com"), NOW + 1);
    assert_eq!(judged(&hello("shop.example.com"), &tables), Ok(Verdict::PassAllowed));
}

#[test]
fn what_an_earlier_frame_left_in_the_scratch_does_not_matter() {
    let (tables, mut scratch) = (Model::default(), Scratch::new());
    for name in ["a-very-long-name-that-fills.the-buffer.example.org", "shop.example.com", "a.example.net"] {
        let bytes = hello(name).bytes();
        let fresh = decide(bytes.as_slice(), &tables, &mut Scratch::new());
        assert_eq!(decide(bytes.as_slice(), &tables, &mut scratch), fresh, "{name}");
    }
}

mod over_segments;

mod properties {
    use super::*;

    proptest! {
        #[test]
        fn any_frame_is_judged_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decide(bytes.as_slice(), &Model::default(), &mut Scratch::new());
        }
    }

    #[test]
    fn a_mutated_corpus_leads_to_payloads_within_the_frame_and_one_decision() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/frame");
        let mut used = Scratch::new();
        crate::fixture::fuzz::Corpus::read(corpus).run(|bytes| {
            if let Ok(segment) = Segment::find(bytes) {
                let end = u64::from(segment.payload_offset) + u64::from(segment.payload_bytes);
                assert!(end <= bytes.len() as u64, "{segment:?}");
            }
            let fresh = decide(bytes, &Model::default(), &mut Scratch::new());
            assert_eq!(decide(bytes, &Model::default(), &mut used), fresh);
        });
    }
}
