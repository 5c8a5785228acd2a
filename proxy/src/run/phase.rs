//! Whether the instance serves, as far as its source of names decides it.

use tokio::sync::watch;

use crate::{domains::Progress, phase::Phase};

/// Keeps `phase` in step with what is known of the names, until draining or the end of either.
pub(super) async fn follow(
    mut progress: watch::Receiver<Progress>,
    listed: usize,
    phase: watch::Sender<Phase>,
) {
    loop {
        let now = *progress.borrow_and_update();
        phase.send_if_modified(|phase| {
            let next = next(*phase, now, listed);
            let changed = *phase != next;
            if changed {
                tracing::info!(phase = ?next, "phase changed");
            }
            *phase = next;
            changed
        });
        if progress.changed().await.is_err() {
            return;
        }
    }
}

/// `listed` names stand in the configuration, and are served whatever ails the table.
fn next(phase: Phase, progress: Progress, listed: usize) -> Phase {
    match (phase, progress) {
        (Phase::Draining, _) => Phase::Draining,
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
    fn the_names_decide_whether_we_serve() {
        for (progress, listed, wanted) in [
            (Progress::Loading, 0, Phase::Starting),
            (Progress::Loading, 3, Phase::Starting),
            (Progress::Loaded, 0, Phase::Serving),
            (Progress::SourceDown, 3, Phase::Serving),
            (Progress::SourceDown, 0, Phase::Unable),
        ] {
            for before in [Phase::Starting, Phase::Serving, Phase::Unable] {
                assert_eq!(next(before, progress, listed), wanted, "{before:?} {progress:?} {listed}");
            }
        }
    }

    #[test]
    fn nothing_but_the_end_follows_draining() {
        for progress in [Progress::Loading, Progress::Loaded, Progress::SourceDown] {
            assert_eq!(next(Phase::Draining, progress, 1), Phase::Draining, "{progress:?}");
        }
    }
}
