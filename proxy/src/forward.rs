//! From a request to its upstream and back: admission, rewriting, upstream connections, streaming, error pages.
//! Not here: connections from clients and their limits (`worker`), which names are served (`domains`).
//! Invariants: nothing is done for a request before [`admit::admit`] let it in; what frames a request towards the upstream
//! is its body alone (`framing_follows_from_the_body_alone`); a response cut short upstream is cut short for the client.

pub mod admit;
mod answer;
mod body;
mod cleartext;
mod connect;
mod failure;
mod metrics;
mod page;
mod pool;
mod relay;
mod rewrite;

use std::{
    net::SocketAddr,
    rc::{Rc, Weak},
    sync::Arc,
    time::Instant,
};

use hyper::{Request, Response, body::Incoming};

pub use self::{
    body::Body,
    connect::{UpstreamError, Upstreams},
    metrics::{Metrics, Outcome},
};
use crate::{
    certificates::Certificates,
    config,
    domains::{Domains, Permission},
    name::ServerName,
    target::Target,
    telemetry::access_log::AccessLog,
    transport::Transport,
    worker::PhaseWatch,
};

/// What all workers' forwarders share.
pub struct Service {
    /// Permission and targets.
    pub domains: Domains,
    /// Challenges.
    pub certificates: Certificates,
    /// Where requests go whose domain names no target.
    pub default_target: Option<Target>,
    /// How targets are reached.
    pub upstreams: Upstreams,
    /// What a client may take.
    pub limits: config::Limits,
    /// What `/health` says.
    pub phase: PhaseWatch,
    /// The port redirects name.
    pub public_https_port: u16,
    /// Where requests are logged.
    pub access_log: AccessLog,
    /// What is counted.
    pub metrics: Metrics,
}

/// A connection as its requests see it.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The client.
    pub peer: SocketAddr,
    /// The name its handshake was for; absent in cleartext.
    pub server_name: Option<ServerName>,
}

/// One worker's: its transport and its upstream connections.
pub struct Forwarder<T: Transport> {
    inner: Rc<Inner<T>>,
}

struct Inner<T: Transport> {
    service: Arc<Service>,
    pool: pool::Pool,
    connector: connect::Connector<T>,
}

impl<T: Transport> Clone for Forwarder<T> {
    fn clone(&self) -> Self {
        Self { inner: Rc::clone(&self.inner) }
    }
}

impl<T: Transport> Forwarder<T> {
    /// For the worker of the current thread.
    pub fn new(transport: T, service: Arc<Service>) -> Self {
        let pool = pool::Pool::new(&service.upstreams);
        let connector = connect::Connector::new(transport);
        let inner = Rc::new(Inner { service, pool, connector });
        tokio::task::spawn_local(sweep(Rc::downgrade(&inner)));
        Self { inner }
    }

    /// Answers a request that came over TLS at `at`.
    pub async fn serve_https(
        &self,
        request: Request<Incoming>,
        arrival: &Arrival,
        at: Instant,
    ) -> Response<Body> {
        let record = answer::Record::of(&request, arrival, at);
        let answer = match self.admitted(&request, arrival).await {
            Ok(admitted) => relay::relay(&self.inner, request, admitted, arrival).await,
            Err(refusal) => refusal,
        };
        answer.finish(&self.inner.service, record)
    }

    /// Answers a request on the cleartext port at `at`: health, ACME challenges, redirects.
    pub async fn serve_http(
        &self,
        request: Request<Incoming>,
        arrival: &Arrival,
        at: Instant,
    ) -> Response<Body> {
        let record = answer::Record::of(&request, arrival, at);
        let answer = cleartext::answer(&self.inner.service, &request, arrival).await;
        answer.finish(&self.inner.service, record)
    }

    /// Whether the request may go on, and where to. Permission is looked at for every request: a name can be withdrawn
    /// while its connection is kept.
    async fn admitted(
        &self,
        request: &Request<Incoming>,
        arrival: &Arrival,
    ) -> Result<Admitted, answer::Answer> {
        let service = &self.inner.service;
        let head = admit::Head::of(request);
        let host = admit::admit(&head, arrival.server_name.as_ref()).map_err(answer::Answer::refuse)?;
        let permission = match service.domains.known(&host) {
            Some(permission) => permission,
            None => service.domains.permission(&host, arrival.peer.ip()).await,
        };
        let target = match permission {
            Permission::Allow(site) => site.target.clone().or_else(|| service.default_target.clone()),
            // Its certificate was served, so it was allowed before; where it went is not known without its source.
            Permission::Unknown(_) => service.default_target.clone(),
            Permission::Deny(_) => return Err(answer::Answer::denied()),
        };
        match target {
            Some(target) => Ok(Admitted { host, target }),
            None => Err(answer::Answer::no_target()),
        }
    }
}

/// Closes upstream connections nobody has used for a while, as long as there is a forwarder.
async fn sweep<T: Transport>(inner: Weak<Inner<T>>) {
    while let Some(inner) = inner.upgrade() {
        let now = tokio::time::Instant::now();
        inner.pool.sweep(now.into_std());
        let period = inner.pool.sweep_period();
        drop(inner);
        tokio::time::sleep(period).await;
    }
}

/// A request that may be forwarded.
#[derive(Debug)]
struct Admitted {
    host: ServerName,
    target: Target,
}
