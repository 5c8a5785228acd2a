//! Names that are due, by instances with real tables and the internal issuer.

use super::*;
use crate::{
    certificates::{
        keyed_chain::tests::pems,
        metrics::{Advised, Claimed, Renewed},
    },
    store::{
        certificate_table::{Commit, Lock, LockOutcome},
        state_table::OrderRecord,
    },
};

const HOUR: Duration = Duration::from_hours(1);
const SITE: &str = "due.served.example";

/// A fleet that looks for due names all the time.
async fn fleet() -> Fleet {
    let mut fleet = Fleet::new(None).await;
    fleet.config.certificates.renewal_period = Span::millis(100);
    fleet
}

/// A certificate in the table, of the issuer with `key`; its serial number.
async fn put(store: &Store, key: &IssuerKey, pattern: &str, begins: SystemTime, life: Duration) -> String {
    let pattern = Pattern::parse(pattern).unwrap();
    let (chain, private) = pems(&[&pattern.to_string()], begins, life);
    let commit = Commit {
        issuer: key,
        pattern: &pattern,
        chain: chain.as_bytes(),
        key: &private.into_bytes().into(),
        metadata: b"{}",
        replaced: None,
        record: None,
        renewal_info: None,
        event: None,
    };
    certificate_table::commit(store, &commit, SystemTime::now()).await.unwrap();
    keyed_chain::serial(&keyed_chain::leaf(chain.as_bytes()).unwrap()).unwrap()
}

/// A record of `site` that was due a minute ago.
fn due_record(site: &str, serial: &str) -> OrderRecord {
    let now = SystemTime::now();
    OrderRecord {
        issuer: Some(IssuerKey::internal().as_str().to_owned()),
        serial: Some(serial.to_owned()),
        not_after: Some(now + HOUR * 900),
        renew_at: Some(now - Duration::from_mins(1)),
        ..OrderRecord::new(&pattern(site))
    }
}

async fn write(store: &Store, record: &OrderRecord) {
    state_table::put_record(store, record, None).await.unwrap();
}

/// A name whose certificate is in its last third.
async fn put_due(store: &Store, site: &str) -> String {
    let serial = put(store, &IssuerKey::internal(), site, SystemTime::now() - HOUR * 20, HOUR * 24).await;
    write(store, &due_record(site, &serial)).await;
    serial
}

async fn record(store: &Store, site: &str) -> OrderRecord {
    certificate_table::read(store, &[], &pattern(site)).await.unwrap().record.unwrap()
}

/// Whether `site` is due within `ahead`.
async fn is_due(store: &Store, site: &str, ahead: Duration) -> bool {
    let shard = state_table::shard(&pattern(site));
    let page = state_table::due(store, shard, SystemTime::now() + ahead, None, 100).await.unwrap();
    page.names.iter().any(|due| due.name == pattern(site))
}

async fn until_renewed(store: &Store, site: &str, before: &str) {
    until("the renewal", async || {
        let serial = record(store, site).await.serial;
        ensure!(serial.as_deref() != Some(before), "still the old one");
        Ok(())
    })
    .await;
}

async fn hold(store: &Store, site: &str) -> Lock {
    let life = Duration::from_mins(10);
    match Lock::take(store, &pattern(site), life, SystemTime::now()).await.unwrap() {
        LockOutcome::Hold(lock) => lock,
        LockOutcome::Busy => panic!("nobody else holds it"),
    }
}

#[tokio::test]
async fn waiting_handshakes_stop_no_renewal() {
    let mut fleet = fleet().await;
    (fleet.config.certificates.waiters, fleet.config.certificates.waiters_per_name) = (1, 1);
    let (instance, store) = (fleet.instance(), fleet.store());
    let _lock = hold(&store, "held.served.example").await;
    let certificates = instance.certificates.clone();
    let hello = tokio::spawn(async move {
        let site = name("held.served.example");
        let permission = certificates.inner.domains.known(&site).unwrap();
        certificates.obtain(&site, &permission, CLIENT).await.err()
    });
    until("the handshake", async || {
        ensure!(instance.certificates.inner.in_flight.waiters() == 1);
        Ok(())
    })
    .await;
    let before = put_due(&store, SITE).await;
    until_renewed(&store, SITE, &before).await;
    assert_eq!(instance.certificates.inner.in_flight.waiters(), 1, "it waits still");
    hello.abort();
}

/// Caddy, or an instance that a handshake has reached, orders the others.
#[tokio::test]
async fn names_that_others_order_are_not_waited_for() {
    let fleet = fleet().await;
    let store = fleet.store();
    let mut locks = Vec::new();
    for n in 0..40 {
        let site = format!("held{n}.served.example");
        put_due(&store, &site).await;
        locks.push(hold(&store, &site).await);
    }
    let before = put_due(&store, SITE).await;
    let instance = fleet.instance();
    until_renewed(&store, SITE, &before).await;
    until("all claims", async || {
        ensure!(instance.certificates.inner.metrics.renewals.claims.count(Claimed::Take) == 41);
        Ok(())
    })
    .await;
    assert_eq!(instance.orders(), 1);
}

#[tokio::test]
async fn a_newer_wildcard_ends_the_dueness_of_an_exact_name() {
    let fleet = fleet().await;
    let store = fleet.store();
    put_due(&store, SITE).await;
    put(
        &store,
        &IssuerKey::internal(),
        "*.served.example",
        SystemTime::now() - Duration::from_mins(1),
        HOUR * 24,
    )
    .await;
    let instance = fleet.instance();
    until("the wildcard's date", async || {
        let renew_at = record(&store, SITE).await.renew_at.context("it has no date")?;
        ensure!(renew_at > SystemTime::now() + HOUR * 10, "{renew_at:?}");
        Ok(())
    })
    .await;
    assert!(!is_due(&store, SITE, HOUR * 10).await && is_due(&store, SITE, HOUR * 20).await);
    assert_eq!(instance.orders(), 0);
}

#[tokio::test]
async fn a_newer_certificate_that_ends_earlier_is_adopted() {
    let fleet = fleet().await;
    let store = fleet.store();
    write(&store, &due_record(SITE, "01")).await;
    let begins = SystemTime::now() - Duration::from_mins(1);
    let serial = put(&store, &IssuerKey::internal(), SITE, begins, HOUR * 24).await;
    let instance = fleet.instance();
    until_renewed(&store, SITE, "01").await;
    assert_eq!(record(&store, SITE).await.serial, Some(serial));
    assert!(!is_due(&store, SITE, HOUR * 10).await);
    assert_eq!(instance.orders(), 0);
}

#[tokio::test]
async fn a_denial_delays_a_renewal_and_does_not_end_it() {
    const DENIED: &str = "denied.example";
    let fleet = fleet().await;
    let store = fleet.store();
    let serial = put_due(&store, DENIED).await;
    let instance = fleet.instance();
    until("the denial", async || record(&store, DENIED).await.denied_since.context("it is not denied")).await;
    assert!(!is_due(&store, DENIED, Duration::from_mins(5)).await);
    assert!(is_due(&store, DENIED, Duration::from_mins(15)).await, "permission is asked again");
    let mut domains = fleet.config.domains.clone();
    domains.r#static[0].name = Pattern::parse(DENIED).unwrap();
    instance.certificates.inner.domains.reconfigure(&domains).unwrap();
    // The denial is remembered for a moment.
    until("the permission", async || {
        let asked = instance.certificates.inner.domains.permission(&name(DENIED), Caller::Internal).await;
        ensure!(matches!(asked, Permission::Allow(_)), "{asked:?}");
        Ok(())
    })
    .await;
    let denied = record(&store, DENIED).await;
    let again = OrderRecord { renew_at: Some(SystemTime::now()), ..denied };
    state_table::put_record(&store, &again, Some(&serial)).await.unwrap();
    until_renewed(&store, DENIED, &serial).await;
    assert_eq!(record(&store, DENIED).await.denied_since, None);
}

#[tokio::test]
async fn the_ended_certificate_of_a_name_denied_for_long_is_removed() {
    const LEFT: &str = "left.example";
    let fleet = fleet().await;
    let (store, now) = (fleet.store(), SystemTime::now());
    let serial = put(&store, &IssuerKey::internal(), LEFT, now - HOUR * 25, HOUR * 24).await;
    let denied_since = Some(now - HOUR * 24 * 8);
    write(&store, &OrderRecord { not_after: Some(now - HOUR), denied_since, ..due_record(LEFT, &serial) })
        .await;
    let _instance = fleet.instance();
    until("the removal", async || {
        let found = certificate_table::read(&store, &[IssuerKey::internal()], &pattern(LEFT)).await?;
        ensure!(found.stored.is_empty() && !is_due(&store, LEFT, HOUR).await);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_budget_that_is_spent_is_asked_before_any_name_and_not_again() {
    let mut fleet = fleet().await;
    fleet.config.certificates.issuers = vec![nobody()];
    fleet.config.certificates.renewals_per_hour = 0;
    let store = fleet.store();
    write(&store, &due_record(SITE, "01")).await;
    let instance = fleet.instance();
    let metrics = &instance.certificates.inner.metrics;
    until("the refusal", async || {
        ensure!(metrics.deferred.count(metrics::Drawn::Renewals) == 1);
        Ok(())
    })
    .await;
    let calls = Registry::new();
    instance.store.register_metrics(&calls).unwrap();
    // Ten periods more, in which budgets are measured, and the shards are not read.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let text = prometheus::TextEncoder::new().encode_to_string(&calls.gather()).unwrap();
    let queries =
        text.lines().find_map(|line| line.strip_prefix("gatehouse_store_calls_total{operation=\"Query\"} "));
    let queries: u32 = queries.unwrap().parse().unwrap();
    assert!(queries < 40, "{queries} reads of the state table");
    assert_eq!(metrics.deferred.count(metrics::Drawn::Renewals), 1);
    assert_eq!(metrics.renewals.claims.count(Claimed::Take), 0);
    assert!(is_due(&store, SITE, Duration::ZERO).await, "another instance may renew it");
}

#[tokio::test]
async fn a_name_that_is_denied_costs_the_budget_nothing() {
    let mut fleet = fleet().await;
    fleet.config.certificates.issuers = vec![nobody()];
    fleet.config.certificates.renewals_per_hour = 3;
    let store = fleet.store();
    write(&store, &due_record("left.example", "01")).await;
    let instance = fleet.instance();
    until("the denial", async || {
        ensure!(record(&store, "left.example").await.denied_since.is_some(), "it was not looked at");
        Ok(())
    })
    .await;
    let inner = &instance.certificates.inner;
    let left = inner.spend_renewals(inner.issuers[0].name(), 3, SystemTime::now()).await.unwrap();
    assert_eq!(left, Ok(3));
}

/// One has a certificate of the operator's own, the other lies below a wildcard of the settings, whose certificate is not due.
#[tokio::test]
async fn a_name_that_needs_no_order_costs_the_budget_nothing() {
    let mut fleet = fleet().await;
    fleet.config.certificates.issuers = vec![nobody()];
    fleet.config.certificates.renewals_per_hour = 3;
    let wildcard = pattern("*.served.example");
    let zone = config::HostedZoneId::try_from("Z1".to_owned()).unwrap();
    fleet.config.certificates.wildcards =
        vec![config::WildcardCertificate { name: wildcard.clone(), zone, record: None }];
    let (store, now) = (fleet.store(), SystemTime::now());
    let (chain, private) = pems(&["own.served.example"], now - HOUR, HOUR * 900);
    let own = own::OwnCertificate::read(chain.as_bytes(), private.as_bytes(), now).unwrap();
    own::import(&store, &own).await.unwrap();
    let key = IssuerKey::of_directory("https://127.0.0.1:9/dir");
    put(&store, &key, &wildcard.to_string(), now - HOUR, HOUR * 900).await;
    for site in ["own.served.example", SITE] {
        write(&store, &due_record(site, "01")).await;
    }
    let instance = fleet.instance();
    let inner = &instance.certificates.inner;
    until("both", async || {
        let ended = &inner.metrics.renewals.ended;
        ensure!(ended.count(Renewed::Renew) + ended.count(Renewed::Forget) == 2);
        Ok(())
    })
    .await;
    assert_eq!(instance.orders(), 0);
    let left = inner.spend_renewals(inner.issuers[0].name(), 3, SystemTime::now()).await.unwrap();
    assert_eq!(left, Ok(3));
}

/// The CA is one that nobody can reach: asking it fails.
#[tokio::test]
async fn no_ca_is_asked_about_a_name_that_is_not_allowed() {
    let mut fleet = fleet().await;
    fleet.config.certificates.issuers = vec![nobody()];
    let store = fleet.store();
    let now = SystemTime::now();
    for site in ["left.example", SITE] {
        let info = state_table::RenewalInfo {
            name: pattern(site),
            directory: "https://127.0.0.1:9/dir".to_owned(),
            certificate: "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE".to_owned(),
            serial: "01".to_owned(),
            not_after: now + HOUR * 900,
            renew_from: now,
            renew_until: now + HOUR * 800,
            window: None,
        };
        state_table::put_renewal_info(&store, &info, now, None).await.unwrap();
    }
    let instance = fleet.instance();
    let advised = &instance.certificates.inner.metrics.renewals.advised;
    until("both", async || {
        ensure!(advised.count(Advised::Fail) + advised.count(Advised::Postpone) == 2);
        Ok(())
    })
    .await;
    assert_eq!(advised.count(Advised::Postpone), 1, "the one whose entry is gone");
}

#[tokio::test]
async fn a_renewal_that_the_accounts_budget_refuses_gets_another_date() {
    let mut fleet = fleet().await;
    fleet.config.certificates.issuers = vec![nobody()];
    fleet.config.certificates.orders_per_three_hours = 0;
    let store = fleet.store();
    let key = IssuerKey::of_directory("https://127.0.0.1:9/dir");
    let serial = put(&store, &key, SITE, SystemTime::now() - HOUR * 20, HOUR * 24).await;
    write(&store, &due_record(SITE, &serial)).await;
    let instance = fleet.instance();
    until("the other date", async || {
        ensure!(!is_due(&store, SITE, HOUR * 2).await, "it is due earlier");
        Ok(())
    })
    .await;
    assert!(is_due(&store, SITE, HOUR * 4).await);
    let after = record(&store, SITE).await;
    assert_eq!((after.failures, after.problem), (0, None), "it is not the name's failure");
    assert_eq!(instance.certificates.inner.metrics.renewals.claims.count(Claimed::Take), 1);
}
