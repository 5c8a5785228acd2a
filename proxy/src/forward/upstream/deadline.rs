//! How long a response is waited for.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Poll, ready},
    time::Duration,
};

use crate::{
    clock::now,
    forward::upload::{UploadProgress, UploadState},
    lazy_timer::LazyTimer,
};

/// The upstream's time was up.
pub(super) struct UpstreamLate;

/// Waits for `answer`; the upstream's time runs only while it has all that the client has sent.
pub(super) async fn within<F: Future>(
    limit: Duration,
    upload: &UploadProgress,
    timer: &mut LazyTimer,
    answer: F,
) -> Result<F::Output, UpstreamLate> {
    let mut answer = pin!(answer);
    poll_fn(|cx| {
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            return Poll::Ready(Ok(answer));
        }
        let since = match upload.state() {
            UploadState::Given { since } | UploadState::Complete { since } => since,
            // A body that another task sends may be complete unseen.
            UploadState::Awaited | UploadState::Broken(_) => now(),
        };
        ready!(timer.poll(cx, since + limit));
        Poll::Ready(Err(UpstreamLate))
    })
    .await
}
