//! Connecting to Unix sockets.

use std::{io, path::Path, time::Duration};

use tokio::net::UnixStream;

/// Connects to the socket at `path`. connect(2): where the listener's queue is full, a Unix socket that does not block is refused at once, and
/// nothing tells when there is room; so it is tried again, as long as the caller waits.
pub(super) async fn connect(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(PAUSE).await,
            connected => return connected,
        }
    }
}

/// Short beside a request, long beside a system call.
const PAUSE: Duration = Duration::from_millis(5);
