//! The list of the operator's own certificates: the item `own`/`certificates`. The certificates themselves lie in the certificate
//! table; the list tells every instance that they have changed, and operators when they end.
//! Not here: which certificate is presented (`certificates`).
//! Invariants: of changes at the same time none is lost (`changes_at_the_same_time_are_all_kept`); a list that was made by hand
//! causes no panic, and what cannot be read of it counts as absent (`no_item_panics`).

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, SystemTime},
};

use aws_sdk_dynamodb::types::AttributeValue;

use super::item;
use crate::{
    backoff::Backoff,
    name::Pattern,
    store::{Item, Store, StoreError, instant::Micros},
};

/// Own certificates by what they are stored under.
pub type OwnCertificates = BTreeMap<Pattern, OwnCertificate>;

/// What the list says of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnCertificate {
    /// Hexadecimal.
    pub serial: String,
    /// End of its life.
    pub not_after: SystemTime,
}

/// Reads the list. Consistent, so that a list that was seen is never seen older.
pub async fn find_own(store: &Store) -> Result<OwnCertificates, StoreError> {
    Ok(read(&find(store).await?))
}

/// Changes the list by `change`, which may be called more than once.
pub async fn change_own(
    store: &Store,
    change: impl Fn(&mut OwnCertificates),
) -> Result<OwnCertificates, StoreError> {
    for round in 0..ROUNDS {
        tokio::time::sleep(CONTENDED.after(round)).await;
        let item = find(store).await?;
        let mut list = read(&item);
        let before = list.clone();
        change(&mut list);
        if list == before {
            return Ok(list);
        }
        match replace(store, &list, item.get("version")).await {
            Ok(()) => return Ok(list),
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::Conflict)
}

async fn find(store: &Store) -> Result<Item, StoreError> {
    item::find(store, PARTITION, SORT).await.map(Option::unwrap_or_default)
}

async fn replace(
    store: &Store,
    list: &OwnCertificates,
    version: Option<&AttributeValue>,
) -> Result<(), StoreError> {
    let number = version.and_then(|version| version.as_n().ok()?.parse::<u64>().ok());
    let next = number.unwrap_or_default().saturating_add(1);
    let entries = list.iter().map(|(pattern, own)| (pattern.to_string(), write(own))).collect();
    let update = store.client().update_item().table_name(&store.tables().state);
    let update = update
        .key("pk", AttributeValue::S(PARTITION.to_owned()))
        .key("sk", AttributeValue::S(SORT.to_owned()))
        .update_expression("SET certificates = :certificates, version = :next")
        .expression_attribute_values(":certificates", AttributeValue::M(entries))
        .expression_attribute_values(":next", AttributeValue::N(next.to_string()));
    let update = match version {
        None => update.condition_expression("attribute_not_exists(version)"),
        Some(version) => update
            .condition_expression("version = :version")
            .expression_attribute_values(":version", version.clone()),
    };
    update.send().await?;
    Ok(())
}

fn write(own: &OwnCertificate) -> AttributeValue {
    AttributeValue::M(HashMap::from([
        ("serial".to_owned(), AttributeValue::S(own.serial.clone())),
        ("not_after".to_owned(), AttributeValue::S(Micros::of(own.not_after).to_string())),
    ]))
}

fn read(item: &Item) -> OwnCertificates {
    let entries = item.get("certificates").and_then(|entries| entries.as_m().ok());
    let entry = |(pattern, entry): (&String, &AttributeValue)| {
        let text = |attribute: &str| entry.as_m().ok()?.get(attribute)?.as_s().ok();
        let not_after = Duration::from_micros(Micros::parse(text("not_after")?)?.since_epoch());
        let not_after = SystemTime::UNIX_EPOCH.checked_add(not_after)?;
        Some((Pattern::parse(pattern).ok()?, OwnCertificate { serial: text("serial")?.clone(), not_after }))
    };
    entries.into_iter().flatten().take(MOST_OWN).filter_map(entry).collect()
}

/// Names that own certificates may be stored under, together: an item has room for twice as many (400 KB).
pub const MOST_OWN: usize = 1000;
const PARTITION: &str = "own";
const SORT: &str = "certificates";
const ROUNDS: u32 = 8;
const CONTENDED: Backoff = Backoff::doubling(Duration::from_millis(20), Duration::from_millis(500));

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::fixture::faulty_with_tables;

    fn own(serial: &str) -> OwnCertificate {
        OwnCertificate {
            serial: serial.to_owned(),
            not_after: SystemTime::UNIX_EPOCH + Duration::from_hours(500_000),
        }
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[tokio::test]
    async fn changes_at_the_same_time_are_all_kept() {
        let store = faulty_with_tables("seed=3,stale=2s,throttle=10,conflict=10").await;
        assert_eq!(find_own(&store).await.unwrap(), OwnCertificates::new());
        let mut changes = tokio::task::JoinSet::new();
        for n in 0..6 {
            let store = store.clone();
            changes.spawn(async move {
                let name = pattern(&format!("*.n{n}.example"));
                change_own(&store, |list| drop(list.insert(name.clone(), own(&n.to_string())))).await
            });
        }
        assert!(changes.join_all().await.iter().all(Result::is_ok));
        let list = change_own(&store, |list| drop(list.remove(&pattern("*.n2.example")))).await.unwrap();
        assert_eq!(list.len(), 5);
        assert_eq!(list[&pattern("*.n4.example")], own("4"));
        assert_eq!(change_own(&store, |_| ()).await.unwrap(), list);
    }

    proptest! {
        #[test]
        fn no_item_panics(name in "\\PC{0,20}", serial in "\\PC{0,20}", at in "\\PC{0,30}") {
            let entry = HashMap::from([
                ("serial".to_owned(), AttributeValue::S(serial)),
                ("not_after".to_owned(), AttributeValue::S(at.clone())),
            ]);
            for entry in [AttributeValue::M(entry), AttributeValue::S(at)] {
                let entries = AttributeValue::M(HashMap::from([(name.clone(), entry.clone())]));
                let _ = read(&Item::from([("certificates".to_owned(), entries)]));
                let _ = read(&Item::from([("certificates".to_owned(), entry)]));
            }
        }
    }
}
