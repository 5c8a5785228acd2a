//! Adds to items made by hand what feed and listings need. Scans the table: an operator's command, never part of serving.

use aws_sdk_dynamodb::types::AttributeValue;

use super::{DomainRecord, Item, Shard, put};
use crate::store::{Store, StoreError, instant::Micros};

/// What a repair of the table did.
#[derive(Debug, Default)]
pub struct Reindexed {
    /// Entries that are in the feed and in listings now.
    pub repaired: u64,
    /// Items that are no entries, each with its fault; the first thousand.
    pub malformed: Vec<StoreError>,
}

/// Repairs items that lack what we write beside `domain`, or have it otherwise. Items that someone changes meanwhile are whole by
/// that.
pub async fn reindex(store: &Store, now: Micros) -> Result<Reindexed, StoreError> {
    let mut report = Reindexed::default();
    let scan = store.client().scan().table_name(&store.tables().domains).consistent_read(true);
    let mut pages = scan.into_paginator().items().send();
    while let Some(item) = pages.next().await {
        let item = item?;
        match DomainRecord::read(&item) {
            Ok(record) if is_whole(&item, &record) => {}
            Ok(record) => repair(store, record, now, &mut report).await?,
            Err(fault) if report.malformed.len() < MAX_TOLD => report.malformed.push(fault),
            Err(_) => {}
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

/// With more than this, something else writes to the table.
const MAX_TOLD: usize = 1000;
