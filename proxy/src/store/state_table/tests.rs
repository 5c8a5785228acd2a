use std::time::{Duration, SystemTime};

use anyhow::ensure;
use testbed::wait;

use super::*;
use crate::{
    name::Pattern,
    store::{Store, fixture::faulty_with_tables},
};

async fn store() -> Store {
    // Without throttling: hundreds of queries, as many as time allows, would meet one that outlasts the SDK's attempts.
    faulty_with_tables("seed=7,stale=2s,conflict=50").await
}

fn name(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn record(site: &Pattern, seconds: u64) -> OrderRecord {
    let at = |n: u64| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(n));
    OrderRecord {
        serial: Some("01".into()),
        not_after: at(seconds * 3),
        renew_at: at(seconds * 2),
        ..OrderRecord::new(site)
    }
}

/// Whoever can write to the table could otherwise end all renewals with a few items.
#[tokio::test]
async fn what_cannot_be_read_hides_no_name_that_is_due_behind_it() {
    let store = faulty_with_tables("seed=1").await;
    let behind = name("behind.example");
    put_record(&store, &record(&behind, 9), None).await.unwrap();
    let shard = shard(&behind);
    let text = |text: &str| aws_sdk_dynamodb::types::AttributeValue::S(text.to_owned());
    for n in 0..5 {
        let put = store.client().put_item().table_name(&store.tables().state);
        let put = put.item("pk", text(&format!("name#-{n}"))).item("sk", text("certificate"));
        let put = put.item("due", text(&format!("renew#{shard}")));
        put.item("due_at", text("1970-01-01T00:00:01.000000Z")).send().await.unwrap();
    }
    let until = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    // The index may lag behind.
    wait::until_async("the name behind them", Duration::from_secs(20), async || {
        let (mut start, mut found) = (None, Vec::new());
        loop {
            let page = due(&store, shard, until, start.as_ref(), 2).await?;
            found.extend(page.names.into_iter().map(|due| due.name));
            let Some(next) = page.next else { break };
            start = Some(next);
        }
        ensure!(found == [behind.clone()], "{found:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn due_names_are_found_in_pages_and_forgotten_on_request() {
    let (store, many) = (store().await, 40_u64);
    for n in 1..=many {
        put_record(&store, &record(&name(&format!("n{n}.example")), n), None).await.unwrap();
    }
    let all = |until: u64| {
        let store = store.clone();
        async move {
            let until = SystemTime::UNIX_EPOCH + Duration::from_secs(until);
            let mut found = Vec::new();
            for shard in 0..SHARDS {
                let mut start = None;
                loop {
                    let page = due(&store, shard, until, start.as_ref(), 3).await.unwrap();
                    found.extend(page.names);
                    let Some(next) = page.next else { break };
                    start = Some(next);
                }
            }
            found.len()
        }
    };
    // The index may lag behind by as much as the fault plan says.
    let becomes = async |within: &[(u64, usize)]| {
        for (until, expected) in within {
            wait::until_async("the index", Duration::from_mins(1), async || {
                let found = all(*until).await;
                ensure!(found == *expected, "{found} due by {until}, not {expected}");
                Ok(())
            })
            .await
            .unwrap();
        }
    };
    becomes(&[(20, 10), (1_000, 40)]).await;
    forget(&store, &name("n1.example")).await.unwrap();
    forget(&store, &name("never.example")).await.unwrap();
    becomes(&[(1_000, 39)]).await;
}
