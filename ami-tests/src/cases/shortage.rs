//! Memory that runs out: load is shed before the kernel kills.

use anyhow::{Context, bail, ensure};
use testbed::{edge::Edge, keep_alive_client::Kept, metrics::Metrics};

use super::{
    names::SHOP,
    restarts::{ensure_served, main_process},
};
use crate::{guest::Guest, world::World};

/// Three quarters of what the unit may use are in use, and clients come until they are refused. Not more than that: the shortage ends
/// below 85 %, and maps and program, most of what is used, are not freed by a client that goes.
pub(super) fn memory(world: &World, guest: &mut Guest) -> anyhow::Result<String> {
    ensure_served(world, guest)?;
    let process = main_process(guest)?;
    // All clients of this test have one address, which must not be refused for its own sake before memory is short; and where the machine is
    // slow, the first must still be there when the last one comes.
    guest.run(&format!(
        "printf '[limits]\\nconnections_per_source = {MOST_CONNECTIONS}\\nidle = \"1h\"\\n' >{MORE} && systemctl reload gatehouse"
    ))?;
    let from = guest.console().len();
    let used = format!(
        "awk '/^(anon|kernel|sock|file_mapped) / {{ sum += $2 }} END {{ printf \"%d\", sum }}' {CGROUP}/memory.stat"
    );
    let used: u64 = guest.run(&used)?.parse().context("memory in use")?;
    let limit = used / 3 * 4;
    guest.run(&format!("systemctl set-property --runtime gatehouse.service MemoryMax={limit}"))?;
    let mut open = connect_until_refused(world, guest)?;
    let count = open.len();
    let first = open.first_mut().context("not one connection was taken")?;
    ensure!(first.get("/")? == 200, "an open connection is served no longer");
    world.await_health(guest.place, 503)?;
    guest.await_console(from, &["Overloaded"])?;
    drop(open);
    if let Err(error) = world.await_health(guest.place, 200) {
        bail!("{error:#}; of {limit} bytes: {}", guest.run(&format!("cat {CGROUP}/memory.stat"))?);
    }
    world.served(guest.place, SHOP)?;
    let killed = guest.run(&format!("awk '/^oom_kill / {{ print $2 }}' {CGROUP}/memory.events"))?;
    ensure!(killed == "0" && main_process(guest)? == process, "{killed} killed");
    Ok(format!(
        "{count} connections in {} MiB, the next refused, and served again once they had gone",
        (limit - used) >> 20
    ))
}

/// Kept connections, each of which has been served once; the last attempt was refused for want of memory.
fn connect_until_refused(world: &World, guest: &Guest) -> anyhow::Result<Vec<Kept>> {
    let mut open = Vec::new();
    for _ in 0..MOST_CONNECTIONS {
        let client = &world.edge.network.client;
        let connected = Kept::connect(client, Edge::https(guest.place), SHOP, world.edge.ca.roots());
        let refused = connected.and_then(|mut kept| {
            ensure!(kept.get("/")? == 200, "not served");
            open.push(kept);
            Ok(())
        });
        if let Err(error) = refused {
            let metrics = world.metrics(guest.place)?;
            ensure!(refusals(&metrics) > 0.5, "{error:#}, after {} connections\n{metrics}", open.len());
            return Ok(open);
        }
    }
    bail!("{MOST_CONNECTIONS} connections, and none was refused")
}

fn refusals(metrics: &Metrics) -> f64 {
    metrics.sum("gatehouse_tls_connections_total", &["outcome=\"refused_memory\""])
}

const MORE: &str = "/etc/gatehouse/conf.d/60-more.toml";
const CGROUP: &str = "/sys/fs/cgroup/system.slice/gatehouse.service";
const MOST_CONNECTIONS: usize = 4_000;
