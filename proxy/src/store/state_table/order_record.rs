//! Our record of a name's certificate: `name#<d>`/`certificate` in the state table, found through the index `due`.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use aws_sdk_dynamodb::types::AttributeValue;

use super::item::find;
use crate::{
    clock,
    name::Pattern,
    store::{
        Item, Store, StoreError, if_held,
        instant::{Micros, epoch_millis},
        partition::partition,
    },
};

/// What is known of a name's orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRecord {
    /// The name.
    pub name: Pattern,
    /// Who issued the certificate, as keys name it; none while there is none.
    pub issuer: Option<String>,
    /// The issuer's directory; none for the internal issuer, and for one that is only read.
    pub directory: Option<String>,
    /// The URL of the account that ordered it; none when unknown.
    pub account: Option<String>,
    /// The certificate's serial number in hexadecimal; none while there is none.
    pub serial: Option<String>,
    /// End of the certificate's life.
    pub not_after: Option<SystemTime>,
    /// When it is to be renewed; none once the name was taken out of the renewals.
    pub renew_at: Option<SystemTime>,
    /// Orders failed since the last that did not.
    pub failures: u32,
    /// Orders failed since the last that a CA has judged, for nothing that counts against the name.
    pub unjudged: u32,
    /// How often in a row an issuer behind the first has found fault with the name while the first judged nothing.
    pub fallback_failures: u32,
    /// No order with an issuer behind the first before this.
    pub fallback_at: Option<SystemTime>,
    /// No order before this.
    pub retry_at: Option<SystemTime>,
    /// Why the last failed order failed.
    pub problem: Option<String>,
    /// When the CA has found fault with the name of late, the latest last; whatever was forgotten since.
    pub failed_at: Vec<SystemTime>,
    /// Since when the CA has found nothing but fault with the name.
    pub failing_since: Option<SystemTime>,
    /// When that had lasted so long that nothing is ordered any more.
    pub stopped_at: Option<SystemTime>,
    /// Since when permission has been denied whenever the name was due.
    pub denied_since: Option<SystemTime>,
}

impl OrderRecord {
    /// Of a name nothing is known of.
    #[must_use]
    pub fn new(name: &Pattern) -> Self {
        Self {
            name: name.clone(),
            issuer: None,
            directory: None,
            account: None,
            serial: None,
            not_after: None,
            renew_at: None,
            failures: 0,
            unjudged: 0,
            fallback_failures: 0,
            fallback_at: None,
            retry_at: None,
            problem: None,
            failed_at: Vec::new(),
            failing_since: None,
            stopped_at: None,
            denied_since: None,
        }
    }

    /// As if no order had failed; the CA's own count goes on.
    #[must_use]
    pub fn without_failures(self) -> Self {
        Self {
            failures: 0,
            unjudged: 0,
            fallback_failures: 0,
            fallback_at: None,
            retry_at: None,
            problem: None,
            failing_since: None,
            stopped_at: None,
            ..self
        }
    }

    /// How often in a row orders of the name have failed, with whichever issuer it was most.
    #[must_use]
    pub fn failures_of_any(&self) -> u32 {
        self.failures.max(self.fallback_failures)
    }

    /// Reads an item; attributes that are not what they should be count as absent, and so do empty texts.
    pub(in crate::store) fn read(name: &Pattern, item: &Item) -> Option<Self> {
        item.get("pk")?;
        let text =
            |attribute: &str| item.get(attribute)?.as_s().ok().filter(|text| !text.is_empty()).cloned();
        let instant = |attribute: &str| {
            item.get(attribute)?.as_s().ok().and_then(|text| Micros::parse(text)).map(Micros::at)
        };
        let count = |attribute: &str| item.get(attribute).and_then(|value| value.as_n().ok()?.parse().ok());
        let failed_at = text("failed_at").unwrap_or_default();
        let failed_at = failed_at.split(' ').take(FAILED_AT).filter_map(Micros::parse);
        Some(Self {
            name: name.clone(),
            issuer: text("issuer"),
            directory: text("directory"),
            account: text("account"),
            serial: text("serial"),
            not_after: instant("not_after"),
            renew_at: instant("renew_at"),
            failures: count("failures").unwrap_or_default(),
            unjudged: count("unjudged").unwrap_or_default(),
            fallback_failures: count("fallback_failures").unwrap_or_default(),
            fallback_at: instant("fallback_at"),
            retry_at: instant("retry_at"),
            problem: text("problem"),
            failed_at: failed_at.map(Micros::at).collect(),
            failing_since: instant("failing_since"),
            stopped_at: instant("stopped_at"),
            denied_since: instant("denied_since"),
        })
    }

    pub(in crate::store) fn write(&self) -> Item {
        let mut item = key(&self.name);
        for (attribute, text) in [
            ("issuer", &self.issuer),
            ("directory", &self.directory),
            ("account", &self.account),
            ("serial", &self.serial),
            ("problem", &self.problem),
        ] {
            if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
                item.insert(attribute.to_owned(), AttributeValue::S(text.clone()));
            }
        }
        for (attribute, at) in [
            ("not_after", self.not_after),
            ("renew_at", self.renew_at),
            ("fallback_at", self.fallback_at),
            ("retry_at", self.retry_at),
            ("failing_since", self.failing_since),
            ("stopped_at", self.stopped_at),
            ("denied_since", self.denied_since),
        ] {
            if let Some(at) = at {
                item.insert(attribute.to_owned(), AttributeValue::S(Micros::of(at).to_string()));
            }
        }
        if !self.failed_at.is_empty() {
            let dates: Vec<_> = self.failed_at.iter().map(|at| Micros::of(*at).to_string()).collect();
            item.insert("failed_at".to_owned(), AttributeValue::S(dates.join(" ")));
        }
        item.insert("failures".to_owned(), AttributeValue::N(self.failures.to_string()));
        for (attribute, count) in [("unjudged", self.unjudged), ("fallback_failures", self.fallback_failures)]
        {
            if count > 0 {
                item.insert(attribute.to_owned(), AttributeValue::N(count.to_string()));
            }
        }
        self.write_due(&mut item);
        item
    }

    /// What has a certificate is due when it is to be renewed, and after a failure not before the next attempt. What has none
    /// waits for its next ClientHello, and is forgotten when none comes.
    fn write_due(&self, item: &mut Item) {
        // What has stopped is shown for long: it would be tried again as soon as it is forgotten.
        let shown = self.stopped_at.map(|at| at + STOPPED_KEPT);
        let last = [self.not_after, self.retry_at, shown].into_iter().flatten().max();
        if let Some(last) = last {
            let expires = epoch_millis(last + KEPT) / 1000;
            item.insert("expires_at".to_owned(), AttributeValue::N(expires.to_string()));
        }
        if let Some(renew_at) = self.renew_at.filter(|_| self.stopped_at.is_none()) {
            let due_at = self.retry_at.map_or(renew_at, |retry_at| retry_at.max(renew_at));
            item.insert("due".to_owned(), AttributeValue::S(shard_text(shard(&self.name))));
            item.insert("due_at".to_owned(), AttributeValue::S(Micros::of(due_at).to_string()));
        }
    }
}

/// Writes `record` if what is there is still of the certificate whose serial number was read before, or of none. An order that is open
/// goes on.
pub async fn put_record(store: &Store, record: &OrderRecord, before: Option<&str>) -> Result<(), StoreError> {
    if_held(update(store, record, WHOLE, Replaced::Of(before)).await).map(drop)
}

/// Writes what `record` says of failed orders, whatever the item holds: a record of another certificate, or one whose attributes are
/// malformed, keeps all else and gets the back-off.
pub async fn put_failure(store: &Store, record: &OrderRecord) -> Result<(), StoreError> {
    match update(store, record, &[OF_FAILURES, TIMES], Replaced::Of(record.serial.as_deref())).await {
        Err(StoreError::Conflict) => {}
        written => return written,
    }
    match update(store, record, &[OF_FAILURES], Replaced::Something).await {
        Err(StoreError::Conflict) => {}
        written => return written,
    }
    // The table has forgotten it, and of its certificate nothing is to be renewed.
    let alone = OrderRecord { serial: None, not_after: None, renew_at: None, ..record.clone() };
    update(store, &alone, &[OF_FAILURES, TIMES], Replaced::Of(None)).await
}

/// What an update may change.
#[derive(Clone, Copy)]
enum Replaced<'a> {
    /// Whatever is there, if anything is.
    Something,
    /// What is of the certificate with this serial number, or of none.
    Of(Option<&'a str>),
}

/// Sets those of `attributes` that `record` has, and removes the others.
async fn update(
    store: &Store,
    record: &OrderRecord,
    attributes: &[&[&str]],
    replaced: Replaced<'_>,
) -> Result<(), StoreError> {
    let mut item = record.write();
    // Nothing of it may have a date any more, and yet the table is to forget it.
    item.entry("expires_at".to_owned())
        .or_insert_with(|| AttributeValue::N((epoch_millis(clock::wall() + KEPT) / 1000).to_string()));
    let attributes = attributes.concat();
    let (set, removed): (Vec<&str>, Vec<&str>) =
        attributes.iter().copied().partition(|attribute| item.contains_key(*attribute));
    let mut text = String::from("SET ");
    text.push_str(&set.iter().map(|name| format!("#{name} = :{name}")).collect::<Vec<_>>().join(", "));
    if !removed.is_empty() {
        text.push_str(" REMOVE ");
        text.push_str(&removed.iter().map(|name| format!("#{name}")).collect::<Vec<_>>().join(", "));
    }
    let mut update =
        store.client().update_item().table_name(&store.tables().state).set_key(Some(key(&record.name)));
    update = attributes.iter().fold(update.update_expression(text), |update, name| {
        update.expression_attribute_names(format!("#{name}"), *name)
    });
    update =
        set.iter().filter_map(|name| Some((name, item.get(*name)?))).fold(update, |update, (name, value)| {
            update.expression_attribute_values(format!(":{name}"), value.clone())
        });
    let (condition, values) = replaced.condition();
    update = values.into_iter().fold(update.condition_expression(condition), |update, (name, value)| {
        update.expression_attribute_values(name, value)
    });
    update.send().await?;
    Ok(())
}

impl Replaced<'_> {
    fn condition(self) -> (&'static str, Vec<(String, AttributeValue)>) {
        match self {
            Self::Something => ("attribute_exists(pk)", Vec::new()),
            Self::Of(serial) => still_of(serial),
        }
    }
}

/// The condition that an item is of the certificate with this serial number, or of none, and the values it names. Not by date: lives
/// get shorter, so a newer certificate may end earlier.
fn still_of(serial: Option<&str>) -> (&'static str, Vec<(String, AttributeValue)>) {
    let value = |name: &str, text: &str| (name.to_owned(), AttributeValue::S(text.to_owned()));
    match serial {
        // What cannot be read as a serial number counts as none.
        None => (
            "attribute_not_exists(serial) OR NOT attribute_type(serial, :text) OR serial = :none",
            vec![value(":text", "S"), value(":none", "")],
        ),
        Some(serial) => ("serial = :before", vec![value(":before", serial)]),
    }
}

pub(in crate::store) fn key(name: &Pattern) -> Item {
    HashMap::from([
        ("pk".to_owned(), AttributeValue::S(partition_of(name))),
        ("sk".to_owned(), AttributeValue::S(SORT.to_owned())),
    ])
}

/// The item of a name's record as it is, if there is one.
pub(super) async fn find_item(store: &Store, name: &Pattern) -> Result<Option<Item>, StoreError> {
    find(store, &partition_of(name), SORT).await
}

/// Where a name's record lies, and what is known of it beside that.
pub(super) fn partition_of(name: &Pattern) -> String {
    format!("name#{name}")
}

pub(super) fn shard_text(shard: u8) -> String {
    format!("renew#{shard}")
}

/// The partition of `name` among the renewals.
#[must_use]
pub fn shard(name: &Pattern) -> u8 {
    partition(&name.to_string(), SHARDS)
}

const SORT: &str = "certificate";
/// Partitions of the renewals in the index `due`.
pub const SHARDS: u8 = 8;
/// What is of the certificate.
const OF_CERTIFICATE: &[&str] =
    &["issuer", "directory", "account", "serial", "not_after", "renew_at", "denied_since"];
/// What a failed order changes in any record.
const OF_FAILURES: &[&str] = &[
    "failures",
    "unjudged",
    "fallback_failures",
    "fallback_at",
    "retry_at",
    "problem",
    "failed_at",
    "failing_since",
    "stopped_at",
];
/// What it changes in one that is not of a later certificate, too.
const TIMES: &[&str] = &["expires_at", "due", "due_at"];
/// All that is of a record; an item may have an open order beside it.
const WHOLE: &[&[&str]] = &[OF_CERTIFICATE, OF_FAILURES, TIMES];
/// How many failures a record lists at most.
pub const FAILED_AT: usize = 20;
/// How long it is shown that a name's orders have stopped.
const STOPPED_KEPT: Duration = Duration::from_hours(365 * 24);
/// How long a record outlives its certificate, or its back-off.
const KEPT: Duration = Duration::from_hours(7 * 24);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> AttributeValue {
        AttributeValue::S(text.to_owned())
    }

    /// Items that instances of other releases wrote: read, and written again without a change.
    #[test]
    fn an_items_form_stays_as_it_was() {
        let name = Pattern::parse("a.example").unwrap();
        let bare = [
            ("pk", text("name#a.example")),
            ("sk", text("certificate")),
            ("failures", AttributeValue::N("0".into())),
        ];
        let internal = [
            ("issuer", text("gatehouse-internal")),
            ("serial", text("01")),
            ("not_after", text("2026-11-24T02:15:08.000000Z")),
            ("expires_at", AttributeValue::N("1796091308".into())),
        ];
        let failed = [
            ("failures", AttributeValue::N("2".into())),
            ("problem", text("why")),
            ("retry_at", text("2026-11-24T02:15:08.000000Z")),
            ("expires_at", AttributeValue::N("1796091308".into())),
        ];
        for more in [&[][..], &internal, &failed] {
            let item: Item =
                bare.iter().chain(more).map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            assert_eq!(OrderRecord::read(&name, &item).unwrap().write(), item);
        }
    }

    #[test]
    fn a_record_that_is_put_is_put_whole() {
        let (text, at) = (Some("a".to_owned()), Some(SystemTime::UNIX_EPOCH));
        let full = OrderRecord {
            name: Pattern::parse("a.example").unwrap(),
            issuer: text.clone(),
            directory: text.clone(),
            account: text.clone(),
            serial: text.clone(),
            not_after: at,
            renew_at: at,
            failures: 1,
            unjudged: 1,
            fallback_failures: 1,
            fallback_at: at,
            retry_at: at,
            problem: text,
            failed_at: vec![SystemTime::UNIX_EPOCH],
            failing_since: at,
            stopped_at: None,
            denied_since: at,
        };
        let stopped = OrderRecord { stopped_at: at, ..full.clone() };
        let written: std::collections::BTreeSet<_> =
            [full, stopped].iter().flat_map(|record| record.write().into_keys()).collect();
        let put = WHOLE.concat().into_iter().chain(["pk", "sk"]).map(str::to_owned).collect();
        assert_eq!(written, put);
    }

    #[test]
    fn an_empty_text_is_none_and_is_not_written() {
        let name = Pattern::parse("a.example").unwrap();
        let empty = Some(String::new());
        let record = OrderRecord { issuer: empty.clone(), problem: empty, ..OrderRecord::new(&name) };
        assert_eq!(record.write(), OrderRecord::new(&name).write());
        let mut item = key(&name);
        item.extend(
            ["issuer", "directory", "account", "serial", "problem"].map(|name| (name.to_owned(), text(""))),
        );
        assert_eq!(OrderRecord::read(&name, &item), Some(OrderRecord::new(&name)));
    }

    async fn attributes(store: &Store, name: &Pattern) -> Item {
        find_item(store, name).await.unwrap().unwrap_or_default()
    }

    /// Tenants have names tried again by the API.
    #[tokio::test]
    async fn whatever_is_written_of_failures_the_table_forgets_it_one_day() {
        let store = crate::store::fixture::faulty_with_tables("seed=43,stale=2s,throttle=10").await;
        let name = Pattern::parse("a.example").unwrap();
        let failed = OrderRecord { failures: 2, retry_at: Some(clock::wall()), ..OrderRecord::new(&name) };
        put_failure(&store, &failed).await.unwrap();
        put_failure(&store, &failed.without_failures()).await.unwrap();
        let expires = |item: &Item| item["expires_at"].as_n().unwrap().parse::<u64>().unwrap();
        let now = epoch_millis(clock::wall()) / 1000;
        assert!(expires(&attributes(&store, &name).await).abs_diff(now + KEPT.as_secs()) < 60);
        // Of a certificate whose record the table has forgotten meanwhile.
        let name = Pattern::parse("b.example").unwrap();
        let renewed = OrderRecord {
            serial: Some("01".to_owned()),
            not_after: Some(clock::wall()),
            renew_at: Some(clock::wall()),
            failures: 2,
            ..OrderRecord::new(&name)
        };
        put_failure(&store, &renewed).await.unwrap();
        let item = attributes(&store, &name).await;
        assert!(expires(&item).abs_diff(now + KEPT.as_secs()) < 60);
        assert_eq!((item.contains_key("failures"), item.contains_key("due")), (true, false));
    }

    mod properties {
        use super::*;

        proptest! {
            #[test]
            fn records_read_back_as_they_were_written(
                texts in proptest::collection::vec(proptest::option::of("\\PC{1,20}"), 5),
                seconds in proptest::collection::vec(proptest::option::of(0_u64..4_000_000_000), 7),
                failures: u32,
                unjudged: u32,
            ) {
                let name = Pattern::parse("a.example").unwrap();
                let at = |n: usize| seconds[n].map(|s| SystemTime::UNIX_EPOCH + Duration::from_secs(s));
                let record = OrderRecord {
                    issuer: texts[0].clone(), directory: texts[1].clone(), account: texts[2].clone(),
                    serial: texts[3].clone(), problem: texts[4].clone(),
                    not_after: at(0), renew_at: at(1), retry_at: at(2), failing_since: at(3), stopped_at: at(4), denied_since: at(5), failures, unjudged,
                    fallback_failures: unjudged, fallback_at: at(6),
                    failed_at: seconds.iter().flatten().map(|s| SystemTime::UNIX_EPOCH + Duration::from_secs(*s)).collect(),
                    ..OrderRecord::new(&name)
                };
                prop_assert_eq!(OrderRecord::read(&name, &record.write()).unwrap(), record);
            }

            #[test]
            fn no_item_panics(attribute in "[a-z_]{1,12}", text in "\\PC{0,40}", number: bool) {
                let name = Pattern::parse("a.example").unwrap();
                let value = if number { AttributeValue::N(text) } else { AttributeValue::S(text) };
                let mut item = key(&name);
                item.insert(attribute, value);
                let _ = (OrderRecord::read(&name, &item), crate::store::state_table::renewals::read_due(&item));
            }
        }
    }
}
