//! Names by when they are due, those of each tenant by themselves, and how many looks are under way for whom: the names of one tenant, whose
//! servers may say nothing, keep nobody else's waiting. Pure.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap},
    sync::Arc,
};

use crate::{name::Pattern, store::instant::Micros};

/// Looks that are under way, by the tenant whose names they are at.
#[derive(Debug)]
pub(super) struct UnderWay {
    counts: HashMap<Arc<str>, usize>,
    /// For each tenant.
    most: usize,
}

/// Names by when they are due.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    /// None of them is empty.
    tenants: HashMap<Arc<str>, BTreeSet<(Micros, Pattern)>>,
}

impl UnderWay {
    /// None is, of `at_once` that may be.
    #[must_use]
    pub(super) fn new(at_once: usize) -> Self {
        Self { counts: HashMap::new(), most: (at_once / TENANTS).max(1) }
    }

    /// How many are of `tenant`; `None`, when those are as many as may be.
    #[must_use]
    pub(super) fn of(&self, tenant: &str) -> Option<usize> {
        Some(self.counts.get(tenant).copied().unwrap_or(0)).filter(|count| *count < self.most)
    }

    /// A look at a name of `tenant` begins.
    pub(super) fn begin(&mut self, tenant: &Arc<str>) {
        *self.counts.entry(Arc::clone(tenant)).or_default() += 1;
    }

    /// A look at a name of `tenant` has ended.
    pub(super) fn end(&mut self, tenant: &str) {
        if let Some(count) = self.counts.get_mut(tenant) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(tenant);
            }
        }
    }
}

impl FairQueue {
    pub(super) fn insert(&mut self, tenant: &Arc<str>, due: Micros, pattern: &Pattern) {
        self.tenants.entry(Arc::clone(tenant)).or_default().insert((due, pattern.clone()));
    }

    pub(super) fn remove(&mut self, tenant: &str, due: Micros, pattern: &Pattern) {
        if let Some(places) = self.tenants.get_mut(tenant) {
            places.remove(&(due, pattern.clone()));
            if places.is_empty() {
                self.tenants.remove(tenant);
            }
        }
    }

    /// Up to `most` names that are due at `now`, whose looks begin with that: next is always the tenant that has the fewest under way, and of
    /// those the one who waits longest.
    pub(super) fn take(
        &mut self,
        most: usize,
        now: Micros,
        under_way: &mut UnderWay,
    ) -> Vec<(Arc<str>, Pattern)> {
        let next = |tenant: &Arc<str>, places: &BTreeSet<(Micros, Pattern)>, under_way: &UnderWay| {
            let (due, _) = places.first().filter(|(due, _)| *due <= now)?;
            Some(Reverse((under_way.of(tenant)?, *due, Arc::clone(tenant))))
        };
        let waiting = self.tenants.iter().filter_map(|(tenant, places)| next(tenant, places, under_way));
        let mut waiting: BinaryHeap<_> = waiting.collect();
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(Reverse((_, _, tenant))) = waiting.pop()
        {
            let Some(places) = self.tenants.get_mut(&tenant) else { continue };
            let Some((_, pattern)) = places.pop_first() else { continue };
            under_way.begin(&tenant);
            waiting.extend(next(&tenant, places, under_way));
            if places.is_empty() {
                self.tenants.remove(&tenant);
            }
            taken.push((tenant, pattern));
        }
        taken
    }

    /// Names that are due after `horizon`.
    pub(super) fn beyond(&self, horizon: Micros) -> impl Iterator<Item = &Pattern> {
        let late = move |places: &'_ BTreeSet<(Micros, Pattern)>| {
            places.last().is_some_and(|(due, _)| *due > horizon)
        };
        let tenants = self.tenants.values().filter(move |places| late(places));
        tenants
            .flat_map(move |places| places.iter().rev().take_while(move |(due, _)| *due > horizon))
            .map(|(_, pattern)| pattern)
    }
}

/// So many tenants whose names' servers say nothing leave no place to others until one of their looks ends.
const TENANTS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Micros {
        Micros::from_epoch(second * 1_000_000)
    }

    fn names(taken: &[(Arc<str>, Pattern)]) -> Vec<String> {
        taken.iter().map(|(_, pattern)| pattern.to_string()).collect()
    }

    fn queue(names: &[(&str, u64, &str)]) -> FairQueue {
        let mut queue = FairQueue::default();
        for (tenant, due, name) in names {
            queue.insert(&Arc::from(*tenant), at(*due), &Pattern::parse(name).unwrap());
        }
        queue
    }

    #[test]
    fn who_has_the_fewest_looks_under_way_is_next_and_nobody_has_more_than_their_part() {
        let mut queue = queue(&[
            ("acme", 1, "a.example"),
            ("acme", 2, "b.example"),
            ("acme", 3, "c.example"),
            ("zeta", 4, "d.example"),
            ("beta", 5, "e.example"),
            ("zeta", 9, "f.example"),
        ]);
        let mut under_way = UnderWay::new(2 * TENANTS);
        assert_eq!(queue.take(0, at(5), &mut under_way), []);
        let taken = queue.take(9, at(5), &mut under_way);
        assert_eq!(names(&taken), ["a.example", "d.example", "e.example", "b.example"]);
        assert_eq!(queue.take(9, at(5), &mut under_way), [], "acme has its part, and the last is not due");
        under_way.end("acme");
        assert_eq!(names(&queue.take(9, at(9), &mut under_way)), ["c.example", "f.example"]);
        assert!(queue.tenants.is_empty());
    }

    #[test]
    fn what_was_removed_is_not_taken() {
        let mut queue =
            queue(&[("acme", 1, "a.example"), ("acme", 8, "b.example"), ("zeta", 9, "c.example")]);
        let mut late: Vec<_> = queue.beyond(at(7)).map(ToString::to_string).collect();
        late.sort();
        assert_eq!(late, ["b.example", "c.example"]);
        queue.remove("zeta", at(9), &Pattern::parse("c.example").unwrap());
        queue.remove("acme", at(1), &Pattern::parse("a.example").unwrap());
        assert_eq!(names(&queue.take(9, at(9), &mut UnderWay::new(9 * TENANTS))), ["b.example"]);
    }
}
