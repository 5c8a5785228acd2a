//! All that a process takes over at its start: listening sockets of the service manager, or of a predecessor that still serves.

use super::{
    inherited::{self, Inherited},
    upgrade::{HandoverSocket, NoPredecessor, Predecessor},
};
use crate::control::HandedSockets;

/// What was handed over.
#[derive(Debug, Default)]
pub(super) struct Inheritance {
    /// Those at which clients connect.
    pub(super) listeners: Vec<Inherited>,
    /// Those of the control plane.
    pub(super) control: HandedSockets,
    /// Who serves until this process does.
    pub(super) predecessor: Option<Predecessor>,
}

impl Inheritance {
    /// What the service manager has handed over, and what a predecessor sends if one has started this process. Call it once, on the control
    /// runtime.
    pub(super) fn take(listeners: Vec<Inherited>) -> Result<Self, NoPredecessor> {
        let mut inheritance = Self { listeners, ..Self::default() };
        if Predecessor::is_there() {
            let (predecessor, sockets) = Predecessor::meet()?;
            for socket in sockets {
                inheritance.add(socket);
            }
            inheritance.predecessor = Some(predecessor);
        }
        Ok(inheritance)
    }

    fn add(&mut self, HandoverSocket { name, socket }: HandoverSocket) {
        // Settings of the control plane have a section before a dot; addresses have a protocol there.
        if name.starts_with("https.") || name.starts_with("http.") {
            self.listeners.extend(inherited::adopt(socket, name));
        } else {
            self.control.add(name, socket);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn sockets_of_clients_are_told_from_those_of_the_control_plane() {
        let mut inheritance = Inheritance::default();
        let mut addresses = Vec::new();
        for name in ["https.127.0.0.1-8443", "control.metrics", "http.[--]-80", "api.listen"] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            addresses.push(listener.local_addr().unwrap());
            inheritance.add(HandoverSocket::of(name.to_owned(), &listener).unwrap());
        }
        let found: Vec<_> = inheritance.listeners.iter().map(|socket| socket.address).collect();
        assert_eq!(found, [addresses[0], addresses[2]]);
    }
}
