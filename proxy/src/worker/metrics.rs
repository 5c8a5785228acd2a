//! Metrics of workers.

use prometheus::{IntCounter, IntGauge, Registry};

use crate::{
    label,
    telemetry::metrics::{Counters, Histograms, counter, gauge},
    tls::HandshakeEnd,
};

label! {
    /// The outcome of a connection to a TLS port. Each is counted under exactly one of these.
    pub enum ConnectionOutcome["outcome"] {
        /// Its handshake was completed and requests were served.
        Serve = "served",
        /// The limit of open connections was reached.
        RefuseFull = "refused_full",
        /// The limit of its source was reached.
        RefuseSource = "refused_source",
        /// Memory was nearly used up.
        RefuseMemory = "refused_memory",
        /// A load balancer sent no PROXY header, or one that is malformed.
        RefuseProxyHeader = "proxy_header",
        /// No complete ClientHello in time.
        EndHelloTimeout = "hello_timeout",
        /// The peer closed first.
        EndClosed = "closed",
        /// Plain HTTP.
        RefusePlainHttp = "plain_http",
        /// Not TLS, or a ClientHello that breaks the rules.
        RefuseMalformed = "malformed",
        /// No version of TLS that the name is served with.
        RefuseVersion = "protocol_version",
        /// The peer ended the handshake.
        EndHandshakeFailed = "handshake_failed",
        /// The handshake messages took too long.
        EndHandshakeTimeout = "handshake_timeout",
        /// No server name, or an address.
        RefuseNoName = "no_server_name",
        /// A name that is not served here.
        RefuseForeign = "foreign_name",
        /// A name for which no source answers, and without a certificate.
        RefuseUnknown = "unknown_name",
        /// No certificate in time.
        RefuseNoCertificate = "no_certificate",
        /// A tls-alpn-01 validation, answered.
        AnswerChallenge = "challenge_answered",
        /// A tls-alpn-01 validation for an unknown challenge.
        RefuseChallenge = "challenge_unknown",
    }
}

label! {
    /// What a load balancer's PROXY header said, or why it said nothing.
    pub(super) enum HeaderOutcome["header"] {
        /// Who the client is.
        Client = "client",
        /// That the connection is its own, or that it does not know the client.
        Itself = "itself",
        /// Something else came in its place.
        Absent = "absent",
        /// It breaks the rules.
        Malformed = "malformed",
        /// It did not come in time.
        Timeout = "timeout",
        /// The load balancer closed first.
        Closed = "closed",
    }
}

label! {
    /// Which limit ended a connection or, where it says so, one stream of HTTP/2.
    pub enum LimitReached["limit"] {
        /// No request for `limits.idle`.
        Idle = "idle",
        /// No complete header section within `limits.header_timeout`.
        Head = "header_timeout",
        /// Its peer read more slowly than `limits.minimum_rate`.
        NotReading = "not_reading",
        /// The client opened no window for a stream.
        StreamNotReading = "stream_not_reading",
        /// Its client gave up more requests than `limits.http2_resets` a minute.
        Resets = "resets",
        /// Memory was short, and the stream's answer held much of it.
        StreamMemory = "stream_memory",
        /// Memory was short, and the connection held much of it.
        Memory = "memory",
    }
}

label! {
    /// Where a handshake's certificate was found.
    pub(super) enum CertificateOrigin["certificate"] {
        /// In this worker's cache.
        Worker = "worker_cache",
        /// In the process's cache.
        Process = "process_cache",
        /// It was read or ordered.
        Obtained = "obtained",
    }
}

label! {
    /// How a completed handshake came to its keys.
    pub(super) enum SessionKind["session"] {
        /// By a key exchange under the certificate.
        Full = "full",
        /// By a ticket of an earlier session.
        Resumed = "resumed",
    }
}

impl SessionKind {
    pub(super) fn of(resumed: bool) -> Self {
        if resumed { Self::Resumed } else { Self::Full }
    }
}

impl From<HandshakeEnd> for ConnectionOutcome {
    fn from(end: HandshakeEnd) -> Self {
        match end {
            HandshakeEnd::HelloTimeout => Self::EndHelloTimeout,
            HandshakeEnd::Closed => Self::EndClosed,
            HandshakeEnd::PlainHttp => Self::RefusePlainHttp,
            HandshakeEnd::Malformed => Self::RefuseMalformed,
            HandshakeEnd::Version => Self::RefuseVersion,
            HandshakeEnd::Failed => Self::EndHandshakeFailed,
            HandshakeEnd::HandshakeTimeout => Self::EndHandshakeTimeout,
        }
    }
}

/// The workers' metrics.
#[derive(Clone)]
pub struct WorkerMetrics {
    pub(super) connections: Counters<ConnectionOutcome>,
    pub(super) ended: Counters<LimitReached>,
    pub(super) unparsed: IntCounter,
    pub(super) open: IntGauge,
    pub(super) handshakes: Histograms<CertificateOrigin>,
    pub(super) sessions: Counters<SessionKind>,
    pub(super) proxy_headers: Counters<HeaderOutcome>,
}

impl WorkerMetrics {
    /// Registers them.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            connections: Counters::register(
                registry,
                "gatehouse_tls_connections_total",
                "Connections to TLS ports, by outcome.",
            )?,
            ended: Counters::register(
                registry,
                "gatehouse_connections_ended_total",
                "Connections (TLS and cleartext) and HTTP/2 streams that a limit ended, by limit.",
            )?,
            unparsed: counter(
                registry,
                "gatehouse_requests_unparsed_total",
                "Requests that are not HTTP/1, or whose end is ambiguous; answered with 400.",
            )?,
            open: gauge(registry, "gatehouse_connections_open", "Connections open now, TLS and cleartext.")?,
            handshakes: Histograms::register(
                registry,
                "gatehouse_tls_handshake_seconds",
                "Time from the ClientHello to the completed handshake, by where the certificate was found.",
                HANDSHAKE_BUCKETS,
            )?,
            proxy_headers: Counters::register(
                registry,
                "gatehouse_proxy_headers_total",
                "PROXY headers of load balancers, by what they said.",
            )?,
            sessions: Counters::register(
                registry,
                "gatehouse_tls_handshakes_total",
                "Completed handshakes, by whether a session was resumed.",
            )?,
        })
    }
}

const HANDSHAKE_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0];
