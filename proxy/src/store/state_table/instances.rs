//! What each instance says of itself: items `instances`/`<id>`, in one partition, so that a list is a query and no scan.
//! Not here: what it says and what follows from that (`control::fleet`): an item's `report` is a text that is kept as it is.
//! Invariants: an instance has one item, whatever it is restarted (`an_instance_has_one_item_however_often_it_starts`); one that ended, or that
//! was not heard of for as long as its item is kept, is in no list, whenever the table deletes the item
//! (`who_ended_or_was_not_heard_of_is_not_listed`), and whatever of it arrives after its end (`what_arrives_after_an_end_lists_nobody_again`); no item causes a panic (`no_item_panics`).

use std::time::Duration;

use super::item::{seconds, text};
use crate::store::{Item, Store, StoreError, if_held, instant::Micros};

/// What an instance said of itself last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceItem {
    /// Which instance.
    pub id: String,
    /// Which of its starts, so that one that ends late does not take its successor off the list.
    pub run: String,
    /// When it said so.
    pub seen_at: Micros,
    /// What.
    pub report: String,
}

/// Puts `item` in the place of what its instance said before, and keeps it for `kept`; unless that start of it has ended: what was sent before may
/// arrive later.
pub async fn put_instance(store: &Store, item: &InstanceItem, kept: Duration) -> Result<(), StoreError> {
    let put = store.client().put_item().table_name(&store.tables().state);
    let put = put
        .set_item(Some(item.attributes(kept)))
        .condition_expression("attribute_not_exists(ended) OR ended <> :run")
        .expression_attribute_values(":run", text(&item.run));
    if_held(put.send().await).map(drop)
}

/// Takes the instance `id` off the list, unless another of its starts has said something since.
pub async fn end_instance(store: &Store, id: &str, run: &str) -> Result<(), StoreError> {
    let update = store.client().update_item().table_name(&store.tables().state);
    let update = update
        .key("pk", text(PARTITION))
        .key("sk", text(id))
        .update_expression("SET expires_at = :ended_at, run = :run, ended = :run")
        // What it said first may arrive later still.
        .condition_expression("attribute_not_exists(pk) OR run = :run")
        // Not 0: the table's TTL passes over what lies years back.
        .expression_attribute_values(":ended_at", seconds(Micros::of(crate::clock::wall())))
        .expression_attribute_values(":run", text(run));
    if_held(update.send().await).map(drop)
}

/// Instances that were heard of not long before `now`, in the order of their ids; at most [`MOST_INSTANCES`].
pub async fn list_instances(store: &Store, now: Micros) -> Result<Vec<InstanceItem>, StoreError> {
    let query = store.client().query().table_name(&store.tables().state);
    let query = query
        .key_condition_expression("pk = :pk")
        .filter_expression("expires_at > :now")
        .expression_attribute_values(":pk", text(PARTITION))
        .expression_attribute_values(":now", seconds(now));
    let (mut items, mut found) = (query.into_paginator().items().send(), Vec::new());
    while found.len() < MOST_INSTANCES
        && let Some(item) = items.next().await
    {
        found.extend(InstanceItem::read(&item?));
    }
    Ok(found)
}

impl InstanceItem {
    fn attributes(&self, kept: Duration) -> Item {
        Item::from([
            ("pk".to_owned(), text(PARTITION)),
            ("sk".to_owned(), text(&self.id)),
            ("run".to_owned(), text(&self.run)),
            ("seen_at".to_owned(), text(&self.seen_at.to_string())),
            ("report".to_owned(), text(&self.report)),
            ("expires_at".to_owned(), seconds(self.seen_at.more(kept))),
        ])
    }

    fn read(item: &Item) -> Option<Self> {
        let text = |attribute: &str| item.get(attribute)?.as_s().ok();
        Some(Self {
            id: text("sk")?.clone(),
            run: text("run")?.clone(),
            seen_at: Micros::parse(text("seen_at")?)?,
            report: text("report")?.clone(),
        })
    }
}

/// More than a fleet has, of which each region is bounded by its endpoint group.
pub const MOST_INSTANCES: usize = 1000;
const PARTITION: &str = "instances";

#[cfg(test)]
mod tests {
    use anyhow::ensure;
    use testbed::wait;

    use super::*;
    use crate::{
        clock,
        store::fixture::{faulty_with_tables, item},
    };

    const KEPT: Duration = Duration::from_hours(1);

    fn said(id: &str, run: &str, at: Micros) -> InstanceItem {
        InstanceItem { id: id.into(), run: run.into(), seen_at: at, report: format!("{{\"run\":\"{run}\"}}") }
    }

    /// The list is read as a reader who does not insist reads it.
    async fn listed(store: &Store, now: Micros, wanted: &[InstanceItem]) {
        wait::until_async("the list", Duration::from_secs(20), async || {
            let found = list_instances(store, now).await?;
            ensure!(found == wanted, "{found:?}");
            Ok(())
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn an_instance_has_one_item_however_often_it_starts() {
        let store = faulty_with_tables("seed=3,stale=2s,throttle=10").await;
        let now = Micros::of(clock::wall());
        for run in ["1", "2"] {
            put_instance(&store, &said("i-b", run, now), KEPT).await.unwrap();
        }
        put_instance(&store, &said("i-a", "1", now), KEPT).await.unwrap();
        listed(&store, now, &[said("i-a", "1", now), said("i-b", "2", now)]).await;
    }

    #[tokio::test]
    async fn who_ended_or_was_not_heard_of_is_not_listed() {
        let store = faulty_with_tables("seed=5,stale=2s,throttle=10").await;
        let now = Micros::of(clock::wall());
        for id in ["i-a", "i-b", "i-c"] {
            put_instance(&store, &said(id, "2", now), KEPT).await.unwrap();
        }
        // The first start of this one ends after its second began.
        end_instance(&store, "i-a", "1").await.unwrap();
        end_instance(&store, "i-b", "2").await.unwrap();
        end_instance(&store, "i-unknown", "1").await.unwrap();
        let left = ["i-a", "i-c"].map(|id| said(id, "2", now));
        listed(&store, now.more(Duration::from_secs(1)), &left).await;
        assert_eq!(list_instances(&store, now.more(KEPT)).await.unwrap(), []);
    }

    /// It was on its way, or the SDK sends it again.
    #[tokio::test]
    async fn what_arrives_after_an_end_lists_nobody_again() {
        let store = faulty_with_tables("seed=7,throttle=10").await;
        let now = Micros::of(clock::wall());
        put_instance(&store, &said("i-a", "1", now), KEPT).await.unwrap();
        for id in ["i-a", "i-b"] {
            end_instance(&store, id, "1").await.unwrap();
            put_instance(&store, &said(id, "1", now), KEPT).await.unwrap();
        }
        assert_eq!(list_instances(&store, now.more(Duration::from_secs(1))).await.unwrap(), []);
        put_instance(&store, &said("i-a", "2", now), KEPT).await.unwrap();
        end_instance(&store, "i-a", "1").await.unwrap();
        listed(&store, now.more(Duration::from_secs(1)), &[said("i-a", "2", now)]).await;
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn no_item_panics(input in proptest::collection::vec(any::<u8>(), 0..200)) {
                let _ = InstanceItem::read(&item(&input));
            }
        }
    }
}
