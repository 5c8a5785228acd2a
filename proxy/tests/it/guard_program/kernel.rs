//! The program as the kernel holds it, with maps filled by hand, in a namespace with a connection of the fixture's flow.

use std::{
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use aya::{
    Ebpf, Pod, TestRun, TestRunOptions,
    maps::{
        Array, HashMap, PerCpuArray, RingBuf,
        lpm_trie::{Key, LpmTrie},
    },
    programs::Xdp,
};
use nix::time::{ClockId, clock_gettime};
use proxy_common::{
    fixture::Frame,
    flow::{CUT_NAMES, CutName, SLOTS},
    maps::{
        DenialEntry, GuardSettings, GuardedAddress, Mode, NameEntry, NameKey, PORT_NUMBERS, PortEntry,
        RejectedName, SourceAddress, SourceRule, Tally, UnknownBudget, Verdict, map_names,
    },
    name_hash,
};
use socket2::{Domain, Socket, Type};
use testbed::{
    edge::root,
    namespace::{Namespace, run},
    wait::until,
};

pub(super) const DROP: u32 = 1;
pub(super) const PASS: u32 = 2;
pub(super) const TX: u32 = 3;

/// A guarded port where something listens, but has no connection.
pub(super) const UNCONNECTED: u16 = 444;
/// A port that is guarded on the server's IPv4 address alone.
pub(super) const ONE_ADDRESS: u16 = 446;

/// What the guard is told. The default is strict and enforced.
#[derive(Clone, Copy)]
pub(super) struct Policy {
    pub(super) mode: Mode,
    /// Seconds from now; none is never.
    pub(super) enforce: Option<i64>,
    pub(super) unknown_burst: u32,
    /// Unknown names that each source may cause at once, one more each second; none is as many as it likes.
    pub(super) unknown_per_source: Option<u32>,
    pub(super) resets_per_second: u32,
    /// Whether the ports ask for denied networks, which [`SOURCES`] are or are not.
    pub(super) denies: bool,
    /// SYNs that a source may send at once, one more each second; none is as many as it likes.
    pub(super) syns: Option<u32>,
    /// Rejected names that are told of at once, and each second.
    pub(super) told: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::Strict,
            enforce: Some(60),
            unknown_burst: 1,
            unknown_per_source: None,
            resets_per_second: 10_000,
            denies: false,
            syns: None,
            told: 0,
        }
    }
}

/// What became of a frame.
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    pub(super) action: u32,
    pub(super) bytes: Vec<u8>,
}

/// The program, loaded and attached nowhere.
pub(super) struct Kernel {
    object: Ebpf,
}

impl Kernel {
    /// Loads the object; its maps are empty.
    pub(super) fn load() -> Self {
        let path = root().join("target/ebpf/guard");
        let mut object = Ebpf::load_file(&path).unwrap_or_else(|error| {
            panic!("{}: {error}; run `cargo xtask build-ebpf` as root", path.display())
        });
        program(&mut object).load().unwrap();
        Self { object }
    }

    /// Fills the maps anew and runs one frame.
    pub(super) fn judge(&mut self, policy: &Policy, frame: &Frame) -> Outcome {
        self.adopt(policy);
        self.run(frame)
    }

    /// Fills the maps anew; no budget is spent.
    #[expect(clippy::large_stack_arrays, reason = "64 KiB, once, on a stack of megabytes")]
    pub(super) fn adopt(&mut self, policy: &Policy) {
        let now = now_ns();
        let until = |seconds: i64| now.saturating_add_signed(seconds * 1_000_000_000);
        self.put(
            map_names::SETTINGS,
            GuardSettings {
                mode: policy.mode as u32,
                unknown_per_second: 1,
                unknown_burst: policy.unknown_burst,
                unknown_per_source_per_second: policy.unknown_per_source.map_or(1_000_000, |_| 1),
                unknown_per_source_burst: policy.unknown_per_source.unwrap_or(1_000_000),
                resets_per_second: policy.resets_per_second,
                syns_per_source_per_second: policy.syns.map_or(0, |_| 1),
                syns_per_source_burst: policy.syns.unwrap_or(0),
                sampled_rejections_per_second: policy.told,
            },
        );
        self.put(map_names::ENFORCE_UNTIL, policy.enforce.map_or(0, until));
        self.put(map_names::NAME_KEY, KEY);
        self.put(map_names::UNKNOWN_BUDGET, UnknownBudget::default());
        for name in ["shop.example.com", "both.example.com"] {
            self.insert(map_names::NAMES, name_hash::exact(&KEY, name.as_bytes()), NameEntry::default());
        }
        self.insert(map_names::NAMES, name_hash::wildcard(&KEY, b"example.net"), NameEntry::default());
        for (name, seconds) in [("denied.example", 60), ("forgiven.example", -1), ("both.example.com", 60)] {
            let denial = DenialEntry { until_ns: until(seconds) };
            self.insert(map_names::DENIALS, name_hash::exact(&KEY, name.as_bytes()), denial);
        }
        let every = PortEntry::HELLO_IPV4.and(PortEntry::HELLO_IPV6);
        let deny = if policy.denies { PortEntry::DENY } else { PortEntry::default() };
        let mut ports = [PortEntry::default(); PORT_NUMBERS];
        for (port, entry) in
            [(443, every), (UNCONNECTED, every), (ONE_ADDRESS, PortEntry::HELLO), (80, PortEntry::COUNTED)]
        {
            ports[usize::from(port)] = entry.and(deny);
        }
        for (network, bits, rule) in SOURCES {
            self.rule(network, bits, rule);
        }
        self.put(map_names::PORTS, ports);
        let address = u32::from_be_bytes(Frame::SERVER.0);
        self.insert(map_names::ADDRESSES, GuardedAddress::ipv4(address, ONE_ADDRESS), 1_u32);
        self.put("HINTS", [0_u8; SLOTS as usize]);
    }

    fn rule(&mut self, network: SourceAddress, bits: u32, rule: SourceRule) {
        let map = self.object.map_mut(map_names::SOURCE_NETWORKS).unwrap();
        let mut networks: LpmTrie<_, SourceAddress, u32> = LpmTrie::try_from(map).unwrap();
        networks.insert(&Key::new(bits, network), rule as u32, 0).unwrap();
    }

    /// Forgets the names that the ends of segments have cut.
    pub(super) fn forget_cut_names(&mut self) {
        let map = self.object.map_mut("CUT_NAME").unwrap();
        let mut names: Array<_, [u8; size_of::<CutName>()]> = Array::try_from(map).unwrap();
        for index in 0..CUT_NAMES {
            names.set(index, [0; size_of::<CutName>()], 0).unwrap();
        }
    }

    /// The settings, as they are in the map; what the program counts beside them is kept.
    pub(super) fn set_unknown_budget(&mut self, per_second: u32, burst: u32) {
        let mut map: Array<_, GuardSettings> =
            Array::try_from(self.object.map_mut(map_names::SETTINGS).unwrap()).unwrap();
        let settings = map.get(&0, 0).unwrap();
        map.set(0, GuardSettings { unknown_per_second: per_second, unknown_burst: burst, ..settings }, 0)
            .unwrap();
    }

    /// Has the whole budget of names to be told of again.
    pub(super) fn forget_told(&mut self) {
        self.told();
        self.put("SAMPLE_BUDGET", 0_u64);
    }

    /// The names that the program has told of since they were asked for last, each with its source.
    pub(super) fn told(&mut self) -> Vec<RejectedName> {
        let map = self.object.map_mut(map_names::REJECTED_NAMES).unwrap();
        let mut ring = RingBuf::try_from(map).unwrap();
        let mut told = Vec::new();
        while let Some(item) = ring.next() {
            told.push(RejectedName::read(&item).expect("a rejected name"));
        }
        told
    }

    /// Runs one frame, which must be counted under one verdict, once and with its length.
    pub(super) fn run(&mut self, frame: &Frame) -> Outcome {
        let (sent, before) = (frame.bytes(), self.tallies());
        let mut received = vec![0; sent.len() + 64];
        let options = TestRunOptions {
            data_in: Some(&sent),
            data_out: Some(&mut received),
            ..TestRunOptions::default()
        };
        let result = program(&mut self.object).test_run(options).unwrap();
        received.truncate(result.data_size_out as usize);
        let mut counted =
            self.tallies().into_iter().zip(before).zip(Verdict::ALL).filter_map(|((now, then), verdict)| {
                let grown = (now.packets - then.packets, now.bytes - then.bytes);
                (grown != (0, 0)).then_some((*verdict, grown))
            });
        let (verdict, grown) = counted.next().unwrap_or_else(|| panic!("counted under no verdict"));
        assert_eq!(grown, (1, sent.len() as u64), "counted once, with its length");
        assert_eq!(counted.next(), None, "under one verdict");
        drop(counted);
        Outcome { verdict, action: result.return_value, bytes: received }
    }

    fn tallies(&self) -> Vec<Tally> {
        let map: PerCpuArray<_, Tally> =
            PerCpuArray::try_from(self.object.map(map_names::VERDICTS).unwrap()).unwrap();
        (0..Verdict::COUNT)
            .map(|index| {
                map.get(&index, 0).unwrap().iter().fold(Tally::default(), |sum, tally| Tally {
                    packets: sum.packets + tally.packets,
                    bytes: sum.bytes + tally.bytes,
                })
            })
            .collect()
    }

    fn put<V: Pod>(&mut self, name: &str, value: V) {
        let mut map: Array<_, V> = Array::try_from(self.object.map_mut(name).unwrap()).unwrap();
        map.set(0, value, 0).unwrap();
    }

    fn insert<K: Pod, V: Pod>(&mut self, name: &str, key: K, value: V) {
        let mut map: HashMap<_, K, V> = HashMap::try_from(self.object.map_mut(name).unwrap()).unwrap();
        map.insert(key, value, 0).unwrap();
    }
}

/// Runs `work` in a namespace of its own that has the fixture's addresses, listeners, and over both families an
/// established connection of the fixture's flow, whose two ends it is given.
pub(super) fn in_a_namespace(work: impl FnOnce(Vec<TcpStream>) + Send + 'static) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let hosts = tempfile::NamedTempFile::new().unwrap();
    let name = format!("gatehouse-program-{}-{number}", std::process::id());
    let namespace = Namespace::create(&name, hosts.path()).unwrap();
    namespace
        .await_inside(|| {
            let (client, server) = (Frame::CLIENT, Frame::SERVER);
            for address in [client.0.into(), server.0.into(), client.1.into(), server.1.into()] {
                ip_on_loopback(address);
            }
            let ends =
                |client: IpAddr, server: IpAddr| connect(SocketAddr::new(client, Frame::CLIENT.2), server);
            let (mut listeners, mut connections) = (Vec::new(), Vec::new());
            for (listener, pair) in
                [ends(client.0.into(), server.0.into()), ends(client.1.into(), server.1.into())]
            {
                listeners.push(listener);
                connections.extend(pair);
            }
            work(connections);
        })
        .unwrap();
}

fn connect(client: SocketAddr, server: IpAddr) -> ([TcpListener; 2], [TcpStream; 2]) {
    let listeners = [443, UNCONNECTED].map(|port| TcpListener::bind((server, port)).unwrap());
    let server = SocketAddr::new(server, 443).into();
    // The kernel makes an IPv6 address usable a moment after it was added, also without duplicate detection.
    let socket = until("the addresses", Duration::from_secs(10), || {
        let socket = Socket::new(Domain::for_address(client), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&client.into())?;
        socket.connect_timeout(&server, Duration::from_secs(5))?;
        Ok(socket)
    })
    .unwrap();
    let (accepted, _) = listeners[0].accept().unwrap();
    (listeners, [socket.into(), accepted])
}

fn ip_on_loopback(address: IpAddr) {
    let mut command = std::process::Command::new("ip");
    command.args(["address", "add", &address.to_string(), "dev", "lo"]);
    if address.is_ipv6() {
        command.arg("nodad");
    }
    run(&mut command).unwrap();
}

fn program(object: &mut Ebpf) -> &mut Xdp {
    object.program_mut("guard").unwrap().try_into().unwrap()
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    u64::try_from(Duration::from(now).as_nanos()).unwrap()
}

/// Networks in the map: clients from .128 up over IPv4 are denied, save .192 to .207; over IPv6 those from :40 to :7f.
pub(super) const SOURCES: [(SourceAddress, u32, SourceRule); 3] = [
    (SourceAddress::ipv4(0xc000_0280), SourceAddress::FAMILY_BITS + 25, SourceRule::Deny),
    (SourceAddress::ipv4(0xc000_02c0), SourceAddress::FAMILY_BITS + 28, SourceRule::Exempt),
    (
        SourceAddress::ipv6(0x2001_0db8_0000_0000_0000_0000_0000_0040),
        SourceAddress::FAMILY_BITS + 122,
        SourceRule::Deny,
    ),
];

const KEY: NameKey = proxy_common::fixture::model::KEY;
