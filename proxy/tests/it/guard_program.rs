//! The guard's program in the running kernel, packet by packet (`BPF_PROG_TEST_RUN`): verdict, action and bytes.
//! Not here: attaching it (`guard_userspace`), what the rejections lead to (`foreign_names`).

mod kernel;

use std::{
    collections::HashSet,
    net::{IpAddr, TcpStream},
    time::Duration,
};

use anyhow::ensure;
use proxy_common::{
    decide::{Decision, Scratch, ServerSide, decide},
    fixture::{
        Frame, Hello,
        fuzz::Dice,
        header_sum,
        model::Model,
        segments::{Pair, corpus, pieces, shuffled},
        tcp_checksum,
    },
    maps::{Mode, PortEntry, RejectCause, Rejection, Verdict},
    segment::Segment,
    source::ByteSource,
};
use testbed::wait::until;

use self::kernel::{Kernel, ONE_ADDRESS, Outcome, Policy, SOURCES, UNCONNECTED, in_a_namespace};

/// A frame, what the guard is told, and what must become of it.
type Case = (&'static str, Policy, Frame, Verdict);

#[test]
fn every_frame_meets_its_verdict_and_every_verdict_is_met() {
    in_a_namespace(|_connections| {
        let mut kernel = Kernel::load();
        let mut met = HashSet::new();
        for (what, policy, frame, verdict) in
            unjudged().into_iter().chain(sources()).chain(names()).chain(modes()).chain(rejections())
        {
            let outcome = kernel.judge(&policy, &frame);
            assert_eq!(outcome.verdict, verdict, "{what}");
            check_action(what, &frame, &outcome);
            met.insert(verdict.as_str());
        }
        met.extend(over_segments(&mut kernel).map(Verdict::as_str));
        let missed: Vec<_> = Verdict::ALL.iter().filter(|verdict| !met.contains(verdict.as_str())).collect();
        assert!(missed.is_empty(), "no case meets {missed:?}");
    });
}

#[test]
fn the_budget_of_unknown_names_is_charged_once_for_a_connection_and_never_for_a_forged_segment() {
    in_a_namespace(|_connections| {
        let mut kernel = Kernel::load();
        let policy = Policy { mode: Mode::Adaptive, unknown_burst: 1, ..Policy::default() };
        kernel.adopt(&policy);
        for source_port in 1..=50 {
            let forged = Frame { source_port, ..hello("foreign.example") };
            assert_eq!(kernel.run(&forged).verdict, Verdict::RejectForeignClient);
        }
        let connection = Frame::with(foreign());
        for _ in 0..3 {
            assert_eq!(kernel.run(&connection).verdict, Verdict::PassUnknown);
        }
        assert_eq!(kernel.run(&Frame::ipv6(foreign())).verdict, Verdict::RejectForeignServer, "another");
    });
}

#[test]
fn a_source_has_its_budget_of_syns_and_no_other_pays_for_it() {
    in_a_namespace(|_connections| {
        let mut kernel = Kernel::load();
        kernel.adopt(&Policy { syns: Some(3), ..Policy::default() });
        let mut send = |client, ipv6, count| -> Vec<Verdict> {
            let syn = Frame { flags: Segment::SYN, client, ipv6, ..Frame::with([]) };
            (0..count).map(|_| kernel.run(&syn).verdict).collect()
        };
        let (passed, dropped) = (Verdict::PassSyn, Verdict::DropSynExcess);
        assert_eq!(send(1, false, 4), [passed, passed, passed, dropped]);
        assert_eq!(send(2, false, 1), [passed], "a neighbour");
        assert_eq!(send(1, true, 2), [passed, passed]);
        assert_eq!(send(2, true, 2), [passed, dropped], "the same /64");
        assert_eq!(send(0xc1, false, 9), [passed; 9], "exempt");
        until("the next SYN", Duration::from_secs(5), || {
            ensure!(send(1, false, 1) == [passed], "dropped");
            Ok(())
        })
        .unwrap();
    });
}

#[test]
fn a_source_that_has_spent_its_unknown_names_spends_no_others() {
    in_a_namespace(|_connections| {
        let mut kernel = Kernel::load();
        let policy = Policy { mode: Mode::Adaptive, unknown_burst: 100, ..Policy::default() };
        kernel.adopt(&Policy { unknown_per_source: Some(2), ..policy });
        let connection = Frame::with(foreign());
        let another = Frame { flags: Segment::SYN, payload: Vec::new(), ..connection.clone() };
        let verdicts: Vec<_> = (0..4)
            .map(|_| {
                kernel.run(&another);
                kernel.run(&connection).verdict
            })
            .collect();
        let (passed, rejected) = (Verdict::PassUnknown, Verdict::RejectForeignServer);
        assert_eq!(verdicts, [passed, passed, rejected, rejected]);
        assert_eq!(kernel.run(&Frame::ipv6(foreign())).verdict, passed, "another source");
    });
}

#[test]
fn a_budget_that_other_settings_have_spent_refills_at_once() {
    in_a_namespace(|_connections| {
        let mut kernel = Kernel::load();
        kernel.adopt(&Policy { mode: Mode::Adaptive, unknown_burst: 10_000, ..Policy::default() });
        let connection = Frame::with(foreign());
        let another = Frame { flags: Segment::SYN, payload: Vec::new(), ..connection.clone() };
        // At one name a second: an hour of debt.
        for _ in 0..3_600 {
            assert_eq!(kernel.run(&connection).verdict, Verdict::PassUnknown);
            kernel.run(&another);
        }
        kernel.set_unknown_budget(1_000, 5);
        kernel.run(&connection);
        until("the budget to refill", Duration::from_secs(10), || {
            kernel.run(&another);
            let verdict = kernel.run(&connection).verdict;
            ensure!(verdict == Verdict::PassUnknown, "{verdict:?}");
            Ok(())
        })
        .unwrap();
    });
}

#[test]
fn the_kernel_judges_segments_as_the_model_does() {
    in_a_namespace(|_connections| {
        let mut kernel = Kernel::load();
        kernel.adopt(&Policy { resets_per_second: u32::MAX, denies: true, ..Policy::default() });
        let mut model =
            Model { has_socket: |_| false, source_networks: SOURCES.to_vec(), ..Model::default() };
        model
            .ports
            .insert(UNCONNECTED, PortEntry::HELLO_IPV4.and(PortEntry::HELLO_IPV6).and(PortEntry::DENY));
        let (corpus, mut dice, mut room) = (corpus(), Dice::new(61), Scratch::new());
        let (mut frames, mut flows) = (0, 1_000);
        while frames < COMPARED {
            let Pair { what, allowed, foreign } = &corpus[dice.below(corpus.len())];
            let hello = if dice.below(2) == 0 { allowed } else { foreign };
            let segments = match dice.below(3) {
                0 => pieces(hello, &[dice.below(hello.len())]),
                1 => pieces(hello, &[dice.below(hello.len()), dice.below(hello.len())]),
                _ => shuffled(hello, &mut dice),
            };
            flows = if flows == u16::MAX { 1_000 } else { flows + 1 };
            let ipv6 = dice.below(2) == 0;
            // The first and last address of each network, and those beside it.
            let clients: &[u8] =
                if ipv6 { &[0x3f, 0x40, 0x7f, 0x80] } else { &[0x7f, 1, 0x80, 0xff, 0xbf, 0xc0, 0xcf, 0xd0] };
            let client = clients[dice.below(clients.len())];
            for segment in segments {
                let vlan_tags = vec![0x8100; dice.below(3)];
                let port = UNCONNECTED;
                let frame = Frame { source_port: flows, port, ipv6, vlan_tags, client, ..segment };
                let ours = judge(&model, &frame, &mut room);
                let theirs = kernel.run(&frame).verdict;
                assert_eq!(theirs, ours, "{what}, frame {frames}: {frame:?}");
                frames += 1;
            }
        }
    });
}

#[test]
fn a_hello_meets_the_same_wherever_its_packet_is_cut_into_fragments() {
    in_a_namespace(|_connections| {
        let mut kernel = Kernel::load();
        kernel.adopt(&Policy::default());
        // The kernel's first part of a packet holds some 3,500 bytes of it: its end moves over name and extensions.
        for key_share_bytes in (3_000..3_700).chain([7_000, 8_700]) {
            for (name, verdict) in [
                ("shop.example.com", Verdict::PassAllowed),
                ("foreign.example", Verdict::RejectForeignClient),
            ] {
                let hello = Hello { key_share_bytes, key_share_first: true, ..Hello::with(name) };
                let frame = Frame { port: UNCONNECTED, ..Frame::with(hello.bytes()) };
                let outcome = kernel.run(&frame);
                assert_eq!(outcome.verdict, verdict, "{name} behind {key_share_bytes} bytes");
                check_action(name, &frame, &outcome);
            }
        }
    });
}

fn judge(model: &Model, frame: &Frame, room: &mut Scratch) -> Verdict {
    match decide(frame.bytes().as_slice(), model, room) {
        Decision::Pass(verdict) | Decision::Drop(verdict) => verdict,
        Decision::Reject(cause, ServerSide::Held) => Verdict::reject(cause, Rejection::ResetServer),
        Decision::Reject(cause, ServerSide::Free) => Verdict::reject(cause, Rejection::ResetClient),
    }
}

#[test]
fn a_flow_is_reset_at_the_server_until_its_socket_is_gone() {
    in_a_namespace(|connections: Vec<TcpStream>| {
        let mut kernel = Kernel::load();
        for frame in [Frame::with(foreign()), Frame::ipv6(foreign())] {
            assert_eq!(kernel.judge(&Policy::default(), &frame).verdict, Verdict::RejectForeignServer);
        }
        for connection in &connections {
            // With no time to linger both ends go at once, by a reset (RFC 9293 §3.10.5).
            socket2::SockRef::from(connection).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(connections);
        for frame in [Frame::with(foreign()), Frame::ipv6(foreign())] {
            // A child that another test starts holds our sockets from its fork to its exec.
            until("the sockets to be gone", Duration::from_secs(10), || {
                let verdict = kernel.judge(&Policy::default(), &frame).verdict;
                ensure!(verdict == Verdict::RejectForeignClient, "{verdict:?}");
                Ok(())
            })
            .unwrap();
        }
    });
}

#[test]
fn of_rejected_names_a_budget_is_told_with_their_sources_and_of_others_none() {
    in_a_namespace(|_connections| {
        let mut kernel = Kernel::load();
        let from_v4 = Frame { client: 9, ..hello("foreign.example") };
        let from_v6 = Frame { ipv6: true, client: 9, ..hello("denied.example") };
        let longest = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
        let mut run = |told, frames: &[&Frame]| -> Vec<_> {
            kernel.adopt(&Policy { told, ..Policy::default() });
            kernel.forget_told();
            for frame in frames {
                kernel.run(frame);
            }
            let said = kernel.told();
            said.iter()
                .map(|told| {
                    (String::from_utf8_lossy(told.name()).into_owned(), told.cause(), told.source().ip())
                })
                .collect()
        };
        let passing = [hello("shop.example.com"), held("shop.example.com"), Frame::with([])];
        assert_eq!(run(1000, &passing.each_ref()), [], "what passes");
        assert_eq!(run(0, &[&from_v4, &from_v6]), [], "switched off");
        let v6 = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 9]);
        let (foreign, denied) = (RejectCause::Foreign, RejectCause::Denied);
        assert_eq!(
            run(1000, &[&from_v4, &from_v6, &hello(&longest)]),
            [
                ("foreign.example".to_owned(), foreign, IpAddr::from([192, 0, 2, 9])),
                ("denied.example".to_owned(), denied, v6),
                (longest, foreign, Frame::CLIENT.0.into()),
            ]
        );
        let told = run(3, &[&from_v4; 50]).len();
        // Another one each third of a second.
        assert!((3..50).contains(&told), "{told} of 50");
    });
}

#[test]
fn without_settings_everything_passes() {
    in_a_namespace(|_connections| {
        let mut kernel = Kernel::load();
        let outcome = kernel.run(&hello("foreign.example"));
        assert_eq!((outcome.verdict, outcome.action), (Verdict::PassUnguarded, kernel::PASS));
    });
}

fn foreign() -> Vec<u8> {
    Hello::with("foreign.example").bytes()
}

/// A hello of a flow that the kernel has a socket of.
fn held(name: &str) -> Frame {
    Frame::with(Hello::with(name).bytes())
}

/// A hello of a flow that the kernel has no socket of.
fn hello(name: &str) -> Frame {
    Frame { port: UNCONNECTED, ..Frame::with(Hello::with(name).bytes()) }
}

fn unjudged() -> Vec<Case> {
    let strict = Policy::default();
    let (ipv4, ipv6) = (hello("foreign.example"), Frame { port: UNCONNECTED, ..Frame::ipv6(foreign()) });
    // An ML-KEM-768 key share before the name pushes it into the second segment.
    let post_quantum =
        Hello { key_share_bytes: 1216, extensions_before: 20, ..Hello::with("foreign.example") };
    let name_last = Hello { key_share_first: true, ..post_quantum }.bytes();
    let (first, second) = name_last.split_at(1400);
    let many = Hello { extensions_before: 60, ..Hello::with("foreign.example") };
    let address = Hello::with("192.0.2.9").bytes();
    let bare = |payload: &[u8]| Frame { payload: payload.to_vec(), ..ipv4.clone() };
    vec![
        ("UDP", strict, Frame { protocol: 17, ..ipv4.clone() }, Verdict::PassUnguarded),
        ("UDP over IPv6", strict, Frame { protocol: 17, ..ipv6.clone() }, Verdict::PassUnguarded),
        ("another port", strict, Frame { port: 8443, ..ipv4.clone() }, Verdict::PassUnguarded),
        ("another address", strict, Frame { port: ONE_ADDRESS, ..ipv6.clone() }, Verdict::PassUnguarded),
        (
            "data to another address",
            strict,
            Frame { port: ONE_ADDRESS, ..bare(b"data") },
            Verdict::PassNoHello,
        ),
        ("a first fragment", strict, Frame { fragment: 0x2000, ..ipv4.clone() }, Verdict::PassFragment),
        ("a later fragment", strict, Frame { fragment: 3, ..ipv4.clone() }, Verdict::PassFragment),
        ("an IPv6 fragment", strict, fragment(&ipv6), Verdict::PassFragment),
        ("three tags", strict, Frame { vlan_tags: vec![0x8100; 3], ..ipv4.clone() }, Verdict::PassUnparsed),
        ("five headers", strict, extended(&ipv6, 5), Verdict::PassUnparsed),
        ("a SYN", strict, Frame { flags: Segment::SYN, ..bare(&[]) }, Verdict::PassSyn),
        ("a SYN with data", strict, Frame { flags: Segment::SYN, ..ipv4.clone() }, Verdict::PassSyn),
        ("a SYN to 80", strict, Frame { flags: Segment::SYN, port: 80, ..bare(&[]) }, Verdict::PassSyn),
        ("an ACK", strict, Frame { padding: 6, ..bare(&[]) }, Verdict::PassNoHello),
        ("data", strict, bare(&[23, 3, 3, 5, 0, 1, 2, 3]), Verdict::PassNoHello),
        ("plain HTTP", strict, bare(b"GET / HTTP/1.1\r\n\r\n"), Verdict::PassNoHello),
        ("a hello to 80", strict, Frame { port: 80, ..ipv4.clone() }, Verdict::PassNoHello),
        ("no server name", strict, bare(&Hello::nameless().bytes()), Verdict::PassNoName),
        ("an address", strict, bare(&address), Verdict::PassMalformed),
        ("too many extensions", strict, bare(&many.bytes()), Verdict::PassTooLong),
        ("the name in the second segment, first one", strict, bare(first), Verdict::PassIncomplete),
        ("the name in the second segment, second one", strict, bare(second), Verdict::PassNoHello),
    ]
}

/// Hellos in several segments: what the last of them meets. The verdicts that were met.
fn over_segments(kernel: &mut Kernel) -> impl Iterator<Item = Verdict> + use<> {
    let hello =
        Hello { key_share_bytes: 1216, key_share_first: true, ..Hello::with("foreign.example") }.bytes();
    let (inside, held) = (hello.windows(7).position(|window| window == b"foreign").unwrap() + 3, 443);
    let mut met = Vec::new();
    for (port, forget, order, verdict) in [
        (held, false, [0, 1], Verdict::RejectForeignServer),
        (UNCONNECTED, false, [0, 1], Verdict::RejectForeignClient),
        (UNCONNECTED, false, [0, 2], Verdict::PassOutOfOrder),
        (UNCONNECTED, false, [1, 0], Verdict::PassIncomplete),
        (UNCONNECTED, true, [0, 1], Verdict::PassForgotten),
    ] {
        for ipv6 in [false, true] {
            kernel.adopt(&Policy::default());
            let frames = pieces(&hello, &[inside, inside + 2]);
            let frames = [&frames[..1], &pieces(&hello, &[inside])[1..], &frames[2..]].concat();
            let frames = order.map(|index| Frame { port, ipv6, ..frames[index].clone() });
            kernel.run(&frames[0]);
            if forget {
                kernel.forget_cut_names();
            }
            let outcome = kernel.run(&frames[1]);
            assert_eq!(outcome.verdict, verdict, "segments {order:?} to port {port}, IPv6: {ipv6}");
            check_action("the last segment", &frames[1], &outcome);
            met.push(outcome.verdict);
        }
    }
    met.into_iter()
}

fn sources() -> Vec<Case> {
    let denying = Policy { denies: true, ..Policy::default() };
    let observing = Policy { mode: Mode::Observe, ..denying };
    let allowed = Frame { client: 128, ..hello("shop.example.com") };
    let ipv6 = Frame { ipv6: true, client: 0x40, ..allowed.clone() };
    let syn = Frame { flags: Segment::SYN, payload: Vec::new(), ..allowed.clone() };
    let limited = Policy { syns: Some(0), ..Policy::default() };
    let plain_syn = Frame { client: 9, ..syn.clone() };
    let (dropped, passed) = (Verdict::DropDeniedSource, Verdict::PassDeniedSource);
    vec![
        ("from a denied source", denying, allowed.clone(), dropped),
        ("from one over IPv6", denying, ipv6.clone(), dropped),
        ("from one in a tag", denying, Frame { vlan_tags: vec![0x8100], ..ipv6.clone() }, dropped),
        ("a SYN from one", denying, syn.clone(), dropped),
        ("a SYN from one to 80", denying, Frame { port: 80, ..syn.clone() }, dropped),
        ("from one to another port", denying, Frame { port: 8443, ..syn }, Verdict::PassUnguarded),
        ("from below it", denying, Frame { client: 127, ..allowed.clone() }, Verdict::PassAllowed),
        ("from above it", denying, Frame { client: 0x80, ..ipv6 }, Verdict::PassAllowed),
        ("from an exempt part", denying, Frame { client: 0xcf, ..allowed.clone() }, Verdict::PassAllowed),
        ("a SYN without budget", limited, plain_syn.clone(), Verdict::DropSynExcess),
        ("one to 80", limited, Frame { port: 80, ..plain_syn.clone() }, Verdict::DropSynExcess),
        ("one over IPv6", limited, Frame { ipv6: true, ..plain_syn.clone() }, Verdict::DropSynExcess),
        ("one from an exempt source", limited, Frame { client: 0xc0, ..plain_syn.clone() }, Verdict::PassSyn),
        (
            "one, observed",
            Policy { mode: Mode::Observe, ..limited },
            plain_syn.clone(),
            Verdict::PassSynExcess,
        ),
        ("one, never enforced", Policy { enforce: None, ..limited }, plain_syn, Verdict::PassSynExcess),
        ("from one while no port asks", Policy::default(), allowed.clone(), Verdict::PassAllowed),
        ("from one, observed", observing, allowed.clone(), passed),
        ("from one, never enforced", Policy { enforce: None, ..denying }, allowed, passed),
    ]
}

fn names() -> Vec<Case> {
    let strict = Policy::default();
    let allowed = Verdict::PassAllowed;
    let plain = hello("shop.example.com");
    let ipv6 = Frame { port: UNCONNECTED, ..Frame::ipv6(Hello::with("shop.example.com").bytes()) };
    let records = Hello { record_bytes: 90, ..Hello::with("shop.example.com") }.bytes();
    let longest = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
    vec![
        ("allowed", strict, plain.clone(), allowed),
        ("in upper case", strict, hello("SHOP.Example.COM"), allowed),
        ("with a trailing dot", strict, hello("shop.example.com."), allowed),
        ("one label under a wildcard", strict, hello("a.example.net"), allowed),
        ("over IPv6", strict, ipv6.clone(), allowed),
        ("to its one address", strict, Frame { port: ONE_ADDRESS, ..plain.clone() }, allowed),
        ("with a tag", strict, Frame { vlan_tags: vec![0x8100], ..plain.clone() }, allowed),
        ("with two tags", strict, Frame { vlan_tags: vec![0x88a8, 0x8100], ..ipv6.clone() }, allowed),
        ("with IPv4 options", strict, Frame { ipv4_option_words: 10, ..plain.clone() }, allowed),
        ("with TCP options", strict, Frame { tcp_option_words: 10, ..plain.clone() }, allowed),
        ("with four IPv6 headers", strict, extended(&ipv6, 4), allowed),
        ("in several records", strict, Frame { payload: records, ..plain }, allowed),
        ("the longest", strict, hello(&longest), Verdict::RejectForeignClient),
        ("two labels under a wildcard", strict, hello("a.b.example.net"), Verdict::RejectForeignClient),
        ("the wildcard's own suffix", strict, hello("example.net"), Verdict::RejectForeignClient),
        ("above an allowed name", strict, hello("example.com"), Verdict::RejectForeignClient),
    ]
}

fn modes() -> Vec<Case> {
    let strict = Policy::default();
    let (observe, adaptive) =
        (Policy { mode: Mode::Observe, ..strict }, Policy { mode: Mode::Adaptive, ..strict });
    let foreign = hello("foreign.example");
    let denied = hello("denied.example");
    vec![
        ("never enforced", Policy { enforce: None, ..strict }, foreign.clone(), Verdict::PassUnenforced),
        (
            "enforced until a second ago",
            Policy { enforce: Some(-1), ..strict },
            foreign.clone(),
            Verdict::PassUnenforced,
        ),
        ("observed", observe, foreign.clone(), Verdict::PassObserved),
        ("denied, but observed", observe, denied.clone(), Verdict::PassObserved),
        ("within the budget", adaptive, held("foreign.example"), Verdict::PassUnknown),
        ("within the budget, without a connection", adaptive, foreign, Verdict::RejectForeignClient),
        (
            "the budget spent",
            Policy { unknown_burst: 0, ..adaptive },
            held("foreign.example"),
            Verdict::RejectForeignServer,
        ),
        ("denied within the budget", adaptive, denied.clone(), Verdict::RejectDeniedClient),
        ("denied until a second ago", adaptive, held("forgiven.example"), Verdict::PassUnknown),
        ("allowed and denied", strict, hello("both.example.com"), Verdict::PassAllowed),
        ("denied in strict", strict, denied, Verdict::RejectDeniedClient),
    ]
}

fn rejections() -> Vec<Case> {
    let strict = Policy::default();
    let quiet = Policy { resets_per_second: 0, ..strict };
    let held = Frame::with(foreign());
    let denied = Frame::with(Hello::with("denied.example").bytes());
    let ipv6 = Frame { extension_headers: vec![60], ..Frame::ipv6(foreign()) };
    let tagged = Frame { vlan_tags: vec![0x88a8, 0x8100], ..Frame::ipv6(foreign()) };
    let post_quantum = Hello { key_share_bytes: 1216, ..Hello::with("foreign.example") }.bytes();
    let gone = |frame: &Frame| Frame { port: UNCONNECTED, ..frame.clone() };
    let optional = Frame { ipv4_option_words: 3, tcp_option_words: 3, ..held.clone() };
    vec![
        ("a held flow", strict, held.clone(), Verdict::RejectForeignServer),
        ("a held flow, denied", strict, denied.clone(), Verdict::RejectDeniedServer),
        ("a held flow over IPv6", strict, ipv6.clone(), Verdict::RejectForeignServer),
        ("a held flow, tagged", strict, tagged.clone(), Verdict::RejectForeignServer),
        ("a held flow with options", strict, optional.clone(), Verdict::RejectForeignServer),
        ("a held flow, no resets left", quiet, held.clone(), Verdict::RejectForeignServer),
        ("a flow that is gone", strict, gone(&held), Verdict::RejectForeignClient),
        ("one over IPv6", strict, gone(&ipv6), Verdict::RejectForeignClient),
        ("one with tags", strict, gone(&tagged), Verdict::RejectForeignClient),
        ("one with options", strict, gone(&optional), Verdict::RejectForeignClient),
        (
            "one without an acknowledgment",
            strict,
            Frame { flags: 0, ..gone(&held) },
            Verdict::RejectForeignClient,
        ),
        (
            "the first 900 bytes of a long hello",
            strict,
            Frame { payload: post_quantum[..900].to_vec(), ..gone(&held) },
            Verdict::RejectForeignClient,
        ),
        ("no resets left", quiet, gone(&held), Verdict::RejectForeignDrop),
        ("no resets left, denied", quiet, gone(&denied), Verdict::RejectDeniedDrop),
    ]
}

fn fragment(frame: &Frame) -> Frame {
    Frame { extension_headers: vec![44], ..frame.clone() }
}

fn extended(frame: &Frame, headers: usize) -> Frame {
    Frame { extension_headers: [0, 43, 60, 135, 60].into_iter().take(headers).collect(), ..frame.clone() }
}

fn check_action(what: &str, frame: &Frame, outcome: &Outcome) {
    match outcome.verdict {
        Verdict::RejectForeignServer | Verdict::RejectDeniedServer => {
            check_server_reset(what, frame, outcome);
        }
        Verdict::RejectForeignClient | Verdict::RejectDeniedClient => {
            check_client_reset(what, frame, outcome);
        }
        Verdict::RejectForeignDrop | Verdict::RejectDeniedDrop => {
            assert_eq!(outcome.action, kernel::DROP, "{what}");
        }
        verdict if verdict.drops() => {
            assert_eq!(outcome.action, kernel::DROP, "{what}");
        }
        _ => {
            assert_eq!(outcome.action, kernel::PASS, "{what}");
            assert_eq!(outcome.bytes, frame.bytes(), "{what}: what passes is not touched");
        }
    }
}

fn check_server_reset(what: &str, frame: &Frame, outcome: &Outcome) {
    assert_eq!(outcome.action, kernel::PASS, "{what}");
    let before = Segment::find(frame.bytes().as_slice()).unwrap();
    let after = Segment::find(outcome.bytes.as_slice()).unwrap();
    assert!(after.has(Segment::RST) && !after.has(Segment::PSH), "{what}");
    assert_eq!(outcome.bytes.len(), frame.bytes().len(), "{what}");
    assert_eq!((after.sequence, after.payload_bytes), (before.sequence, before.payload_bytes), "{what}");
    check_checksum(what, frame, &outcome.bytes, after.transport_offset);
}

fn check_client_reset(what: &str, frame: &Frame, outcome: &Outcome) {
    assert_eq!(outcome.action, kernel::TX, "{what}");
    let sent = frame.bytes();
    let before = Segment::find(sent.as_slice()).unwrap();
    let after = Segment::find(outcome.bytes.as_slice()).unwrap();
    let network = before.network_offset as usize;
    let header = if frame.ipv6 { 40 } else { 20 };
    assert_eq!(outcome.bytes.len(), network + header + 20, "{what}");
    assert_eq!(
        [&outcome.bytes[6..12], &outcome.bytes[..6]].concat(),
        sent[..12],
        "{what}: addresses swapped"
    );
    assert_eq!(outcome.bytes[12..network], sent[12..network], "{what}: tags kept");
    assert_eq!(
        (after.source_port, after.destination_port),
        (before.destination_port, before.source_port),
        "{what}"
    );
    let expected = if before.has(Segment::ACK) { before.acknowledgment } else { 0 };
    assert_eq!((after.sequence, after.has(Segment::RST)), (expected, true), "{what}");
    assert!(frame.ipv6 || header_sum(&outcome.bytes[network..network + 20]) == 0xffff, "{what}");
    check_checksum(what, frame, &outcome.bytes, after.transport_offset);
}

fn check_checksum(what: &str, frame: &Frame, bytes: &[u8], transport: u32) {
    let segment = Segment::find(bytes).unwrap();
    let addresses = if frame.ipv6 {
        bytes.load::<32>(segment.network_offset + 8).unwrap().to_vec()
    } else {
        bytes.load::<8>(segment.network_offset + 12).unwrap().to_vec()
    };
    assert_eq!(tcp_checksum(&addresses, &bytes[transport as usize..]), 0, "{what}: the checksum holds");
}

/// Frames that kernel and model are compared by.
const COMPARED: usize = 100_000;
