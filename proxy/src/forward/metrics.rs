//! What requests are counted as.

use prometheus::Registry;

use super::admit::Offence;
use crate::{
    label,
    telemetry::metrics::{Counters, Histograms},
};

label! {
    /// What became of a request. Each is counted under exactly one of these.
    pub enum Outcome["outcome"] {
        /// The upstream answered.
        Relay = "relayed",
        /// Refused before anything else; `gatehouse_requests_refused_total` says why.
        RefuseOffence = "refused",
        /// Its name is not served, or no longer.
        RefuseDenied = "denied",
        /// Its name has no target.
        FailNoTarget = "no_target",
        /// The target's name has no address.
        FailUnresolved = "upstream_unresolved",
        /// The target lies where none may.
        FailForbidden = "upstream_forbidden",
        /// No connection to the target.
        FailUnreachable = "upstream_unreachable",
        /// No connection to the target in time.
        FailConnectTimeout = "upstream_connect_timeout",
        /// The target closed before it answered.
        FailClosed = "upstream_closed",
        /// The target did not answer in time.
        FailResponseTimeout = "upstream_response_timeout",
        /// The client stopped sending its body.
        FailRequestBody = "request_body_timeout",
        /// Redirected to HTTPS.
        Redirect = "redirected",
        /// `/health`.
        Health = "health",
        /// An http-01 validation, answered.
        Challenge = "challenge_answered",
        /// An http-01 validation of which nothing is known.
        ChallengeUnknown = "challenge_unknown",
    }
}

label! {
    /// Whether an upstream connection was waiting in the pool.
    pub(super) enum Reuse["connection"] {
        Pooled = "pooled",
        Fresh = "fresh",
        Retried = "retried",
    }
}

/// The metrics of requests.
#[derive(Clone)]
pub struct Metrics {
    pub(super) requests: Counters<Outcome>,
    pub(super) refused: Counters<Offence>,
    pub(super) seconds: Histograms<Outcome>,
    pub(super) upstream: Counters<Reuse>,
}

impl Metrics {
    /// Registers them.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            requests: Counters::register(
                registry,
                "gatehouse_requests_total",
                "Requests by what became of them.",
            )?,
            refused: Counters::register(
                registry,
                "gatehouse_requests_refused_total",
                "Requests refused before anything else, by offence.",
            )?,
            seconds: Histograms::register(
                registry,
                "gatehouse_request_seconds",
                "From a request's head to the head of its answer.",
                &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0],
            )?,
            upstream: Counters::register(
                registry,
                "gatehouse_upstream_requests_total",
                "Requests sent to targets, by where the connection came from.",
            )?,
        })
    }
}
