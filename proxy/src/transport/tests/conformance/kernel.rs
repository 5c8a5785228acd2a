//! What `/proc/net/tcp` says of the sockets of this host.

use std::net::SocketAddr;

use tokio::net::TcpStream;

/// Whether a descriptor holds the other end of `peer`'s connection.
pub(super) fn is_held(peer: &TcpStream) -> bool {
    let (near, far) = (peer.peer_addr().unwrap(), peer.local_addr().unwrap());
    rows().any(|row| row[1].ends_with(&port(near)) && row[2].ends_with(&port(far)) && row[9] != "0")
}

/// The states of sockets connected, or connecting, to `address`.
pub(super) fn sockets_to(address: SocketAddr) -> Vec<String> {
    rows().filter(|row| row[2].ends_with(&port(address))).map(|row| row[3].clone()).collect()
}

/// Whether a peer's window is closed on a connection to `listener`, in either direction: the kernel has data for a peer that takes none, and
/// only its timer of window probes runs (RFC 9293 §3.8.6.1).
pub(super) fn is_window_closed(listener: SocketAddr) -> bool {
    let port = port(listener);
    rows().any(|row| (row[1].ends_with(&port) || row[2].ends_with(&port)) && row[5].starts_with(WINDOW_PROBE))
}

/// The rows of `proc_net_tcp`: local address, remote address, state, sixth the timer and, tenth, the inode, 0 when no descriptor is left.
fn rows() -> impl Iterator<Item = Vec<String>> {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let rows: Vec<Vec<String>> =
        table.lines().skip(1).map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
    rows.into_iter()
}

fn port(address: SocketAddr) -> String {
    format!(":{:04X}", address.port())
}

pub(super) const SYN_SENT: &str = "02";
const WINDOW_PROBE: &str = "04:";
