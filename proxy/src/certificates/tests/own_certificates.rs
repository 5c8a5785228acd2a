//! Certificates of the operator's own, on instances that share a table.

use super::{own::Imported, *};
use crate::certificates::keyed_chain::tests::pems;

const SITE: &str = "a.served.example";

impl Instance {
    /// Imports a certificate for `names`; what it answers, and the leaf.
    async fn import(&self, names: &[&str]) -> (Imported, Vec<u8>) {
        // Older than whatever is ordered, and due if it were ordered.
        let begins = SystemTime::now() - Duration::from_hours(24);
        let (chain, key) = pems(names, begins, Duration::from_hours(30));
        let imported = self.certificates.import_own(chain.as_bytes(), key.as_bytes()).await.unwrap();
        (imported, keyed_chain::leaf(chain.as_bytes()).unwrap().to_vec())
    }

    async fn presents(&self, text: &str) -> Vec<u8> {
        leaf(&self.obtain(text).await.unwrap())
    }

    /// What an instance does three times a minute.
    async fn follow(&self) {
        self.certificates.inner.follow_own(SystemTime::now()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_imported_certificate_takes_the_place_of_an_ordered_one_everywhere() {
    let fleet = Fleet::new(Some("seed=3,stale=2s,throttle=10,conflict=10")).await;
    let instances = [fleet.instance(), fleet.instance()];
    let ordered = instances[0].presents(SITE).await;
    assert_eq!(instances[1].presents(SITE).await, ordered);
    let kept_by_a_worker = instances[1].certificates.cached(&name(SITE)).unwrap();

    let (imported, own) = instances[0].import(&[SITE]).await;
    assert_eq!(imported.names, [pattern(SITE)]);
    assert_eq!(instances[0].presents(SITE).await, own, "at once");
    instances[1].follow().await;
    assert!(kept_by_a_worker.current(SystemTime::now()).is_none(), "workers keep the slot");
    assert_eq!(instances[1].presents(SITE).await, own);

    let (second, newer) = instances[1].import(&[SITE]).await;
    assert_eq!(second.replaced, [imported.serial]);
    instances[0].follow().await;
    for instance in &instances {
        assert_eq!(instance.presents(SITE).await, newer);
    }

    let removed = instances[0].certificates.remove_own(&pattern(SITE)).await.unwrap();
    assert_eq!((removed.serial, removed.remaining), (Some(second.serial), vec![]));
    instances[1].follow().await;
    for instance in &instances {
        assert_eq!(instance.presents(SITE).await, ordered);
    }
    assert_eq!(instances.iter().map(Instance::orders).sum::<u64>(), 1);
    assert!(instances[1].certificates.remove_own(&pattern(SITE)).await.is_err(), "there is none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn for_what_an_own_certificate_covers_nothing_is_ordered() {
    let fleet = Fleet::new(None).await;
    let instances = [fleet.instance(), fleet.instance()];
    instances[1].presents(SITE).await;
    let (_, own) = instances[0].import(&["*.served.example"]).await;
    // The second has not looked at the list yet.
    for text in ["new.served.example", "other.served.example"] {
        assert_eq!(instances[1].presents(text).await, own, "{text}");
    }
    instances[1].follow().await;
    assert_eq!(instances[1].presents(SITE).await, own, "preferred before the ordered one of the exact name");
    assert_eq!(instances.iter().map(Instance::orders).sum::<u64>(), 1, "the one before the import");

    let shown = instances[1].shown_with_own(SITE).await.unwrap();
    let certificate = shown.certificate.unwrap();
    assert_eq!(
        (certificate.kind, certificate.renew_at, certificate.pattern),
        (listing::CertificateKind::Own, None, pattern("*.served.example"))
    );
    let refused = instances[0].certificates.order_now(&pattern(SITE), OnRequest::Renew).await.unwrap_err();
    assert!(refused.to_string().contains("certificate remove '*.served.example'"), "{refused}");
    // As when the ordered one's date comes.
    let renewal =
        instances[0].certificates.inner.join_or_start(&pattern(SITE), Purpose::Renew, None).unwrap();
    assert_eq!(leaf(&renewal.outcome().await.unwrap().unwrap()), own);
    until("the ordered one to be due no more", async || {
        let listed = listing::list(&instances[1].store, None, 100).await?;
        ensure!(listed.is_empty(), "{listed:?}");
        Ok(())
    })
    .await;
    assert_eq!(instances.iter().map(Instance::orders).sum::<u64>(), 1, "nothing was renewed");
}

/// Workers and process hold the wildcard for the name when its own arrives, and when it goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_own_certificate_of_the_exact_name_comes_before_an_own_wildcard() {
    let fleet = Fleet::new(None).await;
    let instances = [fleet.instance(), fleet.instance()];
    let (_, wildcard) = instances[0].import(&["*.served.example", "served.example"]).await;
    for instance in &instances {
        instance.follow().await;
        assert_eq!(instance.presents(SITE).await, wildcard);
    }
    let kept_by_a_worker = instances[1].certificates.cached(&name(SITE)).unwrap();
    let (_, exact) = instances[0].import(&[SITE]).await;
    instances[1].follow().await;
    assert!(kept_by_a_worker.current(SystemTime::now()).is_none(), "workers keep the slot");
    for instance in &instances {
        assert_eq!(instance.presents("b.served.example").await, wildcard);
        assert_eq!(instance.presents(SITE).await, exact, "while the wildcard is in memory");
    }
    instances[0].certificates.remove_own(&pattern(SITE)).await.unwrap();
    instances[1].follow().await;
    for instance in &instances {
        assert_eq!(instance.presents(SITE).await, wildcard);
    }
    let removed = instances[1].certificates.remove_own(&pattern("*.served.example")).await.unwrap();
    assert_eq!(removed.remaining, [pattern("served.example")], "the same certificate under another name");
    assert_eq!(instances.iter().map(Instance::orders).sum::<u64>(), 0);
}

#[tokio::test]
async fn an_own_certificate_that_ends_soon_shows_in_a_metric_whether_it_is_in_memory_or_not() {
    let fleet = Fleet::new(None).await;
    let instance = fleet.instance();
    instance.import(&["elsewhere.example"]).await;
    let text = prometheus::TextEncoder::new().encode_to_string(&instance.registry.gather()).unwrap();
    let line = text.lines().find(|line| line.starts_with("gatehouse_certificate_own_next_expiry_seconds"));
    let seconds: i64 = line.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!((21_000..=21_600).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn an_own_certificate_that_has_ended_gives_way_to_an_order() {
    let fleet = Fleet::new(None).await;
    let instance = fleet.instance();
    let begins = SystemTime::now() - Duration::from_hours(1);
    let (chain, key) = pems(&[SITE], begins, Duration::from_mins(59));
    let own = own::OwnCertificate::read(chain.as_bytes(), key.as_bytes(), begins).unwrap();
    own::import(&instance.store, &own).await.unwrap();
    instance.follow().await;
    let presented = instance.presents(SITE).await;
    assert_ne!(Some(presented), keyed_chain::leaf(chain.as_bytes()).map(|leaf| leaf.to_vec()));
    assert_eq!(instance.orders(), 1);
}

/// A key without its chain is of no use but to a thief.
#[tokio::test]
async fn what_is_left_of_an_own_certificate_is_removed_too() {
    let fleet = Fleet::new(None).await;
    let instance = fleet.instance();
    instance.import(&[SITE]).await;
    let (store, issuer) = (&instance.store, IssuerKey::own());
    let chain = issuer.site(&pattern(SITE)).chain;
    let delete = store.client().delete_item().table_name(&store.tables().certificates);
    delete.key("PrimaryKey", aws_sdk_dynamodb::types::AttributeValue::S(chain)).send().await.unwrap();
    let left = certificate_table::read_one(store, &issuer, &pattern(SITE)).await.unwrap();
    assert!(left.is_some_and(|left| left.key.is_some() && left.seen.is_none()));
    own::remove(store, &pattern(SITE)).await.unwrap();
    let left = certificate_table::read_one(store, &issuer, &pattern(SITE)).await.unwrap();
    assert!(left.is_none());
}
