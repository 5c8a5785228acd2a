//! The fleet's lease on a name's order: Caddy's lock item, taken and released by conditional writes.
//!
//! It saves orders; it is no mutual exclusion, since Caddy puts and deletes its locks blindly. Safety is the commit.

use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::types::AttributeValue;

use super::{
    contents::{ItemContents, Version},
    item, keys,
};
use crate::{
    name::ServerName,
    store::{Item, Store, StoreError, state_table::lease::Holder},
};

/// A lock that was held when it was taken.
#[derive(Debug, Clone)]
pub struct Lock {
    key: String,
    holder: Holder,
}

/// The outcome of taking a lock.
#[derive(Debug, Clone)]
pub enum LockOutcome {
    /// It is ours.
    Hold(Lock),
    /// Another instance, or Caddy, holds it.
    Busy,
}

impl Lock {
    /// Takes the lock of `name` for `life` if nobody holds it at `now`. Each taking has an owner of its own: a process may take
    /// the lock for two purposes.
    pub async fn take(
        store: &Store,
        name: &ServerName,
        life: Duration,
        now: SystemTime,
    ) -> Result<LockOutcome, StoreError> {
        let holder = Holder::random().map_err(|error| StoreError::Unavailable(error.into()))?;
        let lock = Self { key: keys::lock(name), holder };
        let there = lock.read(store).await?;
        if there.as_ref().is_some_and(|item| lasts(item, now)) {
            return Ok(LockOutcome::Busy);
        }
        let (unchanged, values) = Version::unchanged(there.as_ref().map(Version::of).as_ref());
        let put = lock.put(store, now + life, now).condition_expression(unchanged);
        let put = put.set_expression_attribute_values(values);
        match put.send().await.map_err(StoreError::from) {
            Ok(_) => Ok(LockOutcome::Hold(lock)),
            // The SDK may have written it, lost the answer, and met its own write when it tried again.
            Err(StoreError::Conflict) if lock.is_ours(lock.read(store).await?.as_ref()) => {
                Ok(LockOutcome::Hold(lock))
            }
            Err(StoreError::Conflict) => Ok(LockOutcome::Busy),
            Err(error) => Err(error),
        }
    }

    /// One that was never taken.
    #[cfg(test)]
    pub(crate) fn untaken(name: &ServerName) -> Self {
        Self { key: keys::lock(name), holder: Holder::random().unwrap() }
    }

    async fn read(&self, store: &Store) -> Result<Option<Item>, StoreError> {
        let get = store.client().get_item().table_name(&store.tables().certificates).consistent_read(true);
        Ok(get.set_key(Some(item::key(&self.key))).send().await?.item)
    }

    fn is_ours(&self, item: Option<&Item>) -> bool {
        let owner = item.and_then(|item| item.get(OWNER)?.as_s().ok());
        owner.is_some_and(|owner| owner == self.holder.as_str())
    }

    /// Holds it for `life` from `now`; `false` when it was lost.
    pub async fn renew(&self, store: &Store, life: Duration, now: SystemTime) -> Result<bool, StoreError> {
        let put = self.put(store, now + life, now).condition_expression("#owner = :owner");
        let put = put.expression_attribute_names("#owner", OWNER);
        let put =
            put.expression_attribute_values(":owner", AttributeValue::S(self.holder.as_str().to_owned()));
        match put.send().await.map_err(StoreError::from) {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives it up, unless it was lost already.
    pub async fn release(self, store: &Store) -> Result<(), StoreError> {
        let delete = store.client().delete_item().table_name(&store.tables().certificates);
        let delete = delete.set_key(Some(item::key(&self.key))).condition_expression("#owner = :owner");
        let delete = delete.expression_attribute_names("#owner", OWNER);
        let owner = AttributeValue::S(self.holder.as_str().to_owned());
        match delete.expression_attribute_values(":owner", owner).send().await.map_err(StoreError::from) {
            Ok(_) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn put(
        &self,
        store: &Store,
        until: SystemTime,
        now: SystemTime,
    ) -> aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder {
        // Anything but an RFC 3339 instant in `Contents` makes Caddy's handshakes fail.
        let mut item = item::item(&self.key, item::instant(until).as_bytes(), now);
        item.insert(OWNER.to_owned(), AttributeValue::S(self.holder.as_str().to_owned()));
        store.client().put_item().table_name(&store.tables().certificates).set_item(Some(item))
    }
}

/// What is malformed has ended: waiting for it would last for ever. So has what no lock lasts to, Caddy's five minutes least of all: a
/// clock that was wrong has written it.
fn lasts(item: &Item, now: SystemTime) -> bool {
    let contents = ItemContents::of(item).ok();
    let until = contents.and_then(|text| std::str::from_utf8(&text).ok().and_then(item::parse_instant));
    until.is_some_and(|until| now < until && until <= now + LONGEST)
}

const OWNER: &str = "Owner";
const LONGEST: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_last_until_their_instant_whatever_its_offset() {
        let now = item::parse_instant("2026-11-24T02:00:00Z").unwrap();
        for (text, held) in [
            ("2026-11-24T02:00:01Z", true),
            ("2026-11-24T01:59:59Z", false),
            ("2026-11-24T02:00:00Z", false),
            ("2026-11-24T03:30:00+02:00", false),
            ("2026-11-23T21:30:00-05:00", true),
            ("2026-11-24T02:00:00.5Z", true),
            ("2026-11-25T02:00:00Z", true),
            ("2026-11-25T02:00:01Z", false),
            ("2027-11-24T02:00:00Z", false),
            ("", false),
            ("soon", false),
            ("{\"created\":\"2026-11-24T02:00:01Z\"}", false),
            ("9999999999", false),
        ] {
            assert_eq!(lasts(&item::item("LOCK-x", text.as_bytes(), now), now), held, "{text}");
        }
        for broken in [Item::new(), item::key("LOCK-x")] {
            assert!(!lasts(&broken, now), "{broken:?}");
        }
    }
}
