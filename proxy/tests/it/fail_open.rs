//! The guard without its user space: it lets go within seconds, and is taken over without a gap.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::ensure;
use nix::sys::signal::Signal;
use testbed::{
    edge::Edge,
    gatehouse::{Gatehouse, Place},
    hello::{Ending, Hello, KeyShare, attempt},
    load::{Load, Plan, Protocol},
    metrics::Metrics,
    network::EDGE_LINK,
    relay::Traffic,
    wait,
};

use crate::fixture::{
    FOREIGN, SHOP, assert_served, connections, edge, greet_until, is_enforcing, on_both_back_ends,
    scrape_until, send_client_hello, start,
};

on_both_back_ends!(a_stopped_instance_stops_enforcing, a_restart_under_load_loses_no_allowed_hello);

fn a_stopped_instance_stops_enforcing(io: &str) {
    let edge = edge();
    let gatehouse = strict(&edge, Place::A, io);
    gatehouse.process.signal(Signal::SIGSTOP).unwrap();
    // Connected and unanswered: the kernel took the hello for the listener, which is stopped.
    assert_lets_go(&edge, &Ending::Silence);
    gatehouse.process.signal(Signal::SIGCONT).unwrap();
    greet_until(&edge, FOREIGN, &Ending::Reset, Duration::from_secs(5));
    scrape_until(
        &gatehouse,
        "the hello that passed to reach user space",
        Duration::from_secs(5),
        |metrics| metrics.verdicts("pass_unenforced") > 0.5 && connections(metrics) > 0.5,
    );
    assert_served(&edge, SHOP);
}

#[test]
fn a_killed_instance_leaves_its_link_and_stops_enforcing() {
    let edge = edge();
    let mut gatehouse = strict(&edge, Place::A, "auto");
    let pinned = pinned_ids(&edge);
    gatehouse.process.signal(Signal::SIGKILL).unwrap();
    gatehouse.wait().unwrap();
    assert_eq!(pinned_ids(&edge), pinned, "still pinned");
    let shown = edge.network.edge.run("ip", &["-d", "link", "show", "dev", EDGE_LINK]).unwrap();
    assert!(shown.contains("prog/xdp"), "still attached: {shown}");

    let listener = stand_in(&edge);
    assert_lets_go(&edge, &Ending::Bytes(STAND_IN.to_vec()));
    drop(listener);
    gatehouse.start_again().unwrap();
    greet_until(&edge, FOREIGN, &Ending::Reset, Duration::from_secs(5));
    assert_eq!(pinned_ids(&edge), pinned, "link and maps were adopted");
    assert_served(&edge, SHOP);
}

fn a_restart_under_load_loses_no_allowed_hello(io: &str) {
    let edge = edge();
    let mut old = strict(&edge, Place::A, io);
    assert_served(&edge, SHOP);
    let pinned = pinned_ids(&edge);
    let plan = Plan {
        to: Edge::https(Place::A),
        name: SHOP.to_owned(),
        path: "/".to_owned(),
        protocol: Protocol::Http1,
        connections: 4,
        requests_per_connection: 1,
    };
    let load = Load::start(&edge.network.client, edge.ca.roots(), plan).unwrap();
    let counted_before = old.metrics().unwrap().verdicts("pass_allowed");
    let new = strict(&edge, Place::Successor, io);
    old.stop().unwrap();
    let at_hand_over = load.seen().served;
    let counted = new.metrics().unwrap().verdicts("pass_allowed");
    assert!(counted >= counted_before, "the counters went on: {counted}, {counted_before} at the old one");
    wait::until("the successor to serve", Duration::from_secs(10), || {
        let served = load.seen().served;
        ensure!(served > at_hand_over + 50, "{served}, {at_hand_over} at the hand-over");
        Ok(())
    })
    .unwrap();
    let seen = load.stop_after(Duration::ZERO).unwrap();
    assert!(seen.failures.is_empty(), "{seen:?}");
    assert_eq!(pinned_ids(&edge), pinned, "link and maps were adopted");
    greet_until(&edge, FOREIGN, &Ending::Reset, Duration::from_secs(5));
}

#[test]
fn a_restart_while_the_store_is_down_goes_on_enforcing() {
    let edge = edge();
    let kept = "kept.customer.test";
    let mut gatehouse = strict(&edge, Place::A, "auto");
    gatehouse.command(&["domain", "add", kept]).unwrap();
    assert_served(&edge, kept);
    gatehouse.stop().unwrap();

    edge.table.relay.set(Traffic::Cut);
    let settings = gatehouse.settings();
    settings.raw("guard", "unknown_per_second", "1").raw("guard", "unknown_burst", "2");
    gatehouse.start_again().unwrap();
    scrape_until(&gatehouse, "the guard to enforce by what it found", LIMIT, |metrics| {
        is_enforcing(metrics) && is_in(metrics, "inherited")
    });
    let new = send_client_hello(&edge, Place::A, "new.customer.test").ending;
    assert_ne!(new, Ending::Reset, "a name added meanwhile would have its chance");
    greet_until(&edge, FOREIGN, &Ending::Reset, LIMIT);
    for _ in 0..5 {
        let known = send_client_hello(&edge, Place::A, kept).ending;
        assert_ne!(known, Ending::Reset, "a name the predecessor knew passes");
    }

    edge.table.relay.set(Traffic::Pass);
    scrape_until(&gatehouse, "the lists to be read", LIMIT, |metrics| is_in(metrics, "on"));
    assert_served(&edge, kept);
    assert_eq!(send_client_hello(&edge, Place::A, "new.customer.test").ending, Ending::Reset, "strict again");
}

fn is_in(metrics: &Metrics, state: &str) -> bool {
    metrics.sum("gatehouse_guard_enforcement", &[&format!("state=\"{state}\"")]) > 0.5
}

/// Foreign hellos are reset for five seconds at least, and end in `open` after twelve at most.
fn assert_lets_go(edge: &Edge, open: &Ending) {
    let began = Instant::now();
    let hello = Hello::new(FOREIGN, KeyShare::Classic, |_| true).unwrap();
    let let_go = wait::until("enforcement to end", Duration::from_secs(15), || {
        let patience = Duration::from_millis(700);
        let at = began.elapsed();
        let seen = attempt(&edge.network.client, Edge::https(Place::A), hello.whole(), patience)?;
        ensure!(seen.ending != Ending::Reset, "still reset after {at:?}");
        assert_eq!(seen.ending, *open, "after {at:?}");
        Ok(at)
    })
    .unwrap();
    // Ten seconds from the last sign of life, which was up to one second old, and what a busy machine adds.
    assert!((5.0..12.5).contains(&let_go.as_secs_f64()), "let go after {let_go:?}");
}

/// A listener in place of the killed instance, which answers each hello it gets.
fn stand_in(edge: &Edge) -> StandIn {
    let address = SocketAddr::from((Place::A.v4(), 443));
    let listener = edge.network.edge.inside(move || TcpListener::bind(address)).unwrap().unwrap();
    let accepting = listener.try_clone().unwrap();
    let thread = std::thread::spawn(move || {
        for stream in accepting.incoming() {
            let Ok(stream) = stream else { return };
            // A client whose hello does not come keeps no other waiting, nor the case from ending.
            std::thread::spawn(move || answer_hello(stream));
        }
    });
    StandIn { listener, thread: Some(thread) }
}

fn answer_hello(mut stream: TcpStream) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    if stream.read(&mut [0; 2_048]).is_ok_and(|read| read > 0) {
        let _ = stream.write_all(STAND_IN);
    }
}

struct StandIn {
    listener: TcpListener,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        // A listening socket that is shut down wakes whoever accepts.
        let _ = nix::sys::socket::shutdown(
            std::os::fd::AsRawFd::as_raw_fd(&self.listener),
            nix::sys::socket::Shutdown::Both,
        );
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What is pinned, link and maps, each with the kernel's number for it; bpftool looks from inside, where the bpffs is.
fn pinned_ids(edge: &Edge) -> BTreeMap<String, String> {
    let folder = edge.pins();
    let pins = edge.network.edge.inside(move || pins_below(&folder)).unwrap();
    let identify = |path: PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let kind = if name.starts_with("link-") { "link" } else { "map" };
        let shown = edge.network.edge.run("bpftool", &[kind, "show", "pinned", path.to_str().unwrap()]);
        (name, shown.unwrap().split(':').next().unwrap().to_owned())
    };
    let ids: BTreeMap<_, _> = pins.into_iter().map(identify).collect();
    let links = ids.keys().filter(|name| name.starts_with("link-")).count();
    assert!(links == 1 && ids.contains_key("NAMES"), "{ids:?}");
    ids
}

/// Links lie in the folder, maps in one of their own, beside the program, which is another one after each start; what else a
/// bpffs shows there cannot be opened.
fn pins_below(folder: &Path) -> Vec<PathBuf> {
    let entries = |folder: &Path| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_called = |path: &PathBuf, start| path.file_name().unwrap().to_string_lossy().starts_with(start);
    let links = entries(folder).filter(|path| is_called(path, "link-"));
    let maps = entries(folder).filter(|path| is_called(path, "maps-v")).flat_map(|maps| entries(&maps));
    links.chain(maps.filter(|path| !is_called(path, "program"))).collect()
}

fn strict(edge: &Edge, place: Place, io: &str) -> Gatehouse {
    let mut settings = edge.shared_settings(place, io);
    settings.domain(SHOP).text("worker", "drain_deadline", "9s");
    if place == Place::Successor {
        settings.raw("listen", "share_ports", "true");
    }
    edge.guard(&mut settings, "strict").unwrap();
    let gatehouse = start(edge, settings);
    scrape_until(&gatehouse, "the guard to enforce", Duration::from_secs(5), is_enforcing);
    assert_eq!(send_client_hello(edge, Place::A, FOREIGN).ending, Ending::Reset);
    gatehouse
}

const LIMIT: Duration = Duration::from_secs(10);
const STAND_IN: &[u8] = b"the hello came through";
