//! The clocks of the process, read by the shells only: decisions get `now` as an argument.

use std::{
    cell::Cell,
    time::{Instant, SystemTime},
};

thread_local! {
    static HELD: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The monotonic clock. Where tokio runs it is tokio's, so that tests may pause it.
pub(crate) fn now() -> Instant {
    HELD.get().unwrap_or_else(read)
}

fn read() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Calls `turn` with the monotonic clock held: what a connection does in one turn of its task happens at one time, which it asks for
/// a dozen times a request.
pub(crate) fn hold<T>(turn: impl FnOnce() -> T) -> T {
    /// Lets it go on, whatever ends the turn.
    struct Held(Option<Instant>);
    impl Drop for Held {
        fn drop(&mut self) {
            HELD.set(self.0);
        }
    }
    let _held = Held(HELD.replace(Some(read())));
    turn()
}

/// A clock for budgets ([`proxy_common::budget`]), which begins when it is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BudgetClock {
    start: Instant,
}

impl BudgetClock {
    /// `start` is now.
    pub(crate) fn new(start: Instant) -> Self {
        Self { start }
    }

    /// Nanoseconds since the start; never 0, which is an untouched budget's state.
    pub(crate) fn at(self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.start).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// The clock on the wall, by which certificates end and items are dated.
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stands_still_for_a_turn_and_no_longer() {
        let (first, last) = hold(|| {
            let first = now();
            while read() == first {}
            (first, now())
        });
        assert_eq!(first, last);
        assert!(now() > last);
    }
}
