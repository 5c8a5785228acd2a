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
mod reload;
mod route;
mod server;
mod socket;
pub mod table;
pub mod tokens;
pub mod wire;

use std::{net::SocketAddr, sync::Arc};

use prometheus::Registry;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{config::ControlConfig, transport::socket::bind_remedy};
pub use client::{ClientError, ControlClient};
pub use context::{ControlContext, RunFacts};
pub use reload::{Asked, Reload, ReloadRequests};
pub(crate) use server::{LIFE, bounded_http1};
pub use socket::{ControlSocket, SocketError};

/// The servers while they run.
pub struct Control {
    tasks: Vec<JoinHandle<()>>,
}

impl Control {
    /// Answers on `socket` for `instance`, on `ports` for it and for `registry`. Call it on the control runtime.
    pub fn open(
        socket: &ControlSocket,
        instance: Arc<ControlContext>,
        ports: ControlPorts,
        registry: &Registry,
    ) -> std::io::Result<Self> {
        let domains = instance.domains.clone();
        let api = server::serve(socket.listener()?, move |caller, request| {
            api::answer(Arc::clone(&instance), caller, request)
        });
        let mut tasks = vec![tokio::spawn(api)];
        if let Some(listener) = ports.ask {
            let asked = server::serve(listener, move |_, request| ask::answer(domains.clone(), request));
            tasks.push(tokio::spawn(asked));
        }
        if let Some(listener) = ports.metrics {
            let registry = registry.clone();
            let metrics =
                server::serve(listener, move |_, request| exposition::answer(registry.clone(), request));
            tasks.push(tokio::spawn(metrics));
        }
        Ok(Self { tasks })
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
    source: std::io::Error,
}

impl ControlPortError {
    /// Whether the settings name an address that this machine has not.
    #[must_use]
    pub fn is_of_settings(&self) -> bool {
        self.source.kind() == std::io::ErrorKind::AddrNotAvailable
    }
}

impl ControlPorts {
    /// Binds the addresses of `config`. Call it on the control runtime.
    pub async fn bind(config: &ControlConfig) -> Result<Self, ControlPortError> {
        Ok(Self {
            metrics: bind("control.metrics", config.metrics.address()).await?,
            ask: bind("control.ask", config.ask).await?,
        })
    }
}

/// Binds `address`, which `setting` names, if there is one.
pub(crate) async fn bind(
    setting: &'static str,
    address: Option<SocketAddr>,
) -> Result<Option<TcpListener>, ControlPortError> {
    let Some(address) = address else { return Ok(None) };
    let bound = TcpListener::bind(address).await;
    bound.map(Some).map_err(|source| ControlPortError { setting, address, source })
}
