//! One worker's connections to upstreams: a pooled one, or a new one to the target's address.
//! Invariants: a request is sent again only if it was never sent, or is idempotent and has no body, and only once
//! (`a_connection_closed_while_idle_is_replaced`); no name leads to this host (`names_never_lead_to_the_host_or_its_secrets`).

mod address_policy;
mod connection;
mod failure;
pub(super) mod permits;
mod pool;
mod pooled;
mod request_writer;
mod resolver;
mod settings;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, client::Resumption, pki_types};
use tokio::{runtime::Handle, task::JoinHandle};

pub use self::{
    address_policy::AddressPolicy,
    pool::TOTAL as UNUSED_UPSTREAM_CONNECTIONS,
    settings::{UpstreamError, UpstreamSettings},
};
pub(super) use self::{
    address_policy::ChosenBy,
    failure::{UpstreamFailure, UpstreamFault},
    pooled::{PooledConnection, UpstreamTunnel},
    request_writer::RequestWriter,
};
use self::{
    address_policy::Placement, connection::Connection, failure::Retry, pool::ConnectionPool,
    resolver::Resolver,
};
use super::{
    metrics::{ConnectionOrigin, RequestMetrics},
    upload::Upload,
};
use crate::{
    clock::now,
    http1::ResponseHead,
    target::{Scheme, Target, TargetHost},
    tls,
    transport::Transport,
};

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Route {
    pub(super) target: Target,
    pub(super) chosen_by: ChosenBy,
}

/// One worker's connections to upstreams.
pub(super) struct Upstreams<T: Transport> {
    transport: T,
    settings: Arc<UpstreamSettings>,
    tls: Option<Arc<ClientConfig>>,
    metrics: RequestMetrics,
    resolver: Resolver,
    pool: Rc<ConnectionPool>,
    sweeper: JoinHandle<()>,
}

impl<T: Transport> Drop for Upstreams<T> {
    fn drop(&mut self) {
        self.sweeper.abort();
    }
}

impl<T: Transport> Upstreams<T> {
    /// Within a worker's runtime: it spawns the task that closes what is unused.
    pub(super) fn new(
        transport: T,
        settings: Arc<UpstreamSettings>,
        metrics: RequestMetrics,
        control: Handle,
    ) -> Self {
        let pool = ConnectionPool::new(settings.limits.idle_per_target, *settings.limits.idle);
        // Sessions are resumed within a worker, so that no lock is shared between workers.
        let tls = settings.tls.clone().map(|mut config| {
            config.resumption = Resumption::in_memory_sessions(SESSIONS);
            Arc::new(config)
        });
        let sweeper = tokio::task::spawn_local(Rc::clone(&pool).keep_swept());
        Self { transport, settings, tls, metrics, resolver: Resolver::new(control), pool, sweeper }
    }

    /// Waits for the first bytes of a body that `client` has announced: a client that sends nothing must not cost a target anything. One
    /// that waits for the target's word costs it a request, as one without a body does.
    pub(super) async fn await_body(
        &self,
        upload: &mut Upload,
        client: IpAddr,
    ) -> Result<(), UpstreamFailure> {
        if upload.is_over() || upload.awaits_continue() {
            return Ok(());
        }
        let _waiting = self.settings.places.wait(client)?;
        Ok(upload.begin().await?)
    }

    /// Sends `request` of `client` along `route`; the connection goes with the body of the response.
    ///
    /// # Cancel safety
    /// A dropped future closes the connection it used.
    pub(super) async fn fetch(
        &self,
        route: &Route,
        mut request: RequestWriter,
        client: IpAddr,
    ) -> Result<(ResponseHead, PooledConnection), UpstreamFailure> {
        let permit = self.settings.places.take(&route.target, client)?;
        let limit = *self.settings.limits.response_timeout;
        let mut origin = ConnectionOrigin::Open;
        let mut answered = None;
        if let Some(mut connection) = self.pool.take(route, now()) {
            match connection.exchange(&mut request, limit).await {
                Ok(head) => {
                    self.metrics.connections.bump(ConnectionOrigin::Reuse);
                    answered = Some((head, connection));
                }
                Err(failure) if failure.retry() == Retry::OnFreshConnection && request.rewind() => {
                    origin = ConnectionOrigin::Retry;
                }
                Err(failure) => return Err(failure),
            }
        }
        let (head, connection) = match answered {
            Some(answered) => answered,
            // Boxed: a stream's task is as large as the largest thing it ever waits for, and is there as long as its response.
            None => Box::pin(self.exchange_anew(route, &mut request, origin)).await?,
        };
        let home = (Rc::clone(&self.pool), route.clone());
        let pooled = PooledConnection::new(connection, request, head.is_persistent, home, permit);
        Ok((head, pooled))
    }

    /// Sends `request` over a new connection.
    async fn exchange_anew(
        &self,
        route: &Route,
        request: &mut RequestWriter,
        origin: ConnectionOrigin,
    ) -> Result<(ResponseHead, Connection), UpstreamFailure> {
        let connection = self.connect(route).await;
        self.metrics.connections.bump(if connection.is_ok() { origin } else { ConnectionOrigin::Fail });
        let mut connection = connection?;
        let head = connection.exchange(request, *self.settings.limits.response_timeout).await?;
        Ok((head, connection))
    }

    async fn connect(&self, route: &Route) -> Result<Connection, UpstreamFailure> {
        let limit = *self.settings.limits.connect_timeout;
        let connecting = async {
            let addresses = self.addresses(route).await?;
            let (stream, peer) = self.dial(&addresses, route.target.port, limit).await?;
            match route.target.scheme {
                Scheme::Http => Ok(Connection::new(stream, peer)),
                Scheme::Https => {
                    let config = self.tls.clone().ok_or(UpstreamFailure::NoRoots)?;
                    let name = tls_name(&route.target.host)?;
                    let stream = tls::connect(stream, name, config, limit)
                        .await
                        .map_err(UpstreamFailure::Untrusted)?;
                    Ok(Connection::new(stream, peer))
                }
            }
        };
        tokio::time::timeout(limit, connecting).await.map_err(|_| UpstreamFailure::ConnectTimeout)?
    }

    /// The target's addresses, without the forbidden ones.
    async fn addresses(&self, route: &Route) -> Result<Vec<IpAddr>, UpstreamFailure> {
        let (found, chosen_by) = match &route.target.host {
            TargetHost::Address(address) => (Rc::from([*address]), route.chosen_by),
            TargetHost::Name(name) => {
                if self.settings.limits.edge_names.iter().any(|edge| edge.covers(name)) {
                    return Err(UpstreamFailure::Edge { target: route.target.clone() });
                }
                let found = self.resolver.resolve(name, now()).await;
                let found =
                    found.map_err(|cause| UpstreamFailure::Unresolved { name: name.clone(), cause })?;
                (found, ChosenBy::Resolution)
            }
        };
        let (mut permitted, mut forbidden) = (Vec::new(), None);
        for address in found.iter().copied() {
            match self.settings.address_policy.place(address, chosen_by) {
                Placement::Permitted => permitted.push(address),
                Placement::Forbidden => forbidden = Some(address),
                // One address of several is enough: the next try would take it.
                Placement::Edge => return Err(UpstreamFailure::Edge { target: route.target.clone() }),
            }
        }
        match forbidden {
            Some(address) if permitted.is_empty() => Err(UpstreamFailure::Forbidden { address }),
            Some(_) | None => Ok(permitted),
        }
    }

    /// Tries one address after another, each with its share of the remaining time.
    async fn dial(
        &self,
        addresses: &[IpAddr],
        port: u16,
        limit: Duration,
    ) -> Result<(T::Stream, SocketAddr), UpstreamFailure> {
        let deadline = now() + limit;
        let mut last = io::Error::other("the target has no address");
        for (left, address) in (1..=addresses.len()).rev().zip(addresses) {
            let share = deadline.saturating_duration_since(now()) / u32::try_from(left).unwrap_or(u32::MAX);
            let peer = SocketAddr::new(*address, port);
            match tokio::time::timeout(share, self.transport.connect(peer)).await {
                Ok(Ok(stream)) => return Ok((stream, peer)),
                Ok(Err(error)) => last = error,
                Err(_) if left == 1 => return Err(UpstreamFailure::ConnectTimeout),
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(UpstreamFailure::Unreachable(last))
    }
}

/// The name for SNI and verification: the target's own host (RFC 6066 §3; an address is verified as such, RFC 6125 §1.7.2).
fn tls_name(host: &TargetHost) -> Result<pki_types::ServerName<'static>, UpstreamFailure> {
    match host {
        TargetHost::Address(address) => Ok(pki_types::ServerName::IpAddress((*address).into())),
        TargetHost::Name(name) => pki_types::ServerName::try_from(name.as_str().to_owned())
            .map_err(|error| UpstreamFailure::Untrusted(io::Error::other(error))),
    }
}

/// TLS sessions a worker remembers.
const SESSIONS: usize = 256;
