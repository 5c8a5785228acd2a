//! From a request to its upstream and back: admission, rewriting, upstream connections, streaming, error pages.
//! Not here: connections and their limits (`worker`), which names are served (`domains`), the cleartext port (`cleartext`).
//! Invariants: admission comes before everything else (`every_offence_has_its_own_name`); what an upstream is told about a client is
//! true (`the_clients_own_claims_never_reach_the_upstream`); each request is counted and logged once, when it ends
//! (`every_request_is_counted_once`), except that health checks are only counted
//! (`health_is_not_logged_and_an_error_can_be_found_in_the_log`).

mod admit;
mod authority;
mod body;
mod cdn_loop;
mod compression;
mod domain_route;
mod error_pages;
mod header_rules;
mod metrics;
pub(crate) mod min_rate;
mod own_response;
mod passage;
mod refusal;
mod refuse;
mod relay;
mod request_log;
mod request_rates;
mod rewrite;
#[cfg(test)]
mod tests;
mod trace_context;
mod trusted_proxies;
mod tunnel;
mod upload;
mod upstream;
mod websocket_accept;

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use http::{StatusCode, uri::Scheme};

pub use self::{
    admit::RequestViolation,
    body::Body,
    compression::Streams as CompressedStreams,
    error_pages::{ErrorPages, ErrorPagesError},
    metrics::{RequestMetrics, RequestOutcome},
    request_rates::RequestRates,
    trusted_proxies::TrustedProxies,
    upstream::{AddressPolicy, LOOKUP_THREADS, UNUSED_UPSTREAM_CONNECTIONS, UpstreamError, UpstreamSettings},
};
pub(crate) use self::{
    admit::{host, message},
    authority::Authority,
    own_response::{fitting, own_response, permanent_redirect},
    refusal::RequestRefusal,
    request_log::{RequestLog, RequestRecord},
    tunnel::{Tunnel, TunnelEnd},
};
use self::{
    domain_route::{Admitted, DomainRoute, RouteDefaults, entry_of},
    relay::Relay,
    request_rates::DomainRates,
};
use crate::{
    client_stream::RequestBody,
    config::{self, Reloadable},
    domains::{Caller, Domains},
    fields::Fields,
    http1::RequestParts,
    name::ServerName,
    target::Target,
    transport::Transport,
};

/// What all workers' forwarders share; one per process.
pub struct Service {
    /// Permission and targets.
    pub domains: Domains,
    /// Where requests go whose domain names no target.
    pub default_target: Reloadable<Option<Target>>,
    /// How many requests are answered for each domain and each client of it.
    pub rates: RequestRates,
    /// Whose word is taken for who a request's client is.
    pub trusted_proxies: TrustedProxies,
    /// How requests are relayed.
    pub relay: RelaySettings,
}

/// How requests are relayed; one per process.
#[derive(Clone)]
pub struct RelaySettings {
    /// The limits on clients.
    pub limits: Reloadable<config::LimitsConfig>,
    /// The rules for fields.
    pub headers: Reloadable<config::HeadersConfig>,
    /// Which responses are compressed.
    pub compression: Reloadable<config::CompressionConfig>,
    /// Those that are at present.
    pub compressed: CompressedStreams,
    /// What clients see where the proxy answers itself.
    pub error_pages: Reloadable<ErrorPages>,
    /// Connections to targets.
    pub upstream: Arc<UpstreamSettings>,
    /// Where names of targets are resolved.
    pub control: tokio::runtime::Handle,
    /// The port that upstreams see in `X-Forwarded-Port`.
    pub public_https_port: u16,
}

/// A connection as its requests see it.
#[derive(Debug, Clone)]
pub struct Downstream {
    /// The client.
    pub peer: SocketAddr,
    /// Our own address on it; absent where nothing is forwarded.
    pub local: Option<SocketAddr>,
    /// The trusted proxy that says so; absent where the client is connected itself.
    pub through: Option<IpAddr>,
    /// The name its handshake was for; absent in cleartext.
    pub server_name: Option<HandshakeName>,
    /// The TLS version it speaks, as logs call it; absent in cleartext.
    pub tls: Option<&'static str>,
}

/// The name a handshake was for, and who chose it.
#[derive(Debug, Clone)]
pub struct HandshakeName {
    /// The name.
    pub name: ServerName,
    /// Who chose it.
    pub by: NamedBy,
}

/// Who chose the name of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBy {
    /// The client, by its server name indication (RFC 6066 §3).
    Client,
    /// `tls.default_name`, since the client sent none. Whoever connects to an address names that in Host, too.
    Settings,
}

/// What a request is answered with, and what becomes of its connection.
pub struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) fields: Fields,
    pub(crate) body: Body,
    /// Once the response was sent.
    pub(crate) then: Then,
}

/// What becomes of a connection after a response.
pub enum Then {
    /// It may carry another request.
    KeepAlive,
    /// It ends. An HTTP/1.1 client reads `Connection: close` as well (RFC 9112 §9.6); in HTTP/2 only the connection's owner can send
    /// GOAWAY (RFC 9113 §6.8).
    Close,
    /// It carries another protocol from now on (RFC 9110 §15.2.2).
    Tunnel(Box<Tunnel>),
}

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
    pub fn new(transport: T, service: Arc<Service>, request_log: &Rc<RequestLog>) -> Self {
        let relay = Relay::new(transport, &service.relay, request_log);
        Self(Rc::new(Inner { service, relay }))
    }

    /// Answers a request that came over TLS; `at` is when its header section was complete.
    ///
    /// # Cancel safety
    /// A dropped future ends the request upstream and is logged as a client that went away.
    pub async fn serve_https(
        &self,
        head: Box<RequestParts>,
        body: RequestBody,
        downstream: &Downstream,
        at: Instant,
    ) -> Answer {
        let relay = &self.0.relay;
        let downstream = &*self.0.service.trusted_proxies.see(downstream, &head.fields);
        let record = relay.request_log.record(&head, downstream, &Scheme::HTTPS, at);
        let admitted = self.admit(&head, downstream, at).await;
        relay.answer(head, body, admitted, record).await
    }

    async fn admit(
        &self,
        head: &RequestParts,
        downstream: &Downstream,
        at: Instant,
    ) -> Result<Admitted, RequestRefusal> {
        // Without a name there is none that Host could equal.
        let server_name = downstream.server_name.as_ref().ok_or(RequestViolation::HostUnlikeServerName)?;
        let fields = self.0.service.relay.limits.load().header_fields;
        let host = admit::admit(head, server_name, fields)?;
        Ok(Admitted { host, route: self.route(&server_name.name, downstream.peer.ip(), at).await? })
    }

    /// Permission is asked for each request, so that a withdrawn name is refused on an open connection, too.
    async fn route(
        &self,
        name: &ServerName,
        client: IpAddr,
        at: Instant,
    ) -> Result<DomainRoute, RequestRefusal> {
        let service = &self.0.service;
        let permission = service.domains.permission(name, Caller::Client(client)).await;
        let entry = entry_of(permission, |unknown_reason| service.domains.last_known(name, unknown_reason))?;
        let target = service.default_target.load();
        let defaults =
            RouteDefaults { target: target.as_ref().as_ref(), host: service.relay.upstream.host() };
        let route = DomainRoute::of(name, &entry, defaults)?;
        let rates = DomainRates::of(entry.settings, &service.relay.limits.load());
        service.rates.take(&entry.pattern, client, rates, at).map_err(RequestRefusal::Rate)?;
        Ok(route)
    }
}
