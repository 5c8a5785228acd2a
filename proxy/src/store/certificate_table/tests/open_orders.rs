//! Orders that have no certificate yet, beside commits and failures.

use super::*;
use crate::store::state_table::{
    OpenOrder, open_order_for_tests, put_failure, put_open_order, put_record, remove_open_order,
    remove_open_orders,
};

async fn open(store: &Store, name: &Pattern) -> Option<OpenOrder> {
    read(store, &[], name).await.unwrap().open_orders.of("ca").cloned()
}

/// Puts it in the place of what is there.
async fn put(store: &Store, name: &Pattern, order: &OpenOrder) {
    let read = read(store, &[], name).await.unwrap().open_orders;
    assert!(put_open_order(store, name, order, read.url(&order.issuer)).await.unwrap());
}

/// A customer whose CAA record permits the first CA alone, which is slow: each attempt would place another order with it.
#[tokio::test]
async fn each_issuers_order_stays_beside_the_others() {
    let store = faulty_with_tables("seed=31,stale=2s,throttle=10,conflict=10").await;
    let name = Pattern::parse("shop.example").unwrap();
    let slow = open_order_for_tests("https://ca.example/order/1");
    let other =
        OpenOrder { issuer: "other".to_owned(), ..open_order_for_tests("https://other.example/order/1") };
    put(&store, &name, &slow).await;
    put(&store, &name, &other).await;
    remove_open_order(&store, &name, "other", &other.url).await.unwrap();
    assert_eq!(open(&store, &name).await, Some(slow));
    put(&store, &name, &other).await;
    let read = read(&store, &[], &name).await.unwrap().open_orders;
    assert_eq!(read.of("other"), Some(&other));
    remove_open_orders(&store, &name, read.issuers()).await.unwrap();
    assert_eq!(open(&store, &name).await, None);
}

/// A machine that stood still between its last look at the lease and this.
#[tokio::test]
async fn a_late_holder_replaces_no_order_that_it_has_not_read() {
    let store = faulty_with_tables("seed=37,stale=2s,throttle=10,conflict=10").await;
    let name = Pattern::parse("shop.example").unwrap();
    let urls = ["https://ca.example/order/1", "https://ca.example/order/2"];
    let [late, present] = urls.map(open_order_for_tests);
    put(&store, &name, &present).await;
    assert!(!put_open_order(&store, &name, &late, None).await.unwrap());
    assert!(!put_open_order(&store, &name, &late, Some("https://ca.example/order/0")).await.unwrap());
    assert_eq!(open(&store, &name).await, Some(present.clone()));
    assert!(put_open_order(&store, &name, &present, None).await.unwrap(), "its own, written again");
}

/// Another instance may still run an older release, which knows one order a name.
#[tokio::test]
async fn an_order_of_an_older_release_is_gone_on_with() {
    let store = faulty_with_tables("seed=41").await;
    let name = Pattern::parse("shop.example").unwrap();
    let order = open_order_for_tests("https://ca.example/order/1");
    put(&store, &name, &order).await;
    let update = || {
        let update = store.client().update_item().table_name(&store.tables().state);
        let update = update.key("pk", AttributeValue::S(format!("name#{name}")));
        update.key("sk", AttributeValue::S("certificate".to_owned()))
    };
    let moved = update().update_expression("SET open_order = #order REMOVE #order");
    moved.expression_attribute_names("#order", "open_order#ca").send().await.unwrap();
    assert_eq!(open(&store, &name).await, Some(order.clone()));
    // The later one counts, and takes no other's place.
    let placed_at = order.placed_at + Duration::from_secs(1);
    let later = OpenOrder { placed_at, ..open_order_for_tests("https://ca.example/order/2") };
    put(&store, &name, &later).await;
    assert_eq!(open(&store, &name).await, Some(later.clone()));
    remove_open_order(&store, &name, "ca", &later.url).await.unwrap();
    assert_eq!(open(&store, &name).await, Some(order.clone()));
    remove_open_order(&store, &name, "ca", &order.url).await.unwrap();
    assert_eq!(open(&store, &name).await, None);
}

#[tokio::test]
async fn a_commit_ends_the_open_order() {
    let store = faulty_with_tables("seed=13,stale=2s,throttle=10,conflict=10").await;
    let name = Pattern::parse("shop.example").unwrap();
    assert_eq!(open(&store, &name).await, None);
    put(&store, &name, &open_order_for_tests("https://ca.example/order/1")).await;
    let second = open_order_for_tests("https://ca.example/order/2");
    put(&store, &name, &second).await;
    let mut failed = OrderRecord::new(&name);
    (failed.failures, failed.problem) = (2, Some("why".to_owned()));
    put_failure(&store, &failed).await.unwrap();
    assert_eq!(open(&store, &name).await, Some(second), "a failure keeps it");
    let (issuer, key) = (IssuerKey::parse("ca").unwrap(), b"a key".to_vec().into());
    let committed = Commit {
        issuer: &issuer,
        pattern: &name.clone(),
        chain: b"chain",
        key: &key,
        metadata: b"{}",
        replaced: None,
        record: Some(&OrderRecord::new(&name)),
        renewal_info: None,
        event: None,
    };
    commit(&store, &committed, SystemTime::now()).await.unwrap();
    assert_eq!(open(&store, &name).await, None);
}

#[tokio::test]
async fn an_order_that_is_of_no_use_is_forgotten_and_its_record_stays() {
    let store = faulty_with_tables("seed=17,stale=2s,throttle=10,conflict=10").await;
    let name = Pattern::parse("shop.example").unwrap();
    remove_open_orders(&store, &name, ["ca"].into_iter()).await.unwrap();
    assert!(read(&store, &[], &name).await.unwrap().record.is_none(), "no record is made of it");
    let mut failed = OrderRecord::new(&name);
    failed.failures = 2;
    put_failure(&store, &failed).await.unwrap();
    put(&store, &name, &open_order_for_tests("https://ca.example/order/1")).await;
    remove_open_orders(&store, &name, ["ca", "ca"].into_iter()).await.unwrap();
    let read = read(&store, &[], &name).await.unwrap();
    assert_eq!(read.open_orders.issuers().count(), 0);
    assert_eq!(read.record.map(|record| record.failures), Some(2));
}

/// A holder whose lease was taken over, and whose order ends then.
#[tokio::test]
async fn a_late_holder_forgets_its_own_order_alone() {
    let store = faulty_with_tables("seed=23,stale=2s,throttle=10,conflict=10").await;
    let name = Pattern::parse("shop.example").unwrap();
    let urls = ["https://ca.example/order/1", "https://ca.example/order/2"];
    let present = open_order_for_tests(urls[1]);
    put(&store, &name, &present).await;
    remove_open_order(&store, &name, "ca", urls[0]).await.unwrap();
    assert_eq!(open(&store, &name).await, Some(present));
    remove_open_order(&store, &name, "ca", urls[1]).await.unwrap();
    assert_eq!(open(&store, &name).await, None);
    remove_open_order(&store, &name, "ca", urls[1]).await.unwrap();
}

/// The table removes items whose date has passed within two days.
#[tokio::test]
async fn an_open_order_lies_in_no_item_that_is_about_to_be_removed() {
    let store = faulty_with_tables("seed=29,stale=2s,throttle=10,conflict=10").await;
    let name = Pattern::parse("shop.example").unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    for (before, expected) in [
        (None, now + 6 * DAY..=now + 8 * DAY),
        (Some(now - 9), now + 6 * DAY..=now + 8 * DAY),
        (Some(now + DAY), now + 6 * DAY..=now + 8 * DAY),
        (Some(now + 99 * DAY), now + 99 * DAY..=now + 99 * DAY),
    ] {
        let item = || {
            let update = store.client().update_item().table_name(&store.tables().state);
            let update = update.key("pk", AttributeValue::S(format!("name#{name}")));
            update.key("sk", AttributeValue::S("certificate".to_owned()))
        };
        let set = match before {
            Some(at) => item()
                .update_expression("SET expires_at = :at")
                .expression_attribute_values(":at", AttributeValue::N(at.to_string())),
            None => item().update_expression("REMOVE expires_at"),
        };
        set.send().await.unwrap();
        put(&store, &name, &open_order_for_tests("https://ca.example/order/1")).await;
        let read = item().return_values(aws_sdk_dynamodb::types::ReturnValue::AllNew);
        let read = read.update_expression("SET looked = :looked");
        let read = read.expression_attribute_values(":looked", AttributeValue::Bool(true)).send().await;
        let attributes = read.unwrap().attributes.unwrap();
        let expires: u64 = attributes["expires_at"].as_n().unwrap().parse().unwrap();
        assert!(expected.contains(&expires), "{before:?}: {expires}");
        assert!(open(&store, &name).await.is_some(), "{before:?}");
    }
}

const DAY: u64 = 24 * 3_600;

#[tokio::test]
async fn a_record_that_is_written_keeps_the_open_order_and_nothing_else() {
    let store = faulty_with_tables("seed=19,stale=2s,throttle=10,conflict=10").await;
    let name = Pattern::parse("shop.example").unwrap();
    let second = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    let failed = OrderRecord {
        problem: Some("why".to_owned()),
        retry_at: second(9),
        failed_at: vec![SystemTime::UNIX_EPOCH],
        ..OrderRecord::new(&name)
    };
    put_record(&store, &failed, None).await.unwrap();
    let order = open_order_for_tests("https://ca.example/order/1");
    put(&store, &name, &order).await;
    let recorded =
        OrderRecord { serial: Some("01".to_owned()), renew_at: second(10), ..OrderRecord::new(&name) };
    put_record(&store, &recorded, None).await.unwrap();
    put_record(&store, &failed, None).await.unwrap();
    let read = read(&store, &[], &name).await.unwrap();
    assert_eq!((read.open_orders.of("ca"), read.record), (Some(&order), Some(recorded)));
}
