//! What `/proc/net/tcp` says of the sockets of this host.

use std::{
    net::SocketAddr,
    os::fd::{BorrowedFd, RawFd},
    path::PathBuf,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
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

/// Whether a sender on a connection to `listener`, in either direction, is stopped by its peer: the peer's window is closed, so that only the
/// timer of window probes runs (RFC 9293 §3.8.6.1), and its own socket takes no more either.
pub(super) fn is_stopped(listener: SocketAddr) -> bool {
    let port = port(listener);
    let is_ours = |row: &Vec<String>| row[1].ends_with(&port) || row[2].ends_with(&port);
    let mut probing = rows().filter(is_ours).filter(|row| row[5].starts_with(WINDOW_PROBE));
    probing.any(|row| descriptor(&row[9]).is_some_and(|socket| !is_writable(socket)))
}

/// This process's descriptor of the socket with this inode.
fn descriptor(inode: &str) -> Option<RawFd> {
    let name = PathBuf::from(format!("socket:[{inode}]"));
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    let mut found = entries.filter_map(Result::ok).filter(|entry| {
        // Other tests of the process open and close descriptors meanwhile.
        std::fs::read_link(entry.path()).is_ok_and(|link| link == name)
    });
    found.next()?.file_name().to_str()?.parse().ok()
}

#[expect(unsafe_code, reason = "a stream does not lend its descriptor")]
fn is_writable(socket: RawFd) -> bool {
    // SAFETY: it is borrowed for one call, which reads and closes nothing; closed meanwhile, it is reported as invalid.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    let mut asked = [PollFd::new(socket, PollFlags::POLLOUT)];
    poll(&mut asked, PollTimeout::ZERO).unwrap() > 0
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
