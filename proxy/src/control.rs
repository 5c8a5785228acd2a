//! The control plane's two servers: metrics for Prometheus over TCP, and a Unix socket for `gatehouse status` and other commands.
//! Not here: `/health`, which the data plane answers; the metrics themselves (each module has its own); printing answers (`cli`).
//! Invariants: only the owner of the process can open the control socket (`the_socket_is_its_owners_alone`); requests to both servers
//! are bounded in connections, size and time; the data plane never waits for either.

mod api;
mod client;
mod context;
mod exposition;
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

use crate::transport::socket::bind_remedy;
pub use client::{ClientError, ControlClient};
pub use context::{ControlContext, RunFacts};
pub use reload::{Asked, Reload, ReloadRequests};
pub use socket::{ControlSocket, SocketError};

/// The servers while they run.
pub struct Control {
    tasks: Vec<JoinHandle<()>>,
}

impl Control {
    /// Answers on `socket` for `instance`, and on `metrics` for `registry`. Call it on the control runtime.
    pub fn open(
        socket: &ControlSocket,
        instance: Arc<ControlContext>,
        metrics: Option<TcpListener>,
        registry: &Registry,
    ) -> std::io::Result<Self> {
        let api = server::serve(socket.listener()?, move |caller, request| {
            api::answer(Arc::clone(&instance), caller, request)
        });
        let mut tasks = vec![tokio::spawn(api)];
        if let Some(listener) = metrics {
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

/// The metrics' address cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("control.metrics: `{address}` cannot be bound; {}", bind_remedy(.source, *.address))]
pub struct MetricsError {
    address: SocketAddr,
    source: std::io::Error,
}

impl MetricsError {
    /// Whether the settings name an address that this machine has not.
    #[must_use]
    pub fn is_of_settings(&self) -> bool {
        self.source.kind() == std::io::ErrorKind::AddrNotAvailable
    }
}

/// Binds the address of the metrics. Call it on the control runtime.
pub async fn bind_metrics(address: SocketAddr) -> Result<TcpListener, MetricsError> {
    TcpListener::bind(address).await.map_err(|source| MetricsError { address, source })
}
