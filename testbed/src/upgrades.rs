//! Load of clients in both versions of HTTP, and tunnels, while successors take over and settings are reloaded.

use std::{
    fmt,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use crate::{
    cleartext,
    edge::Edge,
    gatehouse::{Gatehouse, Place},
    load::{Load, Plan, Protocol},
    network::LOOPBACK,
    process::Process,
    tunnel, wait,
};

/// What to do meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// How often a successor takes over.
    pub upgrades: u32,
    /// How often settings are reloaded, spread over the upgrades.
    pub reloads: u32,
}

/// What a run has shown.
#[derive(Debug)]
pub struct Report {
    wanted: Wanted,
    served: u64,
    health_checks: u64,
    echoed: u64,
    tunnels_closed: usize,
    slowest: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted: Wanted { upgrades, reloads }, served, health_checks, echoed, .. } = self;
        let Self { tunnels_closed, slowest, .. } = self;
        write!(
            f,
            "{served} requests, {health_checks} checks of health and {echoed} messages through tunnels during {upgrades} upgrades and {reloads} \
             reloads, none failed; {tunnels_closed} tunnels were closed by instances that drained; slowest upgrade {} ms",
            slowest.as_millis()
        )
    }
}

/// Runs `binary` on the back end `io`. Fails if anything that a client asks for does.
pub fn run(binary: &Path, io: &str, wanted: Wanted) -> anyhow::Result<Report> {
    let edge = Edge::start()?;
    let _echo = tunnel::echo(&edge.network.edge, SocketAddr::new(LOOPBACK, ECHO))?;
    let mut gatehouse = start(&edge, binary, io)?;
    for name in [NAME, TUNNELS] {
        edge.curl(&format!("https://{name}/")).run().context("the first handshake")?;
    }
    let to = Edge::https(Place::A);
    let tunnels = (0..TUNNEL_CLIENTS)
        .map(|_| tunnel::Client::start(&edge.network.client, to, TUNNELS, edge.ca.roots()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let loads = [Protocol::Http1, Protocol::Http2].map(|protocol| load(&edge, protocol));
    let loads = loads.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    wait::until("load on all connections", PATIENCE, || {
        ensure!(loads.iter().all(|load| load.seen().served > 100), "too little is served");
        ensure!(tunnels.iter().all(|tunnel| tunnel.seen().echoed > 5), "tunnels are silent");
        Ok(())
    })?;
    let health = HealthChecks::start(&edge)?;
    let mut course = Course { gatehouse: &mut gatehouse, draining: Vec::new() };
    let mut slowest = Duration::ZERO;
    let mut reloaded = 0;
    for upgrade in 1..=wanted.upgrades {
        while reloaded < wanted.reloads * upgrade / wanted.upgrades {
            reloaded += 1;
            course.reload(reloaded)?;
        }
        slowest = slowest.max(course.upgrade()?);
        served_once_more(&loads)?;
    }
    course.end()?;
    let health_checks = health.end()?;
    let mut report = Report { wanted, served: 0, health_checks, echoed: 0, tunnels_closed: 0, slowest };
    for load in loads {
        let seen = load.stop_after(Duration::ZERO)?;
        ensure!(seen.failures.is_empty(), "{:#?}\n{}", seen.failures, history(&gatehouse));
        report.served += seen.served;
    }
    for tunnel in tunnels {
        let seen = tunnel.seen();
        ensure!(seen.failures.is_empty(), "{:#?}", seen.failures);
        // Only an instance that was replaced closes tunnels, at any time until its drain deadline, so that clients do not all come at once.
        let closed = u32::try_from(seen.closed.len())?;
        ensure!(closed <= wanted.upgrades, "closed too often: {:#?}\n{}", seen.closed, history(&gatehouse));
        report.echoed += seen.echoed;
        report.tunnels_closed += seen.closed.len();
    }
    gatehouse.stop()?;
    Ok(report)
}

/// An instance and those that it has taken over from.
struct Course<'a> {
    gatehouse: &'a mut Gatehouse,
    draining: Vec<Process>,
}

impl Course<'_> {
    fn reload(&mut self, number: u32) -> anyhow::Result<()> {
        let idle = if number.is_multiple_of(2) { "30s" } else { "60s" };
        self.gatehouse.settings().text("limits", "idle", idle);
        self.gatehouse.reload().with_context(|| format!("reload {number}")).map(drop)
    }

    /// How long it took.
    fn upgrade(&mut self) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let predecessor = self.gatehouse.upgrade(&[])?;
        let took = begun.elapsed();
        self.draining.push(predecessor);
        Ok(took)
    }

    /// All predecessors must end in order.
    fn end(self) -> anyhow::Result<()> {
        for mut predecessor in self.draining {
            let status = predecessor.wait(DRAIN + PATIENCE)?;
            ensure!(status.success(), "a predecessor ended with {status}\n{}", predecessor.output());
        }
        Ok(())
    }
}

/// What all instances have logged, without the requests.
fn history(gatehouse: &Gatehouse) -> String {
    let log = gatehouse.process.output();
    let told = log
        .lines()
        .filter(|line| (!line.contains(" request ") || line.contains("/tunnel")) && !line.contains("DEBUG"));
    told.collect::<Vec<_>>().join("\n")
}

/// Waits until requests that begin now were answered.
fn served_once_more(loads: &[Load]) -> anyhow::Result<()> {
    let before: Vec<_> = loads.iter().map(|load| load.seen().served).collect();
    wait::until("requests after an upgrade", PATIENCE, || {
        let now = loads.iter().map(|load| load.seen().served);
        ensure!(now.zip(&before).all(|(now, before)| now > before + 50), "too little is served");
        Ok(())
    })
}

/// A load balancer that asks again and again.
struct HealthChecks {
    over: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<u64>>,
}

impl HealthChecks {
    fn start(edge: &Edge) -> anyhow::Result<Self> {
        let (over, network) = (Arc::new(AtomicBool::new(false)), Arc::clone(&edge.network));
        let is_over = Arc::clone(&over);
        let address = SocketAddr::from((Place::A.v4(), 80));
        let thread = thread::Builder::new().name("health".into()).spawn(move || {
            let mut checks = 0;
            while !is_over.load(Ordering::Relaxed) {
                let answer = cleartext::get(&network.edge, address, "health", "/health")?;
                ensure!(answer.status == 200, "health says {answer:?} after {checks} checks");
                checks += 1;
                thread::park_timeout(CHECK);
            }
            Ok(checks)
        })?;
        Ok(Self { over, thread })
    }

    /// How often it has asked; fails, if the answer was not 200 once.
    fn end(self) -> anyhow::Result<u64> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the checks' thread panicked"))?
    }
}

fn start(edge: &Edge, binary: &Path, io: &str) -> anyhow::Result<Gatehouse> {
    let mut settings = edge.shared_settings(Place::A, io);
    settings.domain(NAME).domain_to(TUNNELS, &format!("http://{LOOPBACK}:{ECHO}"));
    settings.text("worker", "drain_deadline", &format!("{}s", DRAIN.as_secs()));
    Gatehouse::start(&edge.network, binary, settings)
}

fn load(edge: &Edge, protocol: Protocol) -> anyhow::Result<Load> {
    let plan = Plan {
        to: Edge::https(Place::A),
        name: NAME.to_owned(),
        path: "/".to_owned(),
        protocol,
        connections: 4,
        requests_per_connection: 50,
    };
    Load::start(&edge.network.client, edge.ca.roots(), plan)
}

const NAME: &str = "shop.customer.test";
const TUNNELS: &str = "chat.customer.test";
const ECHO: u16 = 9_600;
const TUNNEL_CLIENTS: usize = 3;
/// How long tunnels may go on at an instance that was replaced.
const DRAIN: Duration = Duration::from_secs(4);
const CHECK: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(30);
