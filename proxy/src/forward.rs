//! From a request to its upstream and back: admission, rewriting, upstream connections, streaming, error pages.
//! Not here: connections and their limits (`worker`), which names are served (`domains`).
//! Invariants: nothing is looked at before admission (`every_offence_has_its_own_name`); an upstream can believe what it is
//! told of a client (`the_clients_own_claims_never_reach_the_upstream`); each request is counted and logged once, when it
//! ends (`every_request_is_counted_once`), save that health checks are only counted
//! (`health_is_not_logged_and_an_error_can_be_found_in_the_log`).

mod admit;
mod authority;
mod body;
mod cleartext;
mod metrics;
pub(crate) mod min_rate;
mod page;
mod refusal;
mod relay;
mod request_log;
mod rewrite;
#[cfg(test)]
mod tests;
mod upstream;

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header, request::Parts, uri::Scheme};
use hyper::{
    Request, Response,
    body::{Body as _, Incoming},
};

pub(crate) use self::cleartext::is_health;
pub use self::{
    admit::RequestViolation,
    body::Body,
    metrics::{RequestMetrics, RequestOutcome},
    upstream::{UNUSED_UPSTREAM_CONNECTIONS, UpstreamError, UpstreamSettings, Whereabouts},
};
use self::{
    cleartext::Plan,
    refusal::RequestRefusal,
    relay::Relay,
    request_log::{RequestIds, RequestLog, RequestRecord},
    upstream::{ChosenBy, Route, UpstreamFailure},
};
use crate::{
    certificates::Certificates,
    config::{self, Reloadable},
    domains::{DomainEntry, Domains, Permission, PermissionSource, UnknownReason},
    name::ServerName,
    phase::{Phase, PhaseWatch},
    target::Target,
    telemetry::access_log::AccessLog,
    transport::Transport,
};

/// What all workers' forwarders share; one per process.
pub struct Service {
    /// Permission and targets.
    pub domains: Domains,
    /// Answers to http-01 validations.
    pub certificates: Certificates,
    /// What a client may take.
    pub limits: Reloadable<config::LimitsConfig>,
    /// Where requests go whose domain names no target.
    pub default_target: Reloadable<Option<Target>>,
    /// Connections to targets.
    pub upstream: Arc<UpstreamSettings>,
    /// What `/health` says.
    pub phase: PhaseWatch,
    /// One line per request.
    pub access_log: AccessLog,
    /// What is counted.
    pub metrics: RequestMetrics,
    /// Where names of targets are resolved.
    pub control: tokio::runtime::Handle,
    /// Where redirects point, and what upstreams are told.
    pub public_https_port: u16,
}

/// A connection as its requests see it.
#[derive(Debug, Clone)]
pub struct Downstream {
    /// The client.
    pub peer: SocketAddr,
    /// The name its handshake was for; absent in cleartext.
    pub server_name: Option<ServerName>,
}

/// In a response's extensions: the connection it goes out on is to end with it. HTTP/1.1 is told by `Connection: close`
/// as well (RFC 9112 §9.6); in HTTP/2 only the connection's owner can send GOAWAY (RFC 9113 §6.8).
#[derive(Debug, Clone, Copy)]
pub struct Closes;

/// One worker's: its transport and its upstream connections. Cheap to clone.
pub struct Forwarder<T: Transport>(Rc<Inner<T>>);

struct Inner<T: Transport> {
    service: Arc<Service>,
    relay: Relay<T>,
}

impl<T: Transport> Clone for Forwarder<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T: Transport> Forwarder<T> {
    /// For one worker, within its runtime.
    pub fn new(transport: T, service: Arc<Service>) -> Self {
        let relay = Relay::new(
            transport,
            Arc::clone(&service.upstream),
            service.limits.clone(),
            RequestLog {
                metrics: service.metrics.clone(),
                access_log: service.access_log.clone(),
                ids: RequestIds::new(),
            },
            service.control.clone(),
            service.public_https_port,
        );
        Self(Rc::new(Inner { service, relay }))
    }

    /// Answers a request that came over TLS; `at` is when its head was there.
    ///
    /// # Cancel safety
    /// A dropped future ends the request upstream and is logged as a client that went away.
    pub async fn serve_https(
        &self,
        request: Request<Incoming>,
        downstream: &Downstream,
        at: Instant,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let relay = &self.0.relay;
        let record = relay.record(&head, downstream, &Scheme::HTTPS, at);
        // Without a name there is none that Host could equal.
        let Some(server_name) = &downstream.server_name else {
            return relay.refuse(record, &RequestViolation::HostUnlikeServerName.into());
        };
        let fields = self.0.service.limits.load().header_fields;
        let route = match admit::admit(&head, server_name, fields) {
            Ok(host) => self.route(server_name, downstream).await.map(|route| (host, route)),
            Err(violation) => Err(violation.into()),
        };
        match route {
            Ok((host, route)) => relay.pass(head, body, &host, &route, record).await,
            Err(refusal) => relay.refuse(record, &refusal),
        }
    }

    /// Answers a request on the cleartext port; `at` is when its head was there.
    pub async fn serve_http(
        &self,
        request: Request<Incoming>,
        downstream: &Downstream,
        at: Instant,
    ) -> Response<Body> {
        let (head, _) = request.into_parts();
        let relay = &self.0.relay;
        let mut record = relay.record(&head, downstream, &Scheme::HTTP, at);
        let answer = match cleartext::plan(&head) {
            Ok(plan) => self.answer(plan, &head, downstream, &mut record).await,
            Err(violation) => Err(violation.into()),
        };
        answer.unwrap_or_else(|refusal| relay.refuse(record, &refusal))
    }

    /// Asked for each request, so that a withdrawn name is refused on a kept connection, too.
    async fn permission(&self, name: &ServerName, downstream: &Downstream) -> Permission {
        match self.0.service.domains.known(name) {
            Some(permission) => permission,
            None => Box::pin(self.0.service.domains.permission(name, downstream.peer.ip())).await,
        }
    }

    async fn route(&self, name: &ServerName, downstream: &Downstream) -> Result<Route, RequestRefusal> {
        let permission = self.permission(name, downstream).await;
        let last_known = |unknown_reason| self.0.service.domains.last_known(name, unknown_reason);
        route(permission, last_known, self.0.service.default_target.load().as_ref().as_ref())
    }

    async fn answer(
        &self,
        plan: Plan,
        head: &Parts,
        downstream: &Downstream,
        record: &mut RequestRecord,
    ) -> Result<Response<Body>, RequestRefusal> {
        let (outcome, answer) = match plan {
            Plan::Health => (RequestOutcome::Health, health(*self.0.service.phase.borrow())),
            Plan::Challenge { name, token } => self.challenge(name, token, downstream, record).await?,
            Plan::Redirect { host } => {
                record.server_name = Some(host.name.clone());
                if let Permission::Deny(_) = self.permission(&host.name, downstream).await {
                    return Err(RequestRefusal::Foreign);
                }
                let location = cleartext::location(head, &host, self.0.service.public_https_port)?;
                (RequestOutcome::Redirect, redirect(location))
            }
        };
        let answer = fitting(answer, &head.method);
        record.ours(outcome, answer.status(), answer.body().size_hint().lower());
        Ok(answer)
    }

    /// Permission first: a made-up name or token must not cost a look-up in the table.
    async fn challenge(
        &self,
        name: ServerName,
        token: Option<String>,
        downstream: &Downstream,
        record: &mut RequestRecord,
    ) -> Result<(RequestOutcome, Response<Body>), RequestRefusal> {
        record.server_name = Some(name.clone());
        let permission = self.permission(&name, downstream).await;
        if let Permission::Deny(_) = permission {
            return Err(RequestRefusal::Foreign);
        }
        let answer = match &token {
            Some(token) if permission.allows_reads() => {
                self.0.service.certificates.http_answer(&name, token, downstream.peer.ip()).await
            }
            Some(_) | None => None,
        };
        Ok(match answer {
            // RFC 8555 §8.3: the key authorization and nothing else.
            Some(answer) => (RequestOutcome::AnswerChallenge, plain(StatusCode::OK, answer.into())),
            None => (RequestOutcome::RefuseChallenge, plain(StatusCode::NOT_FOUND, UNKNOWN_CHALLENGE.into())),
        })
    }
}

/// Where an entry sends its requests. What is served while its source cannot be asked goes by the last entry that is known, and
/// nowhere without one: the default target may be another tenant's.
fn route(
    permission: Permission,
    last_known: impl FnOnce(UnknownReason) -> Option<Arc<DomainEntry>>,
    default: Option<&Target>,
) -> Result<Route, RequestRefusal> {
    let domain_entry = match permission {
        Permission::Deny(_) => return Err(RequestRefusal::Withdrawn),
        Permission::Allow(domain_entry) => domain_entry,
        Permission::Unknown(unknown_reason) => {
            last_known(unknown_reason).ok_or(RequestRefusal::EntryUnknown)?
        }
    };
    let by_default =
        || default.map(|target| Route { target: target.clone(), chosen_by: ChosenBy::Configuration });
    own_target(&domain_entry).or_else(by_default).ok_or(RequestRefusal::Failure(UpstreamFailure::NoTarget))
}

/// The target that a domain entry names.
fn own_target(domain_entry: &DomainEntry) -> Option<Route> {
    let chosen_by = match domain_entry.source {
        PermissionSource::Static => ChosenBy::Configuration,
        PermissionSource::Table | PermissionSource::Ask => ChosenBy::Entry,
    };
    domain_entry.target.clone().map(|target| Route { target, chosen_by })
}

/// What a load balancer is told (Global Accelerator takes an instance out of service upon anything but 200).
fn health(phase: Phase) -> Response<Body> {
    match phase {
        Phase::Serving => plain(StatusCode::OK, "ok\n".into()),
        Phase::Starting => plain(StatusCode::SERVICE_UNAVAILABLE, "starting\n".into()),
        Phase::Unable => plain(StatusCode::SERVICE_UNAVAILABLE, "unable\n".into()),
        Phase::Overloaded => plain(StatusCode::SERVICE_UNAVAILABLE, "overloaded\n".into()),
        Phase::Leaving => plain(StatusCode::SERVICE_UNAVAILABLE, "leaving\n".into()),
        Phase::Draining => plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n".into()),
    }
}

/// RFC 9110 §15.4.9: permanent, and the method stays.
fn redirect(location: HeaderValue) -> Response<Body> {
    ours(StatusCode::PERMANENT_REDIRECT, Bytes::new(), &[(header::LOCATION, location)])
}

fn plain(status: StatusCode, text: Bytes) -> Response<Body> {
    ours(status, text, &[(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))])
}

/// An answer of our own; it holds for this moment only (RFC 9111 §5.2.2.5).
fn ours(status: StatusCode, body: Bytes, fields: &[(HeaderName, HeaderValue)]) -> Response<Body> {
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().extend(fields.iter().cloned());
    response
}

/// RFC 9110 §9.3.2: HEAD is told of a body and sent none. hyper sees to that in HTTP/1.1 only.
fn fitting(mut answer: Response<Body>, method: &Method) -> Response<Body> {
    if *method == Method::HEAD {
        let length = answer.body().size_hint().lower();
        answer.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        *answer.body_mut() = Body::whole(Bytes::new());
    }
    answer
}

const UNKNOWN_CHALLENGE: &str = "no such challenge\n";
