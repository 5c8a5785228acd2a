//! What `ENFORCE_UNTIL` holds: for the program an instant, for a successor also how the names were left.

use super::kernel_time::KernelTime;

/// The value of `ENFORCE_UNTIL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EnforceUntil {
    /// Nobody enforces, and the map lacks names: a successor must not enforce by it. A new map says this, too.
    NamesIncomplete,
    /// Nobody enforces, and the map holds all names there were.
    Ended,
    /// The program enforces until then, and the map holds all names.
    At(KernelTime),
}

impl EnforceUntil {
    /// As the map holds it. To the program everything but [`EnforceUntil::At`] is an instant long ago.
    pub(super) fn encode(self) -> u64 {
        match self {
            Self::NamesIncomplete => NAMES_INCOMPLETE,
            Self::Ended => ENDED,
            // An instant so early would be taken for the end it is in any case.
            Self::At(KernelTime(nanoseconds)) => nanoseconds.max(ENDED),
        }
    }

    pub(super) fn decode(value: u64) -> Self {
        match value {
            NAMES_INCOMPLETE => Self::NamesIncomplete,
            ENDED => Self::Ended,
            nanoseconds => Self::At(KernelTime(nanoseconds)),
        }
    }
}

const NAMES_INCOMPLETE: u64 = 0;
const ENDED: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_what_the_program_and_every_release_read() {
        for (until, value) in [
            (EnforceUntil::NamesIncomplete, 0),
            (EnforceUntil::Ended, 1),
            (EnforceUntil::At(KernelTime(2)), 2),
            (EnforceUntil::At(KernelTime(u64::MAX)), u64::MAX),
        ] {
            assert_eq!(until.encode(), value, "{until:?}");
            assert_eq!(EnforceUntil::decode(value), until, "{value}");
        }
        assert_eq!(
            EnforceUntil::At(KernelTime(0)).encode(),
            1,
            "an instant never says that names are missing"
        );
    }
}
