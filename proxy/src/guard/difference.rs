//! The changes that bring the kernel's map of names to the wanted state, computed from both.
//! Invariant: a hash stays while any pattern has it, so that of two names with one hash the other is not rejected
//! (`a_hash_goes_with_the_last_pattern_that_has_it`).

use std::collections::HashMap;

use proxy_common::{maps::NameKey, name_hash};

use crate::{domains::Delta, name::Pattern};

/// The entries to insert and to remove.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) add: Vec<u64>,
    pub(super) remove: Vec<u64>,
}

/// Hashes, and how many patterns have each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hashes(HashMap<u64, u32>);

impl Hashes {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn contains(&self, hash: u64) -> bool {
        self.0.contains_key(&hash)
    }

    /// What makes a map that holds these hold `wanted`.
    pub(super) fn towards(&self, wanted: &Self) -> Difference {
        let missing = |from: &Self, there: &Self| {
            from.0.keys().filter(|hash| !there.contains(**hash)).copied().collect()
        };
        Difference { add: missing(wanted, self), remove: missing(self, wanted) }
    }

    /// Counts one pattern more; whether its hash is new.
    pub(super) fn count(&mut self, hash: u64) -> bool {
        let patterns = self.0.entry(hash).or_default();
        *patterns = patterns.saturating_add(1);
        *patterns == 1
    }

    /// Takes `delta` over, and says what that changes. What one pattern gives up and another takes is not to be removed.
    pub(super) fn change(&mut self, delta: &Delta, hash: impl Fn(&Pattern) -> u64) -> Difference {
        let mut difference = Difference::default();
        difference.remove.extend(delta.removed.iter().map(&hash).filter(|hash| self.discount(*hash)));
        difference.add.extend(delta.added.iter().map(&hash).filter(|hash| self.count(*hash)));
        difference.remove.retain(|hash| !self.contains(*hash));
        difference
    }

    /// Counts one pattern less; whether its hash is gone.
    fn discount(&mut self, hash: u64) -> bool {
        match self.0.get_mut(&hash) {
            Some(patterns) if *patterns > 1 => {
                *patterns -= 1;
                false
            }
            Some(_) => self.0.remove(&hash).is_some(),
            None => false,
        }
    }
}

impl FromIterator<u64> for Hashes {
    fn from_iter<I: IntoIterator<Item = u64>>(hashes: I) -> Self {
        let mut counted = Self::default();
        for hash in hashes {
            counted.count(hash);
        }
        counted
    }
}

/// The hash under which the program looks `pattern` up.
pub(super) fn hash(key: &NameKey, pattern: &Pattern) -> u64 {
    match pattern {
        Pattern::Exact(name) => name_hash::exact(key, name.as_str().as_bytes()),
        Pattern::Wildcard(suffix) => name_hash::wildcard(key, suffix.as_str().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(difference: Difference) -> (Vec<u64>, Vec<u64>) {
        let Difference { mut add, mut remove } = difference;
        add.sort_unstable();
        remove.sort_unstable();
        (add, remove)
    }

    fn hashes(of: &[u64]) -> Hashes {
        of.iter().copied().collect()
    }

    #[test]
    fn only_what_differs_is_written() {
        for (held, wanted, add, remove) in [
            (vec![], vec![1, 2], vec![1, 2], vec![]),
            (vec![1, 2], vec![1, 2], vec![], vec![]),
            (vec![1, 2, 3], vec![2, 4], vec![4], vec![1, 3]),
            (vec![1], vec![], vec![], vec![1]),
        ] {
            let difference = hashes(&held).towards(&hashes(&wanted));
            assert_eq!(sorted(difference), (add, remove), "from {held:?} to {wanted:?}");
        }
    }

    #[test]
    fn a_hash_goes_with_the_last_pattern_that_has_it() {
        let pattern = |text: &str| Pattern::parse(text).unwrap();
        let delta = |added: &[&str], removed: &[&str]| Delta {
            added: added.iter().map(|text| pattern(text)).collect(),
            removed: removed.iter().map(|text| pattern(text)).collect(),
        };
        // All names of the same length share a hash here.
        let hash = |pattern: &Pattern| pattern.to_string().len() as u64;
        let mut held = Hashes::default();
        for (added, removed, add, remove) in [
            (&["a.example", "b.example"][..], &[][..], vec![9], vec![]),
            (&["cc.example"], &["a.example"], vec![10], vec![]),
            (&["dd.example"], &["b.example"], vec![], vec![9]),
            (&["e.example"], &["cc.example", "dd.example"], vec![9], vec![10]),
            (&["f.example"], &["e.example"], vec![9], vec![]),
            (&[], &["never.example"], vec![], vec![]),
        ] {
            let difference = held.change(&delta(added, removed), hash);
            assert_eq!(sorted(difference), (add, remove), "{added:?} {removed:?}");
        }
        assert_eq!(held, hashes(&[9]));
    }

    #[test]
    fn a_wildcard_and_its_suffix_are_two_entries() {
        let key = NameKey { k0: 1, k1: 2 };
        let of = |text| hash(&key, &Pattern::parse(text).unwrap());
        assert_ne!(of("*.example.com"), of("example.com"));
        assert_eq!(of("Example.COM."), of("example.com"));
        assert_ne!(
            hash(&NameKey { k0: 1, k1: 3 }, &Pattern::parse("example.com").unwrap()),
            of("example.com")
        );
    }
}
