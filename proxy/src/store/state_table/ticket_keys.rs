//! The keys of session tickets that instances share: the item `tickets`/`keys`.
//! Not here: which keys there must be, and when (`tls::tickets`).
//! Invariants: of instances that replace the same keys one does (`of_many_that_replace_the_keys_one_does`); a key that is not as
//! ours are is none (`what_is_no_key_is_left_out`); a secret is encrypted as private keys are.

use std::{collections::HashMap, time::SystemTime};

use aws_sdk_dynamodb::types::AttributeValue;

use super::item::find;
use crate::{
    config::LONGEST_TICKET_KEY_PERIOD,
    hexadecimal::hexadecimal,
    store::{
        Item, Store, StoreError, if_held,
        instant::{Micros, epoch_millis},
        key_sealer::{KeySealer, SealedKey},
    },
    tls::tickets::{KeyName, KeySet, TicketKey, TicketSecret},
};

/// The keys as they were read, and what a write must find unchanged.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoredKeys {
    /// Those that can be used.
    pub keys: KeySet,
    /// As the item holds it, whatever its type.
    version: Option<AttributeValue>,
}

impl StoredKeys {
    /// Reads them.
    pub async fn find(store: &Store) -> Result<Self, StoreError> {
        match find(store, PARTITION, SORT).await? {
            Some(item) => Self::read(&item, &store.sealer).await,
            None => Ok(Self::default()),
        }
    }

    async fn read(item: &Item, sealer: &KeySealer) -> Result<Self, StoreError> {
        let listed = item.get("keys").and_then(|keys| keys.as_l().ok());
        let mut keys = Vec::new();
        for key in listed.into_iter().flatten().take(MOST_KEYS) {
            keys.extend(read_key(key, sealer).await?);
        }
        Ok(Self { keys: keys.into_iter().collect(), version: item.get("version").cloned() })
    }

    /// Writes `keys` in the place of these; whether they were still these.
    pub async fn replace(&self, store: &Store, keys: &KeySet) -> Result<bool, StoreError> {
        let number = self.version.as_ref().and_then(|version| version.as_n().ok()?.parse::<u64>().ok());
        let next = number.unwrap_or_default().saturating_add(1);
        let expires = keys.iter().map(|key| key.opens_until).max().unwrap_or(SystemTime::UNIX_EPOCH);
        let mut listed = Vec::new();
        for key in keys.iter() {
            listed.push(write_key(key, &store.sealer).await?);
        }
        let update = store.client().update_item().table_name(&store.tables().state);
        let update = update
            .key("pk", AttributeValue::S(PARTITION.to_owned()))
            .key("sk", AttributeValue::S(SORT.to_owned()))
            .update_expression("SET #keys = :keys, version = :next, expires_at = :expires")
            .expression_attribute_names("#keys", "keys")
            .expression_attribute_values(":keys", AttributeValue::L(listed))
            .expression_attribute_values(":next", AttributeValue::N(next.to_string()))
            .expression_attribute_values(
                ":expires",
                AttributeValue::N((epoch_millis(expires) / 1000).to_string()),
            );
        let update = match &self.version {
            None => update.condition_expression("attribute_not_exists(version)"),
            Some(version) => update
                .condition_expression("version = :version")
                .expression_attribute_values(":version", version.clone()),
        };
        if_held(update.send().await).map(|held| held.is_some())
    }
}

async fn write_key(key: &TicketKey, sealer: &KeySealer) -> Result<AttributeValue, StoreError> {
    let encrypted = sealer.seal(key.secret.as_bytes(), &context(&key.name.0)).await?;
    let instant = |at| AttributeValue::S(Micros::of(at).to_string());
    Ok(AttributeValue::M(HashMap::from([
        ("name".to_owned(), AttributeValue::B(key.name.0.to_vec().into())),
        ("seals_from".to_owned(), instant(key.seals_from)),
        ("seals_until".to_owned(), instant(key.seals_until)),
        ("opens_until".to_owned(), instant(key.opens_until)),
        ("secret".to_owned(), AttributeValue::B(encrypted.contents().to_vec().into())),
    ])))
}

/// What a secret is encrypted for.
fn context(name: &[u8]) -> String {
    format!("{PARTITION}/{SORT}/{}", hexadecimal(name))
}

/// A key of the list; `None` for one that is not complete, was changed, or would be used for longer than any of ours.
async fn read_key(key: &AttributeValue, sealer: &KeySealer) -> Result<Option<TicketKey>, StoreError> {
    let Some((name, encrypted)) = read_sealed(key) else { return Ok(None) };
    let secret = sealer.open(encrypted, &context(&name.0)).await?;
    Ok(secret.ok().and_then(|secret| complete(key, name, &secret)))
}

fn read_sealed(key: &AttributeValue) -> Option<(KeyName, SealedKey)> {
    let key = key.as_m().ok()?;
    let bytes = |attribute: &str| key.get(attribute)?.as_b().ok().map(AsRef::as_ref);
    Some((KeyName(bytes("name")?.try_into().ok()?), SealedKey::read(bytes("secret")?.to_vec())))
}

fn complete(key: &AttributeValue, name: KeyName, secret: &[u8]) -> Option<TicketKey> {
    let key = key.as_m().ok()?;
    let instant = |attribute: &str| Some(Micros::parse(key.get(attribute)?.as_s().ok()?)?.at());
    let key = TicketKey {
        name,
        seals_from: instant("seals_from")?,
        seals_until: instant("seals_until")?,
        opens_until: instant("opens_until")?,
        secret: TicketSecret::read(secret)?,
    };
    let is_bounded = |from, until: SystemTime| {
        until.duration_since(from).is_ok_and(|span| span <= LONGEST_TICKET_KEY_PERIOD)
    };
    let is_ours = is_bounded(key.seals_from, key.seals_until) && is_bounded(key.seals_until, key.opens_until);
    is_ours.then_some(key)
}

const PARTITION: &str = "tickets";
const SORT: &str = "keys";
/// There are three: previous, current, next.
const MOST_KEYS: usize = 8;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::fixture::faulty_with_tables;

    async fn store() -> Store {
        faulty_with_tables("seed=3,stale=2s,throttle=10,conflict=10").await
    }

    fn at(hours: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(500_000 + hours)
    }

    fn key(hours: u64) -> TicketKey {
        TicketKey::random(at(hours), at(hours + 12), at(hours + 24)).unwrap()
    }

    #[tokio::test]
    async fn keys_are_read_as_they_were_written() {
        let store = store().await;
        assert_eq!(StoredKeys::find(&store).await.unwrap(), StoredKeys::default());
        let keys: KeySet = [key(0), key(12), key(24)].into_iter().collect();
        assert!(StoredKeys::default().replace(&store, &keys).await.unwrap());
        assert_eq!(StoredKeys::find(&store).await.unwrap().keys, keys);
    }

    #[tokio::test]
    async fn of_many_that_replace_the_keys_one_does() {
        let store = store().await;
        for round in 0..3 {
            let read = StoredKeys::find(&store).await.unwrap();
            let mut replaced = Vec::new();
            for n in 0..6 {
                let keys = read.keys.followed_by(key(round * 100 + n), at(0));
                if read.replace(&store, &keys).await.unwrap() {
                    replaced.push(keys);
                }
            }
            assert_eq!(replaced.len(), 1, "round {round}");
            assert_eq!(StoredKeys::find(&store).await.unwrap().keys, replaced[0]);
        }
    }

    #[tokio::test]
    async fn what_is_no_key_is_left_out_and_replaced() {
        let store = store().await;
        let good = write_key(&key(0), &KeySealer::Clear).await.unwrap();
        let changed = |attribute: &str, value: Option<AttributeValue>| {
            let mut key = good.as_m().unwrap().clone();
            key.remove(attribute);
            key.extend(value.map(|value| (attribute.to_owned(), value)));
            AttributeValue::M(key)
        };
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let instant = |hours| text(&Micros::of(at(hours)).to_string());
        let mut listed = vec![
            text("no map"),
            changed("secret", None),
            changed("secret", Some(AttributeValue::B(vec![0; 31].into()))),
            changed("name", Some(AttributeValue::B(vec![0; 17].into()))),
            changed("seals_from", Some(text("yesterday"))),
            changed("seals_from", Some(instant(13))),
            changed("opens_until", Some(instant(12 + 7 * 24))),
        ];
        assert_eq!(listed.len(), MOST_KEYS - 1);
        listed.extend(vec![good.clone(); 1000]);
        for version in [Some(text("seven")), Some(AttributeValue::Null(true)), None] {
            let put = store.client().put_item().table_name(&store.tables().state);
            let put = put.item("pk", text(PARTITION)).item("sk", text(SORT));
            let put = put.item("keys", AttributeValue::L(listed.clone()));
            let put = version.into_iter().fold(put, |put, version| put.item("version", version));
            put.send().await.unwrap();
            let found = StoredKeys::find(&store).await.unwrap();
            assert_eq!(found.keys.iter().count(), 1);
            assert!(found.replace(&store, &found.keys).await.unwrap());
            assert!(!found.replace(&store, &found.keys).await.unwrap());
        }
    }

    #[tokio::test]
    async fn no_item_panics() {
        for input in [&b"keys L x"[..], b"keys\nS\nx", b"version\nB\nx", b""] {
            let item = crate::store::fixture::item(input);
            let read = StoredKeys::read(&item, &KeySealer::Clear).await.unwrap();
            assert_eq!(read.keys, KeySet::default());
        }
    }
}
