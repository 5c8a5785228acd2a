//! Names whose certificates are to be renewed: the index `due` over their records, and the claims by which instances share them.
//! Not here: which names an instance claims, and what becomes of them (`certificates`).
//! Invariants: of all that find a name due one claims it (`of_many_that_find_a_name_due_one_claims_it`); a claim that nobody follows up
//! ends by itself, and the name is due again.

use std::time::SystemTime;

use aws_sdk_dynamodb::{
    operation::update_item::builders::UpdateItemFluentBuilder,
    types::{AttributeValue, ReturnValue},
};

use super::{
    item::text,
    lease::Holder,
    order_record::{OrderRecord, find_item, key, shard, shard_text},
};
use crate::{
    name::Pattern,
    store::{Item, Store, StoreError, if_held, instant::Micros},
};

/// A name whose record is due.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Due {
    /// The name.
    pub name: Pattern,
    /// Since when.
    pub at: Micros,
}

/// A name that is due, and that no other instance claims before `until`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its record.
    pub record: OrderRecord,
    /// When it is due again unless its record is written before.
    pub until: Micros,
}

/// Claims `due` until `until`; nothing, when another instance has, or when it is due no more.
pub async fn claim(store: &Store, due: &Due, until: SystemTime) -> Result<Option<Claim>, StoreError> {
    let until = Micros::of(until);
    let item = claim_item(store, key(&due.name), due, until).await?;
    Ok(item.and_then(|item| OrderRecord::read(&due.name, &item)).map(|record| Claim { record, until }))
}

/// Claims the item with `key`, of any partition of the index, that was found as `due`; the item, unless it is due no more.
pub(super) async fn claim_item(
    store: &Store,
    key: Item,
    due: &Due,
    until: Micros,
) -> Result<Option<Item>, StoreError> {
    let holder = Holder::of_one_write()?;
    let update = store.client().update_item().table_name(&store.tables().state).set_key(Some(key));
    let update = update
        .update_expression("SET due_at = :until, claimed_by = :holder")
        .condition_expression("due_at = :seen OR (claimed_by = :holder AND due_at = :until)")
        .expression_attribute_values(":holder", text(holder.as_str()))
        .expression_attribute_values(":until", text(&until.to_string()))
        .expression_attribute_values(":seen", text(&due.at.to_string()))
        .return_values(ReturnValue::AllNew);
    Ok(if_held(update.send().await)?.map(|answer| answer.attributes.unwrap_or_default()))
}

/// What ends the claim until `claimed` of the item with `key`, if it is that claim's still.
pub(super) fn ending(store: &Store, key: Item, claimed: Micros) -> UpdateItemFluentBuilder {
    let update = store.client().update_item().table_name(&store.tables().state).set_key(Some(key));
    update
        .condition_expression("due_at = :claimed")
        .expression_attribute_values(":claimed", text(&claimed.to_string()))
}

/// Ends `claim`: the name is due at `at`, and has been denied since `denied_since`. Nothing is changed if its record was written since.
pub async fn postpone(
    store: &Store,
    claim: &Claim,
    at: SystemTime,
    denied_since: Option<SystemTime>,
) -> Result<(), StoreError> {
    let instant = |at: SystemTime| text(&Micros::of(at).to_string());
    let update =
        ending(store, key(&claim.record.name), claim.until).expression_attribute_values(":at", instant(at));
    let update = match denied_since {
        None => update.update_expression("SET due_at = :at REMOVE denied_since"),
        Some(since) => update
            .update_expression("SET due_at = :at, denied_since = :since")
            .expression_attribute_values(":since", instant(since)),
    };
    if_held(update.send().await).map(drop)
}

/// Has `due` renewed at the earlier date `at`; whether it was still as it was found, and no back-off lasts longer.
pub async fn bring_forward(store: &Store, due: &Due, at: Micros) -> Result<bool, StoreError> {
    let update = store.client().update_item().table_name(&store.tables().state).set_key(Some(key(&due.name)));
    let update = update
        .update_expression("SET due_at = :at, renew_at = :at, brought_forward = if_not_exists(serial, :none)")
        .condition_expression("due_at = :seen AND (attribute_not_exists(retry_at) OR retry_at <= :at)")
        .expression_attribute_values(":at", text(&at.to_string()))
        .expression_attribute_values(":seen", text(&due.at.to_string()))
        .expression_attribute_values(":none", text(""));
    if_held(update.send().await).map(|held| held.is_some())
}

/// What has become of the date of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rescheduled {
    /// It is the new one.
    Moved,
    /// It stays, since an operator has brought it forward.
    Kept,
    /// There is none: the certificate was replaced, or taken out of the renewals.
    Gone,
}

/// Moves the renewal of the certificate with `serial` to `at`, if it is still that certificate's name, and in the renewals. A back-off,
/// a denial or a claim goes on, and the date counts from its end. What an operator has brought forward is not put off again.
pub async fn reschedule(
    store: &Store,
    name: &Pattern,
    serial: &str,
    at: SystemTime,
) -> Result<Rescheduled, StoreError> {
    const WITH_DUE: (&str, &str) =
        ("SET renew_at = :at, due_at = :at", "serial = :serial AND due_at = renew_at");
    const ALONE: (&str, &str) = ("SET renew_at = :at", "serial = :serial AND attribute_exists(renew_at)");
    const NOT_PUT_OFF: &str =
        "(attribute_not_exists(brought_forward) OR brought_forward <> :serial OR renew_at > :at)";
    for (expression, condition) in [WITH_DUE, ALONE] {
        let condition = format!("{condition} AND {NOT_PUT_OFF}");
        let update = store.client().update_item().table_name(&store.tables().state).set_key(Some(key(name)));
        let update = update
            .update_expression(expression)
            .condition_expression(condition)
            .expression_attribute_values(":at", text(&Micros::of(at).to_string()))
            .expression_attribute_values(":serial", text(serial));
        if if_held(update.send().await)?.is_some() {
            return Ok(Rescheduled::Moved);
        }
    }
    let item = find_item(store, name).await?.unwrap_or_default();
    let is_its = item.get("serial").and_then(|value| value.as_s().ok()).is_some_and(|there| there == serial);
    let is_kept = is_its && item.contains_key("renew_at");
    Ok(if is_kept { Rescheduled::Kept } else { Rescheduled::Gone })
}

/// A part of the names that are due.
#[derive(Debug)]
pub struct DuePage {
    /// Those whose records can be read: fewer than were asked for does not mean that there are no more.
    pub names: Vec<Due>,
    /// Where the next part begins; absent, this was the last.
    pub next: Option<DueStart>,
}

/// Where a part of the names that are due begins.
#[derive(Debug, Clone)]
pub struct DueStart(Item);

impl DueStart {
    /// Behind `last`.
    #[must_use]
    pub fn behind(last: &Due) -> Self {
        let mut start = key(&last.name);
        start.insert("due".to_owned(), AttributeValue::S(shard_text(shard(&last.name))));
        start.insert("due_at".to_owned(), AttributeValue::S(last.at.to_string()));
        Self(start)
    }
}

/// Up to `limit` names of `shard` whose records are due until `until`, the earliest first, from `start` on.
pub async fn due(
    store: &Store,
    shard: u8,
    until: SystemTime,
    start: Option<&DueStart>,
    limit: u16,
) -> Result<DuePage, StoreError> {
    page(store, shard_text(shard), until, start, limit).await
}

/// The same of any partition of the index.
pub(super) async fn page(
    store: &Store,
    partition: String,
    until: SystemTime,
    start: Option<&DueStart>,
    limit: u16,
) -> Result<DuePage, StoreError> {
    let query = store
        .client()
        .query()
        .table_name(&store.tables().state)
        .index_name("due")
        .key_condition_expression("due = :due AND due_at <= :until")
        .expression_attribute_values(":due", AttributeValue::S(partition))
        .expression_attribute_values(":until", AttributeValue::S(Micros::of(until).to_string()))
        .set_exclusive_start_key(start.map(|start| start.0.clone()))
        .limit(i32::from(limit));
    let answer = query.send().await?;
    let names = answer.items.unwrap_or_default().iter().filter_map(read_due).collect();
    Ok(DuePage { names, next: answer.last_evaluated_key.filter(|key| !key.is_empty()).map(DueStart) })
}

pub(super) fn read_due(item: &Item) -> Option<Due> {
    let text = |attribute: &str| item.get(attribute)?.as_s().ok();
    let name = Pattern::parse(text("pk")?.strip_prefix("name#")?).ok()?;
    Some(Due { name, at: Micros::parse(text("due_at")?)? })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::{
        fixture::{faulty_with_tables, lossy_with_tables},
        state_table::put_record,
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + SECOND * u32::try_from(seconds).unwrap()
    }

    async fn due_record(store: &Store) -> (OrderRecord, Due) {
        let name = Pattern::parse("a.example").unwrap();
        let record = OrderRecord {
            serial: Some("01".to_owned()),
            not_after: Some(at(4_000_000_000)),
            renew_at: Some(at(100)),
            ..OrderRecord::new(&name)
        };
        put_record(store, &record, None).await.unwrap();
        (record, Due { name, at: Micros::of(at(100)) })
    }

    async fn found(store: &Store, seconds: u64) -> Vec<Due> {
        due(store, shard(&Pattern::parse("a.example").unwrap()), at(seconds), None, 9).await.unwrap().names
    }

    #[tokio::test]
    async fn of_many_that_find_a_name_due_one_claims_it() {
        let store = faulty_with_tables("seed=5,stale=2s,throttle=10").await;
        let (record, due) = due_record(&store).await;
        let takers: Vec<_> = (0..8)
            .map(|_| {
                let (store, due) = (store.clone(), due.clone());
                tokio::spawn(async move { claim(&store, &due, at(200)).await.unwrap() })
            })
            .collect();
        let mut claims = Vec::new();
        for taker in takers {
            claims.extend(taker.await.unwrap());
        }
        assert_eq!(claims, [Claim { record, until: Micros::of(at(200)) }]);
    }

    #[tokio::test]
    async fn a_claim_whose_answer_is_lost_is_held_all_the_same() {
        let (store, lossy) = lossy_with_tables("seed=4,lost=300").await;
        let (_, mut due) = due_record(&store).await;
        for n in 2..22 {
            let claim = claim(&lossy, &due, at(n * 100)).await.unwrap().expect("nobody else claims it");
            due.at = claim.until;
        }
    }

    #[tokio::test]
    async fn a_claim_hides_a_name_until_it_ends_or_is_given_up() {
        let store = faulty_with_tables("seed=5").await;
        let (record, first) = due_record(&store).await;
        let held = claim(&store, &first, at(200)).await.unwrap().unwrap();
        assert_eq!(found(&store, 199).await, []);
        assert_eq!(found(&store, 200).await.len(), 1, "nobody follows it up");
        postpone(&store, &held, at(300), Some(at(150))).await.unwrap();
        assert_eq!(found(&store, 299).await, []);
        let again = found(&store, 300).await;
        let held = claim(&store, &again[0], at(400)).await.unwrap().unwrap();
        assert_eq!(held.record.denied_since, Some(at(150)));
        put_record(&store, &OrderRecord { renew_at: Some(at(900)), ..record }, Some("01")).await.unwrap();
        postpone(&store, &held, at(500), None).await.unwrap();
        assert_eq!(found(&store, 899).await, [], "its record was written since");
        assert_eq!(found(&store, 900).await.len(), 1);
    }
}
