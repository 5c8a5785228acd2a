//! Instances of one fleet, each on a machine of its own with a guard and an API, on one table.

use std::{fs, net::Ipv4Addr, path::Path, time::Duration};

use anyhow::ensure;
use serde_json::json;

use super::{
    kernel_names::KernelNames,
    operator::{self, Operator},
};
use crate::{
    cleartext, edge::Edge, metrics::Metrics, namespace::Namespace, network::fleet_machine, process::Process,
};

/// Everything; dropped in this order.
pub(super) struct Fleet {
    pub(super) machines: Vec<Machine>,
    operator: Operator,
    pub(super) edge: Edge,
}

/// One instance.
pub(super) struct Machine {
    _process: Process,
    _namespace: Namespace,
    pub(super) address: Ipv4Addr,
    pub(super) kernel: KernelNames,
}

impl Fleet {
    /// Starts `binary` on [`MACHINES`] of `edge`, and waits until all enforce.
    pub(super) fn start(edge: Edge, binary: &Path) -> anyhow::Result<Self> {
        // Where the CA looks for names that it validates.
        let first = fleet_machine(1);
        edge.ca.tell_dns(&edge.network.client, "/set-default-ipv4", &json!({ "ip": first.to_string() }))?;
        let settings = edge.machine_settings(first, &edge.folder().join("operator"));
        settings.command(&edge.network.edge, binary, &["tables", "create"])?;
        let token = settings.command(&edge.network.edge, binary, &operator::TOKEN)?;
        let operator = Operator::new(&edge.network, edge.ca.roots(), first, &token)?;
        let machines =
            (1..=MACHINES).map(|number| Machine::start(&edge, binary, number)).collect::<Result<_, _>>()?;
        Ok(Self { machines, operator, edge })
    }

    /// Who asks the first instance's API.
    pub(super) fn operator(&self) -> &Operator {
        &self.operator
    }
}

impl Machine {
    fn start(edge: &Edge, binary: &Path, number: u8) -> anyhow::Result<Self> {
        let address = fleet_machine(number);
        let folder = edge.folder().join(format!("machine-{number}"));
        fs::create_dir_all(&folder)?;
        let namespace = edge.network.attach(address, &edge.folder().join("hosts"))?;
        let pins = folder.join("bpf");
        let mut settings = edge.machine_settings(address, &folder);
        operator::open(&mut settings, address);
        settings.raw("worker", "threads", "1").text("log", "filter", "info");
        settings.raw("guard", "interfaces", "[\"eth0\"]").text("guard", "mode", "strict");
        settings.text("guard", "pin_path", &pins.to_string_lossy()).raw("guard", "names", "100000");
        let mut process = settings.spawn(&namespace, binary)?;
        process.wait_until("the guard to enforce", START, || {
            let answer = cleartext::get(&namespace, (address, METRICS).into(), "localhost", "/metrics")?;
            let metrics = Metrics::parse(&answer.body);
            ensure!(metrics.sum("gatehouse_guard_enforcing", &[]) > 0.5, "{metrics}");
            Ok(())
        })?;
        let kernel = KernelNames::open(&namespace, &pins)?;
        Ok(Self { _process: process, _namespace: namespace, address, kernel })
    }
}

const MACHINES: u8 = 3;
const METRICS: u16 = 9_464;
const START: Duration = Duration::from_secs(30);
