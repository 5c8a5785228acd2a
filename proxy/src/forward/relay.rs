//! The way of an admitted request: rewritten, sent to its upstream, its answer streamed back.

use std::{rc::Rc, sync::Arc, time::Instant};

use http::{HeaderName, HeaderValue, Request, Response, Version, header, request::Parts, uri::Scheme};
use hyper::body::{Body as _, Incoming};
use tokio::runtime::Handle;

use super::{
    Arrival, Body, Closes, UpstreamSettings,
    admit::Offence,
    authority::Authority,
    body::Upload,
    fitting, ours,
    pace::Pace,
    page::page,
    record::{Books, Record},
    refusal::Refusal,
    rewrite::{self, Framing, Passage},
    upstream::{Blame, Failure, Lease, Route, Upstreams},
};
use crate::{
    config::{self, Live},
    transport::Transport,
};

/// One worker's upstreams, and what every passage needs.
pub(super) struct Relay<T: Transport> {
    upstreams: Upstreams<T>,
    limits: Live<config::Limits>,
    books: Rc<Books>,
    public_port: u16,
}

impl<T: Transport> Relay<T> {
    pub(super) fn new(
        transport: T,
        settings: Arc<UpstreamSettings>,
        limits: Live<config::Limits>,
        books: Books,
        control: Handle,
        public_port: u16,
    ) -> Self {
        let upstreams = Upstreams::new(transport, settings, books.metrics.clone(), control);
        Self { upstreams, limits, books: Rc::new(books), public_port }
    }

    pub(super) fn record(&self, head: &Parts, arrival: &Arrival, scheme: &Scheme, at: Instant) -> Record {
        Record::new(Rc::clone(&self.books), head, arrival, scheme, at)
    }

    /// Sends an admitted request along `route` and answers with what comes back.
    pub(super) async fn pass(
        &self,
        head: Parts,
        body: Incoming,
        host: &Authority,
        route: &Route,
        mut record: Record,
    ) -> Response<Body> {
        match self.fetch(head, body, host, route, &mut record).await {
            Ok((answer, lease)) => self.pass_back(answer, lease, record),
            Err(refusal) => {
                log(&refusal, host, route);
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
        record: &mut Record,
    ) -> Result<(Response<Incoming>, Lease), Refusal> {
        let limits = self.limits.kept();
        let upload = Upload::new(body, Pace::new(*limits.idle, limits.minimum_rate));
        let client = record.client_address();
        record.received = Some(upload.progress());
        let framing = Framing::of(&upload);
        let passage = Passage { host, client, public_port: self.public_port, target: &route.target, framing };
        let head = rewrite::request(head, &passage).map_err(|_| Offence::HostMalformed)?;
        let mut request = Request::from_parts(head, upload);
        self.upstreams.await_body(request.body_mut(), client).await?;
        // Boxed, so that a request that waits for its body, and an answer that waits for its client, have no room for it.
        Ok(Box::pin(self.upstreams.fetch(route, request, client)).await?)
    }

    fn pass_back(&self, answer: Response<Incoming>, lease: Lease, mut record: Record) -> Response<Body> {
        let (head, incoming) = answer.into_parts();
        let head = rewrite::response(head, record.method());
        record.answered(head.status);
        let pace = Pace::new(*self.limits.now().idle, 0);
        Response::from_parts(head, Body::relay(incoming, lease, pace, record))
    }

    /// Answers in the site's stead.
    pub(super) fn refuse(&self, mut record: Record, refusal: &Refusal) -> Response<Body> {
        if let Refusal::Offence(offence) = refusal {
            self.books.metrics.offences.bump(*offence);
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

fn log(refusal: &Refusal, host: &Authority, route: &Route) {
    let Refusal::Failure(failure) = refusal else { return };
    let (server_name, target, blame) = (&host.name, &route.target, failure.blame());
    let error: &dyn std::error::Error = failure;
    let cause = error.source().map(tracing::field::display);
    if let Failure::Full(_) = failure {
        // A flood must not flood the log, too; it is counted by its outcome.
        return tracing::debug!(%server_name, %target, %error, "request refused");
    }
    match blame {
        Blame::Client => tracing::debug!(%server_name, %target, %error, cause, "request broke off"),
        Blame::Upstream | Blame::Operator => {
            tracing::warn!(%server_name, %target, ?blame, %error, cause, "request not answered by its target");
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
