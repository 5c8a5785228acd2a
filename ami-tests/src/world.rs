//! What the machines meet: Pebble, a table, an upstream, clients, an operator.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::Command,
};

use anyhow::{Context, ensure};
use testbed::{
    cleartext,
    curl::Reply,
    edge::Edge,
    gatehouse::Place,
    hello::{Attempt, Hello, KeyShare, attempt},
    keep_alive_client::Kept,
    metrics::Metrics,
    namespace, wait,
};

use crate::{
    Arguments,
    guest::{
        Guest, Hardware,
        seed::{self, indented},
    },
};

/// Everything outside the machines. Machines have to be dropped first.
pub(crate) struct World {
    pub(crate) edge: Edge,
    /// The baked disk.
    pub(crate) image: PathBuf,
    hardware: Hardware,
    /// The package that follows the one in it.
    pub(crate) next: PathBuf,
    operator: Operator,
}

/// A person with the command line and access to the tables, and with no instance of their own.
struct Operator {
    binary: PathBuf,
    config: PathBuf,
}

impl World {
    /// Brings it up; the operator's `gatehouse` is the package's own.
    pub(crate) fn start(arguments: &Arguments) -> anyhow::Result<Self> {
        let Arguments { image, package, next, accelerator, memory, .. } = arguments;
        let edge = Edge::of_machines()?;
        let unpacked = edge.folder().join("package");
        namespace::run(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&unpacked))?;
        let config = edge.folder().join("operator.toml");
        let folder = edge.folder().join("operator");
        let (store, domains) = (store_settings(&edge), domains_settings(&edge));
        fs::write(&config, format!("state_directory = \"{}\"\n{store}{domains}", folder.display()))?;
        let operator = Operator { binary: unpacked.join("usr/bin/gatehouse"), config };
        let image = image.canonicalize().context("--image")?;
        let hardware = Hardware { accelerator: accelerator.clone(), memory_mib: *memory };
        let world = Self { edge, image, hardware, next: next.clone(), operator };
        world.operate(&["tables", "create"])?;
        Ok(world)
    }

    /// A new machine at `place` whose user data brings `settings`.
    pub(crate) fn boot(&self, place: Place, settings: &str) -> anyhow::Result<Guest> {
        let data = seed::user_data(&(seed::settings(settings) + &self.acquaintance()?));
        Guest::boot(&self.edge.network, self.edge.folder(), &self.image, &self.hardware, place, &data)
    }

    /// `gatehouse ARGUMENTS...` as the operator.
    pub(crate) fn operate(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.operator.binary);
        command.arg("--config").arg(&self.operator.config).args(arguments);
        command.envs([("AWS_ACCESS_KEY_ID", "operator"), ("AWS_SECRET_ACCESS_KEY", "operator")]);
        self.edge.network.edge.await_inside(move || namespace::run(&mut command))?
    }

    /// Settings of a machine of the fleet.
    pub(crate) fn fleet_settings(&self) -> String {
        let (store, domains) = (store_settings(&self.edge), domains_settings(&self.edge));
        let directory = self.edge.ca.directory();
        format!(
            "{store}{domains}\n[guard]\nmode = \"strict\"\n\n\
             [control]\nmetrics = \"0.0.0.0:{METRICS}\"\n\n\
             [[certificates.issuers]]\ndirectory = {directory:?}\nemail = \"operator@example.com\"\nroots = {ROOTS:?}\n"
        )
    }

    /// What a machine has to know to find and trust the world, as entries of cloud-init's `write_files`.
    fn acquaintance(&self) -> anyhow::Result<String> {
        let root = indented(&fs::read_to_string(self.edge.authority.file())?, 6);
        let client = testbed::network::CLIENT;
        Ok(format!(
            "  - path: {ROOTS}\n    content: |\n{root}  - path: /etc/hosts\n    append: true\n    content: |\n      {client} ca.test\n  \
             - path: /etc/default/gatehouse\n    content: |\n      AWS_ACCESS_KEY_ID=machine\n      AWS_SECRET_ACCESS_KEY=machine\n"
        ))
    }

    /// What `/health` says; an error when nobody answers.
    pub(crate) fn health(&self, place: Place) -> anyhow::Result<u16> {
        Ok(self.cleartext(place, 80, "/health")?.status)
    }

    /// Waits until `/health` says `status`.
    pub(crate) fn await_health(&self, place: Place, status: u16) -> anyhow::Result<()> {
        wait::until(&format!("health {status} at {place:?}"), PATIENCE, || {
            let seen = self.health(place)?;
            ensure!(seen == status, "{seen}");
            Ok(())
        })
    }

    /// A scrape, as Prometheus makes it.
    pub(crate) fn metrics(&self, place: Place) -> anyhow::Result<Metrics> {
        Ok(Metrics::parse(&self.exposition(place)?))
    }

    /// The same as text.
    pub(crate) fn exposition(&self, place: Place) -> anyhow::Result<String> {
        let answer = self.cleartext(place, METRICS, "/metrics")?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(answer.body)
    }

    /// Waits until the metrics at `place` are as `holds` wants them.
    pub(crate) fn await_metrics(
        &self,
        place: Place,
        what: &str,
        holds: impl Fn(&Metrics) -> bool,
    ) -> anyhow::Result<Metrics> {
        wait::until(what, PATIENCE, || {
            let metrics = self.metrics(place)?;
            ensure!(holds(&metrics), "{metrics}");
            Ok(metrics)
        })
    }

    /// GET / of `name` at `place`, which must be served.
    pub(crate) fn served(&self, place: Place, name: &str) -> anyhow::Result<Reply> {
        let reply = self.edge.curl(&format!("https://{name}/")).at(IpAddr::V4(place.v4())).run()?;
        ensure!(reply.status == 200, "{name} at {place:?}: {reply:?}");
        ensure!(reply.seen("user-custom-domain") == [name], "at the upstream: {}", reply.body);
        Ok(reply)
    }

    /// The certificate that is presented for `name`, in DER.
    pub(crate) fn presented(&self, place: Place, name: &str) -> anyhow::Result<Vec<u8>> {
        let client = &self.edge.network.client;
        Kept::connect(client, Edge::https(place), name, self.edge.ca.roots())?.certificate()
    }

    /// A hello for `name`, and what becomes of it.
    pub(crate) fn send_client_hello(&self, to: SocketAddr, name: &str) -> anyhow::Result<Attempt> {
        let hello = Hello::new(name, KeyShare::Classic, |_| true)?;
        attempt(&self.edge.network.client, to, hello.whole(), PATIENCE)
    }

    /// Adds `name` to the table, and waits until the guard at `place` lets it through.
    pub(crate) fn add(&self, place: Place, name: &str) -> anyhow::Result<()> {
        let before = self.metrics(place)?.sum("gatehouse_guard_names", &[]);
        self.operate(&["domain", "add", name])?;
        self.await_metrics(place, "the guard to hold one name more", |metrics| {
            metrics.sum("gatehouse_guard_names", &[]) > before
        })
        .map(drop)
    }

    fn cleartext(&self, place: Place, port: u16, path: &str) -> anyhow::Result<cleartext::Answer> {
        let to = SocketAddr::new(IpAddr::V4(place.v4()), port);
        cleartext::get(&self.edge.network.client, to, "health", path).context("no answer")
    }
}

fn store_settings(edge: &Edge) -> String {
    format!("\n[store]\nendpoint = {:?}\nregion = \"eu-central-1\"\n", edge.table.endpoint())
}

/// One deadline for whatever a machine does: emulated, and beside others, it is up to thirty times slower than real.
pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_mins(10);
const METRICS: u16 = 9464;
/// Where a machine keeps the root that signs Pebble's own certificate.
const ROOTS: &str = "/etc/gatehouse/testbed-root.pem";

fn domains_settings(edge: &Edge) -> String {
    format!("\n[domains]\ndefault_target = {:?}\n", edge.upstream.target())
}
