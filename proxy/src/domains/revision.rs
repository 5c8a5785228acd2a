//! The order of the sets of names: who waits for a change waits for a revision.

use std::{fmt, num::NonZeroU64};

/// The number of a state of the domain set; each change has a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(NonZeroU64);

impl Revision {
    /// Of the first state there is.
    pub(super) const FIRST: Self = Self(NonZeroU64::MIN);

    /// With this number; none for 0.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0.get()
    }

    /// Of the state after this one.
    pub(super) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The revision of a set of names on the control socket: a number, and 0 until every list was read.
pub mod or_zero {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Revision;

    /// Writes the number.
    pub fn serialize<S: Serializer>(revision: &Option<Revision>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(revision.map_or(0, Revision::number))
    }

    /// Reads the number.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Revision>, D::Error> {
        u64::deserialize(deserializer).map(Revision::new)
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Status {
        #[serde(with = "or_zero")]
        revision: Option<Revision>,
    }

    #[test]
    fn a_revision_is_a_number_on_the_control_socket_and_zero_before_the_lists_were_read() {
        for (revision, json) in [
            (None, r#"{"revision":0}"#),
            (Some(Revision::FIRST), r#"{"revision":1}"#),
            (Some(Revision::FIRST.next()), r#"{"revision":2}"#),
        ] {
            assert_eq!(serde_json::to_string(&Status { revision }).unwrap(), json);
            assert_eq!(serde_json::from_str::<Status>(json).unwrap().revision, revision);
        }
    }

    #[test]
    fn what_was_not_read_holds_no_revision() {
        assert!(None < Some(Revision::FIRST) && Revision::FIRST < Revision::FIRST.next());
    }
}
