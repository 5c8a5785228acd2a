//! Names of a predecessor that no list holds: those that the ask endpoint allowed it, and items of the table that no index shows.
//!
//! They are known to user space with their first hello, which the kernel has to let through for that. So they stay for a while after
//! the lists were read: what passes in the kernel is judged in user space still, and what is denied there goes at once.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

/// The hashes of such names, and until when they stay.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    hashes: HashSet<u64>,
    until: Option<Instant>,
}

impl Lingering {
    /// Has `hashes` stay from `now` on.
    pub(super) fn begin(hashes: Vec<u64>, now: Instant) -> Self {
        let until = (!hashes.is_empty()).then(|| now + LIFE);
        Self { hashes: hashes.into_iter().collect(), until }
    }

    pub(super) fn len(&self) -> usize {
        self.hashes.len()
    }

    pub(super) fn contains(&self, hash: u64) -> bool {
        self.hashes.contains(&hash)
    }

    /// When they go, if there are any.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Takes out all for which `stays` is false.
    pub(super) fn retain(&mut self, stays: impl Fn(u64) -> bool) {
        self.hashes.retain(|hash| stays(*hash));
    }

    /// Takes one out; whether it was there.
    pub(super) fn remove(&mut self, hash: u64) -> bool {
        self.hashes.remove(&hash)
    }

    /// Takes out what a list holds now, `listed`; then all that is to be removed from the kernel: nothing, as long as there is `room` for
    /// it and its time has not come.
    pub(super) fn end(&mut self, listed: &[u64], room: usize, now: Instant) -> Vec<u64> {
        for hash in listed {
            self.hashes.remove(hash);
        }
        let is_over = self.until.is_some_and(|until| until <= now);
        if !is_over && self.hashes.len() <= room {
            return Vec::new();
        }
        std::mem::take(self).hashes.into_iter().collect()
    }
}

/// Long enough for each name that is in use to be asked for once.
const LIFE: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_list_holds_does_not_linger() {
        let mut lingering = Lingering::begin(vec![1, 2, 3], crate::clock::now());
        lingering.retain(|hash| hash != 2);
        assert!(lingering.contains(1) && !lingering.contains(2));
        assert_eq!(lingering.len(), 2);
    }

    #[test]
    fn names_stay_until_a_list_holds_them_their_time_is_over_or_room_is_short() {
        let now = crate::clock::now();
        for (listed, room, at, gone, left) in [
            (&[][..], 10, now, &[][..], &[1, 2, 3][..]),
            (&[2, 9], 10, now, &[], &[1, 3]),
            (&[2], 2, now, &[], &[1, 3]),
            (&[2], 1, now, &[1, 3], &[]),
            (&[], 10, now + LIFE, &[1, 2, 3], &[]),
            (&[1, 2, 3], 10, now + LIFE, &[], &[]),
        ] {
            let mut lingering = Lingering::begin(vec![1, 2, 3], now);
            let mut ended = lingering.end(listed, room, at);
            ended.sort_unstable();
            assert_eq!(ended, gone, "{listed:?}, {room}");
            assert!(left.iter().all(|hash| lingering.contains(*hash)), "{listed:?}, {room}");
            assert_eq!((lingering.len(), lingering.until().is_some()), (left.len(), !left.is_empty()));
        }
        assert!(Lingering::begin(Vec::new(), now).until().is_none());
    }
}
