//! The form of Caddy's items: `PrimaryKey`, `Contents` (base64), `LastUpdated` (RFC 3339).

use std::{
    collections::{BTreeSet, HashMap},
    time::SystemTime,
};

use aws_sdk_dynamodb::types::AttributeValue;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::keys::is_deleted;
use crate::store::{
    Item, Store, StoreError,
    batch::{BatchGet, Consistency},
};

/// Items by their `PrimaryKey`, and our record of the name if it was asked for.
#[derive(Default)]
pub(super) struct FoundItems {
    pub(super) items: HashMap<String, Item>,
    pub(super) record: Option<Item>,
}

pub(super) fn key(primary: &str) -> Item {
    HashMap::from([(PRIMARY.to_owned(), AttributeValue::S(primary.to_owned()))])
}

/// The key of an item that is to be deleted.
pub(super) fn deleted(primary: &str) -> Item {
    debug_assert!(
        is_deleted(primary),
        "{primary}: instances of a fleet may not delete it; add its kind to `DELETED`"
    );
    key(primary)
}

pub(super) fn item(primary: &str, contents: &[u8], now: SystemTime) -> Item {
    let mut item = key(primary);
    item.insert(CONTENTS.to_owned(), AttributeValue::S(encode(contents)));
    item.insert(UPDATED.to_owned(), AttributeValue::S(instant(now)));
    item
}

pub(super) fn encode(contents: &[u8]) -> String {
    STANDARD.encode(contents)
}

/// Whole seconds of UTC, as RFC 3339 §5.6 writes them. certmagic-storage-dynamodb, `List`: it ends at an item whose
/// `LastUpdated` it cannot read.
pub(super) fn instant(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at).truncate_to_second();
    // Years beyond 9999 have no RFC 3339 form, and no clock of ours shows them.
    at.format(&Rfc3339).unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned())
}

/// An RFC 3339 instant with whatever offset: Caddy writes local ones.
pub(super) fn parse_instant(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from)
}

/// Consistent reads of `keys`, and of `record` in the state table, in one call while nothing is left unprocessed.
pub(super) async fn find(
    store: &Store,
    keys: impl IntoIterator<Item = String>,
    record: Option<Item>,
) -> Result<FoundItems, StoreError> {
    find_with(store, keys, record, Consistency::Strong).await
}

/// Reads of `keys`, and of `record` in the state table; a hundred at most (`BatchGetItem` of the API reference).
pub(super) async fn find_with(
    store: &Store,
    keys: impl IntoIterator<Item = String>,
    record: Option<Item>,
    consistency: Consistency,
) -> Result<FoundItems, StoreError> {
    let tables = store.tables();
    // DynamoDB refuses a batch that names a key twice, and two spellings of a directory (`/dir`, `/dir/`) have the same keys.
    let keys: BTreeSet<String> = keys.into_iter().collect();
    let certificates = keys.iter().map(|primary| key(primary)).collect();
    let batch = BatchGet::default().with(&tables.certificates, certificates, consistency)?.with(
        &tables.state,
        Vec::from_iter(record),
        consistency,
    )?;
    Ok(FoundItems::of(batch.read(store).await?, &tables.state))
}

impl FoundItems {
    fn of(answer: HashMap<String, Vec<Item>>, state: &str) -> Self {
        let mut found = Self::default();
        for (table, items) in answer {
            for item in items {
                if table == state {
                    found.record = Some(item);
                } else if let Some(primary) = item.get(PRIMARY).and_then(|primary| primary.as_s().ok()) {
                    found.items.insert(primary.clone(), item);
                }
            }
        }
        found
    }
}

pub(super) const PRIMARY: &str = "PrimaryKey";
pub(super) const CONTENTS: &str = "Contents";
pub(super) const UPDATED: &str = "LastUpdated";
