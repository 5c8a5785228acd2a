//! moto, which stands for AWS's services but DynamoDB, behind the recording layer.

use std::{net::SocketAddr, path::Path, process::Command, time::Duration};

use crate::{
    edge::root,
    namespace::Namespace,
    network::LOOPBACK,
    process::{self, Process},
    relay::{Place, Relay},
};

/// A running moto.
#[derive(Debug)]
pub(crate) struct Moto {
    pub(crate) relay: Relay,
    _server: Process,
}

impl Moto {
    /// Starts it inside `namespace`; `ask` is repeated until it is answered, which is returned. Its files are named by `service`.
    pub(crate) fn start<T>(
        namespace: &Namespace,
        service: &str,
        folder: &Path,
        ask: impl FnMut() -> anyhow::Result<T>,
    ) -> anyhow::Result<(Self, T)> {
        let mut command: Command = process::command(root().join("target/moto/bin/moto_server"));
        command.args(["--host", &LOOPBACK.to_string(), "--port", &PORT_BEHIND.to_string()]);
        let mut server = Process::start(namespace, service, command, folder)?;
        let behind = format!("http://{}", SocketAddr::new(LOOPBACK, PORT_BEHIND));
        let place = Place { address: address(), tls: None, behind, roots: None };
        let relay = Relay::start(namespace, place, |_, _| Vec::new())?;
        let answer = server.wait_until(service, START, ask)?;
        Ok((Self { relay, _server: server }, answer))
    }
}

/// Where it is.
pub(crate) fn address() -> SocketAddr {
    SocketAddr::new(LOOPBACK, PORT)
}

const PORT: u16 = 5_000;
const PORT_BEHIND: u16 = 5_001;
/// It imports all of its services first.
const START: Duration = Duration::from_mins(1);
