//! One worker's connections to upstreams: an unused one, or a new one to one of the target's addresses.
//! Invariants: a request is sent again only if it was never sent, or is idempotent and has no body
//! (`a_connection_closed_while_idle_is_replaced`), and to each destination once; no name leads to this host (`names_never_lead_to_the_host_or_its_secrets`).

mod address_policy;
mod choice;
mod connection;
mod destination;
mod destinations;
mod failure;
mod health;
pub(super) mod permits;
mod pooled;
mod request_writer;
mod resolver;
mod retry_budget;
mod settings;

use std::{cell::RefCell, io, net::IpAddr, rc::Rc, sync::Arc, time::Duration};

use rustls::{ClientConfig, client::Resumption, pki_types};
use tokio::{runtime::Handle, task::JoinHandle};

pub use self::{
    address_policy::AddressPolicy,
    destination::TOTAL as UNUSED_UPSTREAM_CONNECTIONS,
    settings::{UpstreamError, UpstreamSettings},
};
pub(super) use self::{
    address_policy::ChosenBy,
    failure::{UpstreamFailure, UpstreamFault},
    pooled::{PooledConnection, UpstreamTunnel},
    request_writer::RequestWriter,
};
use self::{
    choice::{Load, Standing, choose, rank},
    connection::Connection,
    destination::Destination,
    destinations::{Candidate, Candidates, Destinations},
    failure::Retry,
    health::Verdict,
    retry_budget::RetryBudget,
};
use super::{
    metrics::{ConnectionOrigin, RequestMetrics},
    upload::Upload,
};
use crate::{
    clock::now,
    http1::ResponseHead,
    keyed_counts::network,
    random,
    target::{Scheme, Target, TargetHost},
    telemetry::admit_line,
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
    destinations: Rc<Destinations>,
    retries: RefCell<RetryBudget>,
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
        // Sessions are resumed within a worker, so that no lock is shared between workers.
        let tls = settings.tls.clone().map(|mut config| {
            config.resumption = Resumption::in_memory_sessions(SESSIONS);
            Arc::new(config)
        });
        let destinations = Rc::new(Destinations::new(Arc::clone(&settings), control));
        let sweeper = tokio::task::spawn_local(Rc::clone(&destinations).keep_swept());
        let retries = RefCell::new(RetryBudget::new(now()));
        Self { transport, settings, tls, metrics, destinations, retries, sweeper }
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

    /// Sends `request` of `client` along `route`; the connection goes with the body of the response. What was not sent, or may be repeated,
    /// goes on to another destination where one fails.
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
        let candidates = self.destinations.of(route).await?;
        self.retries.borrow_mut().earn();
        let mut tried = Vec::new();
        let mut attempts = Attempts::new(*self.settings.limits.connect_timeout);
        let mut failure = UpstreamFailure::Unreachable(io::Error::other("the target has no address"));
        while let Some(index) = self.choose(&candidates, &tried, client) {
            let Some(candidate) = candidates.get(index) else { break };
            let in_flight = candidate.destination.begin();
            attempts.left = candidates.len() - tried.len();
            match self.attempt(&candidate.destination, &mut request, &mut attempts).await {
                Ok((head, connection)) => {
                    candidate.destination.health().answered(now());
                    let pooled =
                        PooledConnection::new(connection, request, head.is_persistent, in_flight, permit);
                    return Ok((head, pooled));
                }
                Err(why) => failure = why,
            }
            if candidates.len() > 1 && failure.fault() == UpstreamFault::Upstream {
                self.note_failure(&candidate.destination, &failure);
            }
            tried.push(index);
            let may_go_on = match failure.retry() {
                Retry::Anywhere => true,
                Retry::IfRepeatable => request.is_repeatable(),
                Retry::Never => false,
            };
            if !may_go_on || tried.len() == candidates.len() || !self.retries.borrow_mut().spend(now()) {
                return Err(failure);
            }
            attempts.origin = ConnectionOrigin::Failover;
        }
        Err(failure)
    }

    /// Sends `request` to `destination`, over an unused connection if there is one.
    async fn attempt(
        &self,
        destination: &Destination,
        request: &mut RequestWriter,
        attempts: &mut Attempts,
    ) -> Result<(ResponseHead, Connection), UpstreamFailure> {
        request.address(destination.endpoint.authority());
        if let Some(mut connection) = destination.take(now()) {
            match connection.exchange(request, *self.settings.limits.response_timeout).await {
                Ok(head) => {
                    self.metrics.connections.bump(ConnectionOrigin::Reuse);
                    return Ok((head, connection));
                }
                // RFC 9112 §9.3.1: an idle connection may be closed at any time, also while a request is being sent.
                Err(UpstreamFailure::Closed(_)) if request.is_repeatable() => {
                    attempts.origin = ConnectionOrigin::Retry;
                    request.address(destination.endpoint.authority());
                }
                Err(failure) => return Err(failure),
            }
        }
        // Boxed: a stream's task is as large as the largest thing it ever waits for, and is there as long as its response.
        Box::pin(self.exchange_anew(destination, request, attempts)).await
    }

    /// Sends `request` over a new connection.
    async fn exchange_anew(
        &self,
        destination: &Destination,
        request: &mut RequestWriter,
        attempts: &mut Attempts,
    ) -> Result<(ResponseHead, Connection), UpstreamFailure> {
        let begun = now();
        let connection = tokio::time::timeout(attempts.share(), self.connect(destination)).await;
        let connection = connection.unwrap_or(Err(UpstreamFailure::ConnectTimeout));
        attempts.connected_for(now().saturating_duration_since(begun));
        let origin = if connection.is_ok() { attempts.origin } else { ConnectionOrigin::Fail };
        self.metrics.connections.bump(origin);
        let mut connection = connection?;
        let head = connection.exchange(request, *self.settings.limits.response_timeout).await?;
        Ok((head, connection))
    }

    async fn connect(&self, destination: &Destination) -> Result<Connection, UpstreamFailure> {
        let peer = destination.address;
        let stream = self.transport.connect(peer).await.map_err(UpstreamFailure::Unreachable)?;
        match destination.endpoint.scheme {
            Scheme::Http => Ok(Connection::new(stream, peer)),
            Scheme::Https => {
                let config = self.tls.clone().ok_or(UpstreamFailure::NoRoots)?;
                let name = tls_name(&destination.endpoint.host)?;
                let limit = *self.settings.limits.connect_timeout;
                let stream = tls::connect(stream, name, config, limit).await;
                Ok(Connection::new(stream.map_err(UpstreamFailure::Untrusted)?, peer))
            }
        }
    }

    /// The place among `candidates` of the next one for a request of `client` that was at those `tried`.
    fn choose(&self, candidates: &Candidates, tried: &[usize], client: IpAddr) -> Option<usize> {
        if candidates.len() == 1 {
            return tried.is_empty().then_some(0);
        }
        let now = now();
        let client = network(client);
        let loads: Vec<Load> = candidates
            .iter()
            .enumerate()
            .map(|(index, Candidate { destination, weight })| {
                let health = destination.health();
                let standing = if tried.contains(&index) {
                    Standing::Tried
                } else if health.is_ejected(now) {
                    Standing::Ejected
                } else {
                    Standing::Answers
                };
                let weight = f64::from(*weight) * health.share(now);
                Load {
                    in_flight: destination.in_flight(),
                    weight,
                    standing,
                    rank: rank(&client, &destination.address),
                }
            })
            .collect();
        choose(&loads, self.settings.limits.balance, [random::fraction(), random::fraction()])
    }

    /// A destination that fails is left alone for a while.
    fn note_failure(&self, destination: &Destination, failure: &UpstreamFailure) {
        let Verdict::Ejected(pause) = destination.health().failed(now()) else { return };
        self.metrics.ejections.inc();
        let (endpoint, address) = (&destination.endpoint, destination.address);
        let error: &dyn std::error::Error = failure;
        let Some(left_out) = admit_line("ejected", &address.to_string()) else { return };
        tracing::warn!(%endpoint, %address, ?pause, %error, left_out, "an endpoint does not answer; others get its requests");
    }
}

/// The attempts of one request.
struct Attempts {
    origin: ConnectionOrigin,
    /// What is left for connecting: the time that an upstream takes to answer is not of it.
    connecting: Duration,
    /// Destinations that were not tried, the present one among them.
    left: usize,
}

impl Attempts {
    fn new(connecting: Duration) -> Self {
        Self { origin: ConnectionOrigin::Open, connecting, left: 1 }
    }

    /// How long the present one may take to connect.
    fn share(&self) -> Duration {
        self.connecting / u32::try_from(self.left.max(1)).unwrap_or(u32::MAX)
    }

    fn connected_for(&mut self, time: Duration) {
        self.connecting = self.connecting.saturating_sub(time);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_share_the_time_for_connecting_and_nothing_else_is_of_it() {
        let mut attempts = Attempts { left: 2, ..Attempts::new(Duration::from_secs(6)) };
        assert_eq!(attempts.share(), Duration::from_secs(3));
        attempts.connected_for(Duration::from_secs(3));
        attempts.left = 1;
        assert_eq!(attempts.share(), Duration::from_secs(3));
        attempts.connected_for(Duration::from_secs(9));
        assert_eq!(attempts.share(), Duration::ZERO);
    }
}
