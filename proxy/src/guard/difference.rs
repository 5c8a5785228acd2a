//! What has to change in the kernel's map of names, computed from what it holds and what it should hold.

use std::collections::HashSet;

use proxy_common::{maps::NameKey, name_hash};

use crate::name::Pattern;

/// The entries to insert and to remove so that a map that holds one set of hashes holds another.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) add: Vec<u64>,
    pub(super) remove: Vec<u64>,
}

impl Difference {
    /// From `held` to `wanted`.
    pub(super) fn between(held: &HashSet<u64>, wanted: &HashSet<u64>) -> Self {
        Self {
            add: wanted.difference(held).copied().collect(),
            remove: held.difference(wanted).copied().collect(),
        }
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

    #[test]
    fn only_what_differs_is_written() {
        for (held, wanted, add, remove) in [
            (vec![], vec![1, 2], vec![1, 2], vec![]),
            (vec![1, 2], vec![1, 2], vec![], vec![]),
            (vec![1, 2, 3], vec![2, 4], vec![4], vec![1, 3]),
            (vec![1], vec![], vec![], vec![1]),
        ] {
            let difference =
                Difference::between(&held.iter().copied().collect(), &wanted.iter().copied().collect());
            assert_eq!(sorted(difference), (add, remove), "from {held:?} to {wanted:?}");
        }
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
