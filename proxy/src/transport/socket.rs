//! Listening sockets as the data plane needs them.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::{SocketAddr, TcpListener},
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{Interest, unix::AsyncFd};

/// Binds `address` and listens: `SO_REUSEPORT` (one socket per worker), IPv6 apart from IPv4, the backlog the kernel's
/// own limit, no TCP Fast Open.
pub fn bind_listener(address: SocketAddr, awaits: Awaits) -> Result<TcpListener, BindError> {
    let socket = bound(address, awaits)?;
    // The kernel caps the backlog at net.core.somaxconn.
    socket.listen(i32::MAX).map_err(|cause| BindError { address, cause })?;
    Ok(socket.into())
}

fn bound(address: SocketAddr, awaits: Awaits) -> Result<Socket, BindError> {
    let refuse = |cause| BindError { address, cause };
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).map_err(refuse)?;
    prepare(&socket, address, awaits).map_err(refuse)?;
    Ok(socket)
}

/// When a listener hands over a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaits {
    /// A connection as soon as it is there.
    Connection,
    /// A connection whose peer has spoken (`TCP_DEFER_ACCEPT`): one the guard rejects never reaches user space.
    Data,
}

/// Has `listener`, which another process opened, hand over connections as ours does with [`Awaits::Data`].
pub fn await_data(listener: &TcpListener) -> io::Result<()> {
    bound_unsent(&SockRef::from(listener))?;
    defer_accept(listener)
}

/// tcp(7), `TCP_NOTSENT_LOWAT`: accepted sockets inherit it. Without it the kernel buffers megabytes for a peer that does not read,
/// from us and from the memory of the process's cgroup, and all of it looks taken.
fn bound_unsent(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_notsent_lowat(UNSENT)
}

/// A listening socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("listen: `{address}` cannot be bound; {}", bind_remedy(.cause, *.address))]
pub struct BindError {
    address: SocketAddr,
    #[source]
    cause: io::Error,
}

impl BindError {
    /// `address` cannot be bound because of `cause`.
    #[must_use]
    pub fn new(address: SocketAddr, cause: io::Error) -> Self {
        Self { address, cause }
    }

    /// Whether no other process and no right would help: the settings name an address that this machine has not.
    #[must_use]
    pub fn is_of_settings(&self) -> bool {
        self.cause.kind() == io::ErrorKind::AddrNotAvailable
    }
}

/// What to do about an `address` that cannot be bound.
pub(crate) fn bind_remedy(cause: &io::Error, address: SocketAddr) -> String {
    match cause.kind() {
        io::ErrorKind::AddrNotAvailable => {
            format!("{} is not an address of this machine; `ip address` shows those that are", address.ip())
        }
        io::ErrorKind::PermissionDenied => {
            "grant CAP_NET_BIND_SERVICE, which ports below 1024 need, or choose another port".to_owned()
        }
        _ => "free the port, or choose another".to_owned(),
    }
}

/// Bytes written to `socket` that its peer has not acknowledged (tcp(7), SIOCOUTQ); 0 where the kernel does not say.
#[expect(unsafe_code, reason = "neither socket2 nor nix knows SIOCOUTQ")]
pub(super) fn unacknowledged(socket: &impl AsRawFd) -> u64 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open while `socket` is borrowed, and the request writes one int, which `bytes` is.
    let code = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if code == 0 { u64::try_from(bytes).unwrap_or_default() } else { 0 }
}

/// Lets the runtime of this thread report when a connection waits on `socket`.
#[expect(
    unsafe_code,
    reason = "the runtime's own listener registers each connection it accepts with epoll, too"
)]
pub(super) fn watch(socket: TcpListener) -> io::Result<AsyncFd<TcpListener>> {
    socket.set_nonblocking(true)?;
    // SAFETY: a `TcpListener` of std owns one descriptor, gives the same one from each `as_fd`, and closes it only in its drop.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}

/// Receives what is there, whatever the socket's mode; nothing is [`io::ErrorKind::WouldBlock`].
pub(super) fn receive_now(socket: &Socket, place: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    socket.recv_with_flags(place, libc::MSG_DONTWAIT)
}

/// Whether a receive from `socket` would have to wait; nothing is taken.
pub(super) fn is_silent(socket: &impl AsFd) -> bool {
    let mut place = [MaybeUninit::uninit()];
    let received = SockRef::from(socket).recv_with_flags(&mut place, libc::MSG_DONTWAIT | libc::MSG_PEEK);
    received.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// Our address, of a socket of TCP.
pub(super) fn local_address(socket: &impl AsFd) -> Option<SocketAddr> {
    SockRef::from(socket).local_addr().ok()?.as_socket()
}

/// Has the close of `socket` throw away what is unsent and reset the connection (socket(7), `SO_LINGER`).
pub(super) fn reset_on_close(socket: &impl AsFd) {
    // A socket that is no connection any more has nothing unsent.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Has the kernel ask the peer of a silent `socket` whether it is there, and end the connection where nothing is acknowledged, or nothing is
/// taken that is sent, for [`VANISHED`] (tcp(7), `TCP_USER_TIMEOUT`, which takes the place of a number of probes).
pub(super) fn probe_peer(socket: &impl AsFd) {
    let probes = TcpKeepalive::new().with_time(SILENCE).with_interval(PROBE);
    let socket = SockRef::from(socket);
    // A Unix socket's peer does not vanish, and has none of these.
    let _ = socket.set_tcp_keepalive(&probes);
    let _ = socket.set_tcp_user_timeout(Some(VANISHED));
}

/// After so long without a byte a peer is asked whether it is there, and again each [`PROBE`].
const SILENCE: Duration = Duration::from_secs(20);
const PROBE: Duration = Duration::from_secs(10);
/// A peer that is paused, as a virtual machine is that moves to another host, is back by then.
const VANISHED: Duration = Duration::from_mins(2);

/// Sends what the kernel takes at once, whatever the socket's mode.
pub(super) fn send_now(socket: &Socket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    socket.send_vectored_with_flags(slices, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
}

/// Bytes in the kernel that the peer's window, or the path's, has no room for yet: four records.
const UNSENT: u32 = 64 * 1024;

fn prepare(socket: &Socket, address: SocketAddr, awaits: Awaits) -> io::Result<()> {
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    bound_unsent(socket)?;
    if awaits == Awaits::Data {
        defer_accept(socket)?;
    }
    socket.bind(&address.into())
}

/// One second, and not more: longer makes the kernel drop the final ACK of slow clients.
#[expect(unsafe_code, reason = "neither socket2 nor nix knows TCP_DEFER_ACCEPT")]
fn defer_accept(socket: &impl AsRawFd) -> io::Result<()> {
    let seconds: libc::c_int = 1;
    #[expect(clippy::cast_possible_truncation, reason = "the size of an int")]
    let length = size_of_val(&seconds) as libc::socklen_t;
    // SAFETY: the descriptor is open while `socket` is borrowed, and `seconds` is a live int of `length` bytes.
    let code = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            length,
        )
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_probed_and_given_up_by_the_kernel() {
        let listener = bind_listener(([127, 0, 0, 1], 0).into(), Awaits::Connection).unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        probe_peer(&stream);
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), SILENCE);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(VANISHED));
    }
}
