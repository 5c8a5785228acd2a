//! Listening sockets that a predecessor opened and handed over, itself (`upgrade`) or through the service manager, or that the manager opened.
//!
//! A listening socket that stays open loses no connection: those in its queue are accepted by its next owner. So no socket for a
//! configured address is closed here, whatever the number of workers.

use std::{
    net::{SocketAddr, TcpListener},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    path::Path,
};

use socket2::{Socket, Type};
use tracing::warn;

/// One of them.
#[derive(Debug)]
pub(super) struct Inherited {
    /// Under which the manager keeps it; empty when it did not say.
    pub(super) name: String,
    pub(super) address: SocketAddr,
    /// Whether others may be bound to the same address.
    pub(super) group: Group,
    pub(super) listener: TcpListener,
}

/// Whether a socket was opened with `SO_REUSEPORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// Each worker has a socket and a queue of its own.
    Shared,
    /// There is one socket for all.
    Single,
}

/// Takes over the descriptors from 3 on, one for each of `names`. Called once, before the process opens any itself.
pub(super) fn take(names: &[String]) -> Vec<Inherited> {
    let numbered = (FIRST..).zip(names);
    numbered.filter_map(|(number, name)| adopt(claim(number)?, name.clone())).collect()
}

/// The socket of this number that another process has handed over: before this one started, or with a message that was just received.
#[expect(unsafe_code, reason = "a descriptor that was handed over is known by its number alone")]
pub(super) fn claim(number: RawFd) -> Option<OwnedFd> {
    let held = Path::new("/proc/self/fd").join(number.to_string()).read_link();
    if !held.is_ok_and(|held| held.to_string_lossy().starts_with("socket:")) {
        warn!(descriptor = number, "no socket of this number was handed over");
        return None;
    }
    // SAFETY: the descriptor is open, as was just seen, and nothing here owns it. One of the manager (sd_listen_fds(3)) is claimed before this
    // process has opened any socket; one of a message (unix(7), SCM_RIGHTS) the kernel has just opened under a number that was free.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The descriptor as a listening TCP socket; nothing, if it is none.
pub(super) fn adopt(descriptor: OwnedFd, name: String) -> Option<Inherited> {
    let number = descriptor.as_raw_fd();
    let socket = Socket::from(descriptor);
    let listens = socket.is_listener().unwrap_or(false) && socket.r#type().ok() == Some(Type::STREAM);
    let Some(address) = socket.local_addr().ok().and_then(|bound| bound.as_socket()).filter(|_| listens)
    else {
        warn!(descriptor = number, name, "what was handed over is not a listening TCP socket");
        return None;
    };
    let group = if socket.reuse_port().unwrap_or(false) { Group::Shared } else { Group::Single };
    if let Err(error) = socket.set_cloexec(true) {
        warn!(%address, %error, "an inherited socket stays open in children");
    }
    Some(Inherited { name, address, group, listener: socket.into() })
}

/// Where a worker has a socket from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SocketOrigin {
    /// The inherited one of this number; two workers that have the same one take from one queue.
    Inherited(usize),
    /// One that is bound now.
    Fresh,
}

/// Which worker serves an address by which socket, when `inherited` sockets of it were handed over. More sockets than workers
/// go to workers that have one already: closing one would reset what waits in its queue.
pub(super) fn allot(workers: usize, inherited: usize, group: Group) -> Vec<(usize, SocketOrigin)> {
    let origin = |place: usize| match group {
        Group::Shared if place >= inherited => SocketOrigin::Fresh,
        Group::Single | Group::Shared => {
            place.checked_rem(inherited).map_or(SocketOrigin::Fresh, SocketOrigin::Inherited)
        }
    };
    let places = workers.max(inherited);
    (0..places).map(|place| (place.checked_rem(workers).unwrap_or(0), origin(place))).collect()
}

/// Whether all of `sockets` admit another beside them.
pub(super) fn group(sockets: &[Inherited]) -> Group {
    let shared = sockets.iter().all(|socket| socket.group == Group::Shared);
    if shared { Group::Shared } else { Group::Single }
}

/// `SD_LISTEN_FDS_START`.
const FIRST: RawFd = 3;

#[cfg(test)]
mod tests {
    use super::{SocketOrigin::*, *};

    #[test]
    fn every_socket_serves_and_every_worker_has_one() {
        for (workers, inherited, group, wanted) in [
            (2, 0, Group::Shared, &[(0, Fresh), (1, Fresh)][..]),
            (2, 2, Group::Shared, &[(0, Inherited(0)), (1, Inherited(1))]),
            (3, 1, Group::Shared, &[(0, Inherited(0)), (1, Fresh), (2, Fresh)]),
            (2, 3, Group::Shared, &[(0, Inherited(0)), (1, Inherited(1)), (0, Inherited(2))]),
            (3, 1, Group::Single, &[(0, Inherited(0)), (1, Inherited(0)), (2, Inherited(0))]),
            (1, 2, Group::Single, &[(0, Inherited(0)), (0, Inherited(1))]),
        ] {
            assert_eq!(allot(workers, inherited, group), wanted, "{workers} workers, {inherited} {group:?}");
        }
    }

    #[test]
    fn what_is_no_listening_socket_is_not_adopted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let adopted = adopt(listener.into(), "https".to_owned()).unwrap();
        assert_eq!((adopted.address, adopted.group), (address, Group::Single));
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(adopt(udp.into(), String::new()).is_none());
        let unconnected = Socket::new(socket2::Domain::IPV4, Type::STREAM, None).unwrap();
        assert!(adopt(unconnected.into(), String::new()).is_none());
    }
}
