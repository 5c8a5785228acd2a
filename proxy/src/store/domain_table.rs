//! The domains table: finding, writing, listing entries, and the feed of their changes.
//! Not here: what an entry permits, and how changes are decided (`domains`).
//! Invariants: writes name only attributes of the [`DomainRecord`], so `labels`, `settings`, `checks` and what comes later stay as they are
//! (`a_write_leaves_what_it_does_not_know`); a write replaces exactly the version it was decided on.

pub mod checks;
mod page;
mod record;
mod reindex;
mod settings;

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::{
    error::BuildError,
    types::{AttributeValue, Put, Select, TransactWriteItem, Update},
};

pub use super::tenant::{DEFAULT_TENANT, NoTenant, Tenant};
pub use page::{ListPage, ListPlace, ListQuery, named, page};
pub use record::{DomainRecord, DomainStatus, SHARDS, Shard};
pub use reindex::{Reindexed, reindex};
pub use settings::SettingsMap;
use settings::{SETTINGS, SettingsChange};

use checks::CHECKS;

use super::{
    Item, Store, StoreError,
    batch::{BatchGet, Consistency},
    instant::Micros,
    state_table::{AuditRecord, CountChange, Event},
};
use crate::name::Pattern;

/// What is there of the entries that were asked for.
#[derive(Debug, Default)]
pub struct Found {
    /// Entries.
    pub records: Vec<DomainRecord>,
    /// What is wrong with items that are none.
    pub faults: Vec<StoreError>,
}

/// The entries of `patterns` that are there, read consistently in one call; at most 100.
pub async fn find(store: &Store, patterns: &[Pattern]) -> Result<Found, StoreError> {
    let table = &store.tables().domains;
    let keys = patterns.iter().map(key).collect();
    let batch = BatchGet::default().with(table, keys, Consistency::Strong)?;
    let items = batch.read(store).await?.remove(table).unwrap_or_default();
    let mut found = Found::default();
    for item in &items {
        match DomainRecord::read(item) {
            Ok(record) => found.records.push(record),
            Err(fault) => found.faults.push(fault),
        }
    }
    Ok(found)
}

/// The entry of `pattern`, read consistently.
pub async fn get(store: &Store, pattern: &Pattern) -> Result<Option<DomainRecord>, StoreError> {
    item(store, pattern).await?.as_ref().map(DomainRecord::read).transpose()
}

/// The entry of `pattern`, unless it is a tombstone. What is no entry is not served, and stands in nobody's way.
pub async fn living(store: &Store, pattern: &Pattern) -> Result<Option<DomainRecord>, StoreError> {
    match get(store, pattern).await {
        Ok(found) => Ok(found.filter(|found| found.status != DomainStatus::Removed)),
        Err(StoreError::Misshapen { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn item(store: &Store, pattern: &Pattern) -> Result<Option<Item>, StoreError> {
    let get = store.client().get_item().table_name(&store.tables().domains).consistent_read(true);
    Ok(get.set_key(Some(key(pattern))).send().await?.item)
}

/// Writes `record` in the place of the entry of version `replaced` (0: of none, or of one made by hand that says none).
/// [`StoreError::Conflict`] when another version is there.
pub async fn put(store: &Store, record: &DomainRecord, replaced: u64) -> Result<(), StoreError> {
    let update = store.client().update_item().table_name(&store.tables().domains);
    let update = update.set_key(Some(key(&record.pattern)));
    let write = Write::of(record, replaced, Vec::new());
    let update = update.update_expression(write.update()).condition_expression(write.condition);
    let update = update.set_expression_attribute_names(Some(write.names));
    update.set_expression_attribute_values(Some(write.values)).send().await?;
    Ok(())
}

/// What is to be kept of a change.
#[derive(Debug, Clone)]
pub struct Audit {
    /// Who made it, and which.
    pub record: AuditRecord,
    /// For how long.
    pub kept: Duration,
    /// What programs are told of it.
    pub event: Option<Event>,
}

/// [`put`] in the place of `old`, as it was read, with what of `settings` is ours; what others keep there stays. Entry, `audit`
/// with its event, and `counts` are written all or none.
pub async fn replace(
    store: &Store,
    record: &DomainRecord,
    old: Option<&DomainRecord>,
    audit: &Audit,
    counts: &[CountChange<'_>],
) -> Result<(), StoreError> {
    let tables = store.tables();
    let (was, before) = old.map(|old| (old.settings_map, old.settings)).unwrap_or_default();
    let settings = settings::changes(was, before, record.settings);
    let mut write = Write::of(record, old.map_or(0, |old| old.version), settings);
    // What was found out about an entry that was removed says nothing of the new one; nor of one that nobody has looked at while it was
    // suspended; nor is it another tenant's.
    let is_unobserved = |status| matches!(status, DomainStatus::Removed | DomainStatus::Suspended);
    let is_observed_again = |old: &DomainRecord| is_unobserved(old.status) && !is_unobserved(record.status);
    if old.is_some_and(|old| is_observed_again(old) || old.tenant != record.tenant) {
        write.attribute(CHECKS, "", None);
    }
    let refused = |error: BuildError| StoreError::Refused(error.into());
    let update = Update::builder().table_name(&tables.domains).set_key(Some(key(&record.pattern)));
    let update = update.update_expression(write.update()).condition_expression(write.condition);
    let update = update.set_expression_attribute_names(Some(write.names));
    let update = update.set_expression_attribute_values(Some(write.values)).build().map_err(refused)?;
    let update = TransactWriteItem::builder().update(update).build();
    let mut transaction = store.client().transact_write_items().transact_items(update);
    // Who loses an entry to another tenant finds that, too.
    let former = old.and_then(DomainRecord::owner).filter(|former| *former != audit.record.tenant);
    for tenant in former.into_iter().chain([audit.record.tenant.as_str()]) {
        let item = audit.record.seen_by(tenant, former).item(tenant, audit.kept)?;
        let put = Put::builder().table_name(&tables.state).set_item(Some(item)).build().map_err(refused)?;
        transaction = transaction.transact_items(TransactWriteItem::builder().put(put).build());
    }
    if let Some(event) = &audit.event {
        let put = event.put(store).map_err(refused)?;
        transaction = transaction.transact_items(TransactWriteItem::builder().put(put).build());
    }
    for count in counts {
        let update = count.update(store).map_err(refused)?;
        transaction = transaction.transact_items(TransactWriteItem::builder().update(update).build());
    }
    transaction.send().await?;
    Ok(())
}

/// The expressions of an update.
struct Write {
    set: Vec<String>,
    remove: Vec<String>,
    condition: &'static str,
    names: HashMap<String, String>,
    values: Item,
}

impl Write {
    /// `record` in the place of version `replaced`. Every name stands behind `#`: `domain`, `status` and more are reserved words of
    /// the API.
    fn of(record: &DomainRecord, replaced: u64, settings: Vec<SettingsChange>) -> Self {
        let mut values = Item::new();
        let condition = is_of_version(replaced, &mut values);
        let (set, remove, names) = (Vec::new(), Vec::new(), HashMap::new());
        let mut write = Self { set, remove, condition, names, values };
        for (name, value) in record.attributes() {
            write.attribute(name, "", value);
        }
        if !settings.is_empty() {
            write.names.insert(format!("#{SETTINGS}"), SETTINGS.to_owned());
        }
        for change in settings {
            match change {
                SettingsChange::Map(map) => write.attribute(SETTINGS, "", Some(map)),
                SettingsChange::Set(name, value) => write.attribute(name, SETTINGS_PATH, Some(value)),
                SettingsChange::Remove(name) => write.attribute(name, SETTINGS_PATH, None),
            }
        }
        write
    }

    fn attribute(&mut self, name: &str, path: &str, value: Option<AttributeValue>) {
        self.names.insert(format!("#{name}"), name.to_owned());
        match value {
            Some(value) => {
                self.values.insert(format!(":{name}"), value);
                self.set.push(format!("{path}#{name} = :{name}"));
            }
            None => self.remove.push(format!("{path}#{name}")),
        }
    }

    fn update(&self) -> String {
        let set = format!("SET {}", self.set.join(", "));
        if self.remove.is_empty() { set } else { format!("{set} REMOVE {}", self.remove.join(", ")) }
    }
}

/// The condition that an entry is of `version`, or for 0 has none; adds what it compares with to `values`.
fn is_of_version(version: u64, values: &mut Item) -> &'static str {
    values.insert(":replaced".to_owned(), AttributeValue::N(version.to_string()));
    if version != 0 {
        return "#version = :replaced";
    }
    // A hand may leave a 0 or a NULL there, which `DomainRecord` reads as no version.
    values.insert(":null".to_owned(), AttributeValue::S("NULL".to_owned()));
    "attribute_not_exists(#version) OR #version = :replaced OR attribute_type(#version, :null)"
}

/// A part of the feed.
#[derive(Debug, Default)]
pub struct FeedPage {
    /// Changes, oldest first.
    pub records: Vec<DomainRecord>,
    /// Items that are no entries, each with its fault.
    pub faults: Vec<StoreError>,
    /// Where the next part begins; none when this is the last.
    pub next: Option<FeedPlace>,
}

/// Where a part of the feed begins.
#[derive(Debug, Clone)]
pub struct FeedPlace(Item);

/// Up to `limit` changes in `shard` after `after`, oldest first, from `place` on. Index reads are eventually consistent: read again from before the
/// end.
pub async fn feed_page(
    store: &Store,
    shard: Shard,
    after: Micros,
    place: Option<FeedPlace>,
    limit: u16,
) -> Result<FeedPage, StoreError> {
    let query = store
        .client()
        .query()
        .table_name(&store.tables().domains)
        .index_name("feed")
        .key_condition_expression("#feed = :feed AND #changed_at > :after")
        .expression_attribute_names("#feed", "feed")
        .expression_attribute_names("#changed_at", "changed_at")
        .expression_attribute_values(":feed", AttributeValue::S(shard.to_string()))
        .expression_attribute_values(":after", AttributeValue::S(after.to_string()))
        .set_exclusive_start_key(place.map(|place| place.0))
        .limit(limit.into());
    let answer = query.send().await?;
    let mut page = FeedPage::default();
    for item in answer.items() {
        match DomainRecord::read(item) {
            Ok(record) => page.records.push(record),
            Err(fault) => page.faults.push(fault),
        }
    }
    page.next = answer.last_evaluated_key.filter(|key| !key.is_empty()).map(FeedPlace);
    Ok(page)
}

/// Whose entries are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose<'a> {
    /// All there are, those made by hand among them, in the table's own order. Scans: an operator's command, never part of serving.
    Everybody,
    /// A tenant's, in the order of their names. Rows of an index: without version, and a moment old.
    Tenant(&'a str),
}

/// A part of a list.
#[derive(Debug, Default)]
pub struct RecordPage {
    /// Entries, without tombstones.
    pub records: Vec<DomainRecord>,
    /// Items that are no entries, each with its fault.
    pub malformed: Vec<StoreError>,
    /// Behind which entry the next part begins; none when this is the last.
    pub next: Option<Pattern>,
}

/// Up to `limit` entries, those behind `after`, which the part before named.
pub async fn list(
    store: &Store,
    whose: Whose<'_>,
    after: Option<&Pattern>,
    limit: u16,
) -> Result<RecordPage, StoreError> {
    let (table, limit) = (&store.tables().domains, usize::from(limit));
    // One more than wanted tells whether there is more.
    let page = i32::try_from(limit.saturating_add(1)).unwrap_or(i32::MAX);
    let mut part = RecordPage::default();
    match whose {
        Whose::Everybody => {
            let scan = store.client().scan().table_name(table).consistent_read(true);
            let scan = scan.set_exclusive_start_key(after.map(key)).into_paginator().page_size(page);
            let mut items = scan.items().send();
            while !part.is_full(limit)
                && let Some(item) = items.next().await
            {
                part.take(&item?, limit);
            }
        }
        Whose::Tenant(tenant) => {
            // Before all names: no name begins with a space.
            let after = after.map_or(" ".to_owned(), Pattern::to_string);
            let query = store
                .client()
                .query()
                .table_name(table)
                .index_name("tenant")
                .key_condition_expression("#tenant = :tenant AND #domain > :after")
                .expression_attribute_names("#tenant", "tenant")
                .expression_attribute_names("#domain", "domain")
                .expression_attribute_values(":tenant", AttributeValue::S(tenant.to_owned()))
                .expression_attribute_values(":after", AttributeValue::S(after));
            let mut items = query.into_paginator().page_size(page).items().send();
            while !part.is_full(limit)
                && let Some(item) = items.next().await
            {
                part.take(&item?, limit);
            }
        }
    }
    Ok(part)
}

/// How many entries `tenant` has, by the index: all of them are read, and a moment old.
pub async fn count(store: &Store, tenant: &str) -> Result<u64, StoreError> {
    let query = store
        .client()
        .query()
        .table_name(&store.tables().domains)
        .index_name("tenant")
        .select(Select::Count)
        .key_condition_expression("#tenant = :tenant")
        .filter_expression("attribute_not_exists(#status) OR #status <> :removed")
        .expression_attribute_names("#tenant", "tenant")
        .expression_attribute_names("#status", "status")
        .expression_attribute_values(":tenant", AttributeValue::S(tenant.to_owned()))
        .expression_attribute_values(
            ":removed",
            AttributeValue::S(DomainStatus::Removed.as_str().to_owned()),
        );
    let (mut pages, mut entries) = (query.into_paginator().send(), 0_u64);
    while let Some(page) = pages.next().await {
        entries = entries.saturating_add(u64::try_from(page?.count).unwrap_or_default());
    }
    Ok(entries)
}

impl RecordPage {
    fn is_full(&self, limit: usize) -> bool {
        self.next.is_some() || limit == 0
    }

    fn take(&mut self, item: &Item, limit: usize) {
        match DomainRecord::read(item) {
            Ok(record) if record.status == DomainStatus::Removed => {}
            Ok(record) if self.records.len() < limit => self.records.push(record),
            Ok(_) => self.next = self.records.last().map(|last| last.pattern.clone()),
            Err(fault) if self.malformed.len() < limit => self.malformed.push(fault),
            Err(_) => {}
        }
    }
}

/// The path of what stands in the map.
const SETTINGS_PATH: &str = "#settings.";

fn key(pattern: &Pattern) -> Item {
    Item::from([("domain".to_owned(), AttributeValue::S(pattern.to_string()))])
}

#[cfg(test)]
mod tests;
