//! What became of domains and certificates, for programs of the operator: items `event#<day>`/`<instant>#<random>`, written in one transaction
//! with what they tell of where there is one.
//! Not here: who is told of them (`webhooks`), and when there is something to tell (`domains`, `certificates`).
//! Invariants: an entry and its event are written both or neither (`domain_table::replace`), and so are a certificate and its event
//! (`certificate_table::commit`); an event is never changed, and forgotten after 30 days; a kind that another release wrote is read as it is,
//! and what is no event is left out (`what_cannot_be_read_is_left_out`).
//!
//! All tenants share a day's partition. A transaction costs it two write units of the 1,000 a second that a partition takes: 500 changes a
//! second, as many as the audit of one tenant.

use std::{fmt, str::FromStr, time::Duration};

use aws_sdk_dynamodb::{error::BuildError, types::Put};
use serde::{Deserialize, Serialize, de::Error as _};
use serde_json::{Map, Value};

use super::{
    day_log::{self, LogDay, LogPage},
    item::{seconds, text},
};
use crate::{
    config::EventKind,
    name::Pattern,
    store::{Consistency, Item, Store, StoreError, instant::Micros},
};

/// Which event: the same wherever it is told, so that who is told twice knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EventId {
    /// When it came about, by the clock of who wrote it.
    pub at: Micros,
    random: u64,
}

/// Something that became of a domain or a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which.
    pub id: EventId,
    /// What it tells, one of [`EventKind`] or of another release.
    pub kind: String,
    /// Of which name.
    pub domain: Pattern,
    /// Whose it is; absent, no entry of the table says.
    pub tenant: Option<String>,
    /// What there is to tell.
    pub detail: Map<String, Value>,
}

/// Part of a day's events.
#[derive(Debug, Default)]
pub struct EventPage {
    /// The oldest first.
    pub events: Vec<Event>,
    /// Behind which the next part begins; absent, this was the last.
    pub next: Option<EventId>,
}

/// A text is no event's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no event's id; give one as lists show it, like `evt_` and 32 digits")]
pub struct NoEventId(String);

impl EventId {
    /// A new one.
    pub(in crate::store) fn random(at: Micros) -> Result<Self, StoreError> {
        let mut random = [0_u8; 8];
        let refuse = |_| StoreError::Refused("no random numbers".into());
        aws_lc_rs::rand::fill(&mut random).map_err(refuse)?;
        Ok(Self { at, random: u64::from_be_bytes(random) })
    }

    /// Before all that came about at `at` or later.
    #[must_use]
    pub fn before(at: Micros) -> Self {
        Self { at, random: 0 }
    }

    /// Its day.
    #[must_use]
    pub fn day(self) -> LogDay {
        LogDay::of(self.at)
    }

    /// Sorts as the identifiers do.
    pub(super) fn sort_key(self) -> String {
        format!("{}#{:016x}", self.at, self.random)
    }

    pub(super) fn of_sort_key(text: &str) -> Option<Self> {
        let (at, random) = text.split_once('#')?;
        let random = (random.len() == 16).then(|| u64::from_str_radix(random, 16).ok())??;
        Some(Self { at: Micros::parse(at)?, random })
    }
}

/// `evt_` and 32 hexadecimal digits: without the dot that separates what is signed (Standard Webhooks, "Signature scheme").
impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "evt_{:016x}{:016x}", self.at.since_epoch(), self.random)
    }
}

impl Serialize for EventId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl FromStr for EventId {
    type Err = NoEventId;

    fn from_str(text: &str) -> Result<Self, NoEventId> {
        let digits = text.strip_prefix("evt_").filter(|digits| digits.len() == 32 && digits.is_ascii());
        let halves = digits.and_then(|digits| digits.split_at_checked(16));
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        let id = halves.and_then(|(at, random)| {
            Some(Self { at: Micros::from_epoch(number(at)?), random: number(random)? })
        });
        id.ok_or_else(|| NoEventId(text.chars().take(MOST_SHOWN).collect()))
    }
}

impl Event {
    /// One that came about at `at`; `detail` says more of it, as an object.
    pub fn new(
        kind: EventKind,
        domain: &Pattern,
        tenant: Option<&str>,
        detail: &impl Serialize,
        at: Micros,
    ) -> Result<Self, StoreError> {
        let detail = serde_json::to_value(detail).map_err(|error| StoreError::Refused(error.into()))?;
        Ok(Self {
            id: EventId::random(at)?,
            kind: kind.as_str().to_owned(),
            domain: domain.clone(),
            tenant: tenant.map(str::to_owned),
            detail: if let Value::Object(detail) = detail { detail } else { Map::new() },
        })
    }

    /// As `tenant` may know it: whole, if it is of its entry; none, if it is of another's. Where an entry has gone from one to another, each
    /// knows its own side of the change.
    #[must_use]
    pub fn seen_by(mut self, tenant: &str) -> Option<Self> {
        let former = self.detail.get(FORMER_TENANT).and_then(Value::as_str);
        let (is_owner, is_former) = (self.tenant.as_deref() == Some(tenant), former == Some(tenant));
        if former.is_none() {
            return is_owner.then_some(self);
        }
        let of_the_other = if is_owner { "from" } else { "to" };
        if let Some(Value::Array(changes)) = self.detail.get_mut("changes") {
            for change in changes.iter_mut().filter_map(Value::as_object_mut) {
                change.insert(of_the_other.to_owned(), Value::Null);
            }
        }
        if is_owner {
            self.detail.remove(FORMER_TENANT);
            return Some(self);
        }
        self.detail.remove("target");
        self.tenant = None;
        is_former.then_some(self)
    }

    /// What of a transaction it is.
    pub(in crate::store) fn put(&self, store: &Store) -> Result<Put, BuildError> {
        Put::builder().table_name(&store.tables().state).set_item(Some(self.item())).build()
    }

    fn item(&self) -> Item {
        let mut item = Item::from([
            ("pk".to_owned(), text(&partition(&self.id.day()))),
            ("sk".to_owned(), text(&self.id.sort_key())),
            ("kind".to_owned(), text(&self.kind)),
            ("domain".to_owned(), text(&self.domain.to_string())),
            ("detail".to_owned(), text(&Value::Object(self.detail.clone()).to_string())),
            ("expires_at".to_owned(), seconds(self.id.at.more(EVENTS_KEPT))),
        ]);
        item.extend(self.tenant.as_ref().map(|tenant| ("tenant".to_owned(), text(tenant))));
        item
    }

    fn read(item: &Item) -> Option<Self> {
        let text = |attribute: &str| item.get(attribute)?.as_s().ok().filter(|text| !text.is_empty());
        let Value::Object(detail) = serde_json::from_str(text("detail")?).ok()? else { return None };
        Some(Self {
            id: EventId::of_sort_key(text("sk")?)?,
            kind: text("kind")?.clone(),
            domain: text("domain")?.parse().ok()?,
            tenant: text("tenant").cloned(),
            detail,
        })
    }
}

/// Up to `limit` events of `day`, those behind `after`.
pub async fn events(
    store: &Store,
    day: &LogDay,
    after: Option<EventId>,
    limit: u16,
    consistency: Consistency,
) -> Result<EventPage, StoreError> {
    let (partition, after) = (partition(day), after.map(EventId::sort_key));
    let page = day_log::page(store, &partition, after.as_deref(), limit, consistency).await?;
    let LogPage { items, next } = page;
    let events = items.iter().filter_map(Event::read).collect();
    Ok(EventPage { events, next: next.as_deref().and_then(EventId::of_sort_key) })
}

/// Writes an event of what no transaction tells.
pub async fn put_event(store: &Store, event: &Event) -> Result<(), StoreError> {
    let put = store.client().put_item().table_name(&store.tables().state);
    put.set_item(Some(event.item())).send().await?;
    Ok(())
}

fn partition(day: &LogDay) -> String {
    format!("event#{}", day.as_str())
}

/// Of a text that is no id.
const MOST_SHOWN: usize = 64;
/// What an event says of an entry that was another tenant's until then.
const FORMER_TENANT: &str = "former_tenant";
/// How long events are kept, and can be told again.
pub const EVENTS_KEPT: Duration = Duration::from_hours(30 * 24);

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;
    use serde_json::json;

    use super::*;
    use crate::store::fixture::{faulty_with_tables, item};

    fn event(at: &str) -> Event {
        let at = Micros::parse(at).unwrap();
        let domain = "a.example".parse().unwrap();
        let detail = json!({ "status": "active" });
        Event::new(EventKind::DomainCreated, &domain, Some("acme"), &detail, at).unwrap()
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let event = event("2026-11-28T23:59:59.000001Z");
        let item = event.item();
        assert_eq!(item["pk"].as_s().unwrap(), "event#2026-11-28");
        assert_eq!(Event::read(&item), Some(event.clone()));
        for lost in ["sk", "kind", "domain", "detail"] {
            for wrong in [None, Some(AttributeValue::Bool(true)), Some(text("")), Some(text("-"))] {
                // Any text is a kind: another release may know it.
                if lost == "kind" && wrong == Some(text("-")) {
                    continue;
                }
                let mut item = item.clone();
                match wrong {
                    None => drop(item.remove(lost)),
                    Some(wrong) => drop(item.insert(lost.to_owned(), wrong)),
                }
                assert_eq!(Event::read(&item), None, "{lost}");
            }
        }
        let mut later = item;
        later.insert("kind".to_owned(), text("domain.sold"));
        assert_eq!(Event::read(&later), Some(Event { kind: "domain.sold".to_owned(), ..event }));
    }

    #[test]
    fn an_id_is_read_as_it_is_written_and_sorts_by_time() {
        let (first, second) =
            (event("2026-11-28T23:59:59.000001Z").id, event("2026-11-29T00:00:00.000000Z").id);
        assert!(first < second && first.sort_key() < second.sort_key());
        assert!(EventId::before(first.at) <= first && EventId::before(second.at) > first);
        for id in [first, second] {
            assert_eq!(EventId::of_sort_key(&id.sort_key()), Some(id));
            let written = serde_json::to_string(&id).unwrap();
            assert_eq!(serde_json::from_str::<EventId>(&written).unwrap(), id, "{written}");
            assert!(!written.contains('.'));
        }
        for text in [
            "",
            "evt_",
            "evt_0",
            "evt_00000000000000000000000000000g00",
            "evt_é00000000000000000000000000000",
        ] {
            assert!(serde_json::from_value::<EventId>(text.into()).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_days_events_are_read_part_by_part() {
        let store = faulty_with_tables("seed=3,stale=2s,throttle=10").await;
        let day = LogDay::parse("2026-11-28").unwrap();
        let all: Vec<_> = (0..5).map(|n| event(&format!("2026-11-28T00:00:0{n}.000000Z"))).collect();
        for event in &all {
            put_event(&store, event).await.unwrap();
        }
        put_event(&store, &event("2026-11-29T00:00:00.000000Z")).await.unwrap();
        let (mut found, mut after) = (Vec::new(), None);
        for _ in 0..4 {
            let page = events(&store, &day, after, 2, Consistency::Strong).await.unwrap();
            found.extend(page.events);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, all);
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn no_item_panics(input in proptest::collection::vec(any::<u8>(), 0..200)) {
                let _ = Event::read(&item(&input));
            }
        }
    }
}
