//! Adds to items made by hand what feed and listings need. Scans the table: an operator's command, never part of serving.

use aws_sdk_dynamodb::types::AttributeValue;

use super::{DomainRecord, Item, Shard, put};
use crate::store::{Store, StoreError, instant::Micros};

/// What the repair of a part of the table did.
#[derive(Debug, Default)]
pub struct Reindexed {
    /// Entries that are in the feed and in listings now.
    pub repaired: u64,
    /// Items that are no entries, each with its fault.
    pub malformed: Vec<StoreError>,
    /// The key behind which the next part begins; absent, this was the last.
    pub next: Option<String>,
}

/// Repairs items that lack what we write beside `domain`, or have it otherwise, of the part of the table behind the key `after`. Items that
/// someone changes meanwhile are whole by that.
pub async fn reindex(store: &Store, now: Micros, after: Option<String>) -> Result<Reindexed, StoreError> {
    let scan = store.client().scan().table_name(&store.tables().domains).consistent_read(true).limit(PART);
    let start = after.map(|after| Item::from([(KEY.to_owned(), AttributeValue::S(after))]));
    let page = scan.set_exclusive_start_key(start).send().await?;
    let last = page.last_evaluated_key.and_then(|mut key| key.remove(KEY));
    let next = last.and_then(|last| last.as_s().ok().cloned());
    let mut report = Reindexed { next, ..Reindexed::default() };
    for item in page.items.unwrap_or_default() {
        match DomainRecord::read(&item) {
            Ok(record) if is_whole(&item, &record) => {}
            Ok(record) => repair(store, record, now, &mut report).await?,
            Err(fault) => report.malformed.push(fault),
        }
    }
    Ok(report)
}

/// Whether feed and listings show `item` as what it is.
fn is_whole(item: &Item, record: &DomainRecord) -> bool {
    let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok());
    let has_version = matches!(item.get("version"), Some(AttributeValue::N(_)));
    has_version
        && record.changed_at.is_some()
        && text("tenant").is_some()
        && text("feed").is_some_and(|feed| *feed == Shard::of(&record.pattern).to_string())
}

async fn repair(
    store: &Store,
    old: DomainRecord,
    now: Micros,
    report: &mut Reindexed,
) -> Result<(), StoreError> {
    let replaced = old.version;
    let whole = DomainRecord {
        version: old.version.saturating_add(1),
        created_at: old.created_at.or(Some(now)),
        changed_at: Some(old.changed_at.map_or(now, |old| now.max(old.next()))),
        ..old
    };
    match put(store, &whole, replaced).await {
        Ok(()) => report.repaired += 1,
        Err(StoreError::Conflict) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Items that are read at once. Repaired one after the other from another region, they take some ten seconds.
const PART: i32 = 100;
const KEY: &str = "domain";
