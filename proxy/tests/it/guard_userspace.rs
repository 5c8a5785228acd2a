//! The guard's user space against the running kernel: what is loaded, pinned, adopted, replaced and removed.

use std::{
    collections::HashSet,
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use aya::maps::{Array, HashMap, Map, MapData, MapInfo, lpm_trie::LpmTrie};
use gatehouse::{
    config,
    domains::{Denied, LastUse, NameSet, Revision},
    guard::{
        Guard, GuardContext, GuardError, GuardHandle, GuardReport, GuardStatus, Heartbeat, MapsOrigin,
        OtherGuard, Ports,
    },
    name::{Pattern, ServerName},
};
use nix::time::{ClockId, clock_gettime};
use prometheus::{Registry, TextEncoder};
use proxy_common::{
    maps::{
        ABI, DenialEntry, GuardSettings, GuardedAddress, Mode, NameEntry, NameKey, PORT_NUMBERS, PortEntry,
        SOURCE_NETWORKS_CAPACITY, SourceAddress, SourceRule,
    },
    name_hash,
};
use testbed::{
    namespace::{Namespace, run},
    wait::until,
};
use tokio::{
    runtime::Runtime,
    sync::{broadcast, watch},
};

use crate::fixture::report;

/// A folder for pins and the domain set of one instance, inside a namespace of its own.
struct Instance {
    config: config::GuardConfig,
    runtime: Runtime,
    names: watch::Sender<NameSet>,
    denials: broadcast::Sender<Denied>,
    heartbeat: Arc<Heartbeat>,
    epoch: Instant,
    other: OtherGuard,
}

impl Instance {
    fn new(pin_path: &Path, names: &[&str]) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        let epoch = Instant::now();
        let config = config::GuardConfig {
            interfaces: vec!["edge0".into()],
            pin_path: pin_path.to_owned(),
            names: 64,
            ..config::GuardConfig::default()
        };
        let heartbeat = Arc::new(Heartbeat::new(1, epoch));
        let names = watch::Sender::new(set(1, names));
        let other = OtherGuard::None;
        Self { config, runtime, names, denials: broadcast::Sender::new(16), heartbeat, epoch, other }
    }

    fn start(&self) -> Result<Running, GuardError> {
        self.start_by(&config::ListenConfig::default())
    }

    fn start_by(&self, listen: &config::ListenConfig) -> Result<Running, GuardError> {
        let registry = Registry::new();
        // A successor's workers begin when its guard is there.
        if self.other == OtherGuard::None {
            self.heartbeat.beat(0, Instant::now());
        }
        let around = GuardContext {
            names: self.names.subscribe(),
            denials: self.denials.subscribe(),
            last_use: LastUse::begin(self.epoch),
            heartbeat: Arc::clone(&self.heartbeat),
            registry: &registry,
            control: self.runtime.handle(),
            other: self.other,
        };
        let ports = Ports::of(&self.config, listen);
        let guard = GuardHandle::start(&self.config, &ports, around)?;
        Ok(Running { guard, registry, heartbeat: Arc::clone(&self.heartbeat) })
    }

    fn started(&self) -> Running {
        self.started_by(&config::ListenConfig::default())
    }

    fn started_by(&self, listen: &config::ListenConfig) -> Running {
        self.start_by(listen).unwrap_or_else(|error| panic!("{:#}", anyhow::Error::from(error)))
    }

    /// Changes the domain set and waits until the kernel holds it.
    fn hold(&self, running: &Running, revision: u64, names: &[&str]) {
        self.names.send_replace(set(revision, names));
        self.runtime.block_on(running.guard.holds(Revision::new(revision).unwrap())).unwrap();
    }

    fn pin(&self, path: &str) -> PathBuf {
        self.config.pin_path.join(path)
    }

    fn map<T: TryFrom<Map, Error = aya::maps::MapError>>(&self, name: &str) -> T {
        let data = MapData::from_pin(self.pin(&format!("maps-v{ABI}")).join(name)).unwrap();
        Map::from_map_data(data).and_then(T::try_from).unwrap()
    }

    fn map_id(&self, name: &str) -> u32 {
        MapInfo::from_pin(self.pin(&format!("maps-v{ABI}")).join(name)).unwrap().id()
    }

    fn key(&self) -> NameKey {
        self.map::<Array<MapData, NameKey>>("NAME_KEY").get(&0, 0).unwrap()
    }

    fn enforce_until(&self) -> u64 {
        self.map::<Array<MapData, u64>>("ENFORCE_UNTIL").get(&0, 0).unwrap()
    }

    /// Whether the kernel's map of names has exactly these.
    fn assert_kernel_holds(&self, patterns: &[&str]) {
        let key = self.key();
        let wanted: HashSet<u64> = patterns.iter().map(|text| hash(&key, text)).collect();
        let held: HashSet<u64> =
            self.map::<HashMap<MapData, u64, NameEntry>>("NAMES").keys().map(Result::unwrap).collect();
        assert_eq!(held, wanted, "{patterns:?}");
    }
}

struct Running {
    guard: GuardHandle,
    registry: Registry,
    heartbeat: Arc<Heartbeat>,
}

impl Running {
    fn report(&self) -> GuardReport {
        match self.guard.status() {
            GuardStatus::On(report) => *report,
            GuardStatus::Off => panic!("the guard is off"),
        }
    }

    fn link(&self) -> u32 {
        self.report().interfaces.first().unwrap().link.unwrap()
    }

    fn packets(&self) -> u64 {
        self.report().verdicts.iter().map(|row| row.packets).sum()
    }

    fn metric(&self, series: &str) -> f64 {
        let text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{series} in {text}")).parse().unwrap()
    }

    /// Waits while the worker shows life.
    fn wait_for_enforcement(&self, state: &str) {
        until(&format!("enforcement to be {state}"), LIMIT, || {
            self.heartbeat.beat(0, Instant::now());
            let seen = self.report().enforcement;
            ensure!(seen == state, "{seen}");
            Ok(())
        })
        .unwrap();
    }
}

fn set(revision: u64, names: &[&str]) -> NameSet {
    NameSet {
        revision: Revision::new(revision),
        patterns: names.iter().map(|text| Pattern::parse(text).unwrap()).collect(),
    }
}

fn hash(key: &NameKey, pattern: &str) -> u64 {
    match pattern.strip_prefix("*.") {
        Some(suffix) => name_hash::wildcard(key, suffix.as_bytes()),
        None => name_hash::exact(key, pattern.as_bytes()),
    }
}

/// Runs `case` in a network namespace with two veth pairs, `edge0` and `edge1` being the guarded ends, and a bpffs nobody
/// else sees.
fn on_an_edge(case: impl FnOnce(&Path) + Send + 'static) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let hosts = tempfile::NamedTempFile::new().unwrap();
    let name = format!("gatehouse-guard-{}-{number}", std::process::id());
    let namespace = Namespace::create(&name, hosts.path()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let pins = folder.path().join("bpf");
    let inside = pins.clone();
    namespace
        .await_inside(move || {
            for index in 0..2 {
                let (edge, client) = (format!("edge{index}"), format!("client{index}"));
                ip(&["link", "add", &edge, "type", "veth", "peer", "name", &client]);
                ip(&["link", "set", &edge, "up"]);
                ip(&["link", "set", &client, "up"]);
            }
            case(&inside);
            Guard::detach(&inside).unwrap();
        })
        .unwrap();
}

fn ip(arguments: &[&str]) {
    run(std::process::Command::new("ip").args(arguments)).unwrap();
}

/// The program the interface runs, as `ip link` shows it.
fn attached(interface: &str) -> bool {
    let shown = run(std::process::Command::new("ip").args(["-d", "link", "show", interface])).unwrap();
    shown.contains("prog/xdp")
}

/// The kernel removes a link some milliseconds after its pin.
fn assert_detached(interface: &str) {
    until(&format!("{interface} to be free"), LIMIT, || {
        ensure!(!attached(interface), "a program");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_start_loads_attaches_and_pins() {
    on_an_edge(|pins| {
        let instance = Instance::new(pins, &["a.example", "*.b.example"]);
        let running = instance.started();
        assert!(attached("edge0") && !attached("edge1"));
        let report = running.report();
        assert_eq!(report.maps, MapsOrigin::Built);
        assert_eq!((report.names, report.names_capacity, report.revision), (2, 64, Revision::new(1)));
        assert_eq!(report.interfaces.first().unwrap().program, Some(report.program.id));
        instance.assert_kernel_holds(&["a.example", "*.b.example"]);
        running.wait_for_enforcement("on");
        for (series, value) in [
            ("gatehouse_guard_enforcing", 1.0),
            ("gatehouse_guard_names", 2.0),
            ("gatehouse_guard_names_capacity", 64.0),
            ("gatehouse_guard_names_full", 0.0),
            ("gatehouse_guard_interfaces{attach=\"native\"}", 1.0),
            ("gatehouse_guard_interfaces_configured", 1.0),
            ("gatehouse_guard_enforcement{state=\"on\"}", 1.0),
        ] {
            assert!((running.metric(series) - value).abs() < 0.5, "{series} {}", running.metric(series));
        }
    });
}

#[test]
fn a_second_start_adopts_maps_link_names_and_counters() {
    on_an_edge(|pins| {
        let instance = Instance::new(pins, &["a.example"]);
        let first = instance.started();
        let packets = until("the first packets", LIMIT, || {
            // A link that comes up asks for routers (RFC 4861 §6.3.7): the guard counts what the client's end sends.
            let packets = first.packets();
            ensure!(packets > 0, "none");
            Ok(packets)
        })
        .unwrap();
        let (link, program) = (first.link(), first.report().program.id);
        let (names, verdicts, key) = (instance.map_id("NAMES"), instance.map_id("VERDICTS"), instance.key());
        drop(first);
        assert_eq!(instance.enforce_until(), 1, "the end of a process ends enforcement; its names are whole");
        assert!(attached("edge0"), "and leaves the program attached");

        let successor = Instance::new(pins, &["b.example"]);
        successor.names.send_replace(NameSet::default());
        let second = successor.started();
        assert_eq!(second.report().maps, MapsOrigin::Adopted);
        assert_eq!(second.link(), link, "the link is updated, not made again");
        assert_ne!(second.report().program.id, program);
        assert_eq!((instance.map_id("NAMES"), instance.map_id("VERDICTS")), (names, verdicts));
        assert!(successor.key() == key);
        assert!(second.packets() >= packets, "{} after {packets}", second.packets());
        successor.assert_kernel_holds(&["a.example"]);
        second.wait_for_enforcement("inherited");
        successor.hold(&second, 7, &["b.example"]);
        second.wait_for_enforcement("on");
    });
}

#[test]
fn a_predecessors_names_that_no_list_holds_pass_until_user_space_denies_them() {
    on_an_edge(|pins| {
        drop(Instance::new(pins, &["listed.example", "asked.example", "gone.example"]).started());
        let instance = Instance::new(pins, &["listed.example"]);
        let second = instance.started();
        instance.assert_kernel_holds(&["listed.example", "asked.example", "gone.example"]);
        let gone = ServerName::parse("gone.example").unwrap();
        instance.denials.send(Denied { name: gone, ttl: Duration::from_mins(1) }).unwrap();
        until("the denied name to go", LIMIT, || {
            let names = second.report().names;
            ensure!(names == 2, "{names}");
            Ok(())
        })
        .unwrap();
        instance.hold(&second, 2, &["asked.example"]);
        instance.assert_kernel_holds(&["asked.example"]);
        instance.hold(&second, 3, &[]);
        instance.assert_kernel_holds(&[]);
    });
}

#[test]
fn a_start_that_is_refused_changes_nothing_of_what_its_predecessor_enforces() {
    on_an_edge(|pins| {
        let mut first = Instance::new(pins, &["a.example", "b.example"]);
        first.config.mode = config::GuardMode::Strict;
        let running = first.started();
        running.wait_for_enforcement("on");
        let mut refused = Instance::new(pins, &["b.example"]);
        refused.config.interfaces = vec!["edge0".into(), "lo".into()];
        refused.config.mode = config::GuardMode::Observe;
        refused.start().err().expect("a refusal");
        first.assert_kernel_holds(&["a.example", "b.example"]);
        assert_eq!(mode(&first), Mode::Strict as u32);
        running.wait_for_enforcement("on");
        first.hold(&running, 2, &["c.example"]);
        first.assert_kernel_holds(&["c.example"]);
    });
}

/// What a start that fails at its second interface does at the first, and undoes, whenever its predecessor looks.
#[test]
fn a_start_that_is_undone_leaves_its_predecessor_enforcing() {
    on_an_edge(|pins| {
        let first = Instance::new(pins, &["a.example"]);
        let running = first.started();
        running.wait_for_enforcement("on");
        let index = running.report().interfaces.first().unwrap().index;
        let (link, elsewhere) = (first.pin(&format!("link-{index}")), first.pin("elsewhere"));
        fs::rename(&link, &elsewhere).unwrap();
        thread::park_timeout(Duration::from_secs(1));
        first.names.send_replace(set(2, &["b.example"]));
        let refused = running.guard.set_policy(&first.config).unwrap_err();
        assert!(matches!(refused, GuardError::Contested), "{refused}");
        assert_eq!(running.report().enforcement, "on", "the time written last goes on");
        first.assert_kernel_holds(&["a.example"]);
        fs::rename(&elsewhere, &link).unwrap();
        first.hold(&running, 2, &["b.example"]);
        first.assert_kernel_holds(&["b.example"]);
        running.guard.set_policy(&first.config).unwrap();
        let written = first.enforce_until();
        until("the time to be extended", LIMIT, || {
            running.heartbeat.beat(0, Instant::now());
            ensure!(first.enforce_until() > written, "not yet");
            Ok(())
        })
        .unwrap();
    });
}

#[test]
fn a_guard_that_was_replaced_writes_nothing() {
    on_an_edge(|pins| {
        let first = Instance::new(pins, &["a.example"]);
        let replaced = first.started();
        replaced.wait_for_enforcement("on");
        let mut successor = Instance::new(pins, &["a.example", "b.example"]);
        successor.config.mode = config::GuardMode::Strict;
        let second = successor.started();
        second.wait_for_enforcement("on");
        replaced.wait_for_enforcement("replaced");
        assert!(replaced.metric("gatehouse_guard_enforcing") < 0.5);
        assert!(replaced.metric("gatehouse_guard_interfaces{attach=\"native\"}") < 0.5);
        first.hold(&replaced, 2, &["c.example"]);
        replaced.guard.set_policy(&first.config).unwrap();
        successor.assert_kernel_holds(&["a.example", "b.example"]);
        assert_eq!(mode(&successor), Mode::Strict as u32);
        // What it wrote last ends by itself.
        drop(second);
        assert_eq!(successor.enforce_until(), 1);
        thread::park_timeout(Duration::from_secs(1));
        assert_eq!(successor.enforce_until(), 1, "whoever was replaced prolongs nothing");
    });
}

#[test]
fn an_interface_that_goes_is_no_longer_attached_to() {
    on_an_edge(|pins| {
        let mut instance = Instance::new(pins, &["a.example"]);
        instance.config.mode = config::GuardMode::Observe;
        let running = instance.started();
        running.wait_for_enforcement("on");
        let interfaces = || running.metric("gatehouse_guard_interfaces{attach=\"native\"}");
        assert!(interfaces() > 0.5);
        assert!(running.metric("gatehouse_guard_enforcing") < 0.5, "a guard that observes rejects nothing");
        ip(&["link", "del", "edge0"]);
        until("the metric to tell", LIMIT, || {
            ensure!(interfaces() < 0.5, "attached still");
            Ok(())
        })
        .unwrap();
        assert_eq!(running.report().interfaces.first().unwrap().link, None);
    });
}

/// The mode in force, as the program reads it.
fn mode(instance: &Instance) -> u32 {
    instance.map::<Array<MapData, GuardSettings>>("SETTINGS").get(&0, 0).unwrap().mode
}

#[test]
fn before_the_lists_are_read_a_predecessors_names_are_enforced_as_adaptive() {
    on_an_edge(|pins| {
        let mut instance = Instance::new(pins, &["a.example", "b.example"]);
        instance.config.mode = config::GuardMode::Strict;
        drop(instance.started());
        // The static list is known, the table is not.
        instance.names.send_replace(set(0, &["static.example"]));
        let second = instance.started();
        instance.assert_kernel_holds(&["a.example", "b.example", "static.example"]);
        second.wait_for_enforcement("inherited");
        assert!(second.metric("gatehouse_guard_enforcing") > 0.5);
        assert_eq!(mode(&instance), Mode::Adaptive as u32, "a name added meanwhile has its chance");
        instance.names.send_replace(set(0, &["static.example", "found.example"]));
        until("a name found meanwhile", LIMIT, || {
            let held = second.report().names;
            ensure!(held == 4, "{held}");
            Ok(())
        })
        .unwrap();
        instance.hold(&second, 9, &["b.example", "static.example"]);
        second.wait_for_enforcement("on");
        assert_eq!(mode(&instance), Mode::Strict as u32);
    });
}

#[test]
fn a_map_that_was_not_whole_is_not_enforced_by() {
    on_an_edge(|pins| {
        let instance = Instance::new(pins, &["a.example"]);
        let running = instance.started();
        let many: Vec<String> = (0..65).map(|number| format!("n{number}.example")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        instance.hold(&running, 2, &many);
        drop(running);
        assert_eq!(instance.enforce_until(), 0);
        instance.names.send_replace(NameSet::default());
        instance.started().wait_for_enforcement("names_unread");
    });
}

/// Whether the program enforces for a while, if nobody writes any more.
fn assert_enforced(instance: &Instance, when: &str) {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());
    let until = Duration::from_nanos(instance.enforce_until());
    assert!(until > now, "{when}: until {until:?}, and it is {now:?}");
}

#[test]
fn a_successor_takes_over_without_a_moment_unguarded() {
    on_an_edge(|pins| {
        for (names, maps) in [(64, MapsOrigin::Adopted), (128, MapsOrigin::Built)] {
            let instance = Instance::new(pins, &["a.example"]);
            let first = instance.started();
            first.wait_for_enforcement("on");
            // From here on it writes nothing, so that what is seen is the successor's work.
            instance.runtime.block_on(first.guard.pause_names());
            first.guard.release();
            let mut successor = Instance::new(pins, &["a.example", "b.example"]);
            successor.config.names = names;
            successor.other = OtherGuard::Predecessors;
            let second = successor.started();
            assert_eq!(second.report().maps, maps);
            until("a decision without workers", LIMIT, || {
                let seen = second.report().enforcement;
                ensure!(seen == "workers_silent", "{seen}");
                Ok(())
            })
            .unwrap();
            assert_enforced(&successor, "before the successor's workers have begun");
            drop(first);
            assert_enforced(&successor, "at the end of the predecessor");
            successor.assert_kernel_holds(&["a.example", "b.example"]);
            second.wait_for_enforcement("on");
            assert_enforced(&successor, "afterwards");
        }
    });
}

#[test]
fn a_predecessor_whose_successor_has_failed_has_its_names_back() {
    on_an_edge(|pins| {
        let mut instance = Instance::new(pins, &["a.example"]);
        instance.config.deny = networks(&["192.0.2.0/24"]);
        let first = instance.started();
        instance.runtime.block_on(first.guard.pause_names());
        let mut successor = Instance::new(pins, &["c.example"]);
        successor.other = OtherGuard::Predecessors;
        successor.config.mode = config::GuardMode::Strict;
        successor.config.deny = networks(&["198.51.100.0/24"]);
        drop(successor.started());
        assert_denies(&instance, &["198.51.100.0/24"]);
        instance.names.send_replace(set(2, &["a.example", "b.example"]));
        instance.assert_kernel_holds(&["a.example", "c.example"]);
        first.guard.resume_names();
        assert_eq!(mode(&instance), Mode::Adaptive as u32);
        assert_denies(&instance, &["192.0.2.0/24"]);
        instance.hold(&first, 2, &["a.example", "b.example"]);
        instance.assert_kernel_holds(&["a.example", "b.example"]);
        first.wait_for_enforcement("on");
        // At its end the successor has said that nobody enforces.
        until("the time to be extended again", LIMIT, || {
            ensure!(instance.enforce_until() > 1, "nobody enforces");
            Ok(())
        })
        .unwrap();
        assert_enforced(&instance, "again");
        first.guard.set_policy(&successor.config).unwrap();
        assert_denies(&instance, &["198.51.100.0/24"]);
    });
}

#[test]
fn what_is_allowed_before_and_after_a_change_is_allowed_meanwhile() {
    on_an_edge(|pins| {
        let mut instance = Instance::new(pins, &["*.shop.example"]);
        instance.config.names = 100_000;
        let running = instance.started();
        instance.hold(&running, 1, &["*.shop.example"]);
        let key = instance.key();
        let one_of = ["*.shop.example", "n29999.shop.example"].map(|name| hash(&key, name));
        let exact: Vec<String> = (0..30_000).map(|n| format!("n{n}.shop.example")).collect();
        let exact: Vec<&str> = exact.iter().map(String::as_str).collect();
        let names = instance.map::<HashMap<MapData, u64, NameEntry>>("NAMES");
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let looks = scope.spawn(|| {
                let (mut looks, mut gaps) = (0_u32, 0_u32);
                while !is_over.load(Ordering::Relaxed) {
                    // The one that comes first last: between the two looks only the other way round could both be missed.
                    let is_there =
                        [1, 0, 1].iter().any(|index: &usize| names.get(&one_of[*index], 0).is_ok());
                    (looks, gaps) = (looks + 1, gaps + u32::from(!is_there));
                }
                (looks, gaps)
            });
            instance.hold(&running, 2, &exact);
            instance.hold(&running, 3, &["*.shop.example"]);
            is_over.store(true, Ordering::Relaxed);
            let (looks, gaps) = looks.join().unwrap();
            assert!(looks > 1_000 && gaps == 0, "{gaps} of {looks}");
        });
        instance.assert_kernel_holds(&["*.shop.example"]);
    });
}

#[test]
fn names_are_replaced_by_others_where_there_is_no_room_for_both() {
    on_an_edge(|pins| {
        let lists =
            ["a", "b"].map(|letter| (0..60).map(|n| format!("{letter}{n}.example")).collect::<Vec<_>>());
        let [old, new] = lists.each_ref().map(|list| list.iter().map(String::as_str).collect::<Vec<_>>());
        let instance = Instance::new(pins, &old);
        let running = instance.started();
        instance.hold(&running, 2, &new);
        instance.assert_kernel_holds(&new);
    });
}

#[test]
fn another_size_builds_new_maps_behind_the_same_link() {
    on_an_edge(|pins| {
        let mut instance = Instance::new(pins, &["a.example"]);
        let first = instance.started();
        let (link, names) = (first.link(), instance.map_id("NAMES"));
        drop(first);
        fs::create_dir(instance.pin("maps-v0")).unwrap();
        instance.config.names = 128;
        let second = instance.started();
        assert_eq!(second.report().maps, MapsOrigin::Built);
        assert_eq!(second.link(), link);
        assert_ne!(instance.map_id("NAMES"), names);
        assert_eq!(second.report().names_capacity, 128);
        instance.assert_kernel_holds(&["a.example"]);
        for folder in ["maps-v0".to_owned(), format!("maps-v{ABI}-next")] {
            assert!(!instance.pin(&folder).exists(), "{folder}");
        }
    });
}

#[test]
fn what_a_crash_left_is_finished_or_undone() {
    on_an_edge(|pins| {
        let instance = Instance::new(pins, &["a.example"]);
        drop(instance.started());
        let names = instance.map_id("NAMES");
        // Between the update of the link and the folder's new name: the program uses the new maps.
        fs::rename(instance.pin(&format!("maps-v{ABI}")), instance.pin(&format!("maps-v{ABI}-next")))
            .unwrap();
        let finished = instance.started();
        assert_eq!((finished.report().maps, instance.map_id("NAMES")), (MapsOrigin::Adopted, names));
        drop(finished);
        // Before it: nobody uses them.
        fs::create_dir(instance.pin(&format!("maps-v{ABI}-next"))).unwrap();
        let undone = instance.started();
        assert_eq!((undone.report().maps, instance.map_id("NAMES")), (MapsOrigin::Adopted, names));
        assert!(!instance.pin(&format!("maps-v{ABI}-next")).exists());
    });
}

#[test]
fn detach_removes_program_pins_and_mount() {
    on_an_edge(|pins| {
        let instance = Instance::new(pins, &["a.example"]);
        drop(instance.started());
        let removed = Guard::detach(pins).unwrap();
        assert_eq!(removed.len(), 2, "{removed:?}");
        assert_detached("edge0");
        assert_eq!(fs::read_dir(pins).unwrap().count(), 0, "an empty folder, no bpffs");
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        assert!(!mounts.contains(&*pins.to_string_lossy()), "{mounts}");
        assert_eq!(Guard::detach(pins).unwrap().len(), 0, "a second time there is nothing");
    });
}

#[test]
fn a_refused_start_says_why_and_leaves_nothing() {
    on_an_edge(|pins| {
        let first = Instance::new(&pins.join("first"), &["a.example"]);
        let _running = first.started();
        for (interfaces, attach, remedy) in [
            (vec!["edge1", "edge0"], config::Attach::Native, "another XDP program is attached to `edge0`"),
            (vec!["edge1", "lo"], config::Attach::Native, "write `attach = \"generic\"`"),
            (vec!["edge1", "absent0"], config::Attach::Native, "`absent0` is not an interface"),
        ] {
            let mut second = Instance::new(&pins.join("second"), &["a.example"]);
            second.config.interfaces = interfaces.iter().map(ToString::to_string).collect();
            second.config.attach = attach;
            let text = second.start().err().expect("a refusal").to_string();
            assert!(text.contains(remedy), "{interfaces:?}: {text}");
            assert_detached("edge1");
            for folder in [format!("maps-v{ABI}"), format!("maps-v{ABI}-next")] {
                assert!(!second.pin(&folder).exists(), "{folder}");
            }
        }
        Guard::detach(&pins.join("second")).unwrap();
        Guard::detach(&pins.join("first")).unwrap();
    });
}

/// The id of the program the interface runs.
fn program_of(interface: &str) -> String {
    let shown = run(std::process::Command::new("ip").args(["-d", "link", "show", interface])).unwrap();
    let words: Vec<_> = shown.split_whitespace().collect();
    let id = words.windows(3).find(|words| words[0] == "prog/xdp" && words[1] == "id");
    id.unwrap_or_else(|| panic!("no program: {shown}"))[2].to_owned()
}

#[test]
fn a_hand_over_refused_by_one_interface_is_undone_on_the_others() {
    on_an_edge(|pins| {
        let mut instance = Instance::new(pins, &["a.example"]);
        drop(instance.started());
        let (before, names) = (program_of("edge0"), instance.map_id("NAMES"));
        // Another's program holds the second interface.
        let mut other = Instance::new(&pins.join("other"), &["a.example"]);
        other.config.interfaces = vec!["edge1".into()];
        drop(other.started());
        instance.config.interfaces = vec!["edge0".into(), "edge1".into()];
        for (attach, capacity) in
            [(config::Attach::Native, 64), (config::Attach::Native, 128), (config::Attach::Generic, 64)]
        {
            instance.config.names = capacity;
            instance.config.attach = attach;
            let text = instance.start().err().expect("a refusal").to_string();
            assert!(text.contains("edge1"), "{text}");
            assert_eq!(program_of("edge0"), before, "{attach:?}, {capacity} names");
            assert_eq!(instance.map_id("NAMES"), names, "{attach:?}, {capacity} names");
            assert!(!instance.pin(&format!("maps-v{ABI}-next")).exists());
        }
        Guard::detach(&pins.join("other")).unwrap();
        assert_detached("edge1");
        instance.config.names = 64;
        instance.config.attach = config::Attach::Native;
        let running = instance.started();
        assert_eq!(running.report().maps, MapsOrigin::Adopted);
        assert_ne!(program_of("edge0"), before);
    });
}

#[test]
fn hellos_are_judged_at_the_addresses_of_the_listeners() {
    on_an_edge(|pins| {
        let instance = Instance::new(pins, &["a.example"]);
        let addresses = || -> HashSet<GuardedAddress> {
            instance
                .map::<HashMap<MapData, GuardedAddress, u32>>("ADDRESSES")
                .keys()
                .map(Result::unwrap)
                .collect()
        };
        for (https, expected) in [
            (vec!["192.0.2.2:443", "[2001:db8::2]:443"], 2),
            (vec!["192.0.2.2:443"], 1),
            (vec!["0.0.0.0:443"], 0),
        ] {
            let listen = config::ListenConfig {
                https: https.iter().map(|address| address.parse().unwrap()).collect(),
                ..config::ListenConfig::default()
            };
            let running = instance.started_by(&listen);
            assert_eq!(addresses().len(), expected, "{https:?}");
            assert_eq!(addresses().contains(&GuardedAddress::ipv4(0xc000_0202, 443)), expected > 0);
            drop(running);
        }
    });
}

#[test]
fn networks_with_rules_follow_the_settings() {
    on_an_edge(|pins| {
        let mut instance = Instance::new(pins, &["a.example"]);
        let running = instance.started();
        assert_denies(&instance, &[]);
        instance.config.deny = networks(&["192.0.2.0/24", "2001:db8::/32", "192.0.2.0/24"]);
        running.guard.set_policy(&instance.config).unwrap();
        assert_denies(&instance, &["192.0.2.0/24", "2001:db8::/32"]);
        drop(running);
        // A successor finds its predecessor's, and other settings.
        instance.config.deny = networks(&["2001:db8::/32", "0.0.0.0/0", "::/0"]);
        let running = instance.started();
        assert_eq!(running.report().maps, MapsOrigin::Adopted);
        assert_denies(&instance, &["2001:db8::/32", "0.0.0.0/0", "::/0"]);
        instance.config.exempt = networks(&["0.0.0.0/0"]);
        instance.config.deny = networks(&["::/0"]);
        running.guard.set_policy(&instance.config).unwrap();
        let rules = rules(&instance);
        let (every_ipv4, every_ipv6) = (SourceAddress::ipv4(0), SourceAddress::ipv6(0));
        assert_eq!(rules.len(), 2);
        assert!(rules.contains(&((every_ipv4, 32), SourceRule::Exempt)), "{rules:?}");
        assert!(rules.contains(&((every_ipv6, 32), SourceRule::Deny)), "{rules:?}");
        (instance.config.deny, instance.config.exempt) = (Vec::new(), Vec::new());
        running.guard.set_policy(&instance.config).unwrap();
        assert_denies(&instance, &[]);
    });
}

#[test]
fn networks_that_do_not_fit_leave_those_that_were_denied() {
    on_an_edge(|pins| {
        let mut instance = Instance::new(pins, &["a.example"]);
        instance.config.deny = networks(&["192.0.2.0/24"]);
        let running = instance.started();
        let too_many = (0..=SOURCE_NETWORKS_CAPACITY).map(|number| Ipv4Addr::from(0x0a00_0000 + number));
        let too_many: Vec<String> = too_many.map(|address| format!("{address}/32")).collect();
        let config = config::GuardConfig {
            deny: networks(&too_many.iter().map(String::as_str).collect::<Vec<_>>()),
            mode: config::GuardMode::Observe,
            ..instance.config.clone()
        };
        let refused = running.guard.set_policy(&config).unwrap_err();
        assert!(refused.to_string().contains("SOURCE_NETWORKS"), "{refused}");
        assert_denies(&instance, &["192.0.2.0/24"]);
        assert_eq!(mode(&instance), Mode::Adaptive as u32);
    });
}

#[test]
fn a_hundred_thousand_denied_networks_are_loaded_and_replaced() {
    on_an_edge(|pins| {
        let mut instance = Instance::new(pins, &["a.example"]);
        let running = instance.started();
        let addresses =
            |first: u32| (first..first + 100_000).map(|number| format!("{}/32", Ipv4Addr::from(number)));
        for first in [0x0a00_0000, 0x0b00_0000] {
            let list: Vec<String> = addresses(first).collect();
            instance.config.deny = networks(&list.iter().map(String::as_str).collect::<Vec<_>>());
            let start = Instant::now();
            running.guard.set_policy(&instance.config).unwrap();
            report(&format!("100,000 denied networks in {:?}", start.elapsed()));
            assert_eq!(denied(&instance).len(), 100_000);
        }
    });
}

fn networks(list: &[&str]) -> Vec<config::Network> {
    list.iter().map(|text| config::Network::try_from((*text).to_owned()).unwrap()).collect()
}

/// The networks in the map, and their rules.
fn rules(instance: &Instance) -> Vec<((SourceAddress, u32), SourceRule)> {
    let map = instance.map::<LpmTrie<MapData, SourceAddress, u32>>("SOURCE_NETWORKS");
    let entries = map.iter().map(|entry| entry.unwrap());
    entries.map(|(key, rule)| ((key.data(), key.prefix_len()), SourceRule::of(rule).unwrap())).collect()
}

/// Those that are denied.
fn denied(instance: &Instance) -> HashSet<(SourceAddress, u32)> {
    let denied = rules(instance).into_iter().filter(|(_, rule)| *rule == SourceRule::Deny);
    denied.map(|(network, _)| network).collect()
}

/// The map has exactly these networks, and the ports say whether there are any.
fn assert_denies(instance: &Instance, list: &[&str]) {
    let wanted: HashSet<_> = networks(list)
        .iter()
        .map(|network| match network.network() {
            IpAddr::V4(address) => {
                (SourceAddress::ipv4(address.to_bits()), 32 + u32::from(network.prefix_len()))
            }
            IpAddr::V6(address) => {
                (SourceAddress::ipv6(address.to_bits()), 32 + u32::from(network.prefix_len()))
            }
        })
        .collect();
    assert_eq!(denied(instance), wanted, "{list:?}");
    let ports = instance.map::<Array<MapData, [PortEntry; PORT_NUMBERS]>>("PORTS").get(&0, 0).unwrap();
    let asking = ports.iter().filter(|entry| entry.has(PortEntry::DENY)).count();
    assert_eq!(asking, if list.is_empty() { 0 } else { 2 }, "{list:?}: 8080 and 8443");
}

#[test]
fn interfaces_and_mode_follow_the_settings() {
    on_an_edge(|pins| {
        let mut instance = Instance::new(pins, &["a.example"]);
        instance.config.interfaces = vec!["edge0".into(), "edge1".into()];
        drop(instance.started());
        assert!(attached("edge0") && attached("edge1"));
        instance.config.interfaces = vec!["edge1".into()];
        instance.config.attach = config::Attach::Generic;
        let running = instance.started();
        assert_eq!(running.report().maps, MapsOrigin::Adopted);
        assert_detached("edge0");
        assert!(attached("edge1"));
        assert!((running.metric("gatehouse_guard_interfaces{attach=\"generic\"}") - 1.0).abs() < 0.5);
    });
}

#[test]
fn a_link_of_an_interface_that_is_gone_is_replaced() {
    on_an_edge(|pins| {
        let instance = Instance::new(pins, &["a.example"]);
        let first = instance.started();
        let index = first.report().interfaces.first().unwrap().index.to_string();
        drop(first);
        ip(&["link", "del", "edge0"]);
        ip(&["link", "add", "edge0", "index", &index, "type", "veth", "peer", "name", "client0"]);
        let second = instance.started();
        assert!(attached("edge0"));
        assert_eq!(second.report().maps, MapsOrigin::Adopted);
    });
}

#[test]
fn a_name_is_in_the_kernel_when_its_revision_is_held() {
    on_an_edge(|pins| {
        let instance = Instance::new(pins, &[]);
        let running = instance.started();
        for (revision, names) in
            [(2, &["a.example", "*.b.example"][..]), (3, &["a.example", "c.example"][..]), (4, &[][..])]
        {
            instance.hold(&running, revision, names);
            instance.assert_kernel_holds(names);
        }
    });
}

#[test]
fn more_names_than_fit_end_enforcement() {
    on_an_edge(|pins| {
        let instance = Instance::new(pins, &["a.example"]);
        let running = instance.started();
        running.wait_for_enforcement("on");
        let many: Vec<String> = (0..65).map(|number| format!("n{number}.example")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        instance.hold(&running, 2, &many);
        running.wait_for_enforcement("names_full");
        assert_eq!(instance.enforce_until(), 0);
        assert!((running.metric("gatehouse_guard_names_full") - 1.0).abs() < 0.5);
        instance.hold(&running, 3, many.get(1..).unwrap());
        running.wait_for_enforcement("on");
        assert!(running.metric("gatehouse_guard_names_full") < 0.5);
    });
}

#[test]
fn enforcement_ends_with_the_workers_and_with_draining() {
    on_an_edge(|pins| {
        let instance = Instance::new(pins, &["a.example"]);
        let running = instance.started();
        running.wait_for_enforcement("on");
        assert!(instance.enforce_until() > 0);
        until("the silent worker to be noticed", LIMIT, || {
            let seen = running.report().enforcement;
            ensure!(seen == "workers_silent", "{seen}");
            Ok(())
        })
        .unwrap();
        assert!(instance.epoch.elapsed() >= Duration::from_secs(5), "not before five seconds");
        instance.heartbeat.beat(0, Instant::now());
        running.wait_for_enforcement("on");
        running.guard.drain();
        running.wait_for_enforcement("draining");
        until("the kernel to be told", LIMIT, || {
            let until = instance.enforce_until();
            ensure!(until == 1, "{until}");
            Ok(())
        })
        .unwrap();
        assert!(attached("edge0"));
        instance
            .runtime
            .block_on(running.guard.holds(Revision::new(99).unwrap()))
            .expect("nothing is rejected any more");
    });
}

#[test]
fn a_denial_is_entered_and_lifted_when_the_name_is_allowed() {
    on_an_edge(|pins| {
        let instance = Instance::new(pins, &["a.example"]);
        let running = instance.started();
        let denied = |name: &str| {
            let denials = instance.map::<HashMap<MapData, u64, DenialEntry>>("DENIALS");
            denials.get(&hash(&instance.key(), name), 0).is_ok()
        };
        for name in ["a.example", "foreign.example"] {
            let name = ServerName::parse(name).unwrap();
            instance.denials.send(Denied { name, ttl: Duration::from_mins(1) }).unwrap();
        }
        until("the denial", LIMIT, || {
            ensure!(denied("foreign.example"), "not there");
            Ok(())
        })
        .unwrap();
        assert!(!denied("a.example"), "an allowed name is not denied");
        instance.hold(&running, 2, &["a.example", "foreign.example"]);
        assert!(!denied("foreign.example"));
    });
}

#[test]
fn without_interfaces_the_guard_is_off_and_holds_everything() {
    let mut instance = Instance::new(Path::new("/nonexistent"), &[]);
    instance.config.interfaces.clear();
    let running = instance.started();
    instance.runtime.block_on(running.guard.holds(Revision::new(u64::MAX).unwrap())).unwrap();
    assert!(matches!(running.guard.status(), GuardStatus::Off));
}

const LIMIT: Duration = Duration::from_mins(1);
