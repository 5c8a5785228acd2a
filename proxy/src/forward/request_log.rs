//! The record of a request, written when it ends, however it ends.

use std::{
    cell::Cell,
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http::{Method, StatusCode, Uri, Version, uri::Scheme};
use prometheus::IntGauge;

use super::{
    Downstream,
    admit::RequestViolation,
    error_pages::{ProblemForm, Reference},
    metrics::{
        Class, CompressionResult, CompressionSide, Direction, Protocol, RequestMetrics, RequestOutcome, Verb,
    },
    upload::UploadProgress,
};
use crate::{
    clock::{self, now},
    field_name::FieldName,
    fields::Fields,
    http1::RequestParts,
    name::ServerName,
    proxy_protocol::ProxiedClient,
    target::EndpointAddress,
    telemetry::{
        RequestId,
        access_log::{AccessEntry, AccessLog},
        metrics::Label,
    },
};

/// Ids for one worker's requests: all different; those of two workers or two starts are equal only by a chance of 2^-64.
struct RequestIds(Cell<u64>);

impl RequestIds {
    fn new() -> Self {
        Self(Cell::new(RandomState::new().hash_one(0)))
    }

    fn next(&self) -> RequestId {
        let id = self.0.get().wrapping_add(STEP);
        self.0.set(id);
        RequestId::numbered(id)
    }
}

/// Where one worker's requests are counted and logged.
pub struct RequestLog {
    pub(super) metrics: RequestMetrics,
    access_log: AccessLog,
    ids: RequestIds,
}

impl RequestLog {
    /// Counts into `metrics` and writes to `access_log`.
    #[must_use]
    pub fn new(metrics: RequestMetrics, access_log: AccessLog) -> Self {
        Self { metrics, access_log, ids: RequestIds::new() }
    }

    /// Begins the record of a request whose header section was complete `at`.
    pub(crate) fn record(
        self: &Rc<Self>,
        head: &RequestParts,
        downstream: &Downstream,
        scheme: &Scheme,
        at: Instant,
    ) -> Box<RequestRecord> {
        // Boxed: it passes from hand to hand, as large as it is.
        Box::new(RequestRecord::new(Rc::clone(self), head, downstream, scheme, at))
    }

    /// Logs what could not be read as a request, and was answered with `status`: nothing is known of it but its
    /// connection.
    pub(crate) fn record_unparsed(&self, downstream: &Downstream, status: u16) {
        self.access_log.record(&AccessEntry {
            id: &self.ids.next(),
            at: clock::wall(),
            client: downstream.peer,
            server_name: downstream.server_name.as_ref().map_or("", |server| server.name.as_str()),
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
}

/// What is known of a request from its beginning, for those who outlive its record.
#[derive(Debug, Clone)]
pub(super) struct RequestFacts {
    pub(super) client: IpAddr,
    /// The version of TLS; absent in cleartext.
    pub(super) tls: Option<&'static str>,
    pub(super) server_name: Option<ServerName>,
    pub(super) id: RequestId,
}

/// The record of one request. Dropping it writes it; unless another outcome was set, its client went away.
pub(crate) struct RequestRecord {
    request_log: Rc<RequestLog>,
    id: RequestId,
    at: Instant,
    wall: SystemTime,
    client: SocketAddr,
    local: Option<SocketAddr>,
    through: Option<IpAddr>,
    scheme: &'static str,
    version: Version,
    method: Method,
    uri: Uri,
    pub(crate) server_name: Option<ServerName>,
    pub(super) status: StatusCode,
    pub(super) outcome: RequestOutcome,
    pub(super) received: Option<Rc<UploadProgress>>,
    pub(super) sent_bytes: u64,
    /// Received behind a request whose connection switched protocols.
    pub(super) tunnelled_bytes: u64,
    upstream_duration: Option<Duration>,
    upstream: Option<EndpointAddress>,
    tls: Option<&'static str>,
    problem_form: ProblemForm,
    /// Absent also where no access log wants it.
    user_agent: Option<Bytes>,
}

impl RequestRecord {
    fn new(
        request_log: Rc<RequestLog>,
        head: &RequestParts,
        downstream: &Downstream,
        scheme: &Scheme,
        at: Instant,
    ) -> Self {
        let user_agent =
            if request_log.access_log.is_wanted() { head.fields.kept(FieldName::UserAgent) } else { None };
        Self {
            id: given_id(&head.fields, downstream.through).unwrap_or_else(|| request_log.ids.next()),
            request_log,
            at,
            wall: clock::wall(),
            client: downstream.peer,
            local: downstream.local,
            through: downstream.through,
            scheme: if *scheme == Scheme::HTTPS { "https" } else { "http" },
            version: head.version,
            method: head.method.clone(),
            uri: head.uri.clone(),
            server_name: downstream.server_name.as_ref().map(|server| server.name.clone()),
            status: CLIENT_CLOSED_REQUEST,
            outcome: RequestOutcome::ClientGone,
            received: None,
            sent_bytes: 0,
            tunnelled_bytes: 0,
            upstream_duration: None,
            upstream: None,
            tls: downstream.tls,
            problem_form: ProblemForm::wanted(&head.fields),
            user_agent,
        }
    }

    pub(super) fn client_address(&self) -> IpAddr {
        self.client.ip()
    }

    /// Whom a connection to its target is for, as a PROXY header says it.
    pub(super) fn proxied_client(&self) -> ProxiedClient {
        let unknown = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let (client, local) = (self.client, self.local.unwrap_or(unknown));
        ProxiedClient { client, local, server_name: self.server_name.clone() }
    }

    /// The trusted proxy that the request came through.
    pub(super) fn through(&self) -> Option<IpAddr> {
        self.through
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn method(&self) -> &Method {
        &self.method
    }

    pub(super) fn facts(&self) -> RequestFacts {
        let (server_name, id) = (self.server_name.clone(), self.id.clone());
        RequestFacts { client: self.client.ip(), tls: self.tls, server_name, id }
    }

    /// What target, client and log know it by.
    pub(super) fn id(&self) -> &RequestId {
        &self.id
    }

    /// The id that the error page shows.
    pub(super) fn reference(&self) -> Reference<'_> {
        Reference { id: &self.id, at: self.wall }
    }

    /// How its client wants to be told of an error.
    pub(super) fn problem_form(&self) -> ProblemForm {
        self.problem_form
    }

    pub(super) fn open_tunnels(&self) -> IntGauge {
        self.request_log.metrics.tunnels.clone()
    }

    pub(super) fn count_compression(&self, result: CompressionResult) {
        self.request_log.metrics.compression.bump(result);
    }

    /// Of a body that is compressed, so much was read, and so much came out.
    pub(super) fn compressed(&self, before: u64, after: u64) {
        self.request_log.metrics.compressed_bytes.add(CompressionSide::Before, before);
        self.request_log.metrics.compressed_bytes.add(CompressionSide::After, after);
    }

    pub(super) fn count_violation(&self, violation: RequestViolation) {
        self.request_log.metrics.violations.bump(violation);
    }

    /// An answer of our own, of so many bytes.
    pub(crate) fn ours(&mut self, outcome: RequestOutcome, status: StatusCode, bytes: u64) {
        (self.outcome, self.status, self.sent_bytes) = (outcome, status, bytes);
    }

    /// The header section of the response of the upstream at `upstream` is there.
    pub(super) fn answered(&mut self, status: StatusCode, upstream: EndpointAddress) {
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
        // A load balancer asks every few seconds: health checks are counted, but not in the latency.
        if self.outcome == RequestOutcome::Health {
            return;
        }
        let metrics = &self.request_log.metrics;
        metrics.seconds.observe(duration.as_secs_f64());
        metrics.responses.bump(Class::of(self.status), Verb::of(&self.method), Protocol::of(self.version));
        let received_bytes =
            self.received.as_ref().map_or(0, |progress| progress.bytes()) + self.tunnelled_bytes;
        metrics.body_bytes.add(Direction::In, received_bytes);
        metrics.body_bytes.add(Direction::Out, self.sent_bytes);
        let user_agent = self
            .user_agent
            .as_ref()
            .map(|field| String::from_utf8_lossy(field.get(..LONGEST_USER_AGENT).unwrap_or(field)));
        self.request_log.access_log.record(&AccessEntry {
            id: &self.id,
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
            upstream: self.upstream.as_ref(),
            user_agent: user_agent.as_deref(),
        });
    }
}

/// What a trusted proxy calls the request, so that both logs name it alike; nobody else chooses how it is found in ours.
fn given_id(fields: &Fields, through: Option<IpAddr>) -> Option<RequestId> {
    through?;
    RequestId::given(fields.only(FieldName::XRequestId)?)
}

/// Names of browsers are shorter; what is longer is cut.
const LONGEST_USER_AGENT: usize = 256;
/// Odd, so that no number repeats before all have come; large, so that consecutive ids look different.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Logged when no status was sent; nginx uses the same number.
const CLIENT_CLOSED_REQUEST: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => StatusCode::BAD_REQUEST,
};
