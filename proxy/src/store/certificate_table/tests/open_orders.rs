//! Orders that have no certificate yet, beside commits and failures.

use super::*;
use crate::store::state_table::{
    OpenOrder, open_order_for_tests, put_failure, put_open_order, put_record, remove_open_order,
};

async fn open(store: &Store, name: &Pattern) -> Option<OpenOrder> {
    read(store, &[], name).await.unwrap().open_order
}

#[tokio::test]
async fn a_commit_ends_the_open_order() {
    let store = faulty_with_tables("seed=13,stale=2s,throttle=10,conflict=10").await;
    let name = Pattern::parse("shop.example").unwrap();
    assert_eq!(open(&store, &name).await, None);
    put_open_order(&store, &name, &open_order_for_tests("https://ca.example/order/1")).await.unwrap();
    let second = open_order_for_tests("https://ca.example/order/2");
    put_open_order(&store, &name, &second).await.unwrap();
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
    remove_open_order(&store, &name).await.unwrap();
    let mut failed = OrderRecord::new(&name);
    failed.failures = 2;
    put_failure(&store, &failed).await.unwrap();
    put_open_order(&store, &name, &open_order_for_tests("https://ca.example/order/1")).await.unwrap();
    remove_open_order(&store, &name).await.unwrap();
    let read = read(&store, &[], &name).await.unwrap();
    assert_eq!((read.open_order, read.record.map(|record| record.failures)), (None, Some(2)));
}

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
    put_open_order(&store, &name, &order).await.unwrap();
    let recorded =
        OrderRecord { serial: Some("01".to_owned()), renew_at: second(10), ..OrderRecord::new(&name) };
    put_record(&store, &recorded, None).await.unwrap();
    put_record(&store, &failed, None).await.unwrap();
    let read = read(&store, &[], &name).await.unwrap();
    assert_eq!((read.open_order, read.record), (Some(order), Some(recorded)));
}
