//! Lists of entries in parts, by the indexes: of one tenant by `tenant`, of all by `feed`. No scan.
//! Not here: the list of an operator's command, which also finds what is in no index ([`list`](super::list)).
//! Invariants: an entry that stays as it is while a list is read is in it once (`parts_hold_each_entry_once`); a part costs a bounded number
//! of calls (`a_part_that_finds_nothing_ends`), so that it may be short or empty although another follows.

use aws_sdk_dynamodb::{operation::query::builders::QueryFluentBuilder, types::AttributeValue};
use serde::{Deserialize, Serialize};

use super::{
    Item, Store, StoreError, key,
    record::{DomainRecord, DomainStatus, SHARDS},
};
use crate::{
    name::Pattern,
    store::batch::{BatchGet, Consistency, KEYS},
};

/// Which entries are listed.
#[derive(Debug, Clone, Copy)]
pub struct ListQuery<'a> {
    /// Of one tenant, in the order of their names; absent, of all, shard by shard in the order of their changes.
    pub tenant: Option<&'a str>,
    /// What their names begin with.
    pub prefix: Option<&'a str>,
    /// With this status; absent, with any but `removed`.
    pub status: Option<DomainStatus>,
    /// How many at most; 100 are.
    pub limit: u16,
}

/// Behind which entry a part begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListPlace {
    /// In a tenant's list.
    Tenant {
        /// The last name.
        domain: String,
    },
    /// In the list of all.
    Feed {
        /// Which of [`SHARDS`].
        shard: u8,
        /// The last entry, and when it changed; absent, at the shard's beginning.
        last: Option<(String, String)>,
    },
}

/// A part of a list.
#[derive(Debug, Default)]
pub struct ListPage {
    /// Entries as they are in the table now.
    pub records: Vec<DomainRecord>,
    /// Items that are no entries, each with its fault.
    pub malformed: Vec<StoreError>,
    /// Behind which the next part begins; absent, this was the last.
    pub next: Option<ListPlace>,
}

/// The entries of `query` behind `place`. The indexes may be a moment old; entries themselves are read consistently.
pub async fn page(
    store: &Store,
    query: ListQuery<'_>,
    place: Option<ListPlace>,
) -> Result<ListPage, StoreError> {
    let limit = usize::from(query.limit).min(KEYS);
    let (mut names, mut next) = (Vec::new(), Some(place.unwrap_or_else(|| query.beginning())));
    for _ in 0..MOST_CALLS {
        let Some(place) = next.take() else { break };
        let answer = query.call(store, &place).send().await?;
        let behind = answer.last_evaluated_key.as_ref().filter(|key| !key.is_empty());
        next = match behind {
            Some(key) => Some(place.behind(key)),
            None => place.next_shard(),
        };
        for item in answer.items() {
            if names.len() == limit {
                break;
            }
            names.extend(domain(item).and_then(|name| Pattern::parse(name).ok()));
            // Cut here, the next part begins behind this one.
            if names.len() == limit && answer.items().last() != Some(item) {
                next = Some(place.behind(item));
            }
        }
        if names.len() >= limit {
            break;
        }
    }
    Ok(ListPage { next, ..named(store, query, &names).await? })
}

/// Those entries of `names`, 100 at most, that are of `query` now, in their order.
pub async fn named(store: &Store, query: ListQuery<'_>, names: &[Pattern]) -> Result<ListPage, StoreError> {
    let mut page = entries(store, names).await?;
    page.records.retain(|record| query.means(record));
    Ok(page)
}

/// The entries of `names` as they are, in their order.
async fn entries(store: &Store, names: &[Pattern]) -> Result<ListPage, StoreError> {
    let table = &store.tables().domains;
    let mut wanted = names.to_vec();
    wanted.sort();
    wanted.dedup();
    let keys = wanted.iter().map(key).collect();
    let batch = BatchGet::default().with(table, keys, Consistency::Strong)?;
    let items = batch.read(store).await?.remove(table).unwrap_or_default();
    let mut page = ListPage::default();
    for item in &items {
        match DomainRecord::read(item) {
            Ok(record) => page.records.push(record),
            Err(fault) => page.malformed.push(fault),
        }
    }
    let place = |record: &DomainRecord| names.iter().position(|name| *name == record.pattern);
    page.records.sort_by_key(place);
    Ok(page)
}

impl ListQuery<'_> {
    fn beginning(&self) -> ListPlace {
        match self.tenant {
            Some(_) => ListPlace::Tenant { domain: String::new() },
            None => ListPlace::Feed { shard: 0, last: None },
        }
    }

    /// Whether an index that was a moment old still speaks of it as it is.
    fn means(&self, record: &DomainRecord) -> bool {
        let is_of_status = match self.status {
            Some(status) => record.status == status,
            None => record.status != DomainStatus::Removed,
        };
        is_of_status && self.tenant.is_none_or(|tenant| record.tenant == tenant)
    }

    fn call(&self, store: &Store, place: &ListPlace) -> QueryFluentBuilder {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let mut query = store.client().query().table_name(&store.tables().domains).limit(EVALUATED);
        let mut filters = vec![match self.status {
            // An item without a status is active.
            Some(DomainStatus::Active) => "(attribute_not_exists(#status) OR #status = :status)",
            Some(_) => "#status = :status",
            None => "(attribute_not_exists(#status) OR #status <> :status)",
        }];
        let status = self.status.unwrap_or(DomainStatus::Removed);
        query = query
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":status", text(status.as_str()));
        let condition = match place {
            ListPlace::Tenant { domain } => {
                let tenant = self.tenant.unwrap_or_default();
                query = query.index_name("tenant").expression_attribute_names("#key", "tenant");
                query = query.expression_attribute_values(":key", text(tenant));
                let start = [("tenant", tenant), ("domain", domain.as_str())];
                query = query.set_exclusive_start_key((!domain.is_empty()).then(|| start_key(&start)));
                if self.prefix.is_some() {
                    "#key = :key AND begins_with(#domain, :prefix)"
                } else {
                    "#key = :key"
                }
            }
            ListPlace::Feed { shard, last } => {
                let shard = shard.to_string();
                query = query.index_name("feed").expression_attribute_names("#key", "feed");
                query = query.expression_attribute_values(":key", text(&shard));
                let start = last.as_ref().map(|(domain, changed_at)| {
                    start_key(&[("feed", &shard), ("domain", domain), ("changed_at", changed_at)])
                });
                query = query.set_exclusive_start_key(start);
                filters.extend(self.prefix.map(|_| "begins_with(#domain, :prefix)"));
                "#key = :key"
            }
        };
        if let Some(prefix) = self.prefix {
            query = query.expression_attribute_names("#domain", "domain");
            query = query.expression_attribute_values(":prefix", text(prefix));
        }
        query.key_condition_expression(condition).filter_expression(filters.join(" AND "))
    }
}

impl ListPlace {
    /// Behind what `item`, or a key that the table answered, names.
    fn behind(&self, item: &Item) -> Self {
        let domain = domain(item).cloned().unwrap_or_default();
        match self {
            Self::Tenant { .. } => Self::Tenant { domain },
            Self::Feed { shard, .. } => {
                let changed_at = item.get("changed_at").and_then(|at| at.as_s().ok().cloned());
                Self::Feed { shard: *shard, last: Some((domain, changed_at.unwrap_or_default())) }
            }
        }
    }

    fn next_shard(&self) -> Option<Self> {
        match self {
            Self::Tenant { .. } => None,
            Self::Feed { shard, .. } => {
                let shard = shard.saturating_add(1);
                (usize::from(shard) < SHARDS.len()).then_some(Self::Feed { shard, last: None })
            }
        }
    }
}

fn start_key(parts: &[(&str, &str)]) -> Item {
    let pairs =
        parts.iter().map(|(name, value)| ((*name).to_owned(), AttributeValue::S((*value).to_owned())));
    pairs.collect()
}

fn domain(item: &Item) -> Option<&String> {
    item.get("domain")?.as_s().ok()
}

/// Calls for one part.
const MOST_CALLS: usize = 10;
/// Items that a call looks at: a filter comes after this limit.
const EVALUATED: i32 = if cfg!(test) { 7 } else { 200 };

#[cfg(test)]
mod tests;
