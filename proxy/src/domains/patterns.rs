//! A set of patterns that is cheap to clone, to change and to compare with what it was.

use super::shards::{ShardPart, Shards};
use crate::name::Pattern;

/// Names and wildcards; a clone stays as it is.
#[derive(Debug, Clone, Default)]
pub struct Patterns(Shards<Pattern, ()>);

/// What has to be done to one set to make it another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// Patterns that were added.
    pub added: Vec<Pattern>,
    /// Patterns that were removed.
    pub removed: Vec<Pattern>,
}

impl Patterns {
    /// Whether exactly this pattern is in it.
    #[must_use]
    pub fn contains(&self, pattern: &Pattern) -> bool {
        self.0.get(pattern).is_some()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Pattern> {
        self.0.iter().map(|(pattern, ())| pattern)
    }

    /// The changes since `older`; the cost depends on their number.
    #[must_use]
    pub fn since(&self, older: &Self) -> Delta {
        let mut delta = Delta::default();
        for (new, old) in self.0.differing(&older.0) {
            delta.added.extend(missing(new, old));
            delta.removed.extend(missing(old, new));
        }
        delta
    }

    pub(super) fn insert(&mut self, pattern: Pattern) {
        if !self.contains(&pattern) {
            self.0.insert(pattern, ());
        }
    }

    pub(super) fn remove(&mut self, pattern: &Pattern) {
        self.0.remove(pattern);
    }
}

/// What is in `one` and not in `other`.
fn missing<V>(one: &ShardPart<Pattern, V>, other: &ShardPart<Pattern, V>) -> impl Iterator<Item = Pattern> {
    one.keys().filter(|pattern| !other.contains_key(*pattern)).cloned()
}

impl FromIterator<Pattern> for Patterns {
    fn from_iter<I: IntoIterator<Item = Pattern>>(patterns: I) -> Self {
        let mut set = Self::default();
        patterns.into_iter().for_each(|pattern| set.insert(pattern));
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn pattern(number: u16) -> Pattern {
        let name = format!("n{}.example", number / 2);
        Pattern::parse(&if number.is_multiple_of(2) { name } else { format!("*.{name}") }).unwrap()
    }

    mod properties {
        use super::*;

        proptest! {
            #[test]
            fn what_differs_is_found_whatever_was_done_between(
                before in proptest::collection::vec(0..400_u16, 0..200),
                steps in proptest::collection::vec((any::<bool>(), 0..400_u16), 0..100),
                anew: bool,
            ) {
                let older: Patterns = before.into_iter().map(pattern).collect();
                let mut newer = if anew { older.iter().cloned().collect() } else { older.clone() };
                for (insert, number) in steps {
                    if insert { newer.insert(pattern(number)) } else { newer.remove(&pattern(number)) }
                }
                let delta = newer.since(&older);
                let mut made: HashSet<_> = older.iter().cloned().collect();
                prop_assert_eq!(made.len(), older.len());
                for gone in &delta.removed {
                    prop_assert!(made.remove(gone));
                }
                for come in delta.added {
                    prop_assert!(made.insert(come));
                }
                prop_assert_eq!(made, newer.iter().cloned().collect::<HashSet<_>>());
                prop_assert_eq!(older.since(&newer).added.len(), delta.removed.len());
            }
        }
    }
}
