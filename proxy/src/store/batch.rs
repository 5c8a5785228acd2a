//! `BatchGetItem` until every key is answered: `DynamoDB` may leave some unprocessed, and asks for a growing pause before the next call.

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::types::KeysAndAttributes;

use super::{Item, Store, StoreError};
use crate::backoff::Backoff;

/// How fresh a reading is ("Read consistency" of the developer guide).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// What was answered is found.
    Strong,
    /// Half the price; a very recent write may be missed.
    Eventual,
}

/// Items that are wanted of each table, by their keys.
#[derive(Debug, Default)]
pub(super) struct BatchGet(HashMap<String, KeysAndAttributes>);

impl BatchGet {
    /// Wants `keys` of `table`, too. All tables together: at most [`KEYS`], none of them twice.
    pub(super) fn with(
        mut self,
        table: &str,
        keys: Vec<Item>,
        consistency: Consistency,
    ) -> Result<Self, StoreError> {
        // The API refuses a table without keys.
        if !keys.is_empty() {
            let is_strong = consistency == Consistency::Strong;
            let keys = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(is_strong).build();
            self.0.insert(table.to_owned(), keys.map_err(|error| StoreError::Refused(error.into()))?);
        }
        Ok(self)
    }

    /// Those that are there, by table.
    pub(super) async fn read(self, store: &Store) -> Result<HashMap<String, Vec<Item>>, StoreError> {
        let (mut wanted, mut found) = (self.0, HashMap::<String, Vec<Item>>::new());
        for round in 0..ROUNDS {
            if wanted.is_empty() {
                return Ok(found);
            }
            tokio::time::sleep(UNPROCESSED.after(round)).await;
            let answer = store.client().batch_get_item().set_request_items(Some(wanted)).send().await?;
            for (table, items) in answer.responses.unwrap_or_default() {
                found.entry(table).or_default().extend(items);
            }
            wanted = answer.unprocessed_keys.unwrap_or_default();
        }
        if wanted.is_empty() {
            return Ok(found);
        }
        Err(StoreError::Unavailable("keys of a batch are still unprocessed".into()))
    }
}

/// Keys of one call (`BatchGetItem` of the API reference).
pub(super) const KEYS: usize = 100;
const ROUNDS: u32 = 6;
/// Together no longer than a handshake waits.
const UNPROCESSED: Backoff = Backoff::doubling(Duration::from_millis(20), Duration::from_millis(100));

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;

    use super::*;
    use crate::store::{
        fixture::{faulty, faulty_with_tables},
        tables,
    };

    fn key(n: usize) -> Item {
        ["pk", "sk"].map(|name| (name.to_owned(), AttributeValue::S(format!("{n:03}")))).into()
    }

    #[tokio::test]
    async fn keys_left_unprocessed_are_asked_for_again() {
        let store = faulty_with_tables("seed=3,unprocessed=300").await;
        let table = &store.tables().state;
        for n in 0..20 {
            store.client().put_item().table_name(table).set_item(Some(key(n))).send().await.unwrap();
        }
        let batch = BatchGet::default().with(table, (0..40).map(key).collect(), Consistency::Strong).unwrap();
        let mut found = batch.read(&store).await.unwrap().remove(table).unwrap();
        found.sort_by_key(|item| item["pk"].as_s().unwrap().clone());
        assert_eq!(found, (0..20).map(key).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn nothing_wanted_is_no_call_and_what_is_never_processed_is_unavailable() {
        let store = faulty("unprocessed=1000");
        let table = store.tables().state.clone();
        let none = BatchGet::default().with(&table, Vec::new(), Consistency::Strong).unwrap();
        assert!(none.read(&store).await.unwrap().is_empty(), "there is not even a table");
        tables::create(&store).await.unwrap();
        let many = BatchGet::default().with(&table, (0..20).map(key).collect(), Consistency::Eventual);
        assert!(many.unwrap().read(&store).await.unwrap_err().is_unavailable());
    }
}
