//! One worker's connections to upstreams: an open one, or a new one to one of the target's addresses.
//! Invariants: a request is sent again only if it was never sent, or is idempotent and has no body
//! (`a_connection_closed_while_idle_is_replaced`), and to each destination over one connection that was there and one that is new; no name leads
//! to this host (`names_never_lead_to_the_host_or_its_secrets`).

mod address_policy;
mod admission;
mod attempt;
mod checks;
mod choice;
mod circuit_breaker;
mod connection;
mod connector;
mod deadline;
mod destination;
mod destination_key;
mod destinations;
mod failure;
mod health;
mod http2;
mod http2_body;
pub(super) mod permits;
mod pooled;
mod prober;
mod request_writer;
mod resolver;
mod response;
mod retry_budget;
mod settings;
mod slots;
mod tls_configs;
mod tls_settings;

use std::{cell::RefCell, io, net::IpAddr, rc::Rc, sync::Arc};

use tokio::{runtime::Handle, task::JoinHandle};

pub use self::{
    address_policy::AddressPolicy, destination::TOTAL as UNUSED_UPSTREAM_CONNECTIONS,
    resolver::LOOKUP_THREADS, settings::UpstreamSettings, tls_settings::UpstreamError,
};
pub(super) use self::{
    address_policy::ChosenBy,
    failure::{UpstreamFailure, UpstreamFault},
    pooled::UpstreamTunnel,
    request_writer::{ExchangeTerms, RequestWriter},
    response::{UpstreamBody, UpstreamResponse},
};
use self::{
    attempt::Attempts,
    choice::{Choice, Load, Standing, choose, rank},
    connector::Connector,
    destination::{ChosenVersion, Destination},
    destinations::{Candidate, Candidates, Destinations},
    health::Verdict,
    prober::Prober,
    retry_budget::RetryBudget,
};
use super::{
    metrics::{ConnectionOrigin, RequestMetrics},
    upload::Upload,
};
use crate::{
    clock::now,
    keyed_counts::network,
    random,
    target::{Target, UpstreamProtocol},
    telemetry::admit_line,
    transport::Transport,
};

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Route {
    pub(super) target: Target,
    pub(super) chosen_by: ChosenBy,
}

impl Route {
    /// Whether some of its endpoints may take calls of gRPC, which are of HTTP/2.
    pub(super) fn takes_calls(&self) -> bool {
        self.target.endpoints().iter().any(|endpoint| endpoint.protocol != UpstreamProtocol::Http1)
    }
}

/// One worker's connections to upstreams.
pub(super) struct Upstreams<T: Transport> {
    settings: Arc<UpstreamSettings>,
    connector: Rc<Connector<T>>,
    metrics: RequestMetrics,
    destinations: Rc<Destinations>,
    retries: RefCell<RetryBudget>,
    sweeper: JoinHandle<()>,
    prober: JoinHandle<()>,
}

impl<T: Transport> Drop for Upstreams<T> {
    fn drop(&mut self) {
        self.sweeper.abort();
        self.prober.abort();
    }
}

impl<T: Transport> Upstreams<T> {
    /// Within a worker's runtime: it spawns the tasks that close what is unused and check endpoints.
    pub(super) fn new(
        transport: T,
        settings: Arc<UpstreamSettings>,
        metrics: RequestMetrics,
        control: Handle,
    ) -> Self {
        let connector = Rc::new(Connector::new(transport, Arc::clone(&settings)));
        let destinations = Rc::new(Destinations::new(Arc::clone(&settings), control));
        let sweeper = tokio::task::spawn_local(Rc::clone(&destinations).keep_swept());
        let prober = Prober {
            connector: Rc::clone(&connector),
            destinations: Rc::clone(&destinations),
            settings: Arc::clone(&settings),
            checks: metrics.checks.clone(),
        };
        let prober = tokio::task::spawn_local(Rc::new(prober).run());
        let retries = RefCell::new(RetryBudget::new(now()));
        Self { settings, connector, metrics, destinations, retries, sweeper, prober }
    }

    /// Whether a request along `route` takes but a stream of HTTP/2, whichever endpoint it goes to. Of servers that may choose, and were
    /// not asked yet, it is taken for granted for a `call` of gRPC alone, which is of HTTP/2.
    pub(super) fn goes_over_http2(&self, route: &Route, is_call: bool) -> bool {
        let endpoints = route.target.endpoints();
        if endpoints.iter().all(|endpoint| endpoint.protocol != UpstreamProtocol::Auto) {
            return endpoints.iter().all(|endpoint| endpoint.protocol == UpstreamProtocol::Http2);
        }
        let goes = |candidate: &Candidate| match candidate.destination.version() {
            Some(version) => version == ChosenVersion::Http2,
            None => is_call,
        };
        self.destinations.known(route).map_or(is_call, |candidates| candidates.iter().all(goes))
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
    ) -> Result<UpstreamResponse, UpstreamFailure> {
        let permit = self.settings.places.take(&route.target, client)?;
        let candidates = self.destinations.of(route).await?;
        self.retries.borrow_mut().earn();
        let mut attempts = Attempts::new(*self.settings.limits.connect_timeout);
        let unable = request
            .terms()
            .wants_switch
            .then(|| unable_to_switch(&candidates, request.websocket_key().is_some()));
        let unable = unable.flatten();
        attempts.seeks_switch = unable.is_some();
        let mut tried = unable.unwrap_or_default();
        let mut last_failure = None;
        while let Some((index, in_flight)) = self.admit(&candidates, &tried, client).await? {
            let Some(candidate) = candidates.get(index) else { break };
            attempts.left = candidates.len() - tried.len();
            match self.attempt(&candidate.destination, &mut request, &mut attempts).await {
                Ok(answered) => {
                    candidate.destination.health().answered(now());
                    return Ok(answered.with(request, in_flight, permit));
                }
                Err(failure) => last_failure = Some(failure),
            }
            let Some(failure) = &last_failure else { break };
            if candidates.len() > 1 && failure.speaks_against_endpoint() {
                self.note_failure(&candidate.destination, failure);
            }
            tried.push(index);
            let may_go_on = failure.retry().permits(request.is_repeatable());
            if !may_go_on || tried.len() == candidates.len() || !self.retries.borrow_mut().spend(now()) {
                break;
            }
            attempts.origin = ConnectionOrigin::Failover;
        }
        let no_address = || UpstreamFailure::Unreachable(io::Error::other("the target has no address"));
        Err(last_failure.unwrap_or_else(no_address))
    }

    /// Which of `candidates` is next for a request of `client` that was at those `tried`.
    fn choose(&self, candidates: &Candidates, tried: &[usize], client: IpAddr) -> Option<Choice> {
        if let [only] = &**candidates {
            let choice = if only.destination.has_room() { Choice::Take(0) } else { Choice::Wait(vec![0]) };
            return tried.is_empty().then_some(choice);
        }
        let now = now();
        let client = network(client);
        let loads: Vec<Load> = candidates
            .iter()
            .enumerate()
            .map(|(index, Candidate { destination, weight })| {
                let standing = if tried.contains(&index) {
                    Standing::Tried
                } else if destination.is_left_alone(now) {
                    Standing::Ejected
                } else {
                    Standing::Answers
                };
                let weight = weight * destination.health().share(now);
                Load {
                    in_flight: destination.in_flight(),
                    weight,
                    standing,
                    has_room: destination.has_room(),
                    rank: rank(client, destination.identity),
                }
            })
            .collect();
        choose(&loads, self.settings.limits.balance, [random::fraction(), random::fraction()])
    }

    /// A destination that fails is left alone for a while.
    fn note_failure(&self, destination: &Destination, failure: &UpstreamFailure) {
        let Verdict::Ejected(pause) = destination.health().failed(now()) else { return };
        self.metrics.ejections.inc();
        let (endpoint, address) = (&destination.endpoint, &destination.address);
        let error: &dyn std::error::Error = failure;
        let Some(left_out) = admit_line("ejected", &address.to_string()) else { return };
        tracing::warn!(%endpoint, %address, ?pause, %error, left_out, "an endpoint does not answer; others get its requests");
    }
}

/// Which of `candidates` are left out of a request for another protocol, a `websocket` or not: those that cannot switch, or of which it is
/// not known, where others can. None if nobody can, and all may have it: an offer may be ignored (RFC 9110 §7.8).
fn unable_to_switch(candidates: &Candidates, is_websocket: bool) -> Option<Vec<usize>> {
    let ability = |candidate: &Candidate| candidate.destination.can_switch(is_websocket);
    // In this order, `Some(false)` apart: those that can, and those that may.
    let best =
        [Some(true), None].into_iter().find(|best| candidates.iter().any(|one| ability(one) == *best))?;
    let each = candidates.iter().enumerate();
    Some(each.filter(|(_, candidate)| ability(candidate) != best).map(|(index, _)| index).collect())
}
