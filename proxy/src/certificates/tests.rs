mod caddy_files;
mod following;
mod items;
mod local_copy;
mod own_certificates;
mod renewals;
mod rivals;
mod wildcards;

use std::{collections::HashSet, path::PathBuf};

use anyhow::{Context as _, ensure};
use testbed::wait;

use super::*;
use crate::{
    config::{Config, DomainSettings, Span, StaticDomain},
    store::{self, Engine, FaultPlan, Faults, certificate_table, state_table, tables},
};

/// An instance of a fleet, with a state directory of its own.
pub(super) struct Instance {
    pub(super) certificates: Certificates,
    store: Store,
    registry: Registry,
    _directory: tempfile::TempDir,
}

pub(super) struct Fleet {
    engine: Engine,
    faults: Option<Arc<Faults>>,
    pub(super) config: Config,
}

impl Fleet {
    pub(super) async fn new(faults: Option<&str>) -> Self {
        let faults = faults.map(|plan| Faults::new(FaultPlan::parse(plan).unwrap()));
        let mut config = Config::default();
        config.domains.r#static = vec![StaticDomain {
            name: Pattern::parse("*.served.example").unwrap(),
            target: None,
            settings: DomainSettings::default(),
        }];
        config.domains.table = false;
        let fleet = Self { engine: Engine::in_memory().unwrap(), faults, config };
        tables::create(&fleet.store()).await.unwrap();
        fleet
    }

    fn store(&self) -> Store {
        match &self.faults {
            Some(faults) => Store::on_faulty(self.engine.clone(), &self.config.store, Arc::clone(faults)),
            None => Store::on(self.engine.clone(), &self.config.store),
        }
    }

    pub(super) fn instance(&self) -> Instance {
        let directory = tempfile::tempdir().unwrap();
        let config = Config { state_directory: PathBuf::from(directory.path()), ..self.config.clone() };
        let (store, registry) = (self.store(), Registry::new());
        let domains = Domains::start(&config.domains, &store, &Handle::current(), &registry).unwrap();
        let certificates =
            Certificates::start(&config, &store, &domains, &Handle::current(), &registry).unwrap();
        Instance { certificates, store, registry, _directory: directory }
    }
}

impl Instance {
    async fn obtain(&self, text: &str) -> Result<Arc<Slot>, CertificateRefusal> {
        let name = name(text);
        let permission = self.certificates.inner.domains.known(&name).unwrap_or(UNKNOWN);
        self.certificates.obtain(&name, &permission, CLIENT).await
    }

    pub(super) fn orders(&self) -> u64 {
        self.certificates.inner.metrics.orders.count(metrics::Ordered::Issue)
    }

    async fn shown(&self, text: &str) -> Option<listing::Summary> {
        listing::show(&self.store, &[IssuerKey::internal()], &pattern(text), &pattern(text)).await.unwrap()
    }

    async fn shown_for(&self, text: &str, subject: &str) -> Option<listing::Summary> {
        let issuers = &self.certificates.inner.issuer_keys;
        listing::show(&self.store, issuers, &pattern(text), &pattern(subject)).await.unwrap()
    }

    async fn shown_with_own(&self, text: &str) -> Option<listing::Summary> {
        self.shown_for(text, text).await
    }
}

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const UNKNOWN: Permission = Permission::Unknown(crate::domains::UnknownReason::SourceDown);

/// A CA that does not answer.
pub(super) fn nobody() -> config::IssuerConfig {
    config::IssuerConfig::of("https://127.0.0.1:9/dir", "ops@example.com")
}

fn name(text: &str) -> ServerName {
    ServerName::parse(text).unwrap()
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn leaf(slot: &Slot) -> Vec<u8> {
    slot.current(SystemTime::now()).unwrap().key.cert[0].to_vec()
}

async fn until<T, P: Future<Output = anyhow::Result<T>>>(what: &str, look: impl FnMut() -> P) -> T {
    wait::until_async(what, Duration::from_secs(30), look).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_hellos_on_two_instances_make_one_certificate() {
    for faults in [None, Some("seed=3,stale=2s,throttle=30,conflict=30,unprocessed=50")] {
        let fleet = Fleet::new(faults).await;
        let instances = [fleet.instance(), fleet.instance()];
        let mut hellos = tokio::task::JoinSet::new();
        for n in 0..50 {
            let certificates = instances[n % 2].certificates.clone();
            hellos.spawn(async move {
                let name = name("one.served.example");
                let permission = certificates.inner.domains.known(&name).unwrap();
                leaf(&certificates.obtain(&name, &permission, CLIENT).await.unwrap())
            });
        }
        let leaves: HashSet<_> = hellos.join_all().await.into_iter().collect();
        assert_eq!(leaves.len(), 1, "{faults:?}");
        assert_eq!(instances[0].orders() + instances[1].orders(), 1, "{faults:?}");
    }
}

#[tokio::test]
async fn a_restart_and_another_instance_find_it_in_the_table() {
    let fleet = Fleet::new(None).await;
    let first = leaf(&fleet.instance().obtain("kept.served.example").await.unwrap());
    let again = fleet.instance();
    assert!(again.certificates.cached(&name("kept.served.example")).is_none(), "start-up loads nothing");
    assert_eq!(leaf(&again.obtain("kept.served.example").await.unwrap()), first);
    assert_eq!(again.orders(), 0);
    let text = prometheus::TextEncoder::new().encode_to_string(&again.registry.gather()).unwrap();
    assert!(text.contains("gatehouse_certificate_reads_total{for=\"certificate\"} 1"), "{text}");
}

#[tokio::test]
async fn permission_decides_between_order_table_and_nothing() {
    let fleet = Fleet::new(None).await;
    let instance = fleet.instance();
    let (known, new) = (name("known.served.example"), name("new.served.example"));
    fleet.instance().obtain(known.as_str()).await.unwrap();
    let denied = Permission::Deny(crate::domains::Denial::NoEntry);
    for (name, permission, expected) in [
        (&known, &denied, Some(CertificateRefusal::Denied)),
        (&new, &UNKNOWN, Some(CertificateRefusal::Unknown)),
        (&known, &UNKNOWN, None),
    ] {
        let outcome = instance.certificates.obtain(name, permission, CLIENT).await;
        assert_eq!(outcome.err(), expected, "{name} {permission:?}");
    }
    assert_eq!(instance.orders(), 0);
    assert!(instance.shown(new.as_str()).await.is_none());
}

#[tokio::test]
async fn permission_withdrawn_after_the_hello_orders_nothing() {
    let fleet = Fleet::new(None).await;
    let (instance, site) = (fleet.instance(), name("withdrawn.served.example"));
    let domains = &instance.certificates.inner.domains;
    let at_hello = domains.known(&site).unwrap();
    assert!(matches!(at_hello, Permission::Allow(_)), "{at_hello:?}");
    domains
        .reconfigure(&config::DomainsConfig { r#static: Vec::new(), ..fleet.config.domains.clone() })
        .unwrap();
    let outcome = instance.certificates.obtain(&site, &at_hello, CLIENT).await;
    assert_eq!(outcome.err(), Some(CertificateRefusal::Denied));
    assert_eq!(instance.orders(), 0);
    assert!(instance.shown(site.as_str()).await.is_none(), "nothing was written either");
}

/// An instance that could not look the name up, at which the CA arrives for another's order.
#[tokio::test]
async fn a_validation_is_answered_where_look_ups_are_spent() {
    use crate::domains::{Denial, UnknownReason};
    use challenges::{HTTP, TLS_ALPN};
    let fleet = Fleet::new(None).await;
    let (orders, answers) = (fleet.instance(), fleet.instance());
    let site = name("made-up-by-nobody.example");
    let spent = Permission::Unknown(UnknownReason::BudgetSpent);
    let token = ChallengeToken::parse("token").unwrap();
    for kind in [HTTP, TLS_ALPN] {
        let challenge = certificate_table::challenge_for_tests(&site, kind);
        let issuer = IssuerKey::internal();
        orders.certificates.inner.challenges.open(&issuer, &site, challenge).await.unwrap();
        let certificates = &answers.certificates;
        for (permission, is_answered) in [(&spent, true), (&Permission::Deny(Denial::NoEntry), false)] {
            let found = match kind {
                HTTP => certificates.http_answer(&site, permission, &token, CLIENT).await.is_some(),
                _ => certificates.tls_alpn_answer(&site, permission, CLIENT).await.is_some(),
            };
            assert_eq!(found, is_answered, "{kind} {permission:?}");
        }
    }
}

/// Each of those makes a validation up.
#[tokio::test]
async fn unknown_names_take_no_challenge_from_a_known_one() {
    let fleet = Fleet::new(None).await;
    let instance = fleet.instance();
    let domains = &instance.certificates.inner.domains;
    let spent = Permission::Unknown(crate::domains::UnknownReason::BudgetSpent);
    let known = domains.known(&name("known.served.example")).unwrap();
    let from = |n: u32| IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n));
    let admitted = (0..1_000).filter(|n| domains.admits_challenge(&spent, from(*n))).count();
    assert!((1..500).contains(&admitted), "{admitted} of a thousand");
    assert!(domains.admits_challenge(&known, CLIENT));
}

#[tokio::test]
async fn the_order_outlives_the_handshake() {
    let fleet = Fleet::new(None).await;
    let instance = fleet.instance();
    let name = name("left.served.example");
    let permission = instance.certificates.inner.domains.known(&name).unwrap();
    {
        let mut hello = Box::pin(instance.certificates.obtain(&name, &permission, CLIENT));
        std::future::poll_fn(|context| {
            let _ = hello.as_mut().poll(context);
            std::task::Poll::Ready(())
        })
        .await;
    }
    until("the order", async || instance.certificates.cached(&name).context("nothing is cached")).await;
    assert_eq!(instance.certificates.inner.in_flight.waiters(), 0);
}

/// A thousand new names at once would each have an order, a lease and its budgets before any of them had a certificate.
#[tokio::test]
async fn who_waits_for_a_permit_leaves_the_order_to_whoever_has_one() {
    let mut fleet = Fleet::new(None).await;
    fleet.config.certificates.concurrent_orders = 1;
    let (crowded, idle) = (fleet.instance(), fleet.instance());
    let permit = crowded.certificates.inner.order_permits.ask("others.example").unwrap().await;
    let waits = {
        let (certificates, site) = (crowded.certificates.clone(), name("one.served.example"));
        let permission = certificates.inner.domains.known(&site).unwrap();
        tokio::spawn(async move { certificates.obtain(&site, &permission, CLIENT).await })
    };
    until("a wait", async || {
        ensure!(crowded.certificates.inner.metrics.calls.orders_waiting.get() == 1);
        Ok(())
    })
    .await;
    let leases =
        |instance: &Instance| instance.certificates.inner.metrics.leases.count(metrics::Leased::Hold);
    assert_eq!(leases(&crowded), 0);
    let elsewhere = leaf(&idle.obtain("one.served.example").await.unwrap());
    drop(permit);
    assert_eq!(leaf(&waits.await.unwrap().unwrap()), elsewhere);
    assert_eq!((crowded.orders(), idle.orders(), leases(&crowded)), (0, 1, 0), "it has looked again");
    // Another orders it while others have the permit: that is noticed as soon as by whoever has one.
    let site = pattern("three.served.example");
    let lease =
        certificate_table::Lock::take(&idle.store, &site, Duration::from_mins(1), SystemTime::now()).await;
    let certificate_table::LockOutcome::Hold(lease) = lease.unwrap() else { panic!("nobody else takes it") };
    let waits = {
        let (certificates, site) = (crowded.certificates.clone(), name("three.served.example"));
        let permission = certificates.inner.domains.known(&site).unwrap();
        tokio::spawn(async move { certificates.obtain(&site, &permission, CLIENT).await })
    };
    until("a lease that is another's", async || {
        ensure!(crowded.certificates.inner.metrics.leases.count(metrics::Leased::Busy) > 0);
        Ok(())
    })
    .await;
    let others = crowded.certificates.inner.order_permits.ask("others.example").unwrap().await;
    lease.release(&idle.store).await.unwrap();
    let elsewhere = leaf(&idle.obtain("three.served.example").await.unwrap());
    let began = clock::now();
    assert_eq!(leaf(&waits.await.unwrap().unwrap()), elsewhere);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    drop(others);
    crowded.obtain("two.served.example").await.unwrap();
    assert_eq!(crowded.orders(), 1, "and has given the permit back");
}

#[tokio::test]
async fn a_due_certificate_is_renewed_in_its_slot_and_noticed_elsewhere() {
    let mut fleet = Fleet::new(None).await;
    fleet.config.certificates.internal_life = Span::millis(6_000);
    fleet.config.certificates.renewal_period = Span::millis(100);
    // It begins an hour ago, for clients whose clocks are behind, and so is due at once.
    let (first, second) = (fleet.instance(), fleet.instance());
    let slot = first.obtain("due.served.example").await.unwrap();
    let elsewhere = second.obtain("due.served.example").await.unwrap();
    let old = leaf(&slot);
    for (what, slot) in [("renewal", &slot), ("notice of it", &elsewhere)] {
        until(what, async || {
            ensure!(leaf(slot) != old, "the old certificate");
            Ok(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_foreign_lock_is_waited_for_until_it_ends() {
    let mut fleet = Fleet::new(None).await;
    fleet.config.certificates.order_deadline = Span::millis(300);
    let instance = fleet.instance();
    let site = pattern("locked.served.example");
    let life = Duration::from_mins(1);
    let taking = certificate_table::Lock::take(&instance.store, &site, life, SystemTime::now()).await;
    let certificate_table::LockOutcome::Hold(lock) = taking.unwrap() else { panic!("nobody else takes it") };
    assert_eq!(instance.obtain(&site.to_string()).await.err(), Some(CertificateRefusal::Slow));
    lock.release(&instance.store).await.unwrap();
    instance.obtain(&site.to_string()).await.unwrap();
    let free = certificate_table::Lock::take(&instance.store, &site, life, SystemTime::now()).await;
    assert!(matches!(free.unwrap(), certificate_table::LockOutcome::Hold(_)), "the lease was given up");
}

#[tokio::test]
async fn a_ca_that_is_down_costs_one_attempt_and_its_back_off_is_the_fleets() {
    let mut fleet = Fleet::new(None).await;
    fleet.config.certificates.issuers = vec![nobody()];
    let (first, second) = (fleet.instance(), fleet.instance());
    assert_eq!(first.obtain("down.served.example").await.err(), Some(CertificateRefusal::Failed));
    assert_eq!(second.obtain("down.served.example").await.err(), Some(CertificateRefusal::BackingOff));
    let keys = [IssuerKey::of_directory("https://127.0.0.1:9/dir")];
    let site = pattern("down.served.example");
    let shown = listing::show(&first.store, &keys, &site, &site).await.unwrap().unwrap();
    assert_eq!((shown.failures, shown.certificate), (0, None), "it is not the name's failure");
    assert_eq!(shown.problem, "the CA does not answer");
}

#[tokio::test]
async fn a_name_that_has_stopped_is_not_tried_until_somebody_asks_for_it() {
    let fleet = Fleet::new(None).await;
    let (instance, site) = (fleet.instance(), pattern("stopped.served.example"));
    let failure =
        failure::OrderFailure { fault: failure::OrderFault::Name, problem: "no such host".to_owned() };
    let (mut record, long_ago) =
        (state_table::OrderRecord::new(&site), SystemTime::now() - failure::STOP_AFTER);
    for at in [long_ago, SystemTime::now()] {
        record = failure::after(&record, &failure, at);
    }
    state_table::put_failure(&instance.store, &record).await.unwrap();
    assert_eq!(instance.obtain(&site.to_string()).await.err(), Some(CertificateRefusal::BackingOff));
    let shown = instance.shown(&site.to_string()).await.unwrap();
    assert!(shown.stopped_at.is_some() && shown.failing_since.is_some(), "{shown:?}");
    assert!(listing::retry(&instance.store, &site).await.unwrap());
    let again = fleet.instance();
    assert!(again.obtain(&site.to_string()).await.is_ok());
    assert_eq!(again.orders(), 1);
    assert!(!listing::retry(&instance.store, &site).await.unwrap(), "there is nothing to forget");
}

/// The table did not take the failure, and now an operator has mended what was wrong.
#[tokio::test]
async fn a_retry_ends_a_back_off_that_only_memory_has() {
    let fleet = Fleet::new(None).await;
    let (instance, site) = (fleet.instance(), pattern("unrecorded.served.example"));
    let later = SystemTime::now() + Duration::from_hours(1);
    instance.certificates.inner.unrecorded.insert(site.clone(), later);
    assert_eq!(instance.obtain(&site.to_string()).await.err(), Some(CertificateRefusal::BackingOff));
    assert!(!listing::retry(&instance.store, &site).await.unwrap(), "the table knows of none");
    instance.certificates.forget_failures(&site);
    instance.obtain(&site.to_string()).await.unwrap();
}

#[tokio::test]
async fn cached_names_are_served_while_the_store_is_down() {
    let fleet = Fleet::new(Some("seed=1")).await;
    let instance = fleet.instance();
    instance.obtain("cached.served.example").await.unwrap();
    fleet.faults.as_ref().unwrap().set_outage(true);
    assert!(instance.obtain("cached.served.example").await.is_ok());
    assert_eq!(instance.obtain("cold.served.example").await.err(), Some(CertificateRefusal::Failed));
}

#[tokio::test]
async fn certificates_are_listed_in_pages_and_shown() {
    let fleet = Fleet::new(None).await;
    let instance = fleet.instance();
    let mut wanted = HashSet::new();
    for n in 0..12 {
        let name = format!("n{n}.served.example");
        instance.obtain(&name).await.unwrap();
        wanted.insert(name);
    }
    let (mut after, mut found) = (None, HashSet::new());
    loop {
        let page = listing::list(&instance.store, after.as_ref(), 5).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.listed.clone());
        for row in page {
            let name = row.listed.server_name.to_string();
            let shown = instance.shown(&name).await.unwrap().certificate.unwrap();
            assert_eq!((row.issuer, row.not_after), (Some(shown.issuer), Some(shown.not_after)), "{name}");
            found.insert(name);
        }
    }
    assert_eq!(found, wanted);
    let shown = instance.shown("n3.served.example").await.unwrap();
    let certificate = shown.certificate.unwrap();
    assert_eq!(certificate.issuer, "gatehouse-internal");
    let soon = store::instant::Micros::of(SystemTime::now());
    let due = state_table::Due { name: pattern("n3.served.example"), at: certificate.renew_at.unwrap() };
    assert!(state_table::bring_forward(&instance.store, &due, soon).await.unwrap());
    let shown = instance.shown("n3.served.example").await.unwrap();
    assert_eq!(shown.certificate.unwrap().renew_at, Some(soon), "as its record has it");
    assert!(instance.shown("never.served.example").await.is_none());
}
