//! Whether the instance serves, as far as its source of names and its memory decide it.

use tokio::sync::watch;

use super::memory::Shortage;
use crate::{
    domains::{Domains, Progress},
    phase::Phase,
};

/// Keeps `phase` in step with what is known of the names and with memory, until draining or the end of either.
pub(super) async fn follow(
    domains: Domains,
    mut shortage: watch::Receiver<Shortage>,
    phase: watch::Sender<Phase>,
) {
    let mut progress = domains.progress();
    loop {
        let (now, listed) = (*progress.borrow_and_update(), domains.static_entries().len());
        let memory = *shortage.borrow_and_update();
        phase.send_if_modified(|phase| {
            let next = next(*phase, now, listed, memory);
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
        };
        if changed.is_err() {
            return;
        }
    }
}

/// `listed` names stand in the configuration, and are served whatever ails the table.
fn next(phase: Phase, progress: Progress, listed: usize, memory: Shortage) -> Phase {
    match (phase, progress) {
        (Phase::Draining, _) => Phase::Draining,
        _ if memory == Shortage::Lasting => Phase::Overloaded,
        (_, Progress::Loaded) => Phase::Serving,
        (_, Progress::SourceDown) if listed > 0 => Phase::Serving,
        (_, Progress::SourceDown) => Phase::Unable,
        (_, Progress::Loading) => Phase::Starting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_memory_decide_whether_we_serve() {
        for (progress, listed, wanted) in [
            (Progress::Loading, 0, Phase::Starting),
            (Progress::Loading, 3, Phase::Starting),
            (Progress::Loaded, 0, Phase::Serving),
            (Progress::SourceDown, 3, Phase::Serving),
            (Progress::SourceDown, 0, Phase::Unable),
        ] {
            for before in [Phase::Starting, Phase::Serving, Phase::Unable] {
                let after = |memory| next(before, progress, listed, memory);
                assert_eq!(after(Shortage::Begun), wanted, "{before:?} {progress:?} {listed}");
                assert_eq!(after(Shortage::Lasting), Phase::Overloaded, "{before:?} {progress:?} {listed}");
            }
        }
    }

    #[test]
    fn nothing_but_the_end_follows_draining() {
        for progress in [Progress::Loading, Progress::Loaded, Progress::SourceDown] {
            assert_eq!(
                next(Phase::Draining, progress, 1, Shortage::Lasting),
                Phase::Draining,
                "{progress:?}"
            );
        }
    }
}
