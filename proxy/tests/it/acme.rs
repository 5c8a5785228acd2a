//! Whole orders against a real CA, without workers and guard: what the module `certificates` does by itself.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use gatehouse::{
    certificates::{CertificateRefusal, Certificates, ChallengeToken, Slot, listing},
    config::{Config, DomainSettings, IssuerConfig, StaticDomain},
    domains::Domains,
    name::{Pattern, ServerName},
    store::{Engine, Store, tables},
};
use prometheus::Registry;
use testbed::{
    authority::Authority,
    namespace::Namespace,
    network::{EDGE_A, Network},
    pebble::Pebble,
    relay::Traffic,
    wait,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    runtime::{Handle, Runtime},
};

/// A CA in one namespace and the fleet's instances in the other.
struct World {
    network: Network,
    authority: Authority,
    folder: tempfile::TempDir,
}

/// The module on a runtime inside the edge, with a listener that answers http-01.
struct Instance {
    certificates: Certificates,
    store: Store,
    registry: Registry,
    config: Config,
    runtime: Option<Runtime>,
}

impl World {
    fn create() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let network = Network::create(folder.path()).unwrap();
        let authority = Authority::create(folder.path()).unwrap();
        Self { network, authority, folder }
    }

    fn pebble(&self) -> Pebble {
        Pebble::start(&self.network.client, &self.authority, self.folder.path()).unwrap()
    }

    fn instance(&self, engine: &Engine, pebble: &Pebble) -> Instance {
        let mut config = Config { state_directory: self.folder.path().join("state"), ..Config::default() };
        config.domains.table = false;
        config.domains.r#static = ["*.allowed.example", "fresh.customer.test"].map(entry).into();
        config.certificates.issuers = vec![IssuerConfig {
            directory: pebble.directory(),
            email: "ops@example.com".to_owned(),
            roots: Some(PathBuf::from(pebble.directory_roots())),
        }];
        start(&self.network.edge, engine.clone(), config)
    }
}

fn entry(pattern: &str) -> StaticDomain {
    StaticDomain { name: Pattern::parse(pattern).unwrap(), target: None, settings: DomainSettings::default() }
}

fn start(edge: &Namespace, engine: Engine, config: Config) -> Instance {
    edge.await_inside(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let registry = Registry::new();
        let (certificates, store) = runtime.block_on(async {
            let store = Store::on(engine, &config.store);
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
    let answer = certificates.http_answer(&host?, &token?, CLIENT).await?;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
    lines.into_inner().into_inner().write_all((head + &answer).as_bytes()).await.ok()
}

impl Instance {
    fn obtain(&self, text: &str) -> Result<Arc<Slot>, CertificateRefusal> {
        let name = ServerName::parse(text).unwrap();
        let site = gatehouse::domains::DomainEntry {
            pattern: Pattern::parse("*.allowed.example").unwrap(),
            target: None,
            settings: DomainSettings::default(),
            tenant: "default".into(),
            source: gatehouse::domains::PermissionSource::Static,
            version: 0,
            changed_at_micros: 0,
        };
        let permission = gatehouse::domains::Permission::Allow(Arc::new(site));
        self.runtime().block_on(self.certificates.obtain(&name, &permission, CLIENT))
    }

    fn show(&self, text: &str) -> Option<listing::Summary> {
        let keys = listing::issuer_keys(&self.config.certificates);
        let name = ServerName::parse(text).unwrap();
        self.runtime().block_on(listing::show(&self.store, &keys, &name)).unwrap()
    }

    fn order_seconds(&self) -> f64 {
        let families = self.registry.gather();
        let orders = families.iter().find(|family| family.name() == "gatehouse_certificate_order_seconds");
        orders.unwrap().get_metric().iter().map(|metric| metric.get_histogram().get_sample_sum()).sum()
    }

    fn runtime(&self) -> &Runtime {
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

fn leaf(slot: &Slot) -> Vec<u8> {
    slot.current(SystemTime::now()).unwrap().key.cert[0].to_vec()
}

#[test]
fn an_order_is_placed_once_and_its_certificate_is_the_fleets() {
    let world = World::create();
    let (pebble, engine) = (world.pebble(), Engine::in_memory().unwrap());
    let first = world.instance(&engine, &pebble);
    let began = Instant::now();
    let slot = first.obtain("one.allowed.example").unwrap();
    eprintln!("first certificate: {:?}, of it {:.3} s the CA's", began.elapsed(), first.order_seconds());
    let second = world.instance(&engine, &pebble);
    assert_eq!(leaf(&second.obtain("one.allowed.example").unwrap()), leaf(&slot));
    assert_eq!(pebble.relay.count("newOrder"), 1);
    let shown = second.show("one.allowed.example").unwrap();
    assert_eq!((shown.certificate.unwrap().issuer.as_str(), shown.failures), ("ca.test-14000-dir", 0));
    second.obtain("two.allowed.example").unwrap();
    assert_eq!((pebble.relay.count("newOrder"), pebble.relay.count("newAccount")), (2, 1));
}

#[test]
fn an_account_the_ca_has_forgotten_is_registered_anew() {
    let world = World::create();
    let (pebble, engine) = (world.pebble(), Engine::in_memory().unwrap());
    let instance = world.instance(&engine, &pebble);
    instance.obtain("before.allowed.example").unwrap();
    drop(pebble);
    let pebble = world.pebble();
    instance.obtain("after.allowed.example").unwrap();
    assert_eq!((pebble.relay.count("newAccount"), pebble.relay.count("newOrder")), (1, 1));
    let restarted = world.instance(&engine, &pebble);
    restarted.obtain("later.allowed.example").unwrap();
    assert_eq!(pebble.relay.count("newAccount"), 1, "the new account is in the table");
}

#[test]
fn a_name_the_ca_cannot_reach_backs_off_with_the_reason() {
    let world = World::create();
    let (pebble, engine) = (world.pebble(), Engine::in_memory().unwrap());
    let instance = world.instance(&engine, &pebble);
    let nowhere = "192.0.2.77".parse().unwrap();
    pebble.resolve(&world.network.client, "lost.allowed.example", nowhere).unwrap();
    assert_eq!(instance.obtain("lost.allowed.example").err(), Some(CertificateRefusal::Failed));
    let shown = instance.show("lost.allowed.example").unwrap();
    assert_eq!(shown.failures, 1);
    assert!(shown.problem.contains("could not validate"), "{}", shown.problem);
    assert!(shown.retry_at.is_some());
    assert_eq!(pebble.relay.count("newOrder"), 1);
}

/// Labels under a wildcard are made up as easily as unknown names.
#[test]
fn one_client_under_a_wildcard_leaves_the_fleets_orders_to_other_names() {
    let world = World::create();
    let (pebble, engine) = (world.pebble(), Engine::in_memory().unwrap());
    let instances = [world.instance(&engine, &pebble), world.instance(&engine, &pebble)];
    let served =
        (0..24).filter(|n| instances[n % 2].obtain(&format!("r{n}.allowed.example")).is_ok()).count();
    assert_eq!((served, pebble.relay.count("newOrder")), (10, 10), "the budget of one client address");
    instances[0].obtain("fresh.customer.test").unwrap();
}

#[test]
fn a_ca_that_was_away_locks_no_name_out() {
    let world = World::create();
    let (pebble, engine) = (world.pebble(), Engine::in_memory().unwrap());
    let instance = world.instance(&engine, &pebble);
    pebble.relay.set(Traffic::Cut);
    for text in ["one.allowed.example", "two.allowed.example"] {
        assert!(instance.obtain(text).is_err());
        let failures = instance.show(text).map_or(0, |shown| shown.failures);
        assert_eq!(failures, 0, "{text}: it is not the name's failure");
    }
    pebble.relay.set(Traffic::Pass);
    for text in ["one.allowed.example", "two.allowed.example"] {
        wait::until("a certificate", Duration::from_secs(30), || {
            instance.obtain(text).map(drop).map_err(anyhow::Error::from)
        })
        .unwrap();
    }
}
