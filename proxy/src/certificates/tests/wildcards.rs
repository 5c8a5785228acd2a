//! Wildcards of the settings, on instances that share a table and have the internal issuer, which asks for no proof.

use super::*;
use crate::store::certificate_table::Commit;

const WILDCARD: &str = "*.served.example";

/// A fleet whose settings list [`WILDCARD`].
async fn fleet() -> Fleet {
    let mut fleet = Fleet::new(None).await;
    fleet.config.certificates.wildcards = vec![config::WildcardCertificate {
        name: pattern(WILDCARD),
        zone: config::HostedZoneId::try_from("Z1".to_owned()).unwrap(),
        record: None,
    }];
    fleet
}

async fn record_of(store: &Store, name: &str) -> Option<state_table::OrderRecord> {
    certificate_table::read(store, &[], &pattern(name)).await.unwrap().record
}

/// A certificate of `name` alone that is due for its renewal, as it was ordered before the wildcard was listed.
async fn put_due(store: &Store, name: &str) -> Vec<u8> {
    let begins = SystemTime::now() - Duration::from_hours(20);
    let (chain, key) = keyed_chain::tests::pems(&[name], begins, Duration::from_hours(24));
    let leaf = keyed_chain::leaf(chain.as_bytes()).unwrap();
    let record = state_table::OrderRecord {
        issuer: Some(IssuerKey::internal().as_str().to_owned()),
        serial: keyed_chain::serial(&leaf),
        not_after: Some(begins + Duration::from_hours(24)),
        renew_at: Some(SystemTime::now() - Duration::from_mins(1)),
        ..state_table::OrderRecord::new(&pattern(name))
    };
    let commit = Commit {
        issuer: &IssuerKey::internal(),
        pattern: &pattern(name),
        chain: chain.as_bytes(),
        key: &key.into_bytes().into(),
        metadata: b"{}",
        replaced: None,
        record: Some(&record),
        renewal_info: None,
        event: None,
    };
    certificate_table::commit(store, &commit, SystemTime::now()).await.unwrap();
    leaf.to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_below_a_listed_wildcard_share_one_certificate_and_one_order() {
    let fleet = fleet().await;
    let instances = [fleet.instance(), fleet.instance()];
    let mut hellos = tokio::task::JoinSet::new();
    // More than one client may have ordered for names below a wildcard.
    for n in 0..40 {
        let certificates = instances[n % 2].certificates.clone();
        hellos.spawn(async move {
            let name = name(&format!("n{n}.served.example"));
            let permission = certificates.inner.domains.known(&name).unwrap();
            certificates.obtain(&name, &permission, CLIENT).await.map(|slot| leaf(&slot))
        });
    }
    let leaves: HashSet<_> = hellos.join_all().await.into_iter().filter_map(Result::ok).collect();
    assert_eq!(leaves.len(), 1);
    assert_eq!(instances[0].orders() + instances[1].orders(), 1);
    let shown = instances[0].shown(WILDCARD).await.unwrap();
    assert_eq!(shown.presented, None);
    assert_eq!(shown.certificate.unwrap().pattern, pattern(WILDCARD));
    let listed = listing::list(&instances[1].store, None, 100).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|row| row.listed.server_name.to_string()).collect();
    assert_eq!(listed, [WILDCARD], "its renewal is found, and no label's");
    let item = "certificates/gatehouse-internal/wildcard_.served.example/wildcard_.served.example.crt";
    assert_eq!(IssuerKey::internal().site(&pattern(WILDCARD)).chain, item, "as certmagic names it");
    let later = fleet.instance();
    assert!(later.obtain("late.served.example").await.is_ok());
    assert_eq!(later.orders(), 0);
    assert!(later.certificates.presented_serial(&pattern(WILDCARD)).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_names_own_certificate_is_presented_until_the_wildcards_takes_its_place() {
    let mut fleet = fleet().await;
    let (site, store) = ("before.served.example", fleet.store());
    let old = put_due(&store, site).await;
    // Nothing is renewed yet.
    let waiting = fleet.instance();
    fleet.config.certificates.renewal_period = Span::millis(100);
    assert_eq!(leaf(&waiting.obtain(site).await.unwrap()), old, "no order keeps its handshake waiting");
    let renewing = fleet.instance();
    until("the wildcard's certificate", async || {
        record_of(&store, WILDCARD).await.context("there is none")?;
        let record = record_of(&store, site).await.context("the name's record has gone")?;
        ensure!(record.renew_at.is_none(), "{record:?}");
        Ok(())
    })
    .await;
    assert_eq!(waiting.orders() + renewing.orders(), 1);
    let new = fleet.instance().obtain(site).await.unwrap();
    assert_ne!(leaf(&new), old, "the newer one is presented");
    let record = record_of(&store, site).await.unwrap();
    assert!(record.renew_at.is_none(), "and brings the name's own back into no renewal: {record:?}");
}

#[tokio::test]
async fn a_wildcard_whose_order_fails_backs_off_for_all_names_below_it() {
    let mut fleet = fleet().await;
    fleet.config.certificates.issuers = vec![nobody()];
    let (first, second) = (fleet.instance(), fleet.instance());
    assert_eq!(first.obtain("a.served.example").await.err(), Some(CertificateRefusal::Failed));
    assert_eq!(second.obtain("b.served.example").await.err(), Some(CertificateRefusal::BackingOff));
    let record = record_of(&first.store, WILDCARD).await.unwrap();
    assert!(record.retry_at.is_some() && record.problem.is_some(), "{record:?}");
    for label in ["a.served.example", "b.served.example"] {
        assert_eq!(record_of(&first.store, label).await, None, "{label}");
    }
}

#[tokio::test]
async fn a_wildcard_is_ordered_on_request_if_the_settings_list_it() {
    let fleet = fleet().await;
    let instance = fleet.instance();
    let certificates = &instance.certificates;
    let first = certificates.order_now(&pattern(WILDCARD), OnRequest::Obtain).await.unwrap();
    assert_eq!((first.server_name, first.is_new), (pattern(WILDCARD), true));
    let again = certificates.order_now(&pattern("a.served.example"), OnRequest::Obtain).await.unwrap();
    assert_eq!((again.server_name, again.is_new), (pattern(WILDCARD), false), "what is ordered for the name");
    let second = certificates.order_now(&pattern(WILDCARD), OnRequest::Renew).await.unwrap();
    assert_eq!(second.replaced, Some(first.serial));
    let refused = certificates.order_now(&pattern("*.unlisted.example"), OnRequest::Obtain).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("certificates.wildcards"), "{refused}");
}

#[tokio::test]
async fn a_wildcard_that_is_listed_no_longer_is_not_renewed() {
    let mut fleet = fleet().await;
    let store = fleet.store();
    fleet.instance().obtain("a.served.example").await.unwrap();
    let record = record_of(&store, WILDCARD).await.unwrap();
    let due = state_table::Due {
        name: pattern(WILDCARD),
        at: store::instant::Micros::of(record.renew_at.unwrap()),
    };
    let now = store::instant::Micros::of(SystemTime::now());
    assert!(state_table::bring_forward(&store, &due, now).await.unwrap());
    fleet.config.certificates.wildcards.clear();
    fleet.config.certificates.renewal_period = Span::millis(100);
    let unlisted = fleet.instance();
    until("the denial", async || {
        let record = record_of(&store, WILDCARD).await.context("it has gone")?;
        record.denied_since.context("not yet").map(drop)
    })
    .await;
    assert_eq!(unlisted.orders(), 0);
}

/// The wildcard's has taken its place, or it was denied for long.
#[tokio::test]
async fn what_is_renewed_no_more_is_shown_without_a_date() {
    let (store, site) = (fleet().await.store(), pattern("a.served.example"));
    put_due(&store, "a.served.example").await;
    let date = async || {
        let shown = listing::show(&store, &[IssuerKey::internal()], &site, &pattern(WILDCARD)).await;
        shown.unwrap().unwrap().certificate.unwrap().renew_at
    };
    assert!(date().await.is_some());
    state_table::forget(&store, &site).await.unwrap();
    assert_eq!(date().await, None);
}
