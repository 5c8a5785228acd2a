//! Whether the guard enforces, and until when: decided again four times a second.
//! Invariant: whatever stops this decision, the time written last passes within [`LEASE`]
//! (`what_is_written_never_outlives_the_lease`).

use std::time::Duration;

use super::{enforce_until::EnforceUntil, kernel_time::KernelTime, names_state::Names};

/// What enforcement depends on at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conditions {
    pub(super) names: Names,
    pub(super) worker_alive: bool,
    pub(super) draining: bool,
    /// Whether another start's program has taken the place of ours.
    pub(super) replaced: bool,
}

crate::label! {
    /// Whether the guard enforces, and if not, why.
    pub enum Enforcement["state"] {
        /// It enforces.
        On = "on",
        /// It enforces by its predecessor's names: the lists could not be read yet.
        Inherited = "inherited",
        /// This process drains.
        Draining = "draining",
        /// Another process has put its program in the place of ours, or ours was detached.
        Replaced = "replaced",
        /// No worker's event loop has turned recently.
        WorkersSilent = "workers_silent",
        /// The names are not in the map yet.
        NamesUnread = "names_unread",
        /// There are more names than the map holds.
        NamesFull = "names_full",
        /// The kernel refused a name.
        NamesFailed = "names_failed",
    }
}

impl Conditions {
    pub(super) fn enforcement(self) -> Enforcement {
        match self {
            Self { draining: true, .. } => Enforcement::Draining,
            Self { replaced: true, .. } => Enforcement::Replaced,
            Self { names: Names::Unread, .. } => Enforcement::NamesUnread,
            Self { names: Names::Full, .. } => Enforcement::NamesFull,
            Self { names: Names::Failed, .. } => Enforcement::NamesFailed,
            Self { worker_alive: false, .. } => Enforcement::WorkersSilent,
            Self { names: Names::Held, .. } => Enforcement::On,
            Self { names: Names::Inherited, .. } => Enforcement::Inherited,
        }
    }

    /// A lease from `now`, or how the names are left.
    pub(super) fn enforce_until(self, now: KernelTime) -> EnforceUntil {
        match self.enforcement() {
            enforcement if enforcement.is_on() => EnforceUntil::At(now.plus(LEASE)),
            _ if self.names.are_whole() => EnforceUntil::Ended,
            _ => EnforceUntil::NamesIncomplete,
        }
    }
}

impl Enforcement {
    /// Whether unknown names are rejected.
    pub(in crate::guard) fn is_on(self) -> bool {
        match self {
            Self::On | Self::Inherited => true,
            Self::Draining
            | Self::Replaced
            | Self::WorkersSilent
            | Self::NamesUnread
            | Self::NamesFull
            | Self::NamesFailed => false,
        }
    }
}

/// How long the program enforces without hearing from this process.
const LEASE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_enforces_only_while_all_is_well() {
        let lease = EnforceUntil::At(KernelTime(5).plus(LEASE));
        for (names, worker_alive, draining, expected, until) in [
            (Names::Held, true, false, Enforcement::On, lease),
            (Names::Inherited, true, false, Enforcement::Inherited, lease),
            (Names::Held, true, true, Enforcement::Draining, EnforceUntil::Ended),
            (Names::Inherited, true, true, Enforcement::Draining, EnforceUntil::Ended),
            (Names::Full, true, true, Enforcement::Draining, EnforceUntil::NamesIncomplete),
            (Names::Held, false, false, Enforcement::WorkersSilent, EnforceUntil::Ended),
            (Names::Unread, true, false, Enforcement::NamesUnread, EnforceUntil::NamesIncomplete),
            (Names::Full, true, false, Enforcement::NamesFull, EnforceUntil::NamesIncomplete),
            (Names::Failed, true, false, Enforcement::NamesFailed, EnforceUntil::NamesIncomplete),
        ] {
            let conditions = Conditions { names, worker_alive, draining, replaced: false };
            assert_eq!(conditions.enforcement(), expected, "{conditions:?}");
            assert_eq!(conditions.enforce_until(KernelTime(5)), until, "{conditions:?}");
            let expected = if draining { Enforcement::Draining } else { Enforcement::Replaced };
            assert_eq!(Conditions { replaced: true, ..conditions }.enforcement(), expected);
        }
    }

    #[test]
    fn what_is_written_never_outlives_the_lease() {
        for (now, until) in [(0, 10_000_000_000), (5, 10_000_000_005), (u64::MAX, u64::MAX)] {
            let conditions =
                Conditions { names: Names::Held, worker_alive: true, draining: false, replaced: false };
            assert_eq!(
                conditions.enforce_until(KernelTime(now)),
                EnforceUntil::At(KernelTime(until)),
                "at {now}"
            );
        }
    }
}
