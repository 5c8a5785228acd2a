//! How soon a change is in the kernel of every instance: from the API's answer until each guard's map of names, which is read by its pin
//! again and again, holds the name or does not any more. Changes come at times of their own, whatever the instances do.

use std::{
    net::IpAddr,
    path::Path,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use dynoxide::Database;

use super::{
    Goal, Statistic,
    fleet::{Fleet, Machine},
    millis,
    operator::NAME,
    push,
};
use crate::{bench::report::Report, edge::Edge};

pub(super) fn measure(report: &mut Report, binary: &Path) -> anyhow::Result<()> {
    let goals = [Goal { most: 2_000.0, of: Statistic::Percentile99 }];
    for (work, edge) in [
        ("a change in the kernel of each of 3 instances", Edge::of_fleet_over(Database::memory()?)?),
        ("- by an index that is 2 s behind, as old as it may be", Edge::of_fleet()?),
    ] {
        let fleet = Fleet::start(edge, binary)?;
        let samples = changes(&fleet).with_context(|| work.to_owned())?;
        push(report, work, "ms", &samples, &Statistic::ALL, &goals)?;
    }
    Ok(())
}

/// A change that the API has answered.
struct Change {
    name: String,
    /// Whether it is served from then on.
    is_served: bool,
    answered: Instant,
}

/// Milliseconds that each change took until every instance had it.
fn changes(fleet: &Fleet) -> anyhow::Result<Vec<f64>> {
    let (sender, following) = mpsc::channel();
    let (goes_on, ended) = mpsc::channel();
    thread::scope(|scope| {
        let changer = scope.spawn(move || change(fleet, &sender));
        let visitor = scope.spawn(move || visit(fleet, &ended));
        let samples = follow(&fleet.machines, &following);
        drop(goes_on);
        changer.join().map_err(|_| anyhow::anyhow!("the thread that changes panicked"))??;
        visitor.join().map_err(|_| anyhow::anyhow!("the thread that visits panicked"))??;
        samples
    })
}

/// Adds names, and removes each a while later.
fn change(fleet: &Fleet, sender: &Sender<Change>) -> anyhow::Result<()> {
    let mut api = fleet.operator().connect()?;
    let mut due = Instant::now();
    let plan = (0..ADDED).flat_map(|number| {
        let removed = number.checked_sub(ADDED - REMOVED).map(|number| (number, false));
        std::iter::once((number, true)).chain(removed)
    });
    for (turn, (number, is_served)) in plan.enumerate() {
        pause_until(due);
        let name = format!("change-{number}.customer.test");
        if is_served {
            api.add(&name)?;
        } else {
            api.remove(&name)?;
        }
        // Who follows ends before this only where it failed, and says so.
        let _ = sender.send(Change { name, is_served, answered: Instant::now() });
        due += gap(turn);
    }
    Ok(())
}

/// Between two changes: from 100 to 400 ms, so spread that none of the instances' periods meets more changes early than late.
fn gap(turn: usize) -> Duration {
    let spread = u64::try_from(turn).unwrap_or_default().wrapping_mul(GOLDEN) & u64::from(u32::MAX);
    Duration::from_millis(100 + ((spread * 300) >> 32))
}

fn pause_until(due: Instant) {
    while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}

/// Has a client come to every instance now and then until `ended`: one that nobody uses reads changes seldom.
fn visit(fleet: &Fleet, ended: &Receiver<()>) -> anyhow::Result<()> {
    loop {
        for machine in &fleet.machines {
            let address = IpAddr::V4(machine.address);
            let reply = fleet.edge.curl(&format!("https://{NAME}/")).at(address).run()?;
            ensure!(reply.status == 200, "{address}: {reply:?}");
        }
        match ended.recv_timeout(VISITS) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Looks until each change is in the kernel of each machine.
fn follow(machines: &[Machine], changes: &Receiver<Change>) -> anyhow::Result<Vec<f64>> {
    let (mut open, mut samples, mut is_ended) = (Vec::new(), Vec::new(), false);
    while !is_ended || !open.is_empty() {
        match changes.recv_timeout(LOOK) {
            Ok(change) => open.push(change),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                is_ended = true;
                thread::park_timeout(LOOK);
            }
        }
        let mut others = Vec::new();
        for change in open {
            let taken = change.answered.elapsed();
            if change.is_in(machines)? {
                samples.push(millis(taken));
            } else {
                ensure!(taken < PATIENCE, "{} is not as it was changed {taken:?} ago", change.name);
                others.push(change);
            }
        }
        open = others;
    }
    Ok(samples)
}

impl Change {
    fn is_in(&self, machines: &[Machine]) -> anyhow::Result<bool> {
        for machine in machines {
            if machine.kernel.holds(&self.name)? != self.is_served {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

const ADDED: usize = 120;
const REMOVED: usize = 100;
const VISITS: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(30);
/// 2^32 by the golden ratio: its multiples are spread evenly over the numbers below 2^32, whichever follow each other.
const GOLDEN: u64 = 2_654_435_769;
