//! The clocks of the process, read by the shells only: decisions get `now` as an argument.

use std::time::{Instant, SystemTime};

/// The monotonic clock. Where tokio runs it is tokio's, so that tests may pause it.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The clock on the wall, by which certificates end and items are dated.
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}
