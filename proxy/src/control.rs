//! The control plane's servers: metrics for Prometheus and other servers' questions over TCP, and a Unix socket for `gatehouse status` and
//! other commands.
//! Not here: `/health`, which the data plane answers; the metrics themselves (each module has its own); printing answers (`cli`).
//! Invariants: only the owner of the process can open the control socket (`the_socket_is_its_owners_alone`); requests to all servers
//! are bounded in connections, size and time; the data plane never waits for any.

mod api;
mod ask;
mod client;
mod context;
pub mod events;
mod exposition;
pub mod fleet;
mod handed;
mod reload;
mod route;
mod server;
pub mod setup_links;
mod socket;
pub mod table;
pub mod tokens;
mod upgrade;
pub mod wire;

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use prometheus::Registry;
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};

use crate::{config::ControlConfig, transport::socket::bind_remedy};
pub use client::{ClientError, ControlClient};
pub use context::{ControlContext, RunFacts};
pub use handed::HandedSockets;
pub use reload::{Asked, NotReloaded, Reload, ReloadRequests};
pub(crate) use server::{LIFE, bounded_http1};
pub use socket::{ControlSocket, SocketError};
pub use upgrade::{LONGEST_START, Upgrade, UpgradeRequest, UpgradeRequests};

/// The servers while they run; dropped, they accept nothing more.
pub struct Control {
    tasks: Vec<JoinHandle<()>>,
    /// Of the control socket's connections.
    places: Arc<Semaphore>,
}

impl Control {
    /// Answers on `socket` for `instance`, on `ports` for it and for `registry`. Call it on the control runtime.
    pub fn open(
        socket: &ControlSocket,
        instance: Arc<ControlContext>,
        ports: ControlPorts,
        registry: &Registry,
    ) -> io::Result<Self> {
        let domains = instance.domains.clone();
        let places = server::places();
        let api = server::serve(socket.listener()?, Arc::clone(&places), move |caller, request| {
            api::answer(Arc::clone(&instance), caller, request)
        });
        let mut tasks = vec![tokio::spawn(api)];
        if let Some(listener) = ports.ask {
            let answer = move |_, request| ask::answer(domains.clone(), request);
            let asked = server::serve(listener, server::places(), answer);
            tasks.push(tokio::spawn(asked));
        }
        if let Some(listener) = ports.metrics {
            let registry = registry.clone();
            let answer = move |_, request| exposition::answer(registry.clone(), request);
            let metrics = server::serve(listener, server::places(), answer);
            tasks.push(tokio::spawn(metrics));
        }
        Ok(Self { tasks, places })
    }

    /// Accepts nothing more, and returns when the commands that are being carried out were answered, at the latest after `longest`.
    pub async fn drain(self, longest: Duration) {
        self.tasks.iter().for_each(JoinHandle::abort);
        let _ = tokio::time::timeout(longest, server::vacated(&self.places)).await;
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// The TCP ports of the control plane, as far as there are any.
#[derive(Debug, Default)]
pub struct ControlPorts {
    /// Prometheus scrapes here.
    pub metrics: Option<TcpListener>,
    /// Other servers ask here.
    pub ask: Option<TcpListener>,
}

/// An address of the control plane cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: `{address}` cannot be bound; {}", bind_remedy(.source, *.address))]
pub struct ControlPortError {
    setting: &'static str,
    address: SocketAddr,
    source: io::Error,
}

impl ControlPortError {
    /// Whether the settings name an address that this machine has not.
    #[must_use]
    pub fn is_of_settings(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrNotAvailable
    }
}

impl ControlPorts {
    /// Binds the addresses of `config`, except where a socket was `handed` over. Call it on the control runtime.
    pub async fn bind(config: &ControlConfig, handed: &mut HandedSockets) -> Result<Self, ControlPortError> {
        Ok(Self {
            metrics: bind(METRICS, config.metrics.address(), handed).await?,
            ask: bind(ASK, config.ask, handed).await?,
        })
    }

    /// A descriptor of each, for a successor.
    pub fn share(&self) -> io::Result<Vec<(&'static str, OwnedFd)>> {
        let ports = [(METRICS, &self.metrics), (ASK, &self.ask)];
        ports.into_iter().filter_map(|(setting, port)| share(setting, port.as_ref()).transpose()).collect()
    }
}

/// Binds `address`, which `setting` names, if there is one; its socket may have been `handed` over.
pub(crate) async fn bind(
    setting: &'static str,
    address: Option<SocketAddr>,
    handed: &mut HandedSockets,
) -> Result<Option<TcpListener>, ControlPortError> {
    let Some(address) = address else { return Ok(None) };
    let bound = match handed.tcp(setting, address) {
        Some(listener) => listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener)),
        None => TcpListener::bind(address).await,
    };
    bound.map(Some).map_err(|source| ControlPortError { setting, address, source })
}

/// A descriptor of `port`, if there is one, for a successor.
pub(crate) fn share(
    setting: &'static str,
    port: Option<&TcpListener>,
) -> io::Result<Option<(&'static str, OwnedFd)>> {
    port.map(|port| Ok((setting, port.as_fd().try_clone_to_owned()?))).transpose()
}

const METRICS: &str = "control.metrics";
const ASK: &str = "control.ask";
