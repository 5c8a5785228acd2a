//! The way of an admitted request: rewritten, sent to its upstream, its answer streamed back.

use std::{rc::Rc, sync::Arc, time::Instant};

use http::{HeaderName, HeaderValue, Request, Response, Version, header, request::Parts, uri::Scheme};
use hyper::body::{Body as _, Incoming};
use tokio::runtime::Handle;

use super::{
    Body, Closes, Downstream, UpstreamSettings,
    admit::RequestViolation,
    authority::Authority,
    body::Upload,
    fitting,
    min_rate::MinRate,
    ours,
    page::page,
    refusal::RequestRefusal,
    request_log::{RequestLog, RequestRecord},
    rewrite::{self, ForwardContext, Framing},
    upstream::{PooledConnection, Route, UpstreamFailure, UpstreamFault, Upstreams},
};
use crate::{
    config::{self, Reloadable},
    telemetry::{access_log::RequestId, admit_line, metrics::Label},
    transport::Transport,
};

/// One worker's upstreams, and what every passage needs.
pub(super) struct Relay<T: Transport> {
    upstreams: Upstreams<T>,
    limits: Reloadable<config::LimitsConfig>,
    request_log: Rc<RequestLog>,
    public_port: u16,
}

impl<T: Transport> Relay<T> {
    pub(super) fn new(
        transport: T,
        settings: Arc<UpstreamSettings>,
        limits: Reloadable<config::LimitsConfig>,
        request_log: RequestLog,
        control: Handle,
        public_port: u16,
    ) -> Self {
        let upstreams = Upstreams::new(transport, settings, request_log.metrics.clone(), control);
        Self { upstreams, limits, request_log: Rc::new(request_log), public_port }
    }

    pub(super) fn record(
        &self,
        head: &Parts,
        downstream: &Downstream,
        scheme: &Scheme,
        at: Instant,
    ) -> RequestRecord {
        RequestRecord::new(Rc::clone(&self.request_log), head, downstream, scheme, at)
    }

    /// Sends an admitted request along `route` and answers with what comes back.
    pub(super) async fn pass(
        &self,
        head: Parts,
        body: Incoming,
        host: &Authority,
        route: &Route,
        mut record: RequestRecord,
    ) -> Response<Body> {
        match self.fetch(head, body, host, route, &mut record).await {
            Ok((answer, lease)) => self.pass_back(answer, lease, record),
            Err(refusal) => {
                log(&refusal, host, route, record.reference().id);
                self.refuse(record, &refusal)
            }
        }
    }

    async fn fetch(
        &self,
        head: Parts,
        body: Incoming,
        host: &Authority,
        route: &Route,
        record: &mut RequestRecord,
    ) -> Result<(Response<Incoming>, PooledConnection), RequestRefusal> {
        let limits = self.limits.load_full();
        let upload = Upload::new(body, MinRate::new(*limits.idle, limits.minimum_rate));
        let client = record.client_address();
        record.received = Some(upload.progress());
        let framing = Framing::of(&upload);
        let forward_context =
            ForwardContext { host, client, public_port: self.public_port, target: &route.target, framing };
        let head = rewrite::request(head, &forward_context).map_err(|_| RequestViolation::HostMalformed)?;
        let mut request = Request::from_parts(head, upload);
        self.upstreams.await_body(request.body_mut(), client).await?;
        // Boxed, so that a request that waits for its body, and an answer that waits for its client, have no room for it.
        Ok(Box::pin(self.upstreams.fetch(route, request, client)).await?)
    }

    fn pass_back(
        &self,
        answer: Response<Incoming>,
        lease: PooledConnection,
        mut record: RequestRecord,
    ) -> Response<Body> {
        let (head, incoming) = answer.into_parts();
        let head = rewrite::response(head, record.method());
        record.answered(head.status, lease.peer());
        let min_rate = MinRate::new(*self.limits.load().idle, 0);
        Response::from_parts(head, Body::relay(incoming, lease, min_rate, record))
    }

    /// Answers in the site's stead.
    pub(super) fn refuse(&self, mut record: RequestRecord, refusal: &RequestRefusal) -> Response<Body> {
        if let RequestRefusal::Offence(violation) = refusal {
            self.request_log.metrics.violations.bump(*violation);
        }
        let status = refusal.status();
        let page = page(status, refusal.notice(), record.reference());
        let mut response = fitting(ours(status, page, &PAGE_FIELDS), record.method());
        record.ours(refusal.outcome(), status, response.body().size_hint().lower());
        if let Some(after) = refusal.retry_after() {
            // RFC 9110 §10.2.3: when it may be worth to come again.
            response.headers_mut().insert(header::RETRY_AFTER, after.as_secs().into());
        }
        if refusal.closes() {
            response.extensions_mut().insert(Closes);
            // RFC 9113 §8.2.2: HTTP/2 has no such field.
            if record.version() != Version::HTTP_2 {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
        }
        response
    }
}

/// A target that is down fails every request to it: one line for each target and kind of failure a minute.
fn log(refusal: &RequestRefusal, host: &Authority, route: &Route, id: RequestId) {
    let RequestRefusal::Failure(failure) = refusal else { return };
    // Not `target`: that is where a line comes from, in every line of the log.
    let (server_name, upstream, blame) = (&host.name, &route.target, failure.blame());
    let error: &dyn std::error::Error = failure;
    let cause = error.source().map(tracing::field::display);
    if let UpstreamFailure::Full(_) = failure {
        // A flood must not flood the log, too; it is counted by its outcome.
        return tracing::debug!(%id, %server_name, %upstream, %error, "request refused");
    }
    match blame {
        UpstreamFault::Client => {
            tracing::debug!(%id, %server_name, %upstream, %error, cause, "request broke off")
        }
        UpstreamFault::Upstream | UpstreamFault::Operator => {
            let admitted = admit_line(refusal.outcome().as_str(), &upstream.to_string());
            let Some(left_out) = admitted else { return };
            tracing::warn!(%id, %server_name, %upstream, ?blame, %error, cause, left_out, "request not answered by its target");
        }
    }
}

const PAGE_FIELDS: [(HeaderName, HeaderValue); 3] = [
    (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];
