//! Nanoseconds per packet of the guard's program: the running kernel repeats it on one frame (`BPF_PROG_TEST_RUN`), and the
//! time of a program that does nothing, in the same round, is taken off.
//! Not here: what a packet costs before and after the program; the rewriting of a rejected segment, since a frame can be
//! judged again only if it is left as it was.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, ensure};
use aya::{
    Ebpf, Pod, TestRun, TestRunOptions,
    maps::{
        Array, HashMap,
        lpm_trie::{Key, LpmTrie},
    },
    programs::Xdp,
};
use proxy_common::{
    fixture::{Frame, Hello},
    maps::{
        GuardSettings, Mode, NameEntry, NameKey, PORT_NUMBERS, PortEntry, SourceAddress, SourceRule,
        map_names,
    },
    name_hash,
    segment::Segment,
};

use super::report::{Report, Row, first_line};
use crate::edge::stub;

/// Measures and publishes the objects that `cargo xtask build-ebpf` has made below `root`.
pub fn run(root: &Path) -> anyhow::Result<()> {
    let mut guard = load(&root.join("target/ebpf/guard"))?;
    let mut empty = load(&stub())?;
    fill(&mut guard)?;
    let frames = frames();
    let mut samples = vec![Vec::new(); frames.len()];
    for round in 1..=ROUNDS {
        println!("round {round} of {ROUNDS}");
        for (frame, samples) in frames.iter().zip(&mut samples) {
            put(&mut guard, map_names::SETTINGS, frame.settings)?;
            frame.before.iter().try_for_each(|before| once(&mut guard, before))?;
            let base = nanoseconds(&mut empty, "stub", frame, PASS)?;
            samples.push(nanoseconds(&mut guard, "guard", frame, frame.action)? - base);
        }
    }
    let versions = BTreeMap::from([("aya".into(), "0.14".into()), ("bpf-linker".into(), linker())]);
    let mut report = Report::new("guard", versions);
    for (frame, samples) in frames.iter().zip(samples) {
        report.push(Row::of(frame.work, "guard - empty", "ns", samples).context("no rounds")?);
    }
    report.publish(root)
}

/// A frame that is judged again and again.
struct Repeated {
    work: &'static str,
    settings: GuardSettings,
    /// What the program sees once before.
    before: Vec<Vec<u8>>,
    bytes: Vec<u8>,
    action: u32,
}

fn frames() -> Vec<Repeated> {
    let of = |work, frame: Frame, action| Repeated {
        work,
        settings: POLICY,
        before: Vec::new(),
        bytes: frame.bytes(),
        action,
    };
    let limited = |syns, frame| Repeated {
        settings: GuardSettings { syns_per_source_per_second: syns, syns_per_source_burst: syns, ..POLICY },
        ..frame
    };
    let hello = |name: &str| Frame::with(Hello::with(name).bytes());
    let browser = Hello { key_share_bytes: 1216, extensions_before: 12, ..Hello::with("shop.example.com") };
    let tagged = Frame { vlan_tags: vec![0x8100], ..Frame::ipv6(Hello::with("shop.example.com").bytes()) };
    let (first, second) = segments();
    let syn = Frame { flags: Segment::SYN, payload: Vec::new(), ..first.clone() };
    vec![
        of("segment to another port", Frame { port: 22, ..Frame::with([0; 1400]) }, PASS),
        of("SYN", Frame { flags: Segment::SYN, ..Frame::with([]) }, PASS),
        limited(u32::MAX, of("SYN within its source's budget", syn_to(443), PASS)),
        Repeated {
            before: vec![syn_to(443).bytes(); 2],
            ..limited(1, of("SYN beyond it", syn_to(443), DROP))
        },
        of("acknowledgment", Frame::with([]), PASS),
        of("data segment", Frame::with([23; 1400]), PASS),
        of("data segment, 100,000 networks denied", Frame { port: DENYING, ..Frame::with([23; 1400]) }, PASS),
        of("SYN from a denied address", Frame { client: DENIED_CLIENT, ..syn_to(DENYING) }, DROP),
        of("allowed hello, 16 characters", hello("shop.example.com"), PASS),
        of("allowed hello, as a browser's", Frame::with(browser.bytes()), PASS),
        of("allowed hello, tagged IPv6", tagged, PASS),
        of("allowed hello, wildcard", hello("shop.example.net"), PASS),
        // With no resets to send the segment is judged, its socket looked for, and dropped as it is.
        of("rejected hello, without its reset", hello("foreign.example"), DROP),
        of("first segment of two", first.clone(), PASS),
        // What it resumes is kept as long as it is rejected.
        Repeated {
            // A new connection, for what is remembered of a flow grows old.
            before: vec![syn.bytes(), first.bytes()],
            ..of("second segment of two, rejected without its reset", second, DROP)
        },
    ]
}

fn syn_to(port: u16) -> Frame {
    Frame { port, flags: Segment::SYN, ..Frame::with([]) }
}

/// A browser's hello for a name that is not allowed, cut as an MTU of 1,500 cuts it.
fn segments() -> (Frame, Frame) {
    let hello = Hello {
        key_share_bytes: 1216,
        extensions_before: 20,
        key_share_first: true,
        ..Hello::with("foreign.example")
    };
    let bytes = hello.bytes();
    let (first, second) = bytes.split_at(MSS.min(bytes.len()));
    let sequence = Frame::SEQUENCE.wrapping_add(u32::try_from(first.len()).unwrap_or(0));
    let frame = |payload: &[u8], sequence| Frame { source_port: 50_000, sequence, ..Frame::with(payload) };
    (frame(first, Frame::SEQUENCE), frame(second, sequence))
}

fn load(path: &Path) -> anyhow::Result<Ebpf> {
    let mut object = Ebpf::load_file(path)
        .with_context(|| format!("{}: run `cargo xtask build-ebpf` as root", path.display()))?;
    for (_, program) in object.programs_mut() {
        let program: &mut Xdp = program.try_into()?;
        program.load()?;
    }
    Ok(object)
}

#[expect(clippy::large_stack_arrays, reason = "64 KiB, once, on a stack of megabytes")]
fn fill(guard: &mut Ebpf) -> anyhow::Result<()> {
    put(guard, map_names::ENFORCE_UNTIL, u64::MAX)?;
    put(guard, map_names::NAME_KEY, KEY)?;
    let mut ports = [PortEntry::default(); PORT_NUMBERS];
    *ports.get_mut(443).context("no such port")? = PortEntry::HELLO_IPV4.and(PortEntry::HELLO_IPV6);
    *ports.get_mut(usize::from(DENYING)).context("no such port")? =
        PortEntry::HELLO_IPV4.and(PortEntry::DENY);
    put(guard, map_names::PORTS, ports)?;
    let mut networks: LpmTrie<_, SourceAddress, u32> = map(guard, map_names::SOURCE_NETWORKS)?.try_into()?;
    // All over the address space, none of them the client's.
    let spread = (0..100_000).map(|number: u32| number * (u32::MAX / 100_000));
    for number in spread.chain([CLIENT_ADDRESS + u32::from(DENIED_CLIENT) - 1]) {
        networks.insert(
            &Key::new(SourceAddress::FAMILY_BITS + 32, SourceAddress::ipv4(number)),
            SourceRule::Deny as u32,
            0,
        )?;
    }
    let mut names: HashMap<_, u64, NameEntry> = map(guard, map_names::NAMES)?.try_into()?;
    names.insert(name_hash::exact(&KEY, b"shop.example.com"), NameEntry::default(), 0)?;
    names.insert(name_hash::wildcard(&KEY, b"example.net"), NameEntry::default(), 0)?;
    Ok(())
}

fn put<V: Pod>(guard: &mut Ebpf, name: &str, value: V) -> anyhow::Result<()> {
    let mut array: Array<_, V> = map(guard, name)?.try_into()?;
    Ok(array.set(0, value, 0)?)
}

fn map<'a>(guard: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut aya::maps::Map> {
    guard.map_mut(name).with_context(|| format!("the program has no map {name}"))
}

fn nanoseconds(object: &mut Ebpf, name: &str, frame: &Repeated, action: u32) -> anyhow::Result<f64> {
    let program: &mut Xdp = object.program_mut(name).context("another program")?.try_into()?;
    let options = TestRunOptions { data_in: Some(&frame.bytes), repeat: REPEAT, ..TestRunOptions::default() };
    let result = program.test_run(options)?;
    let work = frame.work;
    ensure!(result.return_value == action, "{work}: action {} instead of {action}", result.return_value);
    Ok(result.duration.as_secs_f64() * 1e9)
}

fn once(object: &mut Ebpf, frame: &[u8]) -> anyhow::Result<()> {
    let program: &mut Xdp = object.program_mut("guard").context("another program")?.try_into()?;
    program.test_run(TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() })?;
    Ok(())
}

fn linker() -> String {
    first_line("bpf-linker", &["--version"])
}

const POLICY: GuardSettings = GuardSettings {
    sampled_rejections_per_second: 10,
    mode: Mode::Strict as u32,
    unknown_per_second: 1,
    unknown_burst: 1,
    resets_per_second: 0,
    unknown_per_source_per_second: 50,
    unknown_per_source_burst: 200,
    syns_per_source_per_second: 0,
    syns_per_source_burst: 0,
};
/// A port whose packets from denied networks are dropped.
const DENYING: u16 = 444;
const CLIENT_ADDRESS: u32 = u32::from_be_bytes(Frame::CLIENT.0);
/// The last byte of the address that is denied.
const DENIED_CLIENT: u8 = 150;
const ROUNDS: usize = 11;
/// TCP payload of a segment with timestamps, at an MTU of 1,500.
const MSS: usize = 1_448;
const REPEAT: u32 = 1_000_000;
const DROP: u32 = 1;
const PASS: u32 = 2;
const KEY: NameKey = NameKey { k0: 3, k1: 4 };
