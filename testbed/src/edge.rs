//! The whole: network, CA, table, upstream, and what instances of Gatehouse and clients need to know of them.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use dynoxide::Database;
use tempfile::TempDir;

use crate::{
    authority::Authority,
    curl::Curl,
    gatehouse::{Place, Settings},
    network::{EDGE_A, EDGE_LINK, HOST, LOOPBACK, Network},
    pebble::Pebble,
    table::Table,
    upstream::Upstream,
};

/// Everything around Gatehouse. Instances are values of their own and have to be dropped first.
pub struct Edge {
    /// Where certificates come from.
    pub ca: Pebble,
    /// Where requests go.
    pub upstream: Upstream,
    /// Where several instances share state.
    pub table: Table,
    /// Who signs what our own servers present.
    pub authority: Authority,
    /// The namespaces.
    pub network: Arc<Network>,
    folder: TempDir,
}

impl Edge {
    /// An edge of its own for one test.
    pub fn start() -> anyhow::Result<Self> {
        let folder = folder()?;
        let network = Network::create(folder.path())?;
        Self::around(network, LOOPBACK, folder, None)
    }

    /// The same, whose table is `database`: its indexes follow its items at once.
    pub fn start_over(database: Database) -> anyhow::Result<Self> {
        let folder = folder()?;
        let network = Network::create(folder.path())?;
        Self::around(network, LOOPBACK, folder, Some(database))
    }

    /// An edge of virtual machines: table and upstream are at [`HOST`], and `place`s are machines.
    pub fn of_machines() -> anyhow::Result<Self> {
        let folder = folder()?;
        let network = Network::of_machines(folder.path())?;
        Self::around(network, IpAddr::V4(HOST), folder, None)
    }

    /// An edge of a fleet, whose machines are namespaces of their own ([`Network::of_fleet`]): table and upstream are at [`HOST`].
    pub fn of_fleet() -> anyhow::Result<Self> {
        let folder = folder()?;
        let network = Network::of_fleet(folder.path())?;
        Self::around(network, IpAddr::V4(HOST), folder, None)
    }

    /// The same, whose table is `database`: its indexes follow its items at once.
    pub fn of_fleet_over(database: Database) -> anyhow::Result<Self> {
        let folder = folder()?;
        let network = Network::of_fleet(folder.path())?;
        Self::around(network, IpAddr::V4(HOST), folder, Some(database))
    }

    /// The edge of `cargo xtask run`.
    pub fn plain() -> anyhow::Result<Self> {
        let folder = folder()?;
        let network = Network::plain(folder.path())?;
        Self::around(network, LOOPBACK, folder, None)
    }

    /// Where files of this run lie.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves the files of this run where they are when it ends.
    pub fn keep(&mut self) -> &Path {
        self.folder.disable_cleanup(true);
        self.folder.path()
    }

    /// Settings of an instance at `place`: Pebble issues, requests go to the upstream, the store is embedded, the guard
    /// is off, `io` is the back end.
    #[must_use]
    pub fn settings(&self, place: Place, io: &str) -> Settings {
        let mut settings = Settings::new(place, &self.folder().join(place.label()));
        settings.text("worker", "io", io).raw("worker", "threads", "2");
        settings.text("domains", "default_target", &self.upstream.target());
        settings.raw("upstream", "permitted_networks", "[\"127.0.0.0/8\"]");
        settings.text("upstream", "roots", &self.authority.file().to_string_lossy());
        settings.text("log", "filter", "info,gatehouse=debug");
        settings.issuer(&self.ca.directory(), self.ca.directory_roots());
        settings
    }

    /// The same on the shared table.
    #[must_use]
    pub fn shared_settings(&self, place: Place, io: &str) -> Settings {
        let mut settings = self.settings(place, io);
        settings.text("store", "endpoint", &self.table.endpoint()).text("store", "region", "eu-central-1");
        settings
    }

    /// Settings of the fleet's machine at `address`, whose files lie in `folder`, on the shared table.
    #[must_use]
    pub fn machine_settings(&self, address: Ipv4Addr, folder: &Path) -> Settings {
        let mut settings = self.shared_settings(Place::A, "auto");
        settings.lie_in(folder).listen_at(address);
        settings.raw("upstream", "permitted_networks", &format!("[\"{HOST}/32\"]"));
        settings
    }

    /// Turns the guard of `settings` on, natively on the edge's link; the client's end gets its stub.
    pub fn guard(&self, settings: &mut Settings, mode: &str) -> anyhow::Result<()> {
        self.network.attach_stub(&stub())?;
        settings.raw("guard", "interfaces", &format!("[{EDGE_LINK:?}]")).text("guard", "mode", mode);
        settings.text("guard", "pin_path", &self.pins().to_string_lossy());
        settings.raw("guard", "names", "100000");
        Ok(())
    }

    /// Where the guard's pins lie; seen only from inside the edge.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        self.folder().join("bpf")
    }

    /// curl in the client's namespace, which trusts what the CA issues and finds every name at instance A.
    #[must_use]
    pub fn curl(&self, url: &str) -> Curl {
        Curl::new(Arc::clone(&self.network), self.ca.roots(), url).at(IpAddr::V4(EDGE_A))
    }

    /// The address clients reach `place` at with TLS.
    #[must_use]
    pub fn https(place: Place) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(place.v4()), 443)
    }

    fn around(
        network: Network,
        services: IpAddr,
        folder: TempDir,
        database: Option<Database>,
    ) -> anyhow::Result<Self> {
        let authority = Authority::create(folder.path())?;
        let upstream = Upstream::start(&network.edge, services, &authority)?;
        let table = match database {
            None => Table::start(&network.edge, services)?,
            Some(database) => Table::start_over(&network.edge, services, database)?,
        };
        let ca = Pebble::start(&network.client, &authority, folder.path())?;
        Ok(Self { ca, upstream, table, authority, network: Arc::new(network), folder })
    }
}

/// The program that passes everything, as `cargo xtask build-ebpf` leaves it.
#[must_use]
pub fn stub() -> PathBuf {
    root().join("target/ebpf/stub")
}

/// The workspace.
#[must_use]
pub fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

fn folder() -> anyhow::Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("gatehouse-").tempdir()?)
}
