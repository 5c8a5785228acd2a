//! How far checks of names have come that are made pass by pass: `domain-checks`/`settled` in the state table.
//! Not here: what follows from it (`verification`). It is read and written under the lease for checks; lost, more entries are read.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;

use super::item::text;
use crate::store::{
    Store, StoreError,
    instant::{Micros, epoch_millis},
};

/// Until when all turns were had; none, where nothing is known.
pub async fn checks_settled(store: &Store) -> Result<Option<Micros>, StoreError> {
    let get = store.client().get_item().table_name(&store.tables().state).consistent_read(true);
    let item = get.key("pk", text(JOB)).key("sk", text(SORT)).send().await?.item.unwrap_or_default();
    Ok(item.get(UNTIL).and_then(|until| Micros::parse(until.as_s().ok()?)))
}

/// Keeps that all turns until `until` were had.
pub async fn put_checks_settled(store: &Store, until: Micros) -> Result<(), StoreError> {
    let expires = epoch_millis(until.at() + KEPT) / 1000;
    let update = store.client().update_item().table_name(&store.tables().state);
    let update = update
        .key("pk", text(JOB))
        .key("sk", text(SORT))
        .update_expression("SET #until = :until, expires_at = :expires")
        .expression_attribute_names("#until", UNTIL)
        .expression_attribute_values(":until", text(&until.to_string()))
        .expression_attribute_values(":expires", AttributeValue::N(expires.to_string()));
    update.send().await?;
    Ok(())
}

const JOB: &str = "domain-checks";
const SORT: &str = "settled";
const UNTIL: &str = "until";
/// Longer than any interval between two checks of a name.
const KEPT: Duration = Duration::from_hours(24 * 60);
