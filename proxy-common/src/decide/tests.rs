extern crate std;

use core::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::fixture::{Frame, Hello};
use crate::flow::CutName;
use crate::name_hash::{exact, wildcard};

/// The tables as user space would fill them.
#[derive(Clone)]
struct Filled {
    settings: GuardSettings,
    now_ns: u64,
    enforce_until_ns: u64,
    ports: HashMap<u16, PortEntry>,
    addresses: Vec<GuardedAddress>,
    names: Vec<u64>,
    denials: HashMap<u64, u64>,
    unknown: Cell<u64>,
    has_socket: bool,
    hints: RefCell<HashMap<u32, u8>>,
    flows: RefCell<HashMap<u32, FlowEntry>>,
    cut_names: RefCell<HashMap<u32, CutName>>,
}

const KEY: NameKey = NameKey { k0: 1, k1: 2 };
const NOW: u64 = 1_000_000_000_000;

impl Default for Filled {
    fn default() -> Self {
        Self {
            settings: GuardSettings {
                mode: Mode::Strict as u32,
                unknown_per_second: 1,
                unknown_burst: 2,
                resets_per_second: 100,
            },
            now_ns: NOW,
            enforce_until_ns: NOW + 1,
            ports: HashMap::from([
                (443, PortEntry::HELLO_IPV4.and(PortEntry::HELLO_IPV6)),
                (80, PortEntry::COUNTED),
            ]),
            addresses: Vec::new(),
            names: vec![exact(&KEY, b"shop.example.com"), wildcard(&KEY, b"example.net")],
            denials: HashMap::from([(exact(&KEY, b"denied.example"), NOW + 1)]),
            unknown: Cell::new(0),
            has_socket: true,
            hints: RefCell::default(),
            flows: RefCell::default(),
            cut_names: RefCell::default(),
        }
    }
}

impl Filled {
    /// Whether anything is remembered of any flow.
    fn remembers(&self) -> bool {
        self.hints.borrow().values().any(|tag| *tag != NO_FLOW)
    }

    fn pass_time(&mut self, ns: u64) {
        self.now_ns += ns;
        self.enforce_until_ns += ns;
    }
}

impl GuardTables for Filled {
    fn port(&self, port: u16) -> PortEntry {
        self.ports.get(&port).copied().unwrap_or_default()
    }
    fn guards(&self, address: &GuardedAddress) -> bool {
        self.addresses.contains(address)
    }
    fn settings(&self) -> GuardSettings {
        self.settings
    }
    fn name_key(&self) -> NameKey {
        KEY
    }
    fn now_ns(&self) -> u64 {
        self.now_ns
    }
    fn enforce_until_ns(&self) -> u64 {
        self.enforce_until_ns
    }
    fn allows(&self, name: u64) -> bool {
        self.names.contains(&name)
    }
    fn denied_until_ns(&self, name: u64) -> Option<u64> {
        self.denials.get(&name).copied()
    }
    fn take_unknown(&self, rate: BudgetRate, now_ns: u64) -> bool {
        let asked = rate.ask(self.unknown.get(), now_ns);
        self.unknown.set(asked.arrival_ns);
        asked.granted
    }
    fn has_socket(&self, _segment: &Segment) -> bool {
        self.has_socket
    }
    fn hint(&self, index: u32) -> u8 {
        self.hints.borrow().get(&index).copied().unwrap_or(NO_FLOW)
    }
    fn set_hint(&self, index: u32, tag: u8) {
        self.hints.borrow_mut().insert(index, tag);
    }
    fn load_flow(&self, index: u32, entry: &mut FlowEntry) {
        *entry = self.flows.borrow().get(&index).copied().unwrap_or_default();
    }
    fn store_flow(&self, index: u32, entry: &FlowEntry) {
        self.flows.borrow_mut().insert(index, *entry);
    }
    fn restore_name(&self, index: u32, name: &mut NameBuffer, entry: &FlowEntry) -> Option<()> {
        self.cut_names.borrow().get(&index)?.restore(name, entry)
    }
    fn keep_name(&self, index: u32, name: &NameBuffer, entry: &FlowEntry) {
        self.cut_names.borrow_mut().entry(index).or_default().keep(name, entry);
    }
}

fn judged(frame: &Frame, tables: &Filled) -> Result<Verdict, RejectCause> {
    match decide(frame.bytes().as_slice(), tables, &mut Scratch::new()) {
        Decision::Pass(verdict) => Ok(verdict),
        Decision::Reject(cause, _) => Err(cause),
    }
}

fn hello(name: &str) -> Frame {
    Frame::with(Hello::with(name).bytes())
}

/// The frames of a payload that is cut into segments.
fn pieces(bytes: &[u8], cuts: &[usize]) -> Vec<Frame> {
    let mut cuts: Vec<_> = cuts.iter().copied().chain([0, bytes.len()]).collect();
    cuts.sort_unstable();
    let part = |range: &[usize]| Frame {
        sequence: Frame::SEQUENCE.wrapping_add(u32::try_from(range[0]).unwrap()),
        ..Frame::with(&bytes[range[0]..range[1]])
    };
    cuts.windows(2).filter(|range| range[0] < range[1]).map(part).collect()
}

fn with_mode(mode: Mode) -> Filled {
    let tables = Filled::default();
    Filled { settings: GuardSettings { mode: mode as u32, ..tables.settings }, ..tables }
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
        assert_eq!(judged(&frame, &Filled::default()), Ok(verdict), "{frame:?}");
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
        assert_eq!(judged(&hello(name), &Filled::default()), outcome, "{name}");
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
        let tables = Filled { enforce_until_ns, ..with_mode(mode) };
        assert_eq!(judged(&hello("foreign.example"), &tables), outcome, "{mode:?} until {enforce_until_ns}");
    }
}

#[test]
fn a_mode_that_is_none_observes() {
    let tables = Filled::default();
    let tables = Filled { settings: GuardSettings { mode: 7, ..tables.settings }, ..tables };
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
    let last = pieces(&bytes, &[100]).pop().unwrap();
    assert_eq!(judged(&Frame { source_port: 2, ..last }, &tables), Ok(Verdict::PassUnknown), "its end alone");
    assert_eq!(judged(&from(3, "foreign.example"), &tables), Err(RejectCause::Foreign), "two were charged");
    let syn = Frame { flags: Segment::SYN, ..from(1, "foreign.example") };
    assert_eq!(judged(&syn, &tables), Ok(Verdict::PassSyn));
    assert_eq!(judged(&from(1, "foreign.example"), &tables), Err(RejectCause::Foreign), "another connection");
}

#[test]
fn a_segment_without_a_connection_costs_no_budget() {
    let tables = Filled { has_socket: false, ..with_mode(Mode::Adaptive) };
    for port in 1..50 {
        assert_eq!(judged(&from(port, "foreign.example"), &tables), Err(RejectCause::Foreign));
    }
    assert_eq!(tables.unknown.get(), 0);
    assert!(!tables.remembers());
}

#[test]
fn a_rejection_says_whether_there_is_a_socket_to_free() {
    for (has_socket, server) in [(true, ServerSide::Held), (false, ServerSide::Free)] {
        let tables = Filled { has_socket, ..Filled::default() };
        let decision = decide(hello("foreign.example").bytes().as_slice(), &tables, &mut Scratch::new());
        assert_eq!(decision, Decision::Reject(RejectCause::Foreign, server));
    }
}

#[test]
fn hellos_to_addresses_of_other_services_pass() {
    let port = |entry| Filled { ports: HashMap::from([(443, entry)]), ..Filled::default() };
    let (ours, other) = (Frame::SERVER, u32::from_be_bytes([192, 0, 2, 3]));
    let address = GuardedAddress::ipv4(u32::from_be_bytes(ours.0), 443);
    let ipv6 = GuardedAddress { address: ours.1, port: 443 };
    let with =
        |addresses: &[GuardedAddress]| Filled { addresses: addresses.to_vec(), ..port(PortEntry::HELLO) };
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
    let ended = Filled { now_ns: NOW + 1, enforce_until_ns: NOW + 2, ..with_mode(Mode::Adaptive) };
    assert_eq!(judged(&hello("denied.example"), &ended), Ok(Verdict::PassUnknown));
}

#[test]
fn an_allowed_name_passes_though_denied() {
    let mut tables = Filled::default();
    tables.denials.insert(exact(&KEY, b"shop.example.com"), NOW + 1);
    assert_eq!(judged(&hello("shop.example.com"), &tables), Ok(Verdict::PassAllowed));
}

#[test]
fn what_an_earlier_frame_left_in_the_scratch_does_not_matter() {
    let (tables, mut scratch) = (Filled::default(), Scratch::new());
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
            let _ = decide(bytes.as_slice(), &Filled::default(), &mut Scratch::new());
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
            let fresh = decide(bytes, &Filled::default(), &mut Scratch::new());
            assert_eq!(decide(bytes, &Filled::default(), &mut used), fresh);
        });
    }
}
