//! A CA in one namespace, the module `certificates` of some instances in the other.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use gatehouse::{
    certificates::{CertificateRefusal, Certificates, ChallengeToken, Slot, listing},
    config::{Config, DomainSettings, IssuerConfig, Span, StaticDomain},
    domains::{DomainEntry, Domains, Permission, PermissionSource},
    name::{Pattern, ServerName},
    store::{Engine, Store, tables},
};
use prometheus::Registry;
use testbed::{
    authority::Authority,
    namespace::Namespace,
    network::{EDGE_A, Network},
    pebble::{Pebble, Variant},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    runtime::{Handle, Runtime},
};

/// A CA in one namespace and the fleet's instances in the other.
pub(crate) struct World {
    pub(crate) network: Network,
    authority: Authority,
    pub(crate) folder: tempfile::TempDir,
}

/// The module on a runtime inside the edge, with a listener that answers http-01.
pub(crate) struct Instance {
    pub(crate) certificates: Certificates,
    pub(crate) store: Store,
    registry: Registry,
    config: Config,
    runtime: Option<Runtime>,
}

impl World {
    pub(crate) fn create() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let network = Network::create(folder.path()).unwrap();
        let authority = Authority::create(folder.path()).unwrap();
        Self { network, authority, folder }
    }

    pub(crate) fn pebble(&self) -> Pebble {
        self.pebble_variant(Variant::default())
    }

    pub(crate) fn pebble_variant(&self, variant: Variant) -> Pebble {
        Pebble::start_variant(&self.network.client, &self.authority, self.folder.path(), variant).unwrap()
    }

    pub(crate) fn instance(&self, engine: &Engine, pebble: &Pebble) -> Instance {
        self.instance_with(engine, vec![issuer(pebble)])
    }

    /// An instance that orders from `issuers`.
    pub(crate) fn instance_with(&self, engine: &Engine, issuers: Vec<IssuerConfig>) -> Instance {
        self.instance_changed(engine, issuers, |_| {})
    }

    /// The same, with settings that `change` has changed.
    pub(crate) fn instance_changed(
        &self,
        engine: &Engine,
        issuers: Vec<IssuerConfig>,
        change: impl FnOnce(&mut Config),
    ) -> Instance {
        let mut config = Config { state_directory: self.folder.path().join("state"), ..Config::default() };
        config.domains.table = false;
        config.domains.r#static = ["*.allowed.example", "fresh.customer.test"].map(entry).into();
        config.certificates.issuers = issuers;
        config.certificates.renewal_period = Span::secs(1);
        change(&mut config);
        start(&self.network.edge, engine.clone(), config)
    }
}

/// `pebble` as settings name it.
pub(crate) fn issuer(pebble: &Pebble) -> IssuerConfig {
    let roots = Some(PathBuf::from(pebble.directory_roots()));
    IssuerConfig { roots, ..IssuerConfig::of(&pebble.directory(), "ops@example.com") }
}

pub(crate) fn entry(pattern: &str) -> StaticDomain {
    StaticDomain { name: Pattern::parse(pattern).unwrap(), target: None, settings: DomainSettings::default() }
}

fn start(edge: &Namespace, engine: Engine, config: Config) -> Instance {
    edge.await_inside(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let registry = Registry::new();
        let (certificates, store) = runtime.block_on(async {
            let store = Store::on(engine, &config.store);
            store.register_metrics(&registry).unwrap();
            tables::create(&store).await.unwrap();
            let domains = Domains::start(&config.domains, &store, &Handle::current(), &registry).unwrap();
            let certificates =
                Certificates::start(&config, &store, &domains, &Handle::current(), &registry).unwrap();
            // One instance answers for all: the others' listeners find the port taken.
            if let Ok(listener) = TcpListener::bind(SocketAddr::from((EDGE_A, 80))).await {
                tokio::spawn(answer_all(listener, certificates.clone()));
            }
            (certificates, store)
        });
        Instance { certificates, store, registry, config, runtime: Some(runtime) }
    })
    .unwrap()
}

async fn answer_all(listener: TcpListener, certificates: Certificates) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, certificates.clone()));
    }
}

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// `GET /.well-known/acme-challenge/TOKEN`, `Host: NAME` (RFC 8555 §8.3).
async fn answer(stream: TcpStream, certificates: Certificates) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    let (mut token, mut host) = (None, None);
    while let Some(line) = lines.next_line().await.ok()?.filter(|line| !line.is_empty()) {
        if let Some(path) = line.strip_prefix("GET /.well-known/acme-challenge/") {
            token = path.split(' ').next().and_then(ChallengeToken::parse);
        } else if let Some(name) = line.to_ascii_lowercase().strip_prefix("host: ") {
            host = name.split(':').next().and_then(|name| ServerName::parse(name).ok());
        }
    }
    let host = host?;
    let permission = allowed();
    let answer = certificates.http_answer(&host, &permission, &token?, CLIENT).await?;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
    lines.into_inner().into_inner().write_all((head + &answer).as_bytes()).await.ok()
}

fn allowed() -> Permission {
    Permission::Allow(Arc::new(DomainEntry {
        pattern: Pattern::parse("*.allowed.example").unwrap(),
        target: None,
        settings: DomainSettings::default(),
        tenant: "default".into(),
        source: PermissionSource::Static,
        version: 0,
        changed_at_micros: 0,
    }))
}

impl Instance {
    pub(crate) fn obtain(&self, text: &str) -> Result<Arc<Slot>, CertificateRefusal> {
        let name = ServerName::parse(text).unwrap();
        self.runtime().block_on(self.certificates.obtain(&name, &allowed(), CLIENT))
    }

    pub(crate) fn show(&self, text: &str) -> Option<listing::Summary> {
        let keys = listing::issuer_keys(&self.config.certificates);
        let name = Pattern::parse(text).unwrap();
        self.runtime().block_on(listing::show(&self.store, &keys, &name, &name)).unwrap()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn order_seconds(&self) -> f64 {
        let families = self.registry.gather();
        let orders = families.iter().find(|family| family.name() == "gatehouse_certificate_order_seconds");
        orders.unwrap().get_metric().iter().map(|metric| metric.get_histogram().get_sample_sum()).sum()
    }

    /// The sum of the counters `name`.
    pub(crate) fn counted(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let of_name = families.iter().filter(|family| family.name() == name);
        of_name
            .flat_map(prometheus::proto::MetricFamily::get_metric)
            .map(|metric| metric.get_counter().get_value())
            .sum()
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().unwrap()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(crate) fn leaf(slot: &Slot) -> Vec<u8> {
    slot.current(SystemTime::now()).unwrap().key.cert[0].to_vec()
}
