//! Whether the instance serves, as far as its source of names, its memory and its Auto Scaling group decide it.

use tokio::sync::watch;

use super::memory::Shortage;
use crate::{
    domains::{Domains, Progress},
    instance::Wish,
    phase::Phase,
};

/// Keeps `phase` in step with what is known of the names, with memory and with the group's wish, until the end of any.
pub(super) async fn follow(
    domains: Domains,
    mut shortage: watch::Receiver<Shortage>,
    mut wish: watch::Receiver<Wish>,
    phase: watch::Sender<Phase>,
) {
    let mut progress = domains.progress();
    loop {
        let (now, listed) = (*progress.borrow_and_update(), domains.static_entries().len());
        let (memory, wish_now) = (*shortage.borrow_and_update(), *wish.borrow_and_update());
        phase.send_if_modified(|phase| {
            let next = next(*phase, Circumstances { progress: now, listed, memory, wish: wish_now });
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
            changed = wish.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// What decides on the phase.
#[derive(Debug, Clone, Copy)]
struct Circumstances {
    progress: Progress,
    /// So many names stand in the configuration, and are served whatever ails the table.
    listed: usize,
    memory: Shortage,
    wish: Wish,
}

fn next(phase: Phase, now: Circumstances) -> Phase {
    match (phase, now.progress) {
        (Phase::Draining, _) => Phase::Draining,
        // Before all else: who goes should lose its connections softly, whatever else ails it.
        _ if now.wish == Wish::Leave => Phase::Leaving,
        _ if now.memory == Shortage::Lasting => Phase::Overloaded,
        (_, Progress::Loaded) => Phase::Serving,
        (_, Progress::SourceDown) if now.listed > 0 => Phase::Serving,
        (_, Progress::SourceDown) => Phase::Unable,
        (_, Progress::Loading) => Phase::Starting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRESS: [Progress; 3] = [Progress::Loading, Progress::Loaded, Progress::SourceDown];

    #[test]
    fn names_and_memory_decide_whether_we_serve() {
        for (progress, listed, wanted) in [
            (Progress::Loading, 0, Phase::Starting),
            (Progress::Loading, 3, Phase::Starting),
            (Progress::Loaded, 0, Phase::Serving),
            (Progress::SourceDown, 3, Phase::Serving),
            (Progress::SourceDown, 0, Phase::Unable),
        ] {
            for before in [Phase::Starting, Phase::Serving, Phase::Unable, Phase::Leaving] {
                let after =
                    |memory| next(before, Circumstances { progress, listed, memory, wish: Wish::Serve });
                assert_eq!(after(Shortage::Begun), wanted, "{before:?} {progress:?} {listed}");
                assert_eq!(after(Shortage::Lasting), Phase::Overloaded, "{before:?} {progress:?} {listed}");
            }
        }
    }

    #[test]
    fn who_is_to_leave_leaves_whatever_else_there_is_and_may_come_back() {
        for progress in PROGRESS {
            for memory in [Shortage::None, Shortage::Lasting] {
                let leaving = Circumstances { progress, listed: 1, memory, wish: Wish::Leave };
                for before in [Phase::Starting, Phase::Serving, Phase::Unable, Phase::Overloaded] {
                    assert_eq!(next(before, leaving), Phase::Leaving, "{before:?} {leaving:?}");
                }
                let back = Circumstances { wish: Wish::Serve, ..leaving };
                assert_ne!(next(Phase::Leaving, back), Phase::Leaving, "{back:?}");
            }
        }
    }

    #[test]
    fn nothing_but_the_end_follows_draining() {
        for progress in PROGRESS {
            for wish in [Wish::Serve, Wish::Leave] {
                let now = Circumstances { progress, listed: 1, memory: Shortage::Lasting, wish };
                assert_eq!(next(Phase::Draining, now), Phase::Draining, "{now:?}");
            }
        }
    }
}
