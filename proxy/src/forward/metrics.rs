//! Metrics of requests.

use prometheus::{Histogram, Registry};

use super::admit::RequestViolation;
use crate::{
    label,
    telemetry::metrics::{Counters, histogram},
};

label! {
    /// The outcome of a request. Each is counted under exactly one of these, when its last byte was passed on or it ended early.
    pub enum RequestOutcome["outcome"] {
        /// The upstream's response was passed on completely.
        Forward = "forwarded",
        /// It broke a rule of admission.
        RefuseOffence = "refused",
        /// Its name is not served, or not any more.
        RefuseName = "name_refused",
        /// Its name's entry could not be read, nor was one known from before.
        EntryUnknown = "entry_unknown",
        /// It has passed this fleet before, or its target is this fleet itself.
        Loop = "loop",
        /// It was sent to HTTPS.
        Redirect = "redirected",
        /// A health check.
        Health = "health",
        /// An http-01 validation, answered.
        AnswerChallenge = "challenge_answered",
        /// An http-01 validation for an unknown challenge.
        RefuseChallenge = "challenge_unknown",
        /// Its domain has no target, nor is there a default.
        NoTarget = "no_target",
        /// The limit of concurrent requests was reached.
        Full = "upstream_full",
        /// The limit of concurrent requests to its target was reached.
        TargetFull = "upstream_target_full",
        /// The limit of concurrent requests of its client was reached.
        ClientFull = "upstream_source_full",
        /// The target's name could not be resolved.
        Unresolved = "upstream_unresolved",
        /// The target's address is forbidden.
        Forbidden = "upstream_forbidden",
        /// No connection to the target.
        Unreachable = "upstream_unreachable",
        /// No connection to the target in time.
        ConnectTimeout = "upstream_connect_timeout",
        /// The target's TLS could not be trusted or failed.
        Untrusted = "upstream_tls",
        /// The target closed before it answered.
        Closed = "upstream_closed",
        /// No answer in time.
        ResponseTimeout = "upstream_timeout",
        /// What the target answered is not HTTP.
        Invalid = "upstream_invalid",
        /// The upstream's response broke off; so did ours.
        Truncated = "upstream_truncated",
        /// The upstream's response made no progress; ours was cut off.
        Stalled = "upstream_stalled",
        /// The client's body came too slowly.
        ClientSlow = "client_slow",
        /// The client took the answer too slowly.
        ClientNotReading = "client_not_reading",
        /// The client went away.
        ClientGone = "client_gone",
    }
}

label! {
    /// Where a request's upstream connection came from.
    pub(super) enum ConnectionOrigin["connection"] {
        /// A pooled one was used.
        Reuse = "reused",
        /// One was opened.
        Open = "opened",
        /// A pooled one had been closed meanwhile, and the request was sent again on a new one.
        Retry = "retried",
        /// None could be opened.
        Fail = "failed",
    }
}

/// Metrics of requests.
#[derive(Clone)]
pub struct RequestMetrics {
    pub(super) requests: Counters<RequestOutcome>,
    pub(super) violations: Counters<RequestViolation>,
    pub(super) connections: Counters<ConnectionOrigin>,
    pub(super) seconds: Histogram,
    pub(super) upstream_seconds: Histogram,
}

impl RequestMetrics {
    /// Registers them.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            requests: Counters::register(registry, "gatehouse_requests_total", "Requests, by outcome.")?,
            violations: Counters::register(
                registry,
                "gatehouse_requests_refused_total",
                "Requests refused at admission, by the rule they broke.",
            )?,
            connections: Counters::register(
                registry,
                "gatehouse_upstream_requests_total",
                "Requests sent to upstreams, by the origin of their connection.",
            )?,
            seconds: histogram(
                registry,
                "gatehouse_request_seconds",
                "Time from a request's header section to the last byte of its response.",
                BUCKETS,
            )?,
            upstream_seconds: histogram(
                registry,
                "gatehouse_upstream_response_seconds",
                "Time from a request's header section to that of its upstream's response.",
                BUCKETS,
            )?,
        })
    }
}

const BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
