//! How many entries a tenant has, where that is bounded: the item `quota#<tenant>`/`entries`, changed in one transaction with each entry that becomes
//! the tenant's or ceases to be.
//! Not here: which bound there is (`domains`), counting the entries themselves (`domain_table::count`).
//! Each change of it writes another `revision`: what was counted while something changed is not kept, also where it changed back.
//! Invariants: instances together never pass a bound (`a_count_that_was_read_too_early_permits_nothing`); until the entries were counted, an item says nothing,
//! whatever was added to it and taken from it (`what_was_not_counted_says_nothing`); what is counted is kept only if nothing was added or removed meanwhile
//! (`what_changes_while_it_is_counted_is_counted_again`).

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

/// What is known of how many entries a tenant has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EntryCount {
    /// How many there are; absent, nobody has counted them.
    pub entries: Option<u64>,
    /// Another one after each change; absent, there was none.
    revision: Option<u64>,
}

/// How many entries `tenant` has. Read consistently.
pub async fn find_entry_count(store: &Store, tenant: &str) -> Result<EntryCount, StoreError> {
    Ok(find(store, &partition(tenant), SORT).await?.as_ref().map(EntryCount::read).unwrap_or_default())
}

/// Keeps that `tenant` has so many `entries`, which were counted after `seen` was read; whether nothing has changed since.
pub async fn put_entry_count(
    store: &Store,
    tenant: &str,
    entries: u64,
    seen: EntryCount,
    now: Micros,
) -> Result<bool, StoreError> {
    let update = store.client().update_item().table_name(&store.tables().state);
    let update = update
        .key("pk", text(&partition(tenant)))
        .key("sk", text(SORT))
        .update_expression("SET entries = :entries, counted_at = :now ADD revision :one")
        .expression_attribute_values(":entries", number(entries))
        .expression_attribute_values(":now", text(&now.to_string()))
        .expression_attribute_values(":one", number(1));
    let update = match seen.revision {
        None => update.condition_expression("attribute_not_exists(revision)"),
        Some(revision) => update
            .condition_expression("revision = :revision")
            .expression_attribute_values(":revision", number(revision)),
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
            .update_expression("ADD entries :step, revision :one")
            .expression_attribute_values(":step", AttributeValue::N(step.to_owned()))
            .expression_attribute_values(":one", number(1));
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

impl EntryCount {
    fn read(item: &Item) -> Self {
        let signed = |attribute: &str| item.get(attribute)?.as_n().ok()?.parse::<i64>().ok();
        // Entries that were written by hand may have been removed by a command.
        let entries = signed("entries").map(|entries| u64::try_from(entries).unwrap_or_default());
        Self {
            entries: item.get("counted_at").and(entries),
            revision: signed("revision").and_then(|revision| u64::try_from(revision).ok()),
        }
    }
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
            EntryCount::read(&item.collect()).entries
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
                let _ = EntryCount::read(&item(&input));
            }
        }
    }
}
