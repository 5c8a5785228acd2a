//! Items of the table that cannot be used: what they cost, and what is said of them.

use std::collections::HashMap;

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;
use crate::certificates::keyed_chain::tests::pems;

type Item = HashMap<String, AttributeValue>;

const SITE: &str = "a.served.example";

fn text(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

fn encoded(contents: impl AsRef<[u8]>) -> AttributeValue {
    text(STANDARD.encode(contents))
}

/// An item of [`SITE`] whose `Contents` are `value`, or that has none.
fn item(kind: &str, value: Option<AttributeValue>) -> Item {
    let key = format!("certificates/gatehouse-internal/{SITE}/{SITE}.{kind}");
    let mut item = Item::from([("PrimaryKey".to_owned(), text(key))]);
    item.insert("LastUpdated".to_owned(), text("2026-11-24T02:15:08Z"));
    item.extend(value.map(|value| ("Contents".to_owned(), value)));
    item
}

async fn put(store: &Store, item: Item) {
    let put = store.client().put_item().table_name(&store.tables().certificates);
    put.set_item(Some(item)).send().await.unwrap();
}

fn valid(names: &[&str]) -> (String, String) {
    pems(names, clock::wall() - Duration::from_mins(1), Duration::from_hours(24))
}

/// Every unusable kind that was tried beside a real Caddy, and their kin.
fn unusable() -> Vec<(&'static str, Vec<Item>)> {
    let (chain, key) = valid(&[SITE]);
    let (other_chain, other_key) = valid(&["b.served.example"]);
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let good_key = || item("key", Some(encoded(&key)));
    let good_chain = || item("crt", Some(encoded(&chain)));
    let with_key = |chain: Option<AttributeValue>| vec![item("crt", chain), good_key()];
    let binary = |pem: &str| AttributeValue::B(Blob::new(STANDARD.encode(pem)));
    vec![
        ("a chain without contents", with_key(None)),
        ("a chain without contents, alone", vec![item("crt", None)]),
        ("a chain of type B", with_key(Some(binary(&chain)))),
        ("a chain of type N", with_key(Some(AttributeValue::N("7".to_owned())))),
        ("a chain of type NULL", with_key(Some(AttributeValue::Null(true)))),
        ("a chain of type BOOL", with_key(Some(AttributeValue::Bool(true)))),
        ("a chain of type L", with_key(Some(AttributeValue::L(vec![encoded(&chain)])))),
        (
            "a chain of type M",
            with_key(Some(AttributeValue::M(Item::from([("x".to_owned(), encoded(&chain))])))),
        ),
        ("a chain of type SS", with_key(Some(AttributeValue::Ss(vec!["a".to_owned(), "b".to_owned()])))),
        ("an empty chain", with_key(Some(text("")))),
        ("a chain that is no base64", with_key(Some(text("not base64!")))),
        ("a chain that is no PEM", with_key(Some(encoded("chain")))),
        ("a chain that is no X.509", with_key(Some(encoded(junk)))),
        (
            "a chain for another name",
            vec![item("crt", Some(encoded(&other_chain))), item("key", Some(encoded(&other_key)))],
        ),
        ("a chain without a key", vec![good_chain()]),
        ("a key without a chain", vec![good_key()]),
        ("a key without contents", vec![good_chain(), item("key", None)]),
        ("a key of type B", vec![good_chain(), item("key", Some(binary(&key)))]),
        ("a key that is no PEM", vec![good_chain(), item("key", Some(encoded("key")))]),
        ("a key of another chain", vec![good_chain(), item("key", Some(encoded(&other_key)))]),
        (
            "all three of type N",
            ["crt", "key", "json"].map(|kind| item(kind, Some(AttributeValue::N("1".to_owned())))).into(),
        ),
        ("metadata alone", vec![item("json", None)]),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_that_cannot_be_used_is_replaced_and_costs_one_order() {
    for (case, items) in unusable() {
        let fleet = Fleet::new(None).await;
        let (first, second) = (fleet.instance(), fleet.instance());
        for item in items {
            put(&first.store, item).await;
        }
        let slot = first.obtain(SITE).await.unwrap_or_else(|refusal| panic!("{case}: {refusal}"));
        let again = second.obtain(SITE).await.unwrap_or_else(|refusal| panic!("{case}: {refusal}"));
        assert_eq!(leaf(&slot), leaf(&again), "{case}");
        assert_eq!((first.orders(), second.orders()), (1, 0), "{case}");
    }
}

/// Go's decoder of base64 ignores line ends, and its reader of PEM what it cannot read behind the leaf.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_caddy_reads_is_served_and_costs_no_order() {
    let (chain, key) = valid(&[SITE]);
    let lines = |pem: &str, end: &str| {
        let encoded = STANDARD.encode(pem);
        let lines: Vec<_> =
            encoded.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
        text(lines.join(end) + end)
    };
    let broken = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let (root, _) = valid(&["root.example"]);
    for (case, chain_value, key_value, length) in [
        ("line feeds", lines(&chain, "\n"), lines(&key, "\n"), 1),
        ("carriage returns", lines(&chain, "\r\n"), lines(&key, "\r\n"), 1),
        ("an intermediate that is no base64", encoded(format!("{chain}{broken}")), encoded(&key), 1),
        ("an intermediate that is no X.509", encoded(format!("{chain}{junk}{root}")), encoded(&key), 2),
        ("an intermediate that ends early", encoded(format!("{chain}{}", &root[..90])), encoded(&key), 1),
    ] {
        let fleet = Fleet::new(None).await;
        let instance = fleet.instance();
        put(&instance.store, item("crt", Some(chain_value))).await;
        put(&instance.store, item("key", Some(key_value))).await;
        let slot = instance.obtain(SITE).await.unwrap_or_else(|refusal| panic!("{case}: {refusal}"));
        assert_eq!(instance.orders(), 0, "{case}");
        let presented = slot.current(clock::wall()).unwrap();
        assert_eq!(presented.key.cert.len(), length, "{case}");
    }
}

/// Caddy orders from a second issuer when its first fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_issuer_that_is_only_read_has_issued_is_served_and_costs_no_order() {
    let (chain, key) = valid(&[SITE]);
    for (also_read, orders) in [(vec!["https://acme.zerossl.com/v2/DV90".to_owned()], 0), (Vec::new(), 1)] {
        let mut fleet = Fleet::new(None).await;
        fleet.config.certificates.also_read = also_read;
        let instance = fleet.instance();
        for (kind, pem) in [("crt", &chain), ("key", &key)] {
            let mut item = item(kind, Some(encoded(pem)));
            let key = format!("certificates/acme.zerossl.com-v2-dv90/{SITE}/{SITE}.{kind}");
            item.insert("PrimaryKey".to_owned(), text(key));
            put(&instance.store, item).await;
        }
        instance.obtain(SITE).await.unwrap();
        assert_eq!(instance.orders(), orders, "{:?}", fleet.config.certificates.also_read);
    }
}

/// Another writer keeps changing the chain to something that cannot be used, so that no commit's condition holds for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_takes_no_commit_costs_no_third_order() {
    let fleet = Fleet::new(None).await;
    let instances = [fleet.instance(), fleet.instance()];
    let store = fleet.store();
    let writer = tokio::spawn(async move {
        for n in 0_u64.. {
            put(&store, item("crt", Some(encoded(n.to_string())))).await;
        }
    });
    for n in 0..12 {
        let _ = instances[n % 2].obtain(SITE).await;
        instances[n % 2].certificates.inner.refusals.invalidate_all();
    }
    writer.abort();
    let orders = instances[0].orders() + instances[1].orders();
    assert!(orders <= 2, "{orders} orders");
}

/// An operator who asks for one is told which it is, and that it is nowhere else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_ordered_on_request_and_not_written_is_told_as_that() {
    let fleet = Fleet::new(None).await;
    let (instance, store) = (fleet.instance(), fleet.store());
    let writer = tokio::spawn(async move {
        for n in 0_u64.. {
            put(&store, item("crt", Some(encoded(n.to_string())))).await;
        }
    });
    let mut ordered = instance.certificates.order_now(&pattern(SITE), OnRequest::Obtain).await.unwrap();
    // A commit may fall between two writes of the other's.
    for _ in 0..200 {
        assert!(ordered.is_new, "{ordered:?}");
        assert_eq!(instance.certificates.presented_serial(&pattern(SITE)).as_ref(), Some(&ordered.serial));
        if ordered.is_unwritten {
            break;
        }
        ordered = instance.certificates.order_now(&pattern(SITE), OnRequest::Renew).await.unwrap();
    }
    writer.abort();
    assert!(ordered.is_unwritten, "{ordered:?}");
}

/// Items of our own table that somebody has written by hand must not hide the back-off, either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_record_does_not_hide_the_back_off() {
    let number = || AttributeValue::N("1".to_owned());
    for (attribute, value) in [
        ("not_after", number()),
        ("not_after", text("soon")),
        ("not_after", text("9999-12-31T00:00:00.000000Z")),
        ("retry_at", number()),
        ("retry_at", text("tomorrow")),
        ("failures", text("many")),
        ("failures", AttributeValue::N("-1".to_owned())),
        ("failures", AttributeValue::N("4294967295".to_owned())),
        ("serial", number()),
        ("issuer", AttributeValue::Null(true)),
        ("expires_at", text("never")),
    ] {
        let fleet = Fleet::new(None).await;
        let (store, site, now) = (fleet.store(), pattern(SITE), clock::wall());
        let mut record = Item::from([
            ("pk".to_owned(), text(format!("name#{SITE}"))),
            ("sk".to_owned(), text("certificate")),
        ]);
        record.insert(attribute.to_owned(), value.clone());
        let put = store.client().put_item().table_name(&store.tables().state);
        put.set_item(Some(record)).send().await.unwrap();
        let read = async || certificate_table::read(&store, &[IssuerKey::internal()], &site).await.unwrap();
        let before = read().await.record.unwrap();
        let failure = failure::OrderFailure { fault: failure::OrderFault::Name, problem: "why".to_owned() };
        let failed = failure::after(&before, &failure, now);
        state_table::put_failure(&store, &failed).await.unwrap();
        let record = read().await.record.unwrap();
        assert!(record.retry_at.is_some_and(|at| at > now), "{attribute} {value:?}: {record:?}");
        assert_eq!(
            (record.problem.as_deref(), record.failures),
            (Some("why"), failed.failures),
            "{attribute}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_key_that_cannot_be_used_is_named() {
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
    for (case, contents) in [
        ("P-384", Some(encoded(&p384))),
        ("no PEM", Some(encoded("key"))),
        ("no contents", None),
        ("type B", Some(AttributeValue::B(Blob::new(p384.clone())))),
    ] {
        let mut fleet = Fleet::new(None).await;
        fleet.config.certificates.issuers = vec![nobody()];
        let instance = fleet.instance();
        let key = "acme/127.0.0.1-9-dir/users/ops@example.com/ops.key";
        let mut item = Item::from([("PrimaryKey".to_owned(), text(key))]);
        item.extend(contents.map(|contents| ("Contents".to_owned(), contents)));
        put(&instance.store, item).await;
        assert_eq!(instance.obtain(SITE).await.err(), Some(CertificateRefusal::Failed), "{case}");
        let keys = [IssuerKey::of_directory(&nobody().directory)];
        let shown =
            listing::show(&instance.store, &keys, &pattern(SITE), &pattern(SITE)).await.unwrap().unwrap();
        assert!(shown.problem.contains(key), "{case}: {}", shown.problem);
        assert_eq!(shown.failures, 0, "{case}: it is not the name's failure");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_that_cannot_be_used_is_told_of_with_what_is_wrong() {
    for (case, items) in unusable() {
        let fleet = Fleet::new(None).await;
        let instance = fleet.instance();
        for item in items {
            put(&instance.store, item).await;
        }
        let shown = instance.shown(SITE).await.unwrap_or_else(|| panic!("{case}: nothing is shown"));
        assert!(!shown.unusable.is_empty(), "{case}");
        instance.obtain(SITE).await.unwrap();
        for told in &shown.unusable {
            let item = told.split('`').nth(1).unwrap();
            let is_due = instance.certificates.inner.warned.is_due(item, clock::now());
            assert!(!is_due, "{case}: nothing was said of {told}");
        }
        assert!(instance.shown(SITE).await.unwrap().unusable.is_empty(), "{case}: replaced");
    }
}

/// A role may lack an action that nobody gives it within the day.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_the_role_may_not_write_is_presented_and_costs_no_second_order() {
    for (forbidden, most) in [(&["TransactWriteItems"][..], 1), (&["TransactWriteItems", "UpdateItem"], 2)] {
        let fleet = Fleet::new(Some("seed=1")).await;
        let instances = [fleet.instance(), fleet.instance()];
        fleet.faults.as_ref().unwrap().forbid(forbidden);
        let slot = instances[0].obtain(SITE).await.unwrap();
        for n in 0..12 {
            let _ = instances[n % 2].obtain(SITE).await;
            instances[n % 2].certificates.inner.refusals.invalidate_all();
        }
        let orders = instances[0].orders() + instances[1].orders();
        assert!(orders <= most, "{forbidden:?}: {orders} orders");
        let later = clock::wall() + Duration::from_secs(21);
        follow::round(&instances[0].certificates.inner, later).await;
        assert!(slot.current(later).is_some(), "it never lay in the table, so it was not deleted from it");
    }
}
