//! What a request is answered with, counted and logged in one place.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use hyper::{
    Method, Request, Response, StatusCode,
    header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION},
};

use super::{
    Arrival, Body, Outcome, Service,
    admit::Offence,
    body::{Content, End, Progress},
    failure::Failure,
    page::Page,
};
use crate::telemetry::{access_log::Entry, metrics::Label};

/// A response, and what it is counted as.
pub(super) struct Answer {
    response: Response<Content>,
    outcome: Outcome,
    offence: Option<Offence>,
    streams: Option<Streams>,
}

/// What comes and goes with a relayed request.
pub(super) struct Streams {
    pub(super) received: Progress,
    pub(super) sent: Progress,
    /// Gives the upstream connection back when its answer was read to the end.
    pub(super) give_back: Box<dyn FnOnce(End)>,
}

impl Answer {
    /// An upstream's answer.
    pub(super) fn relayed(response: Response<Content>, streams: Streams) -> Self {
        Self { response, outcome: Outcome::Relay, offence: None, streams: Some(streams) }
    }

    /// A request that was not admitted; the connection ends with it, since what follows on it cannot be trusted.
    pub(super) fn refuse(offence: Offence) -> Self {
        let mut answer = Self::page(Page::of(offence.status()), Outcome::RefuseOffence).closing();
        answer.offence = Some(offence);
        answer
    }

    /// A name that is not served, or no longer.
    pub(super) fn denied() -> Self {
        Self::page(Page::of(StatusCode::MISDIRECTED_REQUEST), Outcome::RefuseDenied).closing()
    }

    /// A name without a target.
    pub(super) fn no_target() -> Self {
        Self::page(Page::of(StatusCode::SERVICE_UNAVAILABLE), Outcome::FailNoTarget)
    }

    /// A request its upstream did not answer.
    pub(super) fn failed(failure: &Failure) -> Self {
        let answer = Self::page(Page::of(failure.status()), failure.outcome());
        match failure {
            Failure::RequestBody => answer.closing(),
            _ => answer,
        }
    }

    /// A page of ours.
    pub(super) fn page(page: Page, outcome: Outcome) -> Self {
        let mut response = Response::new(Content::Page(Some(page.content)));
        *response.status_mut() = page.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(page.media_type));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Self { response, outcome, offence: None, streams: None }
    }

    /// A redirect that keeps the method (RFC 9110 §15.4.9).
    pub(super) fn redirect(to: HeaderValue) -> Self {
        let mut answer =
            Self::page(Page::text(StatusCode::PERMANENT_REDIRECT, Bytes::new()), Outcome::Redirect);
        answer.response.headers_mut().insert(LOCATION, to);
        answer
    }

    fn closing(mut self) -> Self {
        self.response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        self
    }

    /// Counts the request, and logs it when its answer's body has ended.
    pub(super) fn finish(mut self, service: &Arc<Service>, record: Record) -> Response<Body> {
        let now = tokio::time::Instant::now().into_std();
        let until_head = now.saturating_duration_since(record.begun);
        service.metrics.requests.bump(self.outcome);
        service.metrics.seconds.observe(self.outcome, until_head.as_secs_f64());
        if let Some(offence) = self.offence {
            service.metrics.refused.bump(offence);
        }
        let page_bytes = self.without_body_for(&record.method);
        let (service, streams, outcome) = (Arc::clone(service), self.streams, self.outcome);
        let (head, content) = self.response.into_parts();
        let status = head.status;
        let on_end = Box::new(move |end| {
            let (received, sent) = streams.as_ref().map_or((0, page_bytes), Streams::bytes);
            let upstream_duration = streams.as_ref().map(|_| until_head);
            if let Some(streams) = streams {
                (streams.give_back)(end);
            }
            let written = Written { status, received, sent, upstream_duration, outcome, end };
            record.write(&service, &written);
        });
        Response::from_parts(head, Body::new(content, on_end))
    }

    /// RFC 9110 §9.3.2: HEAD is answered with the head that GET would get, and nothing behind it.
    fn without_body_for(&mut self, method: &Method) -> u64 {
        let Content::Page(page) = self.response.body_mut() else { return 0 };
        let length = page.as_ref().map_or(0, |bytes| bytes.len() as u64);
        page.take_if(|bytes| bytes.is_empty() || method == Method::HEAD);
        self.response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        length
    }
}

impl Streams {
    fn bytes(&self) -> (u64, u64) {
        (self.received.bytes(), self.sent.bytes())
    }
}

/// What is kept of a request for its log line.
pub(super) struct Record {
    at: SystemTime,
    begun: Instant,
    client: std::net::SocketAddr,
    server_name: String,
    scheme: &'static str,
    protocol: &'static str,
    method: Method,
    path: String,
}

struct Written {
    status: StatusCode,
    received: u64,
    sent: u64,
    upstream_duration: Option<std::time::Duration>,
    outcome: Outcome,
    end: End,
}

impl Record {
    pub(super) fn of<B>(request: &Request<B>, arrival: &Arrival, begun: Instant) -> Self {
        let field = || {
            request
                .headers()
                .get(hyper::header::HOST)
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let server_name = match &arrival.server_name {
            Some(name) => name.to_string(),
            None => field().unwrap_or_default(),
        };
        Self {
            at: SystemTime::now(),
            begun,
            client: arrival.peer,
            server_name,
            scheme: if arrival.server_name.is_some() { "https" } else { "http" },
            protocol: if request.version() == hyper::Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" },
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
        }
    }

    fn write(&self, service: &Service, written: &Written) {
        service.access_log.record(&Entry {
            at: self.at,
            client: self.client,
            server_name: &self.server_name,
            scheme: self.scheme,
            protocol: self.protocol,
            method: self.method.as_str(),
            path: &self.path,
            status: written.status.as_u16(),
            received_bytes: written.received,
            sent_bytes: written.sent,
            duration: tokio::time::Instant::now().into_std().saturating_duration_since(self.begun),
            upstream_duration: written.upstream_duration,
            outcome: match written.end {
                End::Whole => written.outcome.as_str(),
                End::Cut => "cut_short",
            },
        });
    }
}
