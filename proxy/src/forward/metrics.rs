//! Metrics of requests.

use http::{Method, StatusCode, Version};
use prometheus::{Histogram, IntCounter, IntGauge, Registry};

use super::admit::RequestViolation;
use crate::{
    label,
    telemetry::metrics::{Counters, Counters3, Label, counter, gauge, histogram},
};

label! {
    /// The outcome of a request. Each is counted under exactly one of these, when its last byte was passed on or it ended early.
    pub enum RequestOutcome["outcome"] {
        /// The upstream's response was passed on completely.
        Forward = "forwarded",
        /// It broke a rule of admission.
        RefuseViolation = "refused",
        /// Its name is not served, or not any more.
        RefuseName = "name_refused",
        /// Its name's entry could not be read, nor was one known from before.
        EntryUnknown = "entry_unknown",
        /// Its domain has more requests than the rate that is set for it.
        RateExceeded = "rate_exceeded",
        /// Its client has made more requests for its domain than the rate that is set for each.
        ClientRateExceeded = "source_rate_exceeded",
        /// Its domain is in maintenance.
        Maintenance = "maintenance",
        /// It has passed this fleet before, or its target is this fleet itself.
        Loop = "loop",
        /// It was sent to HTTPS.
        Redirect = "redirected",
        /// A health check.
        Health = "health",
        /// It asked which edge this is.
        NameEdge = "edge_named",
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
        /// Each endpoint of its target had as many requests as it may, and as many waited.
        EndpointFull = "upstream_endpoint_full",
        /// It waited for an endpoint of its target that has room, and none had in time.
        PendingTimeout = "upstream_pending_timeout",
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
        /// Nothing was passed through its tunnel for too long.
        TunnelIdle = "tunnel_idle",
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
        /// One was opened to another endpoint, since the one before did not answer.
        Failover = "failed_over",
        /// None could be opened.
        Fail = "failed",
    }
}

label! {
    /// What became of a request that found all endpoints of its target full.
    pub(super) enum PendingEnd["end"] {
        /// One had room in time.
        Admitted = "admitted",
        /// As many waited already as may.
        QueueFull = "queue_full",
        /// None had room in time.
        Timeout = "timeout",
        /// Its client went away.
        ClientGone = "client_gone",
    }
}

label! {
    /// What became of a response that was to be compressed.
    pub(super) enum CompressionResult["result"] {
        /// It was.
        Compressed = "compressed",
        /// As many were at that time as may be.
        NoRoom = "no_room",
    }
}

label! {
    /// Of compression.
    pub(super) enum CompressionSide["side"] {
        Before = "before",
        After = "after",
    }
}

label! {
    /// How a check of an endpoint has ended.
    pub(super) enum CheckResult["result"] {
        /// With 2xx or 3xx in time.
        Passed = "passed",
        /// In any other way.
        Failed = "failed",
    }
}

label! {
    /// First digit of an answer's status.
    pub(super) enum Class["class"] {
        Informational = "1xx",
        Success = "2xx",
        Redirect = "3xx",
        ClientError = "4xx",
        ServerError = "5xx",
        /// The client went away before there was one.
        Nothing = "none",
    }
}

label! {
    /// RFC 9110 §9.3 and RFC 5789; a stranger can write any other.
    pub(super) enum Verb["method"] {
        Get = "GET",
        Head = "HEAD",
        Post = "POST",
        Put = "PUT",
        Delete = "DELETE",
        Options = "OPTIONS",
        Patch = "PATCH",
        Connect = "CONNECT",
        Trace = "TRACE",
        Other = "other",
    }
}

label! {
    /// As ALPN chose it, or the request line says.
    pub(super) enum Protocol["protocol"] {
        Http10 = "HTTP/1.0",
        Http11 = "HTTP/1.1",
        Http2 = "HTTP/2.0",
    }
}

label! {
    /// Of a body, as seen from here.
    pub(super) enum Direction["direction"] {
        In = "received",
        Out = "sent",
    }
}

impl Class {
    pub(super) fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            100..200 => Self::Informational,
            200..300 => Self::Success,
            300..400 => Self::Redirect,
            499 => Self::Nothing,
            400..500 => Self::ClientError,
            _ => Self::ServerError,
        }
    }
}

impl Verb {
    pub(super) fn of(method: &Method) -> Self {
        let known = Self::ALL.iter().copied().find(|verb| verb.as_str() == method.as_str());
        known.unwrap_or(Self::Other)
    }
}

impl Protocol {
    pub(super) fn of(version: Version) -> Self {
        match version {
            Version::HTTP_10 => Self::Http10,
            Version::HTTP_2 => Self::Http2,
            _ => Self::Http11,
        }
    }
}

/// Metrics of requests.
#[derive(Clone)]
pub struct RequestMetrics {
    pub(super) requests: Counters<RequestOutcome>,
    pub(super) responses: Counters3<Class, Verb, Protocol>,
    pub(super) body_bytes: Counters<Direction>,
    pub(super) violations: Counters<RequestViolation>,
    pub(super) connections: Counters<ConnectionOrigin>,
    pub(super) seconds: Histogram,
    pub(super) upstream_seconds: Histogram,
    pub(super) tunnels: IntGauge,
    pub(super) ejections: IntCounter,
    pub(super) checks: Counters<CheckResult>,
    pub(super) pending: Counters<PendingEnd>,
    pub(super) compression: Counters<CompressionResult>,
    pub(super) compressed_bytes: Counters<CompressionSide>,
    pub(super) pending_now: IntGauge,
}

impl RequestMetrics {
    /// Registers them.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            requests: Counters::register(registry, "gatehouse_requests_total", "Requests, by outcome.")?,
            responses: Counters3::register(
                registry,
                "gatehouse_responses_total",
                "Responses by class of status, method and protocol; health checks are not counted.",
            )?,
            body_bytes: Counters::register(
                registry,
                "gatehouse_body_bytes_total",
                "Bytes of request bodies received and of response bodies sent.",
            )?,
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
            ejections: counter(
                registry,
                "gatehouse_upstream_ejections_total",
                "Times that a worker left an endpoint alone for a while, since it did not answer.",
            )?,
            checks: Counters::register(
                registry,
                "gatehouse_upstream_checks_total",
                "Checks of endpoints that have `health` in their target, by result.",
            )?,
            pending: Counters::register(
                registry,
                "gatehouse_upstream_pending_total",
                "Requests that found all endpoints of their target full, by what became of their wait.",
            )?,
            compression: Counters::register(
                registry,
                "gatehouse_compressed_responses_total",
                "Responses that were to be compressed, by whether there was room for one more.",
            )?,
            compressed_bytes: Counters::register(
                registry,
                "gatehouse_compressed_bytes_total",
                "Bytes of bodies before and after they were compressed.",
            )?,
            pending_now: gauge(
                registry,
                "gatehouse_upstream_pending",
                "Requests that wait for an endpoint of their target that has room.",
            )?,
            tunnels: gauge(
                registry,
                "gatehouse_tunnels",
                "Connections that carry another protocol, such as WebSocket.",
            )?,
        })
    }
}

const BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_write_makes_no_series() {
        for (method, verb) in
            [("GET", Verb::Get), ("get", Verb::Other), ("BREW", Verb::Other), ("other", Verb::Other)]
        {
            assert_eq!(Verb::of(&Method::from_bytes(method.as_bytes()).unwrap()), verb, "{method}");
        }
        for (status, class) in [
            (200, Class::Success),
            (308, Class::Redirect),
            (421, Class::ClientError),
            (499, Class::Nothing),
            (502, Class::ServerError),
        ] {
            assert_eq!(Class::of(StatusCode::from_u16(status).unwrap()), class, "{status}");
        }
    }
}
