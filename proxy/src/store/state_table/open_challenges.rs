//! The challenges that CAs may ask for now, of all names: a few items `challenges`/`<shard>` in the state table, which one query reads, whoever
//! asks for which name. Each is an attribute `<name>#<token>`.
//! Not here: the challenges as Caddy and older releases find them, an item a name (`certificate_table`).
//! Invariants: what was left behind is not shown for longer than an hour (`what_was_left_is_shown_for_an_hour_and_goes_with_the_next`); no
//! item, whoever wrote it, causes a panic (`no_item_panics`).

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use aws_sdk_dynamodb::{
    operation::update_item::builders::UpdateItemFluentBuilder,
    types::{AttributeValue, ReturnValue},
};

use super::item::{seconds, text};
use crate::{
    name::ServerName,
    store::{Item, Store, StoreError, if_held, instant::Micros, partition::partition},
};

/// A challenge that a CA may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenChallenge {
    /// What is to be validated.
    pub name: ServerName,
    /// `http-01` or `tls-alpn-01`.
    pub kind: String,
    /// RFC 8555 §8.3.
    pub token: String,
    /// RFC 8555 §8.1.
    pub key_authorization: String,
    /// Since when, by which one differs from one that another instance shows of the same order.
    pub at: Micros,
}

impl OpenChallenge {
    fn read(attribute: &str, value: &AttributeValue) -> Option<Self> {
        let (name, token) = attribute.split_once('#')?;
        let mut parts = value.as_s().ok()?.splitn(3, ' ');
        Some(Self {
            name: ServerName::parse(name).ok()?,
            token: token.to_owned(),
            at: Micros::parse(parts.next()?)?,
            kind: parts.next()?.to_owned(),
            key_authorization: parts.next()?.to_owned(),
        })
    }

    fn attribute(&self) -> String {
        format!("{}#{}", self.name, self.token)
    }

    fn value(&self) -> AttributeValue {
        AttributeValue::S(format!("{} {} {}", self.at, self.kind, self.key_authorization))
    }

    fn is_shown(&self, now: SystemTime) -> bool {
        now.duration_since(self.at.at()).unwrap_or_default() < SHOWN
    }
}

/// Shows `challenge`, and removes what others have left beside it long ago.
pub async fn put_open_challenge(store: &Store, challenge: &OpenChallenge) -> Result<(), StoreError> {
    let update = update(store, shard(&challenge.name))
        .update_expression("SET #shown = :shown, expires_at = :expires")
        .expression_attribute_names("#shown", challenge.attribute())
        .expression_attribute_values(":shown", challenge.value())
        .expression_attribute_values(":expires", seconds(challenge.at.more(KEPT)))
        .return_values(ReturnValue::AllNew);
    let there = update.send().await?.attributes.unwrap_or_default();
    let left: Vec<_> =
        challenges(&there).filter(|other| !other.is_shown(challenge.at.at())).take(MOST_REMOVED).collect();
    remove(store, shard(&challenge.name), &left).await
}

/// Shows `challenge` no more; one of another date stays.
pub async fn remove_open_challenge(store: &Store, challenge: &OpenChallenge) -> Result<(), StoreError> {
    remove(store, shard(&challenge.name), std::slice::from_ref(challenge)).await
}

/// All that are shown at `now`, by the names that they are of. Consistent.
pub async fn find_open_challenges(
    store: &Store,
    now: SystemTime,
) -> Result<HashMap<ServerName, Vec<OpenChallenge>>, StoreError> {
    let query = store.client().query().table_name(&store.tables().state).consistent_read(true);
    let query =
        query.key_condition_expression("pk = :pk").expression_attribute_values(":pk", text(PARTITION));
    let (mut items, mut found) = (query.into_paginator().items().send(), HashMap::<_, Vec<_>>::new());
    for _ in 0..SHARDS {
        let Some(item) = items.next().await else { break };
        for challenge in challenges(&item?).filter(|challenge| challenge.is_shown(now)) {
            found.entry(challenge.name.clone()).or_default().push(challenge);
        }
    }
    Ok(found)
}

/// Removes all or none: another instance may show one of them again.
async fn remove(store: &Store, shard: u8, challenges: &[OpenChallenge]) -> Result<(), StoreError> {
    if challenges.is_empty() {
        return Ok(());
    }
    let (mut removed, mut conditions, mut update) = (Vec::new(), Vec::new(), update(store, shard));
    for (n, challenge) in challenges.iter().enumerate() {
        removed.push(format!("#c{n}"));
        conditions.push(format!("#c{n} = :c{n}"));
        update = update
            .expression_attribute_names(format!("#c{n}"), challenge.attribute())
            .expression_attribute_values(format!(":c{n}"), challenge.value());
    }
    let update = update
        .update_expression(format!("REMOVE {}", removed.join(", ")))
        .condition_expression(conditions.join(" AND "));
    if_held(update.send().await).map(drop)
}

fn challenges(item: &Item) -> impl Iterator<Item = OpenChallenge> {
    item.iter().filter_map(|(attribute, value)| OpenChallenge::read(attribute, value))
}

fn update(store: &Store, shard: u8) -> UpdateItemFluentBuilder {
    let update = store.client().update_item().table_name(&store.tables().state);
    update.key("pk", text(PARTITION)).key("sk", text(&shard.to_string()))
}

fn shard(name: &ServerName) -> u8 {
    partition(name.as_str(), SHARDS)
}

const PARTITION: &str = "challenges";
/// Items, so that none becomes large: a write costs what its item is long, and roles may not delete items of this table.
const SHARDS: u8 = 16;
/// A CA validates within minutes; an order that is gone on with shows its challenge again.
const SHOWN: Duration = Duration::from_hours(1);
/// How long an item outlives the last challenge in it.
const KEPT: Duration = Duration::from_hours(7 * 24);
/// That others have left, with each that is shown.
const MOST_REMOVED: usize = 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::fixture::{faulty_with_tables, lossy_with_tables};

    fn challenge(name: &str, token: &str, seconds: u64) -> OpenChallenge {
        OpenChallenge {
            name: ServerName::parse(name).unwrap(),
            kind: "http-01".to_owned(),
            token: token.to_owned(),
            key_authorization: format!("{token}.thumbprint"),
            at: Micros::of(at(seconds)),
        }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    async fn shown(store: &Store, name: &str, seconds: u64) -> Vec<OpenChallenge> {
        let mut found = find_open_challenges(store, at(seconds)).await.unwrap();
        let mut found = found.remove(&ServerName::parse(name).unwrap()).unwrap_or_default();
        found.sort_by_key(|challenge| challenge.token.clone());
        found
    }

    #[tokio::test]
    async fn one_query_finds_the_challenges_of_all_names_and_each_is_removed_by_whoever_showed_it() {
        let (store, lossy) = lossy_with_tables("seed=4,lost=30").await;
        let all: Vec<_> = (0..40).map(|n| challenge(&format!("n{n}.example"), "token", 100)).collect();
        for challenge in &all {
            put_open_challenge(&lossy, challenge).await.unwrap();
        }
        for challenge in &all {
            assert_eq!(shown(&store, challenge.name.as_str(), 101).await, std::slice::from_ref(challenge));
        }
        // Of two orders of a name each has its own; of one order the later showing stays.
        let (other, again) = (challenge("n0.example", "other", 102), challenge("n1.example", "token", 103));
        put_open_challenge(&lossy, &other).await.unwrap();
        put_open_challenge(&lossy, &again).await.unwrap();
        for challenge in &all {
            remove_open_challenge(&lossy, challenge).await.unwrap();
        }
        assert_eq!(shown(&store, "n0.example", 104).await, [other]);
        assert_eq!(shown(&store, "n1.example", 104).await, [again]);
        assert_eq!(shown(&store, "n2.example", 104).await, []);
    }

    #[tokio::test]
    async fn what_was_left_is_shown_for_an_hour_and_goes_with_the_next() {
        let store = faulty_with_tables("seed=5,stale=2s,throttle=10").await;
        let hour = SHOWN.as_secs();
        for n in 0..3 {
            put_open_challenge(&store, &challenge("a.example", &format!("left{n}"), 100 + n)).await.unwrap();
        }
        assert_eq!(shown(&store, "a.example", hour + 100).await.len(), 2);
        assert_eq!(shown(&store, "a.example", hour + 102).await.len(), 0);
        put_open_challenge(&store, &challenge("a.example", "next", hour + 101)).await.unwrap();
        let there: Vec<_> =
            shown(&store, "a.example", 0).await.into_iter().map(|shown| shown.token).collect();
        assert_eq!(there, ["left2", "next"]);
    }

    proptest! {
        #[test]
        fn no_item_panics(attribute in "\\PC{0,20}", value in "\\PC{0,60}", number: bool) {
            let value = if number { AttributeValue::N(value) } else { AttributeValue::S(value) };
            let _ = OpenChallenge::read(&attribute, &value);
        }
    }
}
