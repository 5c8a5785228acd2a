//! How long a response is waited for.

use std::{pin::pin, time::Duration};

use crate::{
    clock::now,
    forward::upload::{UploadProgress, UploadState},
};

/// The upstream's time was up.
pub(super) struct UpstreamLate;

/// Waits for `answer`; the upstream's time runs only while it has all that the client has sent.
pub(super) async fn within<F: Future>(
    limit: Duration,
    upload: &UploadProgress,
    answer: F,
) -> Result<F::Output, UpstreamLate> {
    let mut answer = pin!(answer);
    loop {
        let since = match upload.state() {
            UploadState::Given { since } | UploadState::Complete { since } => Some(since),
            UploadState::Awaited | UploadState::Broken(_) => None,
        };
        let deadline = since.unwrap_or_else(now) + limit;
        if since.is_some() && deadline <= now() {
            return Err(UpstreamLate);
        }
        tokio::select! {
            biased;
            answer = answer.as_mut() => return Ok(answer),
            () = tokio::time::sleep_until(deadline.into()) => {}
        }
    }
}
