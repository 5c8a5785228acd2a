use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, Put, TransactWriteItem};

use super::*;
use crate::store::{Engine, Store, StoreError, tables};

async fn stores(plan: FaultPlan) -> (Store, Store, Arc<Faults>) {
    let (engine, config) = (Engine::in_memory().unwrap(), StoreConfig::default());
    let sound = Store::on(engine.clone(), &config);
    tables::create(&sound).await.unwrap();
    let faults = Faults::new(plan);
    (sound, Store::on_faulty(engine, &config, Arc::clone(&faults)), faults)
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

async fn put(store: &Store, pk: &str, note: &str) {
    let put = store.client().put_item().table_name(&store.tables().state);
    put.item("pk", text(pk)).item("sk", text("-")).item("note", text(note)).send().await.unwrap();
}

async fn note(store: &Store, pk: &str, consistent: bool) -> Option<String> {
    let get = store.client().get_item().table_name(&store.tables().state).consistent_read(consistent);
    let item = get.key("pk", text(pk)).key("sk", text("-")).send().await.unwrap().item?;
    item.get("note").and_then(|note| note.as_s().ok().cloned())
}

#[tokio::test]
async fn only_a_read_that_does_not_ask_for_consistency_is_old() {
    let (_, store, faults) =
        stores(FaultPlan { stale: Duration::from_hours(1), seed: 1, ..Default::default() }).await;
    put(&store, "a", "one").await;
    assert_eq!(note(&store, "a", true).await.as_deref(), Some("one"));
    assert_eq!(note(&store, "a", false).await, None);
    let age = |store: &Store| {
        let scan = store.client().scan().table_name(&store.tables().state);
        async move { scan.send().await.unwrap().items().len() }
    };
    assert_eq!(age(&store).await, 0);
    faults.with_lag(|lag, _| *lag = Staleness::new(Duration::ZERO));
    put(&store, "a", "two").await;
    assert_eq!(note(&store, "a", false).await.as_deref(), Some("two"));
}

#[tokio::test]
async fn keys_left_unprocessed_are_named_and_a_batch_always_gets_on() {
    let (sound, store, _) = stores(FaultPlan { unprocessed: 1000, ..Default::default() }).await;
    let table = sound.tables().state.clone();
    for pk in ["a", "b", "c"] {
        put(&sound, pk, "x").await;
    }
    let key = |pk: &str| HashMap::from([("pk".to_owned(), text(pk)), ("sk".to_owned(), text("-"))]);
    let keys = KeysAndAttributes::builder().consistent_read(true);
    let keys = keys.keys(key("a")).keys(key("b")).keys(key("c")).build().unwrap();
    let mut wanted = Some(HashMap::from([(table.clone(), keys)]));
    let mut found = 0;
    for _ in 0..3 {
        let answer = store.client().batch_get_item().set_request_items(wanted.take()).send().await.unwrap();
        found += answer.responses().unwrap()[&table].len();
        wanted = answer.unprocessed_keys;
    }
    assert_eq!((found, wanted.unwrap().len()), (3, 0));
}

#[tokio::test]
async fn throttles_and_conflicts_by_chance_are_got_over_by_retries() {
    let (sound, store, _) =
        stores(FaultPlan { seed: 3, throttle: 50, conflict: 50, ..Default::default() }).await;
    for n in 0..10 {
        let pk = n.to_string();
        let write =
            Put::builder().table_name(&store.tables().state).item("pk", text(&pk)).item("sk", text("-"));
        let write = TransactWriteItem::builder().put(write.build().unwrap()).build();
        store.client().transact_write_items().transact_items(write).send().await.unwrap();
    }
    let all = sound.client().scan().table_name(&sound.tables().state).send().await.unwrap();
    assert_eq!(all.count(), 10);
}

#[tokio::test]
async fn what_never_ends_is_unavailable_and_not_a_lost_race() {
    for plan in [
        FaultPlan { throttle: 1000, ..Default::default() },
        FaultPlan { conflict: 1000, ..Default::default() },
    ] {
        let (_, store, _) = stores(plan.clone()).await;
        let put = store.client().put_item().table_name(&store.tables().state);
        let error = put.item("pk", text("a")).item("sk", text("-")).send().await.unwrap_err();
        assert!(StoreError::from(error).is_unavailable(), "{plan:?}");
    }
    let (_, store, faults) = stores(FaultPlan::default()).await;
    faults.set_outage(true);
    let error = store.client().describe_table().table_name(&store.tables().state).send().await.unwrap_err();
    assert!(StoreError::from(error).is_unavailable());
    faults.set_outage(false);
    put(&store, "a", "x").await;
}
