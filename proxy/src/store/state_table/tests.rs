use std::time::{Duration, SystemTime};

use super::*;
use crate::{
    name::ServerName,
    store::{Engine, FaultPlan, Faults, Store, tables},
};

async fn store() -> Store {
    // Without throttling: hundreds of queries, as many as time allows, would meet one that outlasts the SDK's attempts.
    let faults = Faults::new(FaultPlan::parse("seed=7,stale=2s,conflict=50").unwrap());
    let store =
        Store::on_faulty(Engine::in_memory().unwrap(), &crate::config::StoreConfig::default(), faults);
    tables::create(&store).await.unwrap();
    store
}

fn name(text: &str) -> ServerName {
    ServerName::parse(text).unwrap()
}

fn record(site: &ServerName, seconds: u64) -> OrderRecord {
    let at = |n: u64| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(n));
    OrderRecord {
        serial: Some("01".into()),
        not_after: at(seconds * 3),
        renew_at: at(seconds * 2),
        ..OrderRecord::new(site)
    }
}

#[tokio::test]
async fn due_names_are_found_in_pages_and_forgotten_on_request() {
    let (store, many) = (store().await, 40_u64);
    for n in 1..=many {
        put_record(&store, &record(&name(&format!("n{n}.example")), n)).await.unwrap();
    }
    let all = |until: u64| {
        let store = store.clone();
        async move {
            let until = SystemTime::UNIX_EPOCH + Duration::from_secs(until);
            let mut found = Vec::new();
            for shard in 0..SHARDS {
                let mut after = None;
                loop {
                    let page = due(&store, shard, until, after.as_ref(), 3).await.unwrap();
                    let Some(last) = page.last() else { break };
                    after = Some(last.clone());
                    found.extend(page);
                }
            }
            found.len()
        }
    };
    // The index may lag behind by as much as the fault plan says.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while (all(20).await, all(1_000).await) != (10, 40) {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", (all(20).await, all(1_000).await));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    forget(&store, &name("n1.example")).await.unwrap();
    forget(&store, &name("never.example")).await.unwrap();
    while all(1_000).await != 39 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
