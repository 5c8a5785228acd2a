//! Which patterns a full reading has seen, in little memory.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
};

use crate::name::Pattern;

/// Patterns of which the table was seen to say something, as hashes: eight bytes for each. Two that share one let an entry that is gone
/// stay until the next reading, which has another key.
#[derive(Debug, Default)]
pub(super) struct SeenPatterns {
    key: RandomState,
    hashes: HashSet<u64>,
}

impl SeenPatterns {
    pub(super) fn insert(&mut self, pattern: &Pattern) {
        self.hashes.insert(self.key.hash_one(pattern));
    }

    pub(super) fn contains(&self, pattern: &Pattern) -> bool {
        self.hashes.contains(&self.key.hash_one(pattern))
    }
}
