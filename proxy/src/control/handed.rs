//! Listening sockets of the control plane that a predecessor hands over to its successor, by the setting that names their address.

use std::{
    net::{SocketAddr, TcpListener},
    os::{
        fd::OwnedFd,
        unix::net::{SocketAddr as UnixAddress, UnixListener},
    },
    path::Path,
};

/// Those that nobody has taken yet; dropped, they are closed.
#[derive(Debug, Default)]
pub struct HandedSockets(Vec<(String, OwnedFd)>);

impl HandedSockets {
    /// One more, of `setting`.
    pub fn add(&mut self, setting: String, socket: OwnedFd) {
        self.0.push((setting, socket));
    }

    /// The one of `setting`, if it listens at `address`.
    pub(super) fn tcp(&mut self, setting: &str, address: SocketAddr) -> Option<TcpListener> {
        self.take(setting, |socket| {
            let listener = TcpListener::from(socket);
            (listener.local_addr().ok() == Some(address)).then_some(listener)
        })
    }

    /// The control socket, if it lies at `path`.
    pub(super) fn unix(&mut self, path: &Path) -> Option<UnixListener> {
        self.take(CONTROL_SOCKET, |socket| {
            let listener = UnixListener::from(socket);
            let is_there = listener.local_addr().is_ok_and(|address| is_at(&address, path));
            is_there.then_some(listener)
        })
    }

    /// Whether the control socket lies at `path`.
    #[must_use]
    pub fn has_unix(&self, path: &Path) -> bool {
        let clone = self.0.iter().find(|(name, _)| name == CONTROL_SOCKET);
        let listener = clone.and_then(|(_, socket)| socket.try_clone().ok()).map(UnixListener::from);
        listener.and_then(|listener| listener.local_addr().ok()).is_some_and(|address| is_at(&address, path))
    }

    fn take<T>(&mut self, setting: &str, fit: impl FnOnce(OwnedFd) -> Option<T>) -> Option<T> {
        let place = self.0.iter().position(|(name, _)| name == setting)?;
        fit(self.0.swap_remove(place).1)
    }
}

fn is_at(address: &UnixAddress, path: &Path) -> bool {
    address.as_pathname() == Some(path)
}

/// The setting that names its path.
pub(super) const CONTROL_SOCKET: &str = "control.socket";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_goes_to_who_serves_its_address_and_to_nobody_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let (metrics, ask) = (listener(), listener());
        let (at, other) = (metrics.local_addr().unwrap(), ask.local_addr().unwrap());
        let mut handed = HandedSockets::default();
        handed.add("control.metrics".into(), metrics.into());
        handed.add("control.ask".into(), ask.into());
        handed.add(CONTROL_SOCKET.into(), UnixListener::bind(&path).unwrap().into());
        assert!(handed.has_unix(&path) && !handed.has_unix(&directory.path().join("other.sock")));
        assert!(handed.unix(&path).is_some() && !handed.has_unix(&path));
        assert_eq!(handed.tcp("control.metrics", at).unwrap().local_addr().unwrap(), at);
        assert!(handed.tcp("control.metrics", at).is_none(), "it is taken");
        assert!(handed.tcp("control.ask", at).is_none(), "it is at {other}");
    }

    fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }
}
