//! Giving items made by hand what feed and listings need. Scans the table: an operator's command, never part of serving.

use aws_sdk_dynamodb::types::AttributeValue;

use super::{Item, Record, put};
use crate::store::{Store, StoreError, instant::Micros};

/// What a repair of the table did.
#[derive(Debug, Default)]
pub struct Reindexed {
    /// Entries that are in the feed and in listings now.
    pub repaired: u64,
    /// Items that are no entries, each with its fault.
    pub misshapen: Vec<StoreError>,
}

/// Repairs items that lack what we write beside `domain`. Items that someone changes meanwhile are whole by that.
pub async fn reindex(store: &Store, now: Micros) -> Result<Reindexed, StoreError> {
    let mut report = Reindexed::default();
    let mut pages = store
        .client()
        .scan()
        .table_name(&store.tables().domains)
        .consistent_read(true)
        .filter_expression(
            "attribute_not_exists(#feed) OR attribute_not_exists(#changed_at) OR attribute_not_exists(#tenant) \
             OR attribute_not_exists(#version)",
        )
        .expression_attribute_names("#feed", "feed")
        .expression_attribute_names("#changed_at", "changed_at")
        .expression_attribute_names("#tenant", "tenant")
        .expression_attribute_names("#version", "version")
        .into_paginator()
        .items()
        .send();
    while let Some(item) = pages.next().await {
        repair(store, &item?, now, &mut report).await?;
    }
    Ok(report)
}

async fn repair(store: &Store, item: &Item, now: Micros, report: &mut Reindexed) -> Result<(), StoreError> {
    let old = match Record::read(item) {
        Ok(old) => old,
        Err(fault) => {
            report.misshapen.push(fault);
            return Ok(());
        }
    };
    let has_version = matches!(item.get("version"), Some(AttributeValue::N(_)));
    let replaced = if has_version { old.version } else { 0 };
    let whole = Record {
        version: old.version + 1,
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
