//! The fleet's lease on a name's order: Caddy's lock item, taken and released by conditional writes.
//!
//! It saves orders; it is no mutual exclusion, since Caddy puts and deletes its locks blindly. Safety is the commit.
//! certmagic-storage-dynamodb has had two forms of it: until 3.0 `Contents` is when the lock ends, from 3.1 on `ExpiresAt` is, and `LockID`
//! whose it is. Our items have both forms, and an item is held while either says so (`both_forms_of_caddys_locks_are_held`).

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use aws_sdk_dynamodb::types::AttributeValue;

use super::{
    contents::ItemContents,
    item::{self, CONTENTS, PRIMARY},
    keys,
};
use crate::{
    name::Pattern,
    store::{Item, Store, StoreError, if_held, instant::epoch_millis, state_table::lease::Holder},
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
        name: &Pattern,
        life: Duration,
        now: SystemTime,
    ) -> Result<LockOutcome, StoreError> {
        let lock = Self { key: keys::lock(name), holder: Holder::of_one_write()? };
        let there = lock.read(store).await?;
        if there.as_ref().is_some_and(|item| lasts(item, now)) {
            return Ok(LockOutcome::Busy);
        }
        lock.replace(store, there.as_ref(), life, now).await
    }

    /// Takes it in the place of `seen`, unless another was there first.
    async fn replace(
        self,
        store: &Store,
        seen: Option<&Item>,
        life: Duration,
        now: SystemTime,
    ) -> Result<LockOutcome, StoreError> {
        let (unchanged, values) = unchanged(seen);
        let put = self.put(store, now + life, now).condition_expression(unchanged);
        let put = put.set_expression_attribute_values(values);
        match put.send().await.map_err(StoreError::from) {
            Ok(_) => Ok(LockOutcome::Hold(self)),
            Err(StoreError::Conflict) if self.is_ours(self.read(store).await?.as_ref()) => {
                Ok(LockOutcome::Hold(self))
            }
            Err(StoreError::Conflict) => Ok(LockOutcome::Busy),
            Err(error) => Err(error),
        }
    }

    /// One that was never taken.
    #[cfg(test)]
    pub(crate) fn untaken(name: &Pattern) -> Self {
        Self { key: keys::lock(name), holder: Holder::random().unwrap() }
    }

    async fn read(&self, store: &Store) -> Result<Option<Item>, StoreError> {
        let get = store.client().get_item().table_name(&store.tables().certificates).consistent_read(true);
        Ok(get.set_key(Some(item::key(&self.key))).send().await?.item)
    }

    fn is_ours(&self, item: Option<&Item>) -> bool {
        let holder = item.and_then(|item| item.get(HOLDER)?.as_s().ok());
        holder.is_some_and(|holder| holder == self.holder.as_str())
    }

    /// Holds it for `life` from `now`; `false` when it was lost.
    pub async fn renew(&self, store: &Store, life: Duration, now: SystemTime) -> Result<bool, StoreError> {
        let put = self.put(store, now + life, now).condition_expression(IS_OURS);
        let put = put.expression_attribute_values(OURS, AttributeValue::S(self.holder.as_str().to_owned()));
        if_held(put.send().await).map(|held| held.is_some())
    }

    /// Gives it up, unless it was lost already.
    pub async fn release(self, store: &Store) -> Result<(), StoreError> {
        let delete = store.client().delete_item().table_name(&store.tables().certificates);
        let delete = delete.set_key(Some(item::deleted(&self.key))).condition_expression(IS_OURS);
        let holder = AttributeValue::S(self.holder.as_str().to_owned());
        if_held(delete.expression_attribute_values(OURS, holder).send().await).map(drop)
    }

    fn put(
        &self,
        store: &Store,
        until: SystemTime,
        now: SystemTime,
    ) -> aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder {
        // Anything but an RFC 3339 instant in `Contents` makes Caddy's handshakes fail.
        let mut item = item::item(&self.key, item::instant(until).as_bytes(), now);
        item.insert(HOLDER.to_owned(), AttributeValue::S(self.holder.as_str().to_owned()));
        item.insert(UNTIL.to_owned(), AttributeValue::N((epoch_millis(until) / 1000).to_string()));
        store.client().put_item().table_name(&store.tables().certificates).set_item(Some(item))
    }
}

/// What is malformed has ended: waiting for it would last for ever. So has what no lock lasts to, Caddy's five minutes least of all: a
/// clock that was wrong has written it.
fn lasts(item: &Item, now: SystemTime) -> bool {
    let contents = ItemContents::of(item).ok();
    let until = contents.and_then(|text| std::str::from_utf8(&text).ok().and_then(item::parse_instant));
    let seconds = item.get(UNTIL).and_then(|until| until.as_n().ok()?.parse().ok());
    let later = seconds.and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    [until, later].into_iter().flatten().any(|until| now < until && until <= now + LONGEST)
}

/// The condition that the item is what was read as `item`, and the values it names: whoever refreshes a lock changes one of these. One
/// that has none of them may be gone meanwhile: then too nobody holds it.
fn unchanged(item: Option<&Item>) -> (String, Option<HashMap<String, AttributeValue>>) {
    let Some(item) = item else { return (format!("attribute_not_exists({PRIMARY})"), None) };
    let read = |attribute| item.get(attribute).map(|value| (format!(":{attribute}"), value.clone()));
    let condition = |attribute| match item.get(attribute) {
        Some(_) => format!("{attribute} = :{attribute}"),
        None => format!("attribute_not_exists({attribute})"),
    };
    let conditions = LOCK_ATTRIBUTES.map(condition).join(" AND ");
    let values: HashMap<_, _> = LOCK_ATTRIBUTES.into_iter().filter_map(read).collect();
    (conditions, Some(values).filter(|values| !values.is_empty()))
}

const LOCK_ATTRIBUTES: [&str; 3] = [CONTENTS, HOLDER, UNTIL];
/// Whose a lock is.
const HOLDER: &str = "LockID";
/// When it ends, in seconds since the epoch.
const UNTIL: &str = "ExpiresAt";
const IS_OURS: &str = "LockID = :ours";
const OURS: &str = ":ours";
const LONGEST: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::StoreConfig,
        store::{Engine, fixture::faulty_with_tables, tables},
    };

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

    const SITE: &str = "shop.example";
    const LIFE: Duration = Duration::from_mins(5);

    async fn store() -> Store {
        let store = Store::on(Engine::in_memory().unwrap(), &StoreConfig::default());
        tables::create(&store).await.unwrap();
        store
    }

    #[tokio::test]
    async fn an_ended_lock_is_taken_only_as_it_was_read() {
        let (store, now) = (store().await, SystemTime::now());
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let contents = |seconds| {
            let until = item::instant(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            (CONTENTS, text(&item::encode(until.as_bytes())))
        };
        let until = |seconds: u64| (UNTIL, AttributeValue::N(seconds.to_string()));
        for (case, read, there) in [
            (
                "3.1 has refreshed it",
                Some(vec![(HOLDER, text("a")), until(1)]),
                vec![(HOLDER, text("a")), until(2)],
            ),
            ("3.0 has refreshed it", Some(vec![contents(1)]), vec![contents(2)]),
            (
                "another has it",
                Some(vec![(HOLDER, text("a")), until(1)]),
                vec![(HOLDER, text("b")), until(1)],
            ),
            ("3.0 has taken it from 3.1", Some(vec![(HOLDER, text("a")), until(1)]), vec![contents(1)]),
            ("a malformed one was replaced", Some(vec![]), vec![contents(1)]),
            ("there was none", None, vec![(HOLDER, text("a")), until(1)]),
        ] {
            let lock = Lock::untaken(&Pattern::parse(SITE).unwrap());
            let item = |attributes: &[(&str, AttributeValue)]| {
                let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
                item::key(&lock.key).into_iter().chain(attributes).collect::<Item>()
            };
            let put = store.client().put_item().table_name(&store.tables().certificates);
            put.set_item(Some(item(&there))).send().await.unwrap();
            let (read, there) = (read.map(|read| item(&read)), item(&there));
            let late = lock.clone().replace(&store, read.as_ref(), LIFE, now).await.unwrap();
            assert!(matches!(late, LockOutcome::Busy), "{case}");
            let taken = lock.replace(&store, Some(&there), LIFE, now).await.unwrap();
            assert!(matches!(taken, LockOutcome::Hold(_)), "{case}");
        }
    }

    #[tokio::test]
    async fn a_lock_that_was_taken_is_held_though_the_answer_was_lost() {
        let store = faulty_with_tables("seed=4,lost=300").await;
        let (site, now) = (Pattern::parse(SITE).unwrap(), SystemTime::now());
        for n in 1..=20 {
            let outcome = Lock::take(&store, &site, LIFE, now + LIFE * n).await;
            assert!(matches!(outcome.unwrap(), LockOutcome::Hold(_)), "{n}");
        }
    }

    #[test]
    fn a_lock_is_ours_by_its_holder() {
        let site = Pattern::parse(SITE).unwrap();
        let (one, other) = (Lock::untaken(&site), Lock::untaken(&site));
        let holder = AttributeValue::S(one.holder.as_str().to_owned());
        let item = Item::from([(HOLDER.to_owned(), holder)]);
        assert!(one.is_ours(Some(&item)));
        assert!(!other.is_ours(Some(&item)));
        assert!(!one.is_ours(Some(&Item::new())));
        assert!(!one.is_ours(None));
    }

    /// What certmagic-storage-dynamodb 3.1 writes, by its own conditions.
    mod later_form {
        use super::*;

        fn seconds(at: SystemTime) -> AttributeValue {
            AttributeValue::N((epoch_millis(at) / 1000).to_string())
        }

        async fn caddy_takes(store: &Store, key: &str, now: SystemTime) -> bool {
            let put = store.client().put_item().table_name(&store.tables().certificates);
            let put = put.set_item(Some(item::key(key))).item(HOLDER, AttributeValue::S("caddy".to_owned()));
            let put = put.item(UNTIL, seconds(now + LIFE));
            let put = put.condition_expression("attribute_not_exists(PrimaryKey) OR ExpiresAt < :now");
            let put = put.expression_attribute_values(":now", seconds(now));
            match put.send().await.map_err(StoreError::from) {
                Ok(_) => true,
                Err(StoreError::Conflict) => false,
                Err(error) => panic!("{error}"),
            }
        }

        async fn caddy_refreshes(store: &Store, key: &str, now: SystemTime) {
            let update = store.client().update_item().table_name(&store.tables().certificates);
            let update = update.set_key(Some(item::key(key))).update_expression("SET ExpiresAt = :until");
            let update = update.condition_expression("LockID = :id");
            let update = update.expression_attribute_values(":id", AttributeValue::S("caddy".to_owned()));
            update.expression_attribute_values(":until", seconds(now + LIFE)).send().await.unwrap();
        }

        async fn take(store: &Store, name: &Pattern, now: SystemTime) -> Option<Lock> {
            match Lock::take(store, name, LIFE, now).await.unwrap() {
                LockOutcome::Hold(lock) => Some(lock),
                LockOutcome::Busy => None,
            }
        }

        #[tokio::test]
        async fn both_forms_of_caddys_locks_are_held() {
            let store = faulty_with_tables("seed=7,stale=2s,throttle=10,conflict=10").await;
            let (name, now) = (Pattern::parse("shop.example").unwrap(), SystemTime::now());
            let key = keys::lock(&name);
            assert!(caddy_takes(&store, &key, now).await);
            assert!(take(&store, &name, now + LIFE / 2).await.is_none(), "3.1 holds it");
            caddy_refreshes(&store, &key, now + LIFE / 2).await;
            assert!(take(&store, &name, now + LIFE).await.is_none(), "and has refreshed it");
            let later = now + LIFE * 2;
            let lock = take(&store, &name, later).await.expect("it has ended");
            assert!(!caddy_takes(&store, &key, later + LIFE / 2).await, "3.1 sees ours");
            let item = lock.read(&store).await.unwrap().unwrap();
            let contents = ItemContents::of(&item).unwrap();
            let until = item::parse_instant(std::str::from_utf8(&contents).unwrap()).unwrap();
            assert!(until > later + LIFE / 2, "2.x and 3.0 see ours");
            assert!(lock.renew(&store, LIFE, later + LIFE / 2).await.unwrap());
            assert!(!caddy_takes(&store, &key, later + LIFE).await, "and that it was renewed");
            assert!(caddy_takes(&store, &key, later + LIFE * 2).await);
            assert!(!lock.renew(&store, LIFE, later + LIFE * 2).await.unwrap(), "it is not ours any more");
            lock.release(&store).await.unwrap();
            assert!(take(&store, &name, later + LIFE * 2).await.is_none(), "nor ours to release");
        }
    }
}
