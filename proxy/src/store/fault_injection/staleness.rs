//! Eventual consistency, as "Read consistency" of the developer guide allows it: for a while after a write, reads that do not ask
//! for consistency, and all reads of an index, see the item as it was.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use serde_json::{Map, Value};

use super::rng::Rng;

/// Items written a moment ago, as they were before.
#[derive(Debug)]
pub(super) struct Staleness {
    most: Duration,
    key_names: HashMap<String, Vec<String>>,
    before: HashMap<(String, String), Before>,
}

#[derive(Debug)]
struct Before {
    item: Option<Value>,
    visible_at: Instant,
}

impl Staleness {
    pub(super) fn new(most: Duration) -> Self {
        Self { most, key_names: HashMap::new(), before: HashMap::new() }
    }

    /// Attributes that make `table`'s key, once learnt.
    pub(super) fn key_names(&self, table: &str) -> Option<Vec<String>> {
        self.key_names.get(table).cloned()
    }

    pub(super) fn learn_key_names(&mut self, table: &str, names: Vec<String>) {
        self.key_names.insert(table.to_owned(), names);
    }

    /// The item of `key` was `item` until `now`.
    pub(super) fn remember(
        &mut self,
        table: &str,
        key: &Value,
        item: Option<Value>,
        now: Instant,
        dice: &mut Rng,
    ) {
        self.before.retain(|_, before| before.visible_at > now);
        let most = u64::try_from(self.most.as_millis()).unwrap_or(u64::MAX);
        let visible_at = now + Duration::from_millis(dice.up_to(most));
        // A second write within the lag is as invisible as the first.
        self.before
            .entry((table.to_owned(), key.to_string()))
            .and_modify(|before| before.visible_at = before.visible_at.max(visible_at))
            .or_insert(Before { item, visible_at });
    }

    /// Makes what `answer` says of `table` as old as it may be.
    pub(super) fn age(
        &self,
        answer: &mut Value,
        request: &Value,
        table: &str,
        names: &[String],
        now: Instant,
    ) {
        if let Some(key) = request.get("Key") {
            let key = key_of(key, names);
            if let (Some(before), Some(answer)) = (self.hidden(table, &key, now), answer.as_object_mut()) {
                answer.remove("Item");
                answer.extend(before.item.clone().map(|item| ("Item".to_owned(), item)));
            }
            return;
        }
        let batch = answer.get_mut("Responses").and_then(|responses| responses.get_mut(table));
        let is_batch = batch.is_some();
        let items = if is_batch { batch } else { answer.get_mut("Items") };
        if let Some(items) = items.and_then(Value::as_array_mut) {
            let aged = items.drain(..).filter_map(|item| self.aged(item, table, names, now)).collect();
            *items = aged;
        }
    }

    fn aged(&self, item: Value, table: &str, names: &[String], now: Instant) -> Option<Value> {
        let Some(before) = self.hidden(table, &key_of(&item, names), now) else { return Some(item) };
        // An index never holds attributes it does not project, so the older image is cut to what was answered.
        let (old, new) = (before.item.as_ref()?.as_object()?, item.as_object()?);
        let cut = old.iter().filter(|(name, _)| new.contains_key(*name));
        Some(Value::Object(cut.map(|(name, value)| (name.clone(), value.clone())).collect()))
    }

    fn hidden(&self, table: &str, key: &Value, now: Instant) -> Option<&Before> {
        self.before.get(&(table.to_owned(), key.to_string())).filter(|before| before.visible_at > now)
    }
}

/// The key of `item`, in the order of `names`.
pub(super) fn key_of(item: &Value, names: &[String]) -> Value {
    let pairs = names.iter().filter_map(|name| Some((name.clone(), item.get(name)?.clone())));
    Value::Object(pairs.collect::<Map<_, _>>())
}

/// Tables that `request` reads without asking for consistency.
pub(super) fn stale_tables(request: &Value) -> Vec<String> {
    let consistent = |value: &Value| value.get("ConsistentRead").and_then(Value::as_bool) == Some(true);
    if let Some(tables) = request.get("RequestItems").and_then(Value::as_object) {
        return tables
            .iter()
            .filter(|(_, wanted)| !consistent(wanted))
            .map(|(table, _)| table.clone())
            .collect();
    }
    let table = request.get("TableName").and_then(Value::as_str);
    table.filter(|_| !consistent(request)).map(str::to_owned).into_iter().collect()
}

/// Tables and items (or keys) that `request` writes.
pub(super) fn written<'a>(operation: &str, request: &'a Value) -> Vec<(&'a str, &'a Value)> {
    fn one(write: &Value) -> Option<(&str, &Value)> {
        let table = write.get("TableName")?.as_str()?;
        Some((table, write.get("Item").or_else(|| write.get("Key"))?))
    }
    match operation {
        "TransactWriteItems" => {
            let items = request.get("TransactItems").and_then(Value::as_array).into_iter().flatten();
            let writes = items.filter_map(|item| {
                ["Put", "Update", "Delete"].into_iter().find_map(|kind| item.get(kind)).and_then(one)
            });
            writes.collect()
        }
        "BatchWriteItem" => {
            let tables = request.get("RequestItems").and_then(Value::as_object).into_iter().flatten();
            let writes = tables.flat_map(|(table, writes)| {
                writes.as_array().into_iter().flatten().filter_map(move |write| {
                    let item =
                        write.pointer("/PutRequest/Item").or_else(|| write.pointer("/DeleteRequest/Key"));
                    item.map(|item| (table.as_str(), item))
                })
            });
            writes.collect()
        }
        _ => one(request).into_iter().collect(),
    }
}
