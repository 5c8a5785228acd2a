//! Certificates that are replaced or deleted in the table before their time.

use super::*;
use crate::{
    certificates::keyed_chain::tests::pems,
    store::{certificate_table::Commit, state_table::OrderRecord},
};

const SITE: &str = "a.served.example";
const SECOND: Duration = Duration::from_secs(1);

fn key() -> IssuerKey {
    IssuerKey::internal()
}

/// Puts another certificate in the place of what is there, as somebody else would; one that `begins` then.
async fn replace(store: &Store, site: &str, begins: SystemTime) -> Vec<u8> {
    let now = SystemTime::now();
    let (chain, private) = pems(&[site], begins, Duration::from_hours(24));
    let found = certificate_table::read(store, &[key()], &pattern(site)).await.unwrap();
    let commit = Commit {
        issuer: &key(),
        pattern: &Pattern::Exact(name(site)),
        chain: chain.as_bytes(),
        key: &private.into_bytes().into(),
        metadata: b"{}",
        replaced: found.stored.first().and_then(|stored| stored.seen.as_ref()),
        record: Some(&OrderRecord::new(&pattern(site))),
        renewal_info: None,
        event: None,
    };
    certificate_table::commit(store, &commit, now).await.unwrap();
    keyed_chain::leaf(chain.as_bytes()).unwrap().to_vec()
}

async fn delete(store: &Store, site: &str) {
    for kind in ["crt", "key", "json"] {
        let key = format!("certificates/gatehouse-internal/{site}/{site}.{kind}");
        let delete = store.client().delete_item().table_name(&store.tables().certificates);
        delete.key("PrimaryKey", aws_sdk_dynamodb::types::AttributeValue::S(key)).send().await.unwrap();
    }
}

fn presented(slot: &Slot, now: SystemTime) -> Option<Vec<u8>> {
    slot.current(now).map(|certificate| certificate.key.cert[0].to_vec())
}

fn reads(instance: &Instance) -> u64 {
    instance.certificates.inner.metrics.reads.count(metrics::Sought::Follow)
}

/// Also by one that began earlier: what the table holds is what is presented.
#[tokio::test]
async fn a_certificate_replaced_in_the_table_is_presented_within_a_minute() {
    let fleet = Fleet::new(None).await;
    let instances = [fleet.instance(), fleet.instance()];
    for ago in [SECOND, Duration::from_hours(3)] {
        let mut slots = Vec::new();
        for instance in &instances {
            slots.push(instance.obtain(SITE).await.unwrap());
        }
        let now = SystemTime::now();
        for slot in &slots {
            slot.confirm(now);
            assert!(slot.current(now).is_some(), "it is in use");
        }
        let new = replace(&fleet.store(), SITE, now - ago).await;
        for (instance, slot) in instances.iter().zip(&slots) {
            let of_table =
                instance.shown(SITE).await.unwrap().certificate.map(|certificate| certificate.serial);
            assert_ne!(instance.certificates.presented_serial(&pattern(SITE)), of_table, "not yet");
            follow::round(&instance.certificates.inner, now + SECOND * 21).await;
            assert_eq!(instance.certificates.presented_serial(&pattern(SITE)), of_table);
            assert!(presented(slot, now + SECOND * 22).as_ref() == Some(&new), "began {ago:?} ago");
        }
    }
    assert_eq!(instances[0].orders() + instances[1].orders(), 1);
}

/// The table did not take it at first, and somebody else has written it since, or another.
#[tokio::test]
async fn a_certificate_that_was_written_late_is_withdrawn_as_any_other() {
    for is_other in [false, true] {
        let fleet = Fleet::new(None).await;
        let instance = fleet.instance();
        let slot = instance.obtain(SITE).await.unwrap();
        slot.is_unwritten.store(true, std::sync::atomic::Ordering::Relaxed);
        let now = SystemTime::now();
        if is_other {
            replace(&fleet.store(), SITE, now - SECOND).await;
        }
        for (seconds, is_presented) in [(21, true), (42, false)] {
            let at = now + SECOND * seconds;
            slot.confirm(at - SECOND * 20);
            slot.current(at).unwrap();
            follow::round(&instance.certificates.inner, at).await;
            assert_eq!(presented(&slot, at).is_some(), is_presented, "after {seconds} s, other: {is_other}");
            delete(&fleet.store(), SITE).await;
        }
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_asked_for_is_looked_for_when_somebody_does() {
    let fleet = Fleet::new(None).await;
    let instance = fleet.instance();
    let slot = instance.obtain(SITE).await.unwrap();
    let new = replace(&fleet.store(), SITE, SystemTime::now() - SECOND).await;
    // As if a minute had gone by.
    slot.confirm(SystemTime::now() - SECOND * 60);
    assert!(instance.certificates.cached(&name(SITE)).is_none());
    assert_eq!(leaf(&instance.obtain(SITE).await.unwrap()), new);
    assert_eq!((instance.orders(), reads(&instance)), (1, 2), "the chain, and since it differs all of it");
}

#[tokio::test]
async fn a_certificate_deleted_from_the_table_is_presented_no_longer_and_ordered_anew() {
    let fleet = Fleet::new(None).await;
    let instance = fleet.instance();
    let slot = instance.obtain(SITE).await.unwrap();
    let (old, now) = (leaf(&slot), SystemTime::now());
    delete(&fleet.store(), SITE).await;
    follow::round(&instance.certificates.inner, now + SECOND * 21).await;
    assert_eq!(presented(&slot, now + SECOND * 22), None);
    assert_ne!(leaf(&instance.obtain(SITE).await.unwrap()), old);
}

#[tokio::test]
async fn a_table_that_does_not_answer_or_holds_half_a_write_takes_nothing_away() {
    let fleet = Fleet::new(Some("seed=1")).await;
    let instance = fleet.instance();
    let slot = instance.obtain(SITE).await.unwrap();
    let old = leaf(&slot);
    let item = certificate_table::ItemKind::Chain;
    let stored = certificate_table::read(&instance.store, &[key()], &pattern(SITE)).await.unwrap();
    let put = instance.store.client().put_item().table_name(&instance.store.tables().certificates);
    let text = |text: String| aws_sdk_dynamodb::types::AttributeValue::S(text);
    let put = put.item("PrimaryKey", text(stored.stored[0].item(item)));
    put.item("Contents", text("junk".to_owned())).send().await.unwrap();
    let now = SystemTime::now();
    follow::round(&instance.certificates.inner, now + SECOND * 21).await;
    assert_eq!(presented(&slot, now + SECOND * 22), Some(old.clone()), "half a write");
    fleet.faults.as_ref().unwrap().set_outage(true);
    slot.confirm(now - SECOND * 60);
    assert_eq!(leaf(&instance.obtain(SITE).await.unwrap()), old, "no answer");
    assert!(presented(&slot, now).is_some(), "it is in use");
    follow::round(&instance.certificates.inner, now + SECOND * 50).await;
    assert_eq!(presented(&slot, now + SECOND * 100), Some(old), "no answer to a round either");
}

#[tokio::test]
async fn a_certificate_that_has_not_begun_replaces_none_that_has() {
    let fleet = Fleet::new(None).await;
    let instance = fleet.instance();
    let slot = instance.obtain(SITE).await.unwrap();
    let (old, now) = (leaf(&slot), SystemTime::now());
    let new = replace(&fleet.store(), SITE, now + Duration::from_hours(1)).await;
    for (seconds, expected) in [(21, old), (3_700, new)] {
        let at = now + SECOND * seconds;
        slot.confirm(at - SECOND * 20);
        slot.current(at).unwrap();
        follow::round(&instance.certificates.inner, at).await;
        assert!(presented(&slot, at) == Some(expected), "after {seconds} s");
    }
}

#[tokio::test]
async fn an_idle_instance_reads_nothing_and_a_busy_one_a_hundred_chains_in_a_call() {
    let fleet = Fleet::new(None).await;
    let instance = fleet.instance();
    let names: Vec<_> = (0..250).map(|n| format!("n{n}.served.example")).collect();
    let mut slots = Vec::new();
    for site in &names {
        replace(&fleet.store(), site, SystemTime::now() - SECOND).await;
        slots.push(instance.obtain(site).await.unwrap());
    }
    let now = SystemTime::now();
    for slot in &slots {
        slot.is_used.store(false, std::sync::atomic::Ordering::Relaxed);
    }
    follow::round(&instance.certificates.inner, now + SECOND * 30).await;
    assert_eq!(reads(&instance), 0, "nobody asked");
    for slot in &slots {
        slot.current(now).unwrap();
    }
    follow::round(&instance.certificates.inner, now + SECOND * 30).await;
    assert_eq!(reads(&instance), 3, "250 chains");
    assert_eq!(instance.orders(), 0);
}

/// The instance that renews it is another, and this one has nobody who asks.
#[tokio::test]
async fn what_is_measured_of_an_idle_certificate_follows_the_table_and_ends_with_it() {
    let (fleet, hour) = (Fleet::new(None).await, Duration::from_hours(1));
    let instance = fleet.instance();
    let inner = &instance.certificates.inner;
    let slot = instance.obtain(SITE).await.unwrap();
    let ends = slot.current.load_full().unwrap().not_after;
    let fresh = replace(&fleet.store(), SITE, ends - hour * 2).await;
    let before = reads(&instance);
    follow::look_at_aged(inner, SystemTime::now() + hour).await;
    assert_eq!((inner.cache.ends(), reads(&instance)), (vec![ends], before), "nothing is due yet");
    follow::look_at_aged(inner, ends - hour).await;
    assert!(inner.cache.ends().iter().all(|at| *at > ends + hour), "{:?}", inner.cache.ends());
    assert_eq!(slot.current.load_full().unwrap().key.cert[0].to_vec(), fresh);

    // Nobody renews that one: it is missed for a day, and told of.
    let ends = slot.current.load_full().unwrap().not_after;
    follow::look_at_aged(inner, ends + hour).await;
    assert_eq!(inner.cache.ends(), [ends]);
    follow::look_at_aged(inner, ends + hour * 24).await;
    assert!(inner.cache.ends().is_empty());
}
