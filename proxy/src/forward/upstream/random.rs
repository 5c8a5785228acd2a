//! Random numbers to spread requests by; nothing secret depends on them.

use std::{
    cell::Cell,
    hash::{BuildHasher, RandomState},
};

/// Marsaglia's xorshift of 64 bits ("Xorshift RNGs", 2003).
pub(super) struct Random(Cell<u64>);

impl Random {
    pub(super) fn new() -> Self {
        Self(Cell::new(RandomState::new().hash_one(0) | 1))
    }

    /// Evenly from 0 to less than 1.
    pub(super) fn next(&self) -> f64 {
        let mut state = self.0.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.0.set(state);
        let upper = u32::try_from(state >> 32).unwrap_or_default();
        f64::from(upper) / (f64::from(u32::MAX) + 1.0)
    }
}
