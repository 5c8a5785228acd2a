//! What is remembered of a request, and written when it ends, however it ends.

use std::{
    cell::Cell,
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderValue, Method, StatusCode, Uri, Version, header, request::Parts, uri::Scheme};

use super::{
    Downstream,
    body::UploadProgress,
    metrics::{Class, Direction, Protocol, RequestMetrics, RequestOutcome, Verb},
    min_rate::now,
    page::Reference,
};
use crate::{
    name::ServerName,
    telemetry::{
        access_log::{AccessEntry, AccessLog, RequestId},
        metrics::Label,
    },
};

/// Numbers for one worker's requests: each another, and those of two workers or two starts only by a chance of 2^-64 alike.
pub(super) struct RequestIds(Cell<u64>);

impl RequestIds {
    pub(super) fn new() -> Self {
        Self(Cell::new(RandomState::new().hash_one(0)))
    }

    fn next(&self) -> RequestId {
        let id = self.0.get().wrapping_add(STEP);
        self.0.set(id);
        RequestId(id)
    }
}

/// Where requests are written down.
pub(super) struct RequestLog {
    pub(super) metrics: RequestMetrics,
    pub(super) access_log: AccessLog,
    pub(super) ids: RequestIds,
}

/// One request. Dropping it writes it; until told otherwise, its client went away.
pub(super) struct RequestRecord {
    request_log: Rc<RequestLog>,
    id: RequestId,
    at: Instant,
    wall: SystemTime,
    client: SocketAddr,
    scheme: &'static str,
    version: Version,
    method: Method,
    uri: Uri,
    pub(super) server_name: Option<ServerName>,
    pub(super) status: StatusCode,
    pub(super) outcome: RequestOutcome,
    pub(super) received: Option<Rc<UploadProgress>>,
    pub(super) sent_bytes: u64,
    upstream_duration: Option<Duration>,
    upstream: Option<SocketAddr>,
    tls: Option<&'static str>,
    user_agent: Option<HeaderValue>,
}

impl RequestRecord {
    pub(super) fn new(
        request_log: Rc<RequestLog>,
        head: &Parts,
        downstream: &Downstream,
        scheme: &Scheme,
        at: Instant,
    ) -> Self {
        Self {
            id: request_log.ids.next(),
            request_log,
            at,
            wall: SystemTime::now(),
            client: downstream.peer,
            scheme: if *scheme == Scheme::HTTPS { "https" } else { "http" },
            version: head.version,
            method: head.method.clone(),
            uri: head.uri.clone(),
            server_name: downstream.server_name.clone(),
            status: CLIENT_CLOSED_REQUEST,
            outcome: RequestOutcome::ClientGone,
            received: None,
            sent_bytes: 0,
            upstream_duration: None,
            upstream: None,
            tls: downstream.tls,
            user_agent: head.headers.get(header::USER_AGENT).cloned(),
        }
    }

    pub(super) fn client_address(&self) -> std::net::IpAddr {
        self.client.ip()
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    /// What a person is told to ask for help with.
    pub(super) fn reference(&self) -> Reference {
        Reference { id: self.id, at: self.wall }
    }

    /// An answer of our own, of so many bytes.
    pub(super) fn ours(&mut self, outcome: RequestOutcome, status: StatusCode, bytes: u64) {
        (self.outcome, self.status, self.sent_bytes) = (outcome, status, bytes);
    }

    /// The head of the answer of the upstream at `upstream` is there.
    pub(super) fn answered(&mut self, status: StatusCode, upstream: SocketAddr) {
        let duration = now() - self.at;
        (self.status, self.upstream) = (status, Some(upstream));
        self.upstream_duration = Some(duration);
        self.request_log.metrics.upstream_seconds.observe(duration.as_secs_f64());
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let duration = now().saturating_duration_since(self.at);
        self.request_log.metrics.requests.bump(self.outcome);
        // A load balancer asks every few seconds, for ever: what it is told is a count, and no request's latency.
        if self.outcome == RequestOutcome::Health {
            return;
        }
        let metrics = &self.request_log.metrics;
        metrics.seconds.observe(duration.as_secs_f64());
        metrics.responses.bump(Class::of(self.status), Verb::of(&self.method), Protocol::of(self.version));
        let received_bytes = self.received.as_ref().map_or(0, |progress| progress.bytes());
        metrics.body_bytes.add(Direction::In, received_bytes);
        metrics.body_bytes.add(Direction::Out, self.sent_bytes);
        let user_agent = self.user_agent.as_ref().map(|field| {
            let bytes = field.as_bytes();
            String::from_utf8_lossy(bytes.get(..LONGEST_USER_AGENT).unwrap_or(bytes))
        });
        self.request_log.access_log.record(&AccessEntry {
            id: self.id,
            at: self.wall,
            client: self.client,
            server_name: self.server_name.as_ref().map_or("", ServerName::as_str),
            scheme: self.scheme,
            protocol: Protocol::of(self.version).as_str(),
            method: self.method.as_str(),
            path: self.uri.path(),
            status: self.status.as_u16(),
            received_bytes,
            sent_bytes: self.sent_bytes,
            duration,
            upstream_duration: self.upstream_duration,
            outcome: self.outcome.as_str(),
            tls: self.tls,
            upstream: self.upstream,
            user_agent: user_agent.as_deref(),
        });
    }
}

/// A request of which nothing could be read.
pub(super) fn unparsed(access_log: &AccessLog, downstream: &Downstream, status: u16) {
    access_log.record(&AccessEntry {
        id: RequestIds::new().next(),
        at: SystemTime::now(),
        client: downstream.peer,
        server_name: downstream.server_name.as_ref().map_or("", ServerName::as_str),
        scheme: if downstream.tls.is_some() { "https" } else { "http" },
        protocol: Protocol::Http11.as_str(),
        method: "-",
        path: "",
        status,
        received_bytes: 0,
        sent_bytes: 0,
        duration: Duration::ZERO,
        upstream_duration: None,
        outcome: "unparsed",
        tls: downstream.tls,
        upstream: None,
        user_agent: None,
    });
}

/// Names of browsers are shorter; what is longer is cut.
const LONGEST_USER_AGENT: usize = 256;
/// Odd, so that every number comes before one comes again; far apart, so that neighbours are not taken for each other.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// What is logged where no status was ever sent; nginx's number for the same.
const CLIENT_CLOSED_REQUEST: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => StatusCode::BAD_REQUEST,
};
