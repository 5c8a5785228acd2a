//! Closes a connection so that its peer still receives the last message.

use std::{future::poll_fn, io, time::Duration};

use crate::transport::Stream;

/// Sends what is queued, ends our direction, and reads what the peer still sends for a moment: closing with unread bytes
/// sends a reset (RFC 9293 §3.6.1), which can arrive before our last message is read.
pub(super) async fn lingering_close<S: Stream>(stream: &mut S) {
    let _ = tokio::time::timeout(LINGER, async {
        poll_fn(|cx| stream.poll_shutdown(cx)).await?;
        for _ in 0..LINGER_CHUNKS {
            if poll_fn(|cx| stream.poll_recv(cx)).await?.is_empty() {
                break;
            }
        }
        io::Result::Ok(())
    })
    .await;
}

const LINGER: Duration = Duration::from_secs(1);
const LINGER_CHUNKS: usize = 8;
