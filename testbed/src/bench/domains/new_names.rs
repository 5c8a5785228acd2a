//! How soon a new name is served, its certificate ordered from Pebble: at the instance whose API has added it, and at another, whose kernel
//! rejects it until that has heard of it. The index from which others hear is two seconds behind, as old as it may be.

use std::{
    net::IpAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::ensure;

use super::{
    Goal, Statistic,
    fleet::{Fleet, Machine},
    millis, push,
};
use crate::{bench::report::Report, edge::Edge, wait};

pub(super) fn measure(report: &mut Report, binary: &Path) -> anyhow::Result<()> {
    let fleet = Fleet::start(Edge::of_fleet()?, binary)?;
    let [first, second, ..] = &*fleet.machines else { anyhow::bail!("no fleet") };
    for (label, work, machine) in [
        ("own", "from 201 to the first byte of a new name, at the instance that was asked", first),
        ("other", "from 201 to the first byte of a new name, at another instance", second),
    ] {
        let names = (0..NAMES).map(|number| format!("{label}-{number}.customer.test"));
        let samples = names.map(|name| served(&fleet, machine, &name)).collect::<anyhow::Result<Vec<_>>>()?;
        let goal = |of| Goal { most: 10_000.0, of };
        let statistics = [Statistic::Median, Statistic::Maximum];
        push(report, work, "ms", &samples, &statistics, &statistics.map(goal))?;
    }
    Ok(())
}

/// Milliseconds from the API's answer until curl has that of `machine`, which it asks once the kernel there knows the name.
fn served(fleet: &Fleet, machine: &Machine, name: &str) -> anyhow::Result<f64> {
    let mut api = fleet.operator().connect()?;
    api.add(name)?;
    let answered = Instant::now();
    wait::until(&format!("{name} in the kernel"), PATIENCE, || {
        ensure!(machine.kernel.holds(name)?, "not yet");
        Ok(())
    })?;
    let asked = answered.elapsed();
    let reply = fleet.edge.curl(&format!("https://{name}/")).at(IpAddr::V4(machine.address)).run()?;
    ensure!(reply.status == 200, "{name}: {reply:?}");
    let until = millis(asked) + reply.seconds * 1e3;
    println!("{name}: in the kernel after {:.0} ms, served after {until:.0} ms", millis(asked));
    Ok(until)
}

const NAMES: u32 = 12;
const PATIENCE: Duration = Duration::from_secs(30);
