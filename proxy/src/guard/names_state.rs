//! How far the kernel's map of names is behind the domain set, and how a successor learns of it.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use serde::{Deserialize, Serialize};

use super::enforce_until::EnforceUntil;

/// Where the guard's maps come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MapsOrigin {
    /// A predecessor's, names and counters included.
    Adopted,
    /// Made by this process.
    Built,
}

/// How far the kernel's map of names is from the domain set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Names {
    /// The domain set has not been read yet.
    Unread = 0,
    /// The map holds it.
    Held = 1,
    /// It is larger than the map.
    Full = 2,
    /// The kernel refused an entry.
    Failed = 3,
    /// The domain set has not been read yet, and the map holds a predecessor's complete one.
    Inherited = 4,
}

impl Names {
    /// What is known of names found in the kernel, by where their maps are from and what `ENFORCE_UNTIL` said.
    pub(super) fn left_by(origin: MapsOrigin, until: EnforceUntil) -> Self {
        match origin {
            MapsOrigin::Built => Self::Unread,
            MapsOrigin::Adopted => match until {
                EnforceUntil::NamesIncomplete => Self::Unread,
                EnforceUntil::Ended | EnforceUntil::At(_) => Self::Inherited,
            },
        }
    }

    /// Whether every name that is allowed, or was by the end of a predecessor, is in the map.
    pub(super) fn are_whole(self) -> bool {
        match self {
            Self::Held | Self::Inherited => true,
            Self::Unread | Self::Full | Self::Failed => false,
        }
    }
}

/// The state of the kernel's names, kept once: the table of names writes it, policy and enforcement read it. Clones are one.
#[derive(Debug, Clone)]
pub(super) struct NamesCell(Arc<AtomicU8>);

impl NamesCell {
    pub(super) fn new(names: Names) -> Self {
        Self(Arc::new(AtomicU8::new(names as u8)))
    }

    pub(super) fn set(&self, names: Names) {
        self.0.store(names as u8, Ordering::Release);
    }

    pub(super) fn get(&self) -> Names {
        match self.0.load(Ordering::Acquire) {
            1 => Names::Held,
            2 => Names::Full,
            3 => Names::Failed,
            4 => Names::Inherited,
            _ => Names::Unread,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::kernel_time::KernelTime;

    #[test]
    fn names_are_inherited_only_from_a_whole_map() {
        for (origin, until, expected) in [
            (MapsOrigin::Adopted, EnforceUntil::Ended, Names::Inherited),
            (MapsOrigin::Adopted, EnforceUntil::At(KernelTime(77_000_000_000)), Names::Inherited),
            (MapsOrigin::Adopted, EnforceUntil::NamesIncomplete, Names::Unread),
            (MapsOrigin::Built, EnforceUntil::Ended, Names::Unread),
        ] {
            assert_eq!(Names::left_by(origin, until), expected, "{origin:?} {until:?}");
        }
    }

    #[test]
    fn a_cell_gives_back_what_was_set() {
        let cell = NamesCell::new(Names::Unread);
        for names in [Names::Held, Names::Full, Names::Failed, Names::Inherited, Names::Unread] {
            cell.clone().set(names);
            assert_eq!(cell.get(), names);
        }
    }
}
