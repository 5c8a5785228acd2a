//! One core: accept, TLS, HTTP; and how all workers start, drain and end together.
//! Not here: how a request is forwarded (`forward`), which sockets there are (`run` makes them).
//! Invariants: a lost worker ends the process, since a dead member of a reuseport group swallows its share of all connections; draining
//! continues to accept until no client has come for [`QUIET`], at most for two thirds of the deadline, and ends almost at once where nobody
//! is connected (`an_instance_that_nobody_uses_ends_at_once`); a peer that does not read in time loses its connection
//! (`a_client_that_does_not_read_is_cut`), or its stream and no other
//! (`a_stream_whose_client_opens_no_window_is_reset_and_its_connection_goes_on`).

mod activity;
mod cleartext;
mod configs;
mod connections;
mod context;
mod handshake;
mod http;
mod metrics;
mod origin;
mod relief;
mod response_buffer;
mod slow_reader;
mod stream_window;
mod streams;
mod thread;
mod tls;
mod watchdog;

use std::{net::TcpListener, sync::Arc, time::Duration};

#[cfg(test)]
pub(crate) use self::http::{Version as ServedVersion, tests::serve_alone};
use self::origin::Reception;
pub use self::{
    connections::{Connections, Shedding},
    metrics::{ConnectionOutcome, LimitReached, WorkerMetrics},
    relief::Excess,
    response_buffer::HeldBytes,
    thread::{Workers, own_core_count, spawn},
};
use crate::{
    certificates::Certificates,
    cleartext::CleartextService,
    config::{self, Reloadable},
    domains::Domains,
    forward::{RequestMetrics, Service},
    guard::heartbeat::Heartbeat,
    name::ServerName,
    phase::PhaseWatch,
    telemetry::access_log::AccessLog,
    tls::ServerConfigs,
};

/// What all workers share: snapshots, handles and counters.
pub struct Shared {
    /// Permission.
    pub domains: Domains,
    /// Certificates.
    pub certificates: Certificates,
    /// Server configurations.
    pub server_configs: ServerConfigs,
    /// The oldest version of TLS that any name is served with.
    pub minimum_tls: config::TlsVersion,
    /// What clients are taken to ask for that send no name.
    pub default_name: Option<ServerName>,
    /// Requests over TLS.
    pub service: Arc<Service>,
    /// Requests in cleartext.
    pub cleartext: Arc<CleartextService>,
    /// Requests are counted there.
    pub requests: RequestMetrics,
    /// One line per request.
    pub access_log: AccessLog,
    /// The limits on clients.
    pub limits: Reloadable<config::LimitsConfig>,
    /// Open connections.
    pub connections: Connections,
    /// Who tells whose connections are.
    pub balancers: Option<config::ProxyProtocol>,
    /// Answers in memory.
    pub held: HeldBytes,
    /// Memory to be freed.
    pub excess: Excess,
    /// Signs of life for the guard.
    pub heartbeat: Arc<Heartbeat>,
    /// Whether to drain.
    pub phase: PhaseWatch,
    /// How long draining may take.
    pub drain_deadline: Reloadable<config::Span>,
    /// What is counted.
    pub metrics: WorkerMetrics,
}

impl Shared {
    /// Where connections are taken, whose first bytes may take `limit`.
    fn reception(&self, limit: Duration) -> Reception<'_> {
        Reception {
            connections: &self.connections,
            balancers: self.balancers.as_ref(),
            proxies: &self.service.trusted_proxies,
            headers: &self.metrics.proxy_headers,
            limit,
        }
    }
}

/// One worker's listening sockets.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Those that speak TLS.
    pub https: Vec<TcpListener>,
    /// Those that speak cleartext HTTP.
    pub http: Vec<TcpListener>,
}

/// After this long without a new client, a draining worker closes its listeners: a load balancer goes on sending connections for
/// a while after health has turned.
pub const QUIET: Duration = Duration::from_secs(2);
