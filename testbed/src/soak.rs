//! Load of clients in both versions of HTTP at endpoints in both, while endpoints fail in turn and settings are reloaded.

mod faulty_origin;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use self::faulty_origin::{Fault, FaultyOrigin};
use crate::{
    edge::Edge,
    gatehouse::{Gatehouse, Place},
    load::{Load, Plan, Protocol},
    wait,
};

/// What a run has shown.
#[derive(Debug)]
pub struct Report {
    served: u64,
    /// Requests that an endpoint which hung has cost, the only ones that may fail.
    timed_out: u64,
    faults: u32,
    resident_before: u64,
    resident_after: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { served, timed_out, faults, resident_before, resident_after } = self;
        write!(
            f,
            "{served} requests served during {faults} faults; {timed_out} timed out at an endpoint that hung, none failed otherwise; \
             resident memory {} KiB after the first round, {} KiB at the end",
            resident_before >> 10,
            resident_after >> 10
        )
    }
}

/// Runs `binary` on the back end `io` for so long. Fails if a request fails that no endpoint has hung on, or if memory or descriptors leak.
pub fn run(binary: &Path, io: &str, time: Duration) -> anyhow::Result<Report> {
    let edge = Edge::start()?;
    let origins = Origins::start(&edge)?;
    let mut gatehouse = start(&edge, binary, io, &origins)?;
    for name in NAMES {
        let reply = edge.curl(&format!("https://{name}/")).run()?;
        ensure!(reply.status == 200, "before any load: {reply:?}");
    }
    let descriptors = gatehouse.process.descriptors()?;
    let loads = NAMES
        .into_iter()
        .flat_map(|name| [(name, Protocol::Http1), (name, Protocol::Http2)])
        .map(|(name, protocol)| load(&edge, name, protocol))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut report = Report { served: 0, timed_out: 0, faults: 0, resident_before: 0, resident_after: 0 };
    let end = Instant::now() + time;
    for (number, event) in EVENTS.into_iter().cycle().enumerate() {
        if number == EVENTS.len() {
            report.resident_before = gatehouse.process.resident_bytes()?;
        }
        if Instant::now() >= end {
            break;
        }
        report.timed_out += play(event, number, &origins, &mut gatehouse, &loads)?;
        report.faults += 1;
    }
    report.resident_after = gatehouse.process.resident_bytes()?;
    for load in loads {
        report.served += load.stop_after(Duration::ZERO)?.served;
    }
    ensure!(report.served > 100 * u64::from(report.faults), "too little was served: {report}");
    ensure!(report.resident_after < report.resident_before + LEAK, "memory grows: {report}");
    wait::until("descriptors to be closed", Duration::from_secs(30), || {
        let open = gatehouse.process.descriptors()?;
        ensure!(open <= descriptors, "{open} are open, {descriptors} were before");
        Ok(())
    })?;
    gatehouse.stop()?;
    Ok(report)
}

/// What happens to the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Fault(Fault),
    /// New settings, read while requests are under way.
    Reload,
}

const EVENTS: [Event; 4] =
    [Event::Fault(Fault::Down), Event::Fault(Fault::Resets), Event::Reload, Event::Fault(Fault::Hangs)];

/// Plays the event of this number; how many requests timed out because of it.
fn play(
    event: Event,
    number: usize,
    origins: &Origins,
    gatehouse: &mut Gatehouse,
    loads: &[Load],
) -> anyhow::Result<u64> {
    let before = failures(loads);
    match event {
        Event::Fault(fault) => {
            origins.of(number).for_each(|origin| origin.fail(fault));
            pass(FAULT);
            origins.of(number).for_each(FaultyOrigin::recover);
        }
        Event::Reload => {
            let idle = if number % 8 < 4 { "30s" } else { "60s" };
            gatehouse.settings().text("limits", "idle", idle);
            gatehouse.reload()?;
            pass(FAULT);
        }
    }
    pass(REST);
    let since = failures(loads).split_off(before.len());
    let may_time_out = event == Event::Fault(Fault::Hangs);
    let unexpected: Vec<_> =
        since.iter().filter(|failure| !(may_time_out && failure.contains("504 Gateway Timeout"))).collect();
    ensure!(
        unexpected.is_empty(),
        "{event:?}, number {number}: {unexpected:#?}\n{}",
        last_lines(&gatehouse.process.output())
    );
    Ok(since.len() as u64)
}

#[expect(clippy::disallowed_methods, reason = "a fault lasts for a time; there is no condition to wait for")]
fn pass(time: Duration) {
    thread::sleep(time);
}

fn failures(loads: &[Load]) -> Vec<String> {
    loads.iter().flat_map(|load| load.seen().failures).map(|failure| failure.what).collect()
}

fn last_lines(log: &str) -> String {
    let warnings: Vec<&str> =
        log.lines().filter(|line| line.contains(" WARN ") || line.contains(" 50")).collect();
    warnings.iter().rev().take(20).rev().copied().collect::<Vec<_>>().join("\n")
}

/// Three endpoints of each version.
struct Origins([Vec<FaultyOrigin>; 2]);

impl Origins {
    fn start(edge: &Edge) -> anyhow::Result<Self> {
        let start = |protocol, port| -> anyhow::Result<Vec<FaultyOrigin>> {
            (1..=3)
                .map(|last| {
                    let address = (IpAddr::V4(Ipv4Addr::new(127, 0, 1, last)), port);
                    FaultyOrigin::start(&edge.network.edge, address.into(), protocol)
                })
                .collect()
        };
        Ok(Self([start(Protocol::Http1, 9_500)?, start(Protocol::Http2, 9_501)?]))
    }

    fn targets(&self) -> [String; 2] {
        self.0
            .each_ref()
            .map(|origins| origins.iter().map(FaultyOrigin::endpoint).collect::<Vec<_>>().join(", "))
    }

    /// The ones whose turn it is.
    fn of(&self, number: usize) -> impl Iterator<Item = &FaultyOrigin> {
        self.0.iter().filter_map(move |origins| origins.get(number % origins.len()))
    }
}

fn start(edge: &Edge, binary: &Path, io: &str, origins: &Origins) -> anyhow::Result<Gatehouse> {
    let mut settings = edge.settings(Place::A, io);
    for (name, target) in NAMES.iter().zip(origins.targets()) {
        settings.domain_to(name, &target);
    }
    settings.text("upstream", "response_timeout", "4s").text("upstream", "idle", "2s");
    settings
        .text("upstream", "check_interval", "1s")
        .text("log", "filter", "info")
        .raw("log", "access", "true");
    Gatehouse::start(&edge.network, binary, settings)
}

fn load(edge: &Edge, name: &str, protocol: Protocol) -> anyhow::Result<Load> {
    let plan = Plan {
        to: Edge::https(Place::A),
        name: name.to_owned(),
        path: "/".to_owned(),
        protocol,
        connections: 4,
        requests_per_connection: 100,
    };
    Load::start(&edge.network.client, edge.ca.roots(), plan).with_context(|| format!("load at {name}"))
}

/// The first has endpoints that speak HTTP/1.1, the second such that speak HTTP/2.
const NAMES: [&str; 2] = ["one.customer.test", "two.customer.test"];
/// How long a fault lasts, and how long it is quiet until the next one: checks need a few seconds to see either.
const FAULT: Duration = Duration::from_secs(7);
const REST: Duration = Duration::from_secs(3);
/// Growth of resident memory that is no leak: allocators keep some.
const LEAK: u64 = 16 << 20;
