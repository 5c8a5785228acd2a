//! A timer for deadlines that mostly move away before they come.
//! Invariant: it is never late (`a_deadline_that_moves_is_kept_either_way`).

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::time::Sleep;

use crate::clock::now;

/// A timer that is set anew only for an earlier deadline, and when it wakes its task for one that has moved away: setting one for each
/// request costs more than waking once in its time.
#[derive(Debug, Default)]
pub(crate) struct LazyTimer(Option<Pin<Box<Sleep>>>);

impl LazyTimer {
    /// Ready when `deadline` has come; until then it wakes the task, by then at the latest.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        if deadline < sleep.deadline().into_std() {
            sleep.as_mut().reset(deadline.into());
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if deadline <= now() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_moves_is_kept_either_way() {
        let start = now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut timer = LazyTimer::default();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for deadline in [after(5), after(9), after(60), after(3)] {
            assert!(timer.poll(&mut cx, deadline).is_pending());
        }
        poll_fn(|cx| timer.poll(cx, after(3))).await;
        assert_eq!(now(), after(3));
        // It was set for the third second, and has come.
        assert!(timer.poll(&mut cx, after(7)).is_pending());
        assert!(timer.poll(&mut cx, after(8)).is_pending());
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            timer.poll(cx, after(8))
        })
        .await;
        assert_eq!((now(), polls), (after(8), 3), "it wakes at the seventh second, too");
        assert!(timer.poll(&mut cx, after(2)).is_ready(), "what is over is over");
    }
}
