//! Clients that take connections, streams and memory and give nothing back, while those of another site want to be served.

use std::{net::IpAddr, path::Path, time::Duration};

use anyhow::ensure;
use testbed::{
    edge::Edge,
    gatehouse::{Gatehouse, Place},
    keep_alive_client::Kept,
    load::{self, Load, Protocol},
    memory_group::MemoryGroup,
    network::STRANGER,
    non_reader::{Ask, Flood, Plan},
    wait,
};

use crate::fixture::{BINARY, SHOP, assert_served, edge, report};

/// Each flood lasts half a minute and meets one process within the same 256 MiB.
#[test]
fn one_client_or_fifty_cost_no_other_site_a_request_and_end_no_process() {
    let edge = edge();
    let group = MemoryGroup::create("gatehouse-floods", MEMORY).unwrap();
    let mut gatehouse = start(&edge, &group);
    let many = edge.network.further_clients(50).unwrap();
    let one = vec![IpAddr::V4(STRANGER)];
    assert_served(&edge, SHOP);
    assert_served(&edge, OTHER);
    let calm = served_meanwhile(&edge, "nobody floods", || std::thread::park_timeout(CALM));
    for (what, sources, connections, asks) in [
        ("one client that does not read", &one, 40, vec![unread()]),
        ("fifty clients that do not read", &many, 4, vec![unread()]),
        ("one client of a silent target", &one, 100, vec![unanswered(), unsent()]),
        ("fifty clients of a silent target", &many, 1, vec![unanswered(), unsent()]),
    ] {
        let before = Held::of(&gatehouse);
        let floods: Vec<Flood> = asks.iter().map(|ask| flood(&edge, sources, connections, ask)).collect();
        let (mut most, mut last) = (Held::of(&gatehouse), Held::of(&gatehouse));
        let busy = served_meanwhile(&edge, what, || {
            let _: anyhow::Result<()> = wait::until("the flood's end", FLOOD, || {
                last = Held::of(&gatehouse);
                most = most.max(last);
                anyhow::bail!("it goes on")
            });
        });
        let seen: Vec<_> = floods.into_iter().map(|flood| flood.stop().unwrap()).collect();
        gatehouse.process.ensure_alive().unwrap();
        report(&format!(
            "{what}: {seen:?}; at most {most}; p99 of another site {busy:.1?} ms, {calm:.1?} ms when calm"
        ));
        assert!(seen.iter().all(|seen| seen.connected > 0), "{what}: {seen:?}");
        assert!(most.memory < MEMORY, "{what}: {most}");
        let after = wait::until("what was taken to be released", Duration::from_secs(5), || {
            let after = Held::of(&gatehouse);
            ensure!(after.is_near(before), "{after} after {before}");
            Ok(after)
        });
        report(&format!("{what}: {before} before, {} afterwards", after.unwrap()));
    }
    drop(gatehouse);
}

#[test]
fn an_idle_connection_takes_little_memory() {
    let edge = edge();
    for io in ["epoll", "uring"] {
        let mut settings = edge.settings(Place::A, io);
        settings.domain(SHOP).raw("limits", "connections_per_source", "4096");
        let gatehouse = Gatehouse::start(&edge.network, Path::new(BINARY), settings).unwrap();
        let connect = || {
            let to = Edge::https(Place::A);
            let mut kept = Kept::connect(&edge.network.client, to, SHOP, edge.ca.roots()).unwrap();
            assert_eq!(kept.get("/").unwrap(), 200);
            kept
        };
        let first: Vec<_> = (0..100).map(|_| connect()).collect();
        let before = gatehouse.process.resident_bytes().unwrap();
        let idle: Vec<_> = (0..IDLE).map(|_| connect()).collect();
        let each = gatehouse.process.resident_bytes().unwrap().saturating_sub(before) / IDLE;
        report(&format!("an idle TLS connection on {io}: {each} bytes"));
        assert!(each < LITTLE, "{each} bytes on {io}");
        drop((first, idle));
    }
}

/// The same limit for the process, which does not see its cgroup in the edge's own `/sys`.
fn start(edge: &Edge, group: &MemoryGroup) -> Gatehouse {
    let mut settings = edge.settings(Place::A, "auto");
    settings.domain(SHOP).domain_to(OTHER, &edge.upstream.tls_target());
    settings.text("limits", "memory", &format!("{}MiB", MEMORY >> 20)).text("log", "filter", "warn");
    settings.raw("log", "access", "false");
    let mut gatehouse = Gatehouse::launch(&edge.network, Path::new(BINARY), settings).unwrap();
    group.add(gatehouse.process.id()).unwrap();
    gatehouse.wait_until_ready().unwrap();
    gatehouse
}

fn flood(edge: &Edge, sources: &[IpAddr], connections_per_source: usize, ask: &Ask) -> Flood {
    let plan = Plan {
        to: Edge::https(Place::A),
        name: SHOP.to_owned(),
        sources: sources.to_vec(),
        connections_per_source,
        ask: ask.clone(),
    };
    Flood::start(&edge.network.client, edge.ca.roots(), &plan).unwrap()
}

/// Has clients of another site ask, over new connections all the time, until `meanwhile` has ended: the 99th of a hundred
/// requests in milliseconds, its handshake included. None may fail.
fn served_meanwhile(edge: &Edge, what: &str, meanwhile: impl FnOnce()) -> [f64; 2] {
    let load = |protocol| {
        let plan = load::Plan {
            to: Edge::https(Place::A),
            name: OTHER.to_owned(),
            path: "/".to_owned(),
            protocol,
            connections: 2,
            requests_per_connection: 3,
        };
        Load::start(&edge.network.client, edge.ca.roots(), plan).unwrap()
    };
    let loads = [load(Protocol::Http1), load(Protocol::Http2)];
    meanwhile();
    loads.map(|load| {
        let seen = load.stop_after(Duration::ZERO).unwrap();
        assert!(seen.failures.is_empty(), "{what}: {} served, {:?}", seen.served, seen.failures);
        assert!(seen.served > 10, "{what}: {} served", seen.served);
        seen.percentile(99).as_secs_f64() * 1e3
    })
}

/// 5 MB on each of a hundred streams.
fn unread() -> Ask {
    Ask::Http2 { streams: 100, path: "/stream/5000000".to_owned() }
}

fn unanswered() -> Ask {
    Ask::Http2 { streams: 100, path: "/slow/60000".to_owned() }
}

fn unsent() -> Ask {
    Ask::Http2WithoutBody { streams: 100, path: "/".to_owned() }
}

/// What a process has taken of the machine.
#[derive(Debug, Clone, Copy)]
struct Held {
    memory: u64,
    descriptors: usize,
}

impl Held {
    fn of(gatehouse: &Gatehouse) -> Self {
        Self {
            memory: gatehouse.process.resident_bytes().unwrap(),
            descriptors: gatehouse.process.descriptors().unwrap(),
        }
    }

    fn max(self, other: Self) -> Self {
        Self { memory: self.memory.max(other.memory), descriptors: self.descriptors.max(other.descriptors) }
    }

    /// A few tens of MiB apart, and as many descriptors as unused connections to two targets may have.
    fn is_near(self, before: Self) -> bool {
        self.memory <= before.memory + (48 << 20) && self.descriptors <= before.descriptors + 300
    }
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} MiB and {} descriptors", self.memory >> 20, self.descriptors)
    }
}

const OTHER: &str = "blog.neighbour.test";
const MEMORY: u64 = 256 << 20;
const CALM: Duration = Duration::from_secs(5);
const FLOOD: Duration = Duration::from_secs(30);
const IDLE: u64 = 1000;
/// Twice what it should be, since pages are shared with what was there before.
const LITTLE: u64 = 12 << 10;
