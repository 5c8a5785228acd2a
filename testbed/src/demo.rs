//! `cargo xtask run`: the whole system on one machine, for a person to try, or checked with `--check`.

use std::{
    path::Path,
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{SigSet, Signal};
use testbed::{
    curl::Reply,
    edge::Edge,
    gatehouse::{Gatehouse, Place},
    network::{CLIENT, EDGE_A, EDGE_A_V6, EDGE_LINK},
    wait,
};

/// Brings everything up with `binary`; then waits for Ctrl-C, or makes the requests itself that it would print.
pub(crate) fn run(binary: &Path, check: bool) -> anyhow::Result<()> {
    let interrupt = interrupts()?;
    let started = Instant::now();
    let step = |what: &str| -> anyhow::Result<()> {
        ensure!(interrupt.try_recv().is_err(), "interrupted");
        println!("{:5.1} s  {what}", started.elapsed().as_secs_f64());
        Ok(())
    };
    step("namespaces gatehouse-edge and gatehouse-client, Pebble, a table, an upstream that echoes")?;
    let edge = Edge::plain()?;
    step("Gatehouse, its guard attached natively")?;
    let mut settings = edge.settings(Place::A, "auto");
    settings.domain(ALLOWED).text("log", "filter", "info");
    edge.guard(&mut settings, "strict")?;
    let gatehouse = Gatehouse::start(&edge.network, binary, settings)?;
    wait::until("the guard to enforce", Duration::from_secs(10), || {
        let metrics = gatehouse.metrics()?;
        ensure!(metrics.sum("gatehouse_guard_enforcing", &[]) > 0.5, "{metrics}");
        Ok(())
    })?;
    step("ready")?;
    if check {
        return checked(&edge, &gatehouse);
    }
    println!("{}", screen(&edge, &gatehouse, binary));
    interrupt.recv().context("the signal thread is gone")?;
    println!("\nremoving everything");
    Ok(())
}

/// SIGINT and SIGTERM as messages, so that values are dropped and remove what they made. Called before any other thread
/// is started: threads inherit the mask.
fn interrupts() -> anyhow::Result<Receiver<Signal>> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        while let Ok(signal) = signals.wait() {
            if sender.send(signal).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

fn screen(edge: &Edge, gatehouse: &Gatehouse, binary: &Path) -> String {
    let (config, roots) = (gatehouse.config(), edge.ca.roots());
    let (config, roots, binary) = (config.display(), roots.display(), binary.display());
    let client = format!("ip netns exec {}", edge.network.client.name());
    format!(
        "
Gatehouse serves {ALLOWED} on {EDGE_A} and {EDGE_A_V6}; the guard is native on {EDGE_LINK}, mode strict.
  config      {config}
  CA          {} (Pebble, at {CLIENT}; what it issues is signed by {roots})
  upstream    {}

An allowed name: served, its certificate issued in this handshake.
  {client} curl --cacert {roots} --resolve {ALLOWED}:443:{EDGE_A} https://{ALLOWED}/
A foreign one: rejected in the kernel.
  {client} curl --resolve {FOREIGN}:443:{EDGE_A} https://{FOREIGN}/
What Gatehouse says of itself.
  {binary} --config {config} status

Ctrl-C removes all of it.",
        edge.ca.directory(),
        edge.upstream.target(),
    )
}

fn checked(edge: &Edge, gatehouse: &Gatehouse) -> anyhow::Result<()> {
    let outcomes = [
        verdict("allowed name, first handshake", &allowed(edge, 1)),
        verdict("allowed name, again", &allowed(edge, 1)),
        verdict("foreign name", &foreign(edge, gatehouse)),
        verdict("gatehouse status", &status(gatehouse)),
    ];
    let failed = outcomes.iter().filter(|held| !**held).count();
    ensure!(failed == 0, "{failed} of {} checks failed", outcomes.len());
    println!("all {} checks held", outcomes.len());
    Ok(())
}

fn verdict(what: &str, outcome: &anyhow::Result<String>) -> bool {
    let (word, detail) = match outcome {
        Ok(detail) => ("ok", detail.clone()),
        Err(error) => ("FAILED", format!("{error:#}")),
    };
    println!("{word:6}  {what}: {detail}");
    outcome.is_ok()
}

fn allowed(edge: &Edge, orders: u64) -> anyhow::Result<String> {
    let reply = edge.curl(&format!("https://{ALLOWED}/hello")).run()?;
    ensure!(reply.status == 200, "{reply:?}");
    ensure!(reply.seen("user-custom-domain") == [ALLOWED], "at the upstream: {}", reply.body);
    let placed = edge.ca.relay.count("newOrder");
    ensure!(placed == orders, "{placed} orders were placed instead of {orders}");
    Ok(format!("200, handshake {:.0} ms, orders placed so far {placed}", reply.handshake_seconds * 1e3))
}

fn foreign(edge: &Edge, gatehouse: &Gatehouse) -> anyhow::Result<String> {
    let before = gatehouse.metrics()?;
    let reply: Reply = edge.curl(&format!("https://{FOREIGN}/")).run()?;
    ensure!(reply.exit != 0 && reply.status == 0, "it was answered: {reply:?}");
    if reply.seconds > 2.0 {
        bail!("the client had to wait {:.1} s: {}", reply.seconds, reply.error);
    }
    let rejected = wait::until("the guard's count", Duration::from_secs(5), || {
        let rejected = gatehouse.metrics()?.verdicts("reject_") - before.verdicts("reject_");
        ensure!(rejected >= 1.0, "{rejected} rejected");
        Ok(rejected)
    })?;
    Ok(format!(
        "{} after {:.0} ms, {rejected} segments rejected in the kernel",
        reply.error,
        reply.seconds * 1e3
    ))
}

fn status(gatehouse: &Gatehouse) -> anyhow::Result<String> {
    let started = Instant::now();
    let text = gatehouse.command(&["status"])?;
    ensure!(text.contains("strict"), "the guard's mode is not in it:\n{text}");
    Ok(format!("{} lines in {:.0} ms", text.lines().count(), started.elapsed().as_secs_f64() * 1e3))
}

const ALLOWED: &str = "shop.customer.test";
const FOREIGN: &str = "foreign.test";
