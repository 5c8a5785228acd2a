//! How far each webhook is: items `webhook`/`<name>`, one for each, and which events were delivered beyond that:
//! `webhook-delivered#<name>`/`<marks>#<event>`.
//! Not here: what is delivered, when, and what a failure means (`webhooks`).
//! Invariants: who has the lease writes, and a run that an operator began is never written over by the one before it
//! (`a_run_that_was_begun_is_not_written_over`); what others wrote there is as if nothing were known, and causes no panic (`no_item_panics`).

use std::{collections::BTreeSet, time::Duration};

use super::{
    events::{EVENTS_KEPT, EventId},
    item::{find, number, seconds, text},
};
use crate::store::{Item, Store, StoreError, if_held, instant::Micros};

/// How far a webhook is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WebhookState {
    /// Grows each time that an operator has it begin elsewhere.
    pub run: u64,
    /// The run since which what was delivered is not sent again: this one, or an earlier one that it only goes on with.
    pub marks: u64,
    /// Up to it, each event was delivered, not wanted, or given up.
    pub settled: EventId,
    /// How many attempts in a row have failed.
    pub failures: u32,
    /// Since when nothing was delivered although there was something; none, while all is well.
    pub failing_since: Option<Micros>,
    /// The event that was refused last.
    pub refused: Option<RefusedEvent>,
    /// Nothing is sent before.
    pub retry_at: Option<Micros>,
    /// How the last attempt failed.
    pub problem: Option<String>,
    /// Since when nothing is sent any more; none, it goes on.
    pub ended_at: Option<Micros>,
    /// When something was delivered last.
    pub delivered_at: Option<Micros>,
}

/// An event that a receiver does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusedEvent {
    /// Which.
    pub event: EventId,
    /// When it was refused first.
    pub since: Micros,
}

/// The state of `webhook`; none, it has never been one. Read consistently.
pub async fn find_webhook(store: &Store, webhook: &str) -> Result<Option<WebhookState>, StoreError> {
    Ok(find(store, PARTITION, webhook).await?.as_ref().map(WebhookState::read))
}

/// All that there are or were of late, each with its name; a moment old.
pub async fn list_webhooks(store: &Store) -> Result<Vec<(String, WebhookState)>, StoreError> {
    let query = store.client().query().table_name(&store.tables().state);
    let query =
        query.key_condition_expression("pk = :pk").expression_attribute_values(":pk", text(PARTITION));
    let answer = query.limit(MOST_LISTED).send().await?;
    let named = |item: &Item| Some((item.get("sk")?.as_s().ok()?.clone(), WebhookState::read(item)));
    Ok(answer.items().iter().filter_map(named).collect())
}

/// Keeps `state`, if no other run was begun since; whether it was kept.
pub async fn put_webhook(
    store: &Store,
    webhook: &str,
    state: &WebhookState,
    now: Micros,
) -> Result<bool, StoreError> {
    let put = store.client().put_item().table_name(&store.tables().state);
    let put = put
        .set_item(Some(state.item(webhook, now)))
        .condition_expression("attribute_not_exists(pk) OR #run = :run")
        .expression_attribute_names("#run", "run")
        .expression_attribute_values(":run", number(state.run));
    if_held(put.send().await).map(|held| held.is_some())
}

/// Has `webhook` go on from `settled`, whatever became of it; from where it is if that is absent. Returns how it is then; none, there is no
/// such webhook.
pub async fn begin_again(
    store: &Store,
    webhook: &str,
    settled: Option<EventId>,
    now: Micros,
) -> Result<Option<WebhookState>, StoreError> {
    for _ in 0..MAX_TRIES {
        let Some(before) = find_webhook(store, webhook).await? else { return Ok(None) };
        let run = before.run.saturating_add(1);
        let state = WebhookState {
            run,
            marks: if settled.is_some() { run } else { before.marks },
            settled: settled.unwrap_or(before.settled),
            ..before.without_failures()
        };
        let put = store.client().put_item().table_name(&store.tables().state);
        let put = put
            .set_item(Some(state.item(webhook, now)))
            .condition_expression("#run = :before")
            .expression_attribute_names("#run", "run")
            .expression_attribute_values(":before", number(before.run));
        if if_held(put.send().await)?.is_some() {
            return Ok(Some(state));
        }
    }
    Err(StoreError::Conflict)
}

/// Keeps that `event` was delivered, with the `marks` of its state, for as long as it may be read again: a webhook may be stuck for days, and ended for weeks, at
/// one that was written late.
pub async fn put_delivered(
    store: &Store,
    webhook: &str,
    marks: u64,
    event: EventId,
    now: Micros,
) -> Result<(), StoreError> {
    let put = store.client().put_item().table_name(&store.tables().state);
    let put = put
        .item("pk", text(&delivered_partition(webhook)))
        .item("sk", text(&delivered_key(marks, event)))
        .item("expires_at", seconds(now.more(EVENTS_KEPT)));
    put.send().await?;
    Ok(())
}

/// The events after `settled` that were delivered, by the `marks` of a state; at most [`MOST_DELIVERED`], the oldest.
pub async fn find_delivered(
    store: &Store,
    webhook: &str,
    marks: u64,
    settled: EventId,
) -> Result<BTreeSet<EventId>, StoreError> {
    let query = store.client().query().table_name(&store.tables().state).consistent_read(true);
    let query = query
        .key_condition_expression("pk = :pk AND sk BETWEEN :from AND :to")
        .expression_attribute_values(":pk", text(&delivered_partition(webhook)))
        .expression_attribute_values(":from", text(&delivered_key(marks, settled)))
        // Behind all of them: what follows the `#` are digits.
        .expression_attribute_values(":to", text(&format!("{marks:016x}#~")));
    let (mut items, mut found) = (query.into_paginator().items().send(), BTreeSet::new());
    while found.len() < MOST_DELIVERED
        && let Some(item) = items.next().await
    {
        let item = item?;
        let sort = item.get("sk").and_then(|sort| sort.as_s().ok());
        found.extend(sort.and_then(|sort| EventId::of_sort_key(sort.split_once('#')?.1)));
    }
    Ok(found)
}

impl WebhookState {
    /// The same as if nothing had failed.
    #[must_use]
    pub fn without_failures(&self) -> Self {
        let Self { run, marks, settled, delivered_at, .. } = *self;
        Self { run, marks, settled, delivered_at, ..Self::default() }
    }

    fn item(&self, webhook: &str, now: Micros) -> Item {
        let mut item = Item::from([
            ("pk".to_owned(), text(PARTITION)),
            ("sk".to_owned(), text(webhook)),
            ("run".to_owned(), number(self.run)),
            ("marks".to_owned(), number(self.marks)),
            ("settled".to_owned(), text(&self.settled.sort_key())),
            ("failures".to_owned(), number(self.failures.into())),
            ("expires_at".to_owned(), seconds(now.more(STATE_KEPT))),
        ]);
        for (attribute, at) in [
            ("failing_since", self.failing_since),
            ("refused_since", self.refused.map(|refused| refused.since)),
            ("retry_at", self.retry_at),
            ("ended_at", self.ended_at),
            ("delivered_at", self.delivered_at),
        ] {
            item.extend(at.map(|at| (attribute.to_owned(), text(&at.to_string()))));
        }
        let refused = self.refused.map(|refused| text(&refused.event.sort_key()));
        item.extend(refused.map(|event| ("refused_event".to_owned(), event)));
        item.extend(self.problem.as_ref().map(|problem| ("problem".to_owned(), text(problem))));
        item
    }

    fn read(item: &Item) -> Self {
        let text = |attribute: &str| item.get(attribute)?.as_s().ok();
        let number = |attribute: &str| item.get(attribute)?.as_n().ok();
        let instant = |attribute| text(attribute).and_then(|text| Micros::parse(text));
        let refused = text("refused_event").and_then(|text| EventId::of_sort_key(text));
        let refused = refused.zip(instant("refused_since"));
        Self {
            run: number("run").and_then(|run| run.parse().ok()).unwrap_or_default(),
            marks: number("marks").and_then(|run| run.parse().ok()).unwrap_or_default(),
            settled: text("settled").and_then(|text| EventId::of_sort_key(text)).unwrap_or_default(),
            failures: number("failures").and_then(|failures| failures.parse().ok()).unwrap_or_default(),
            failing_since: instant("failing_since"),
            refused: refused.map(|(event, since)| RefusedEvent { event, since }),
            retry_at: instant("retry_at"),
            problem: text("problem").cloned(),
            ended_at: instant("ended_at"),
            delivered_at: instant("delivered_at"),
        }
    }
}

fn delivered_partition(webhook: &str) -> String {
    format!("webhook-delivered#{webhook}")
}

fn delivered_key(marks: u64, event: EventId) -> String {
    format!("{marks:016x}#{}", event.sort_key())
}

const PARTITION: &str = "webhook";
const MAX_TRIES: usize = 8;
/// More than settings may name; those that they named once are forgotten.
const MOST_LISTED: i32 = 100;
/// Of one webhook whose settings are gone.
const STATE_KEPT: Duration = Duration::from_hours(60 * 24);
/// What a new holder of the lease reads at most; of what is beyond it is told twice.
pub const MOST_DELIVERED: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock,
        store::fixture::{faulty_with_tables, item},
    };

    fn now() -> Micros {
        Micros::of(clock::wall())
    }

    fn id(seconds: u64) -> EventId {
        EventId::random(Micros::from_epoch(seconds * 1_000_000)).unwrap()
    }

    #[tokio::test]
    async fn a_run_that_was_begun_is_not_written_over() {
        let store = faulty_with_tables("seed=3,stale=2s,throttle=10").await;
        assert_eq!(find_webhook(&store, "crm").await.unwrap(), None);
        assert_eq!(begin_again(&store, "crm", None, now()).await.unwrap(), None);
        let failing = WebhookState {
            settled: id(7),
            failures: 3,
            failing_since: Some(Micros::from_epoch(5)),
            refused: Some(RefusedEvent { event: id(9), since: Micros::from_epoch(6) }),
            retry_at: Some(Micros::from_epoch(9)),
            problem: Some("503".to_owned()),
            ended_at: Some(Micros::from_epoch(8)),
            delivered_at: Some(Micros::from_epoch(4)),
            ..WebhookState::default()
        };
        assert!(put_webhook(&store, "crm", &failing, now()).await.unwrap());
        assert_eq!(find_webhook(&store, "crm").await.unwrap().as_ref(), Some(&failing));
        let back = begin_again(&store, "crm", Some(id(1)), now()).await.unwrap().unwrap();
        assert_eq!((back.run, back.settled.at, back.failures, back.ended_at), (1, id(1).at, 0, None));
        assert_eq!(back.marks, 1, "what was delivered is sent again");
        assert!(!put_webhook(&store, "crm", &failing, now()).await.unwrap(), "by the run before");
        assert!(put_webhook(&store, "crm", &back, now()).await.unwrap());
        let on = begin_again(&store, "crm", None, now()).await.unwrap().unwrap();
        assert_eq!(on, WebhookState { run: 2, ..back }, "and here it is not");
    }

    #[tokio::test]
    async fn what_was_delivered_is_known_to_who_goes_on() {
        let store = faulty_with_tables("seed=3,stale=2s,throttle=10").await;
        let (early, late) = (id(10), id(20));
        for (webhook, run, event) in
            [("crm", 0, early), ("crm", 0, late), ("crm", 1, early), ("crm-2", 0, early)]
        {
            put_delivered(&store, webhook, run, event, now()).await.unwrap();
        }
        let found = async |run, settled| find_delivered(&store, "crm", run, settled).await.unwrap();
        assert_eq!(found(0, EventId::default()).await, BTreeSet::from([early, late]));
        assert_eq!(found(0, EventId::before(late.at)).await, BTreeSet::from([late]));
        assert_eq!(found(1, EventId::default()).await, BTreeSet::from([early]));
        assert_eq!(found(2, EventId::default()).await, BTreeSet::new());
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn no_item_panics(input in proptest::collection::vec(any::<u8>(), 0..200)) {
                let _ = WebhookState::read(&item(&input));
            }
        }
    }
}
