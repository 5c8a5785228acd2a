//! How many entries a tenant has, where that is bounded: the item `quota#<tenant>`/`entries`, changed in one transaction with each entry that becomes
//! the tenant's or ceases to be.
//! Not here: which bound there is (`domains`), counting the entries themselves (`domain_table::count`).
//! Invariants: instances together never pass a bound (`a_count_that_was_read_too_early_permits_nothing`); until the entries were counted, an item says nothing,
//! whatever was added to it and taken from it (`what_was_not_counted_says_nothing`).

use aws_sdk_dynamodb::{
    error::BuildError,
    types::{AttributeValue, Update},
};

use super::item::{find, number, text};
use crate::store::{Item, Store, StoreError, if_held, instant::Micros};

/// One entry more or fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountChange<'a> {
    /// One more of `tenant`, which has fewer than `limit`.
    More {
        /// Whose.
        tenant: &'a str,
        /// How many there may be then at most.
        limit: u64,
    },
    /// One fewer.
    Fewer {
        /// Whose.
        tenant: &'a str,
    },
}

/// How many entries `tenant` has; absent, nobody has counted them. Read consistently.
pub async fn find_entry_count(store: &Store, tenant: &str) -> Result<Option<u64>, StoreError> {
    Ok(find(store, &partition(tenant), SORT).await?.as_ref().and_then(read))
}

/// Keeps that `tenant` has so many `entries`, if they were counted as `replaced` before; whether they were.
pub async fn put_entry_count(
    store: &Store,
    tenant: &str,
    entries: u64,
    replaced: Option<u64>,
    now: Micros,
) -> Result<bool, StoreError> {
    let update = store.client().update_item().table_name(&store.tables().state);
    let update = update
        .key("pk", text(&partition(tenant)))
        .key("sk", text(SORT))
        .update_expression("SET entries = :entries, counted_at = :now")
        .expression_attribute_values(":entries", number(entries))
        .expression_attribute_values(":now", text(&now.to_string()));
    let update = match replaced {
        None => update.condition_expression("attribute_not_exists(counted_at)"),
        Some(replaced) => update
            .condition_expression("entries = :replaced AND attribute_exists(counted_at)")
            .expression_attribute_values(":replaced", number(replaced)),
    };
    if_held(update.send().await).map(|held| held.is_some())
}

impl CountChange<'_> {
    /// What of a transaction it is.
    pub(in crate::store) fn update(self, store: &Store) -> Result<Update, BuildError> {
        let (tenant, step) = match self {
            Self::More { tenant, .. } => (tenant, "1"),
            Self::Fewer { tenant } => (tenant, "-1"),
        };
        let update = Update::builder()
            .table_name(&store.tables().state)
            .key("pk", text(&partition(tenant)))
            .key("sk", text(SORT))
            .update_expression("ADD entries :step")
            .expression_attribute_values(":step", AttributeValue::N(step.to_owned()));
        match self {
            // Without a condition: who removes an entry need not know whether there is a bound.
            Self::Fewer { .. } => update,
            Self::More { limit, .. } => update
                .condition_expression("entries < :limit AND attribute_exists(counted_at)")
                .expression_attribute_values(":limit", number(limit)),
        }
        .build()
    }
}

fn read(item: &Item) -> Option<u64> {
    item.get("counted_at")?;
    let entries: i64 = item.get("entries")?.as_n().ok()?.parse().ok()?;
    // Entries that were written by hand may have been removed by a command.
    Some(u64::try_from(entries).unwrap_or_default())
}

fn partition(tenant: &str) -> String {
    format!("quota#{tenant}")
}

const SORT: &str = "entries";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::item;

    #[test]
    fn what_was_not_counted_says_nothing() {
        let of = |attributes: &[(&str, AttributeValue)]| {
            let item = attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
            read(&item.collect())
        };
        let (entries, counted) =
            (("entries", number(7)), ("counted_at", text("2026-11-29T03:20:00.000000Z")));
        assert_eq!(of(&[]), None);
        assert_eq!(of(std::slice::from_ref(&entries)), None);
        assert_eq!(of(std::slice::from_ref(&counted)), None);
        assert_eq!(of(&[entries, counted.clone()]), Some(7));
        assert_eq!(of(&[("entries", AttributeValue::N("-1".into())), counted]), Some(0));
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn no_item_panics(input in proptest::collection::vec(any::<u8>(), 0..200)) {
                let _ = read(&item(&input));
            }
        }
    }
}
