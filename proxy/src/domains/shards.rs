//! A map in shards: a change copies the shard it falls in, and shares the others with earlier clones.
//! Not here: what is stored in it (`snapshot`, `patterns`).
//! Invariants: two maps have a key in the same shard, so that differences are found by comparing shards
//! (`what_differs_is_found_whatever_was_done_between`); a clone never changes (`a_clone_stays_as_it_was`).

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, LazyLock},
};

/// A persistent map; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Shards<K, V> {
    /// [`PARTS`] of them.
    parts: Arc<[Arc<ShardPart<K, V>>]>,
    len: usize,
}

pub(super) type ShardPart<K, V> = HashMap<K, V, RandomState>;

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        let empty = Arc::new(ShardPart::with_hasher(KEYS.clone()));
        Self { parts: std::iter::repeat_n(empty, PARTS).collect(), len: 0 }
    }
}

impl<K: Hash + Eq, V> Shards<K, V> {
    pub(super) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.parts.get(place(key))?.get(key)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.parts.iter().flat_map(|part| part.iter())
    }

    /// Parts in which this map may differ from `older`, as they are and as they were.
    pub(super) fn differing<'a>(
        &'a self,
        older: &'a Self,
    ) -> impl Iterator<Item = (&'a ShardPart<K, V>, &'a ShardPart<K, V>)> {
        let pairs = self.parts.iter().zip(older.parts.iter());
        pairs.filter(|(new, old)| !Arc::ptr_eq(new, old)).map(|(new, old)| (&**new, &**old))
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Shards<K, V> {
    /// The value that was there before.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let former = self.part(&key).and_then(|part| part.insert(key, value));
        self.len += usize::from(former.is_none());
        former
    }

    /// The value that was there; nothing is copied when there was none.
    pub(super) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.get(key)?;
        let former = self.part(key).and_then(|part| part.remove(key));
        self.len -= usize::from(former.is_some());
        former
    }

    /// Removes what is not `kept`; parts that hold nothing of it stay shared.
    pub(super) fn retain(&mut self, kept: impl Fn(&V) -> bool) {
        let leaving: Vec<K> =
            self.iter().filter(|(_, value)| !kept(value)).map(|(key, _)| key.clone()).collect();
        for key in &leaving {
            self.remove(key);
        }
    }

    fn part<Q: Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut ShardPart<K, V>> {
        Arc::make_mut(&mut self.parts).get_mut(place(key)).map(Arc::make_mut)
    }
}

/// By bits in the middle: a part's own table goes by those at both ends.
fn place<Q: Hash + ?Sized>(key: &Q) -> usize {
    let [_, _, _, high, low, ..] = KEYS.hash_one(key).to_be_bytes();
    usize::from(u16::from_be_bytes([high, low])) % PARTS
}

/// A change of a hundred thousand entries copies a hundred of them and a thousand pointers: some ten microseconds.
const PARTS: usize = 1024;
/// Drawn once, so that nobody who chooses names can choose their part, and any two maps can be compared.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_stays_as_it_was() {
        let mut map = Shards::default();
        assert_eq!(map.insert("a", 1), None);
        let before = map.clone();
        assert_eq!(map.insert("a", 2), Some(1));
        assert_eq!(map.insert("b", 3), None);
        assert_eq!(map.remove("a"), Some(2));
        assert_eq!(map.remove("a"), None);
        assert_eq!((before.get("a"), before.get("b"), before.len()), (Some(&1), None, 1));
        assert_eq!((map.get("a"), map.get("b"), map.len()), (None, Some(&3), 1));
    }

    #[test]
    fn a_change_copies_one_part() {
        let mut map: Shards<u32, ()> = Shards::default();
        for key in 0..50_000 {
            map.insert(key, ());
        }
        let before = map.clone();
        map.insert(50_000, ());
        assert_eq!(map.differing(&before).count(), 1);
        map.remove(&60_000);
        assert_eq!(map.differing(&before).count(), 1, "what is not there is not removed");
        assert!(map.parts.iter().all(|part| part.len() < 200), "keys are spread");
    }

    #[test]
    fn what_is_not_kept_leaves_and_nothing_else_is_copied() {
        let mut map: Shards<u32, bool> =
            (0..1_000).map(|key| (key, key != 7)).fold(Shards::default(), |mut map, (key, kept)| {
                map.insert(key, kept);
                map
            });
        let before = map.clone();
        map.retain(|kept| *kept);
        assert_eq!((map.len(), map.get(&7), map.get(&8)), (999, None, Some(&true)));
        assert_eq!(map.differing(&before).count(), 1);
    }
}
