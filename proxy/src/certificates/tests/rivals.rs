//! Orders that fail while somebody else, Caddy or another instance, obtains the certificate.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::*;
use crate::{
    certificates::keyed_chain::tests::pems,
    store::{
        certificate_table::{Commit, Lock, LockOutcome},
        state_table::{OrderRecord, pause::Pause},
    },
    telemetry::metrics::Counters,
};

const SITE: &str = "a.served.example";

/// A CA that breaks each connection off, once `meanwhile` has happened.
async fn breaking_off<M: Future<Output = ()> + Send + 'static>(
    meanwhile: impl Fn() -> M + Send + 'static,
) -> (config::IssuerConfig, JoinHandle<()>) {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let directory = format!("https://{}/dir", listener.local_addr().unwrap());
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            meanwhile().await;
            drop(stream);
        }
    });
    (config::IssuerConfig::of(&directory, "ops@example.com"), accepting)
}

/// What somebody else works with, and what our orders have come to.
#[derive(Clone)]
struct Rival {
    store: Store,
    issuer: IssuerKey,
    orders: Counters<metrics::Ordered>,
}

/// Writes a good certificate of [`SITE`] as another holder of the lease would.
async fn obtain_elsewhere(Rival { store, issuer, .. }: &Rival) {
    let (chain, key) = pems(&[SITE], SystemTime::now() - Duration::from_mins(1), Duration::from_hours(24));
    let record = OrderRecord::new(&pattern(SITE));
    let commit = Commit {
        issuer,
        pattern: &pattern(SITE),
        chain: chain.as_bytes(),
        key: &key.into_bytes().into(),
        metadata: b"{}",
        replaced: None,
        record: Some(&record),
        renewal_info: None,
        event: None,
    };
    // The CA is asked more than once.
    let _ = certificate_table::commit(store, &commit, SystemTime::now()).await;
}

/// Obtains [`SITE`] of a CA that breaks every order off, while `rival` acts.
async fn assert_served_although_the_order_fails<R: Future<Output = ()> + Send + 'static>(
    rival: impl Fn(Rival) -> R + Send + 'static,
) {
    let mut fleet = Fleet::new(None).await;
    let (store, known) = (fleet.store(), Arc::new(std::sync::OnceLock::<Rival>::new()));
    let rivals = Arc::clone(&known);
    let (issuer, accepting) = breaking_off(move || rival(rivals.get().unwrap().clone())).await;
    let key = IssuerKey::of_directory(&issuer.directory);
    fleet.config.certificates.issuers = vec![issuer];
    let instance = fleet.instance();
    let orders = instance.certificates.inner.metrics.orders.clone();
    known.set(Rival { store, issuer: key, orders }).ok().unwrap();
    let outcome = instance.obtain(SITE).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    accepting.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_order_refuses_nobody_while_a_good_certificate_lies_in_the_table() {
    assert_served_although_the_order_fails(|rival| async move { obtain_elsewhere(&rival).await }).await;
}

/// Caddy puts its lock over ours, ends the challenge that both share, and writes its certificate a moment after our order failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_loses_the_lease_waits_for_the_certificate_of_its_taker() {
    assert_served_although_the_order_fails(take_over).await;
}

async fn take_over(rival: Rival) {
    use aws_sdk_dynamodb::types::AttributeValue;
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let text = |text: String| AttributeValue::S(text);
    let lock = format!("LOCK-issue_cert_{SITE}");
    let ends = store::instant::Micros::of(SystemTime::now() + Duration::from_mins(5)).to_string();
    let Rival { store, .. } = &rival;
    let put = store.client().put_item().table_name(&store.tables().certificates);
    let put = put.item("PrimaryKey", text(lock.clone())).item("LastUpdated", text(ends.clone()));
    put.item("Contents", text(STANDARD.encode(ends))).send().await.unwrap();
    tokio::spawn(async move {
        let failed = || rival.orders.count(metrics::Ordered::Unreachable);
        until("our order to fail", async || {
            ensure!(failed() > 0, "it has not failed");
            Ok(())
        })
        .await;
        obtain_elsewhere(&rival).await;
        let Rival { store, .. } = &rival;
        let delete = store.client().delete_item().table_name(&store.tables().certificates);
        delete.key("PrimaryKey", text(lock)).send().await.unwrap();
    });
}

/// Without it, another instance would wait for the lease to end by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_process_gives_up_its_orders_and_their_leases() {
    let mut fleet = Fleet::new(None).await;
    let (issuer, accepting) = breaking_off(std::future::pending).await;
    fleet.config.certificates.issuers = vec![issuer];
    let instance = fleet.instance();
    let (ending, site) = (instance.certificates.clone(), name(SITE));
    let is_leased = async || {
        let taken = Lock::take(&instance.store, &pattern(SITE), Duration::from_secs(1), SystemTime::now())
            .await
            .unwrap();
        match taken {
            LockOutcome::Busy => true,
            LockOutcome::Hold(lock) => {
                lock.release(&instance.store).await.unwrap();
                false
            }
        }
    };
    let waiting = tokio::spawn({
        let (certificates, site) = (instance.certificates.clone(), site.clone());
        async move {
            let permission = certificates.inner.domains.known(&site).unwrap();
            certificates.obtain(&site, &permission, CLIENT).await
        }
    });
    until("an order under way", async || {
        ensure!(instance.certificates.inner.metrics.leases.count(metrics::Leased::Hold) > 0, "no lease");
        Ok(())
    })
    .await;
    assert!(is_leased().await, "the CA says nothing");
    ending.close(Duration::from_millis(50)).await;
    assert_eq!(waiting.await.unwrap().err(), Some(CertificateRefusal::Busy));
    assert!(!is_leased().await, "another instance may order");
    assert_eq!(
        instance.obtain(SITE).await.err(),
        Some(CertificateRefusal::Busy),
        "nothing is begun any more"
    );
    accepting.abort();
}

/// A certificate of an order that ends after a revocation would be of the key that may be the reason for it.
#[tokio::test]
async fn nothing_is_revoked_while_somebody_orders_for_the_name() {
    let fleet = Fleet::new(None).await;
    let (instance, store) = (fleet.instance(), fleet.store());
    instance.obtain(SITE).await.unwrap();
    let take = async || {
        Lock::take(&store, &pattern(SITE), Duration::from_mins(10), SystemTime::now()).await.unwrap()
    };
    let LockOutcome::Hold(lock) = take().await else { panic!("nobody else holds it") };
    let revoke = async || {
        let revoked = instance.certificates.revoke(&pattern(SITE), RevocationReason::KeyCompromise).await;
        revoked.unwrap_err().to_string()
    };
    let told = revoke().await;
    assert!(told.contains("is being ordered"), "{told}");
    lock.release(&store).await.unwrap();
    let told = revoke().await;
    assert!(told.contains("no issuer of the settings can revoke"), "{told}");
    assert!(matches!(take().await, LockOutcome::Hold(_)), "the lease is released");
}

/// The others have asked for the budgets before they find that somebody is faster; and the CA that does not answer has counted nothing.
#[tokio::test]
async fn orders_that_no_ca_was_sent_cost_none() {
    let mut fleet = Fleet::new(None).await;
    fleet.config.certificates.issuers = vec![nobody()];
    let (store, now) = (fleet.store(), SystemTime::now());
    let key = IssuerKey::of_directory(&nobody().directory);
    let ended = Pause { failures: 1, until: now - Duration::from_secs(1), problem: "why".to_owned() };
    assert!(ended.begin(&store, key.as_str(), None).await.unwrap());
    let instances = [(); 8].map(|()| fleet.instance());
    let left = async || {
        instances[0].certificates.inner.measure_budgets(SystemTime::now()).await;
        let text = prometheus::TextEncoder::new().encode_to_string(&instances[0].registry.gather()).unwrap();
        let line = "gatehouse_certificate_budget_left{budget=\"orders\"} ";
        text.lines().find_map(|text| text.strip_prefix(line)).unwrap().parse::<i64>().unwrap()
    };
    let before = left().await;
    let mut hellos = tokio::task::JoinSet::new();
    for (n, instance) in instances.iter().enumerate() {
        let certificates = instance.certificates.clone();
        hellos.spawn(async move {
            let name = name(&format!("n{n}.served.example"));
            let permission = certificates.inner.domains.known(&name).unwrap();
            certificates.obtain(&name, &permission, CLIENT).await.is_ok()
        });
    }
    assert!(hellos.join_all().await.iter().all(|is_served| !is_served));
    assert_eq!(before - left().await, 0, "orders taken from the budget");
}
