//! A machine: a network namespace with a metadata service and an instance of Gatehouse in it.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::ExitStatus,
    time::Duration,
};

use nix::sys::signal::Signal;

use super::scaling::{Image, Instance};
use crate::{
    edge::Edge,
    metadata::{self, Metadata},
    namespace::Namespace,
    process::Process,
};

/// A running machine. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) process: Process,
    pub(super) metadata: Metadata,
    _namespace: Namespace,
}

impl Machine {
    /// Boots it, and does not wait until it serves.
    pub(super) fn boot(
        edge: &Edge,
        binary: &Path,
        identity: metadata::Instance,
        instance: &Instance,
        lifecycle_poll: Duration,
    ) -> anyhow::Result<Self> {
        let folder = edge.folder().join(&identity.id);
        fs::create_dir_all(&folder)?;
        let namespace = edge.network.attach(instance.address, &edge.folder().join("hosts"))?;
        let metadata = Metadata::start(&namespace, METADATA, identity)?;
        let mut settings = edge.machine_settings(instance.address, &folder);
        settings.raw("worker", "threads", "1");
        settings.text("instance", "metadata", &metadata.url());
        settings.text("instance", "lifecycle_poll", &format!("{}ms", lifecycle_poll.as_millis().max(10)));
        settings.raw("headers", "response", &format!("[\"set {VERSION}: {}\"]", instance.template.version));
        match instance.template.image {
            Image::Good => drop(settings.domain(NAME)),
            // Nobody answers there, and the settings list no name: it runs, and health says 503.
            Image::Bad => drop(settings.text("store", "endpoint", "http://127.0.0.1:9")),
        }
        let process = settings.spawn(&namespace, binary)?;
        Ok(Self { process, metadata, _namespace: namespace })
    }

    /// Begins its end in order, as EC2 does: the system stops, and with it its services.
    pub(super) fn shut_down(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::SIGTERM)
    }

    /// Ends it at once.
    pub(super) fn kill(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::SIGKILL)
    }

    /// How its instance of Gatehouse ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended().ok().flatten()
    }
}

/// What is served.
pub(super) const NAME: &str = "shop.customer.test";
/// The field by which a response says of which template version its instance is.
pub(super) const VERSION: &str = "X-Template-Version";
const METADATA: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1338);
