//! Settings that can change while the process runs.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

/// A snapshot of settings, replaced as a whole; readers take no lock. Clones share it.
#[derive(Debug)]
pub struct Reloadable<T>(Arc<ArcSwap<T>>);

impl<T> Reloadable<T> {
    /// With `value` in force.
    pub fn new(value: T) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(value)))
    }

    /// What is in force now, for a moment: who needs it over an await takes [`Reloadable::load_full`].
    #[must_use]
    pub fn load(&self) -> Guard<Arc<T>> {
        self.0.load()
    }

    /// What is in force now, for as long as it is wanted.
    #[must_use]
    pub fn load_full(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Puts `value` in force.
    pub fn replace(&self, value: T) {
        self.0.store(Arc::new(value));
    }
}

impl<T> Clone for Reloadable<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
