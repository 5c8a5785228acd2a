//! Single items of the state table: found by their keys, with attributes as they are written.

use aws_sdk_dynamodb::types::AttributeValue;

use crate::store::{Item, Store, StoreError, instant::Micros};

/// The item with this key, read consistently.
pub(super) async fn find(store: &Store, pk: &str, sk: &str) -> Result<Option<Item>, StoreError> {
    // By Query, which roles may use on this table, unlike GetItem: whoever may place orders may read all that is here.
    let query = store.client().query().table_name(&store.tables().state).consistent_read(true);
    let query = query
        .key_condition_expression("pk = :pk AND sk = :sk")
        .expression_attribute_values(":pk", text(pk))
        .expression_attribute_values(":sk", text(sk));
    Ok(query.send().await?.items.unwrap_or_default().into_iter().next())
}

pub(super) fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

pub(super) fn number(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// Whole seconds since the epoch, by which DynamoDB removes items (`expires_at`).
pub(super) fn seconds(at: Micros) -> AttributeValue {
    number(at.seconds())
}
