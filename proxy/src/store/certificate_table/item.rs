//! The form of Caddy's items: `PrimaryKey`, `Contents` (base64), `LastUpdated` (RFC 3339).

use std::{
    collections::{BTreeSet, HashMap},
    time::SystemTime,
};

use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::store::{Item, Store, StoreError};

/// Items by their `PrimaryKey`, and our record of the name if it was asked for.
#[derive(Default)]
pub(super) struct FoundItems {
    pub(super) items: HashMap<String, Item>,
    pub(super) record: Option<Item>,
}

pub(super) fn key(primary: &str) -> Item {
    HashMap::from([(PRIMARY.to_owned(), AttributeValue::S(primary.to_owned()))])
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

/// How fresh a reading is ("Read consistency" of the developer guide).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consistency {
    Strong,
    /// Half the price; a very recent write may be missed.
    Eventual,
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
    let mut wanted = HashMap::new();
    // DynamoDB refuses a batch that names a key twice, and two spellings of a directory (`/dir`, `/dir/`) have the same keys.
    let keys: BTreeSet<String> = keys.into_iter().collect();
    let certificates: Vec<_> = keys.iter().map(|primary| key(primary)).collect();
    for (table, keys) in [(&tables.certificates, certificates), (&tables.state, Vec::from_iter(record))] {
        if keys.is_empty() {
            continue;
        }
        let is_strong = consistency == Consistency::Strong;
        let keys = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(is_strong).build();
        wanted.insert(table.clone(), keys.map_err(|error| StoreError::Refused(error.into()))?);
    }
    let mut found = FoundItems::default();
    for round in 0..ROUNDS {
        if wanted.is_empty() {
            return Ok(found);
        }
        tokio::time::sleep(UNPROCESSED_PAUSE * round).await;
        let answer = store.client().batch_get_item().set_request_items(Some(wanted)).send().await?;
        found.take(answer.responses.unwrap_or_default(), &tables.state);
        wanted = answer.unprocessed_keys.unwrap_or_default();
    }
    if wanted.is_empty() {
        return Ok(found);
    }
    Err(StoreError::Unavailable("keys of a batch are still unprocessed".into()))
}

impl FoundItems {
    fn take(&mut self, answer: HashMap<String, Vec<Item>>, state: &str) {
        for (table, items) in answer {
            for item in items {
                if table == state {
                    self.record = Some(item);
                } else if let Some(primary) = item.get(PRIMARY).and_then(|primary| primary.as_s().ok()) {
                    self.items.insert(primary.clone(), item);
                }
            }
        }
    }
}

pub(super) const PRIMARY: &str = "PrimaryKey";
pub(super) const CONTENTS: &str = "Contents";
const UPDATED: &str = "LastUpdated";
const ROUNDS: u32 = 5;
const UNPROCESSED_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
