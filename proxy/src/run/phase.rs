//! Whether the instance serves, decided by its source of names, its memory and its Auto Scaling group.

use tokio::sync::watch;

use super::memory::Shortage;
use crate::{
    domains::{Domains, ListingProgress},
    ec2::LifecycleTarget,
    phase::Phase,
};

/// Updates `phase` by the state of the names, of memory and of the Auto Scaling group, until one of these ends.
pub(super) async fn follow(
    domains: Domains,
    mut shortage: watch::Receiver<Shortage>,
    mut target_state: watch::Receiver<LifecycleTarget>,
    phase: watch::Sender<Phase>,
) {
    let mut progress = domains.progress();
    loop {
        let (now, listed) = (*progress.borrow_and_update(), domains.static_entries().len());
        let (memory, lifecycle) = (*shortage.borrow_and_update(), *target_state.borrow_and_update());
        phase.send_if_modified(|phase| {
            let next = next(*phase, Circumstances { progress: now, listed, memory, target_state: lifecycle });
            let changed = *phase != next;
            if changed {
                tracing::info!(phase = ?next, "phase changed");
            }
            *phase = next;
            changed
        });
        let changed = tokio::select! {
            changed = progress.changed() => changed,
            changed = shortage.changed() => changed,
            changed = target_state.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// In which phase an instance begins whose lists of names were read as far as `progress`, with `listed` names in its settings.
pub(super) fn first(progress: ListingProgress, listed: usize) -> Phase {
    let target_state = LifecycleTarget::Serve;
    next(Phase::Starting, Circumstances { progress, listed, memory: Shortage::None, target_state })
}

/// The inputs that decide the phase.
#[derive(Debug, Clone, Copy)]
struct Circumstances {
    progress: ListingProgress,
    /// The number of names in the settings, which are served whatever the state of the table.
    listed: usize,
    memory: Shortage,
    target_state: LifecycleTarget,
}

fn next(phase: Phase, now: Circumstances) -> Phase {
    match (phase, now.progress) {
        (Phase::Draining | Phase::Replaced, _) => phase,
        // First of all: an instance that leaves should end its connections in order, whatever else is wrong.
        _ if now.target_state == LifecycleTarget::Leave => Phase::Leaving,
        _ if now.memory == Shortage::Lasting => Phase::Overloaded,
        (_, ListingProgress::Loaded) => Phase::Serving,
        (_, ListingProgress::Degraded) => Phase::Degraded,
        (_, ListingProgress::SourceDown) if now.listed > 0 => Phase::Degraded,
        (_, ListingProgress::SourceDown) => Phase::Unable,
        (_, ListingProgress::Restored) => Phase::Restored,
        (_, ListingProgress::Loading) => Phase::Starting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRESS: [ListingProgress; 5] = [
        ListingProgress::Loading,
        ListingProgress::Loaded,
        ListingProgress::Degraded,
        ListingProgress::SourceDown,
        ListingProgress::Restored,
    ];

    #[test]
    fn names_and_memory_decide_whether_we_serve() {
        for (progress, listed, wanted) in [
            (ListingProgress::Loading, 0, Phase::Starting),
            (ListingProgress::Loading, 3, Phase::Starting),
            (ListingProgress::Loaded, 0, Phase::Serving),
            (ListingProgress::Degraded, 0, Phase::Degraded),
            (ListingProgress::Degraded, 3, Phase::Degraded),
            (ListingProgress::SourceDown, 3, Phase::Degraded),
            (ListingProgress::SourceDown, 0, Phase::Unable),
            (ListingProgress::Restored, 0, Phase::Restored),
            (ListingProgress::Restored, 3, Phase::Restored),
        ] {
            for before in [Phase::Starting, Phase::Serving, Phase::Degraded, Phase::Unable, Phase::Leaving] {
                let after = |memory| {
                    next(
                        before,
                        Circumstances { progress, listed, memory, target_state: LifecycleTarget::Serve },
                    )
                };
                assert_eq!(after(Shortage::Begun), wanted, "{before:?} {progress:?} {listed}");
                assert_eq!(after(Shortage::Lasting), Phase::Overloaded, "{before:?} {progress:?} {listed}");
            }
        }
    }

    #[test]
    fn who_is_to_leave_leaves_whatever_else_there_is_and_may_come_back() {
        for progress in PROGRESS {
            for memory in [Shortage::None, Shortage::Lasting] {
                let leaving =
                    Circumstances { progress, listed: 1, memory, target_state: LifecycleTarget::Leave };
                for before in [Phase::Starting, Phase::Serving, Phase::Unable, Phase::Overloaded] {
                    assert_eq!(next(before, leaving), Phase::Leaving, "{before:?} {leaving:?}");
                }
                let back = Circumstances { target_state: LifecycleTarget::Serve, ..leaving };
                assert_ne!(next(Phase::Leaving, back), Phase::Leaving, "{back:?}");
            }
        }
    }

    #[test]
    fn nothing_but_the_end_follows_draining() {
        for progress in PROGRESS {
            for target_state in [LifecycleTarget::Serve, LifecycleTarget::Leave] {
                let now = Circumstances { progress, listed: 1, memory: Shortage::Lasting, target_state };
                for end in [Phase::Draining, Phase::Replaced] {
                    assert_eq!(next(end, now), end, "{now:?}");
                }
            }
        }
    }
}
