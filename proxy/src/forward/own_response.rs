//! Responses of our own, in place of the upstream's.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, Version, header};
use hyper::body::Body as _;

use super::{Answer, Body, Then, page::page, refusal::RequestRefusal, request_log::RequestRecord};

impl RequestRecord {
    /// Answers in place of the site.
    pub(crate) fn refuse(mut self, refusal: &RequestRefusal) -> Answer {
        if let RequestRefusal::Violation(violation) = refusal {
            self.count_violation(*violation);
        }
        let status = refusal.status();
        let page = page(status, refusal.notice(), self.reference());
        let mut response = fitting(own_response(status, page, &PAGE_FIELDS), self.method());
        self.ours(refusal.outcome(), status, response.body().size_hint().lower());
        if let Some(after) = refusal.retry_after() {
            // RFC 9110 §10.2.3: when it makes sense to try again.
            response.headers_mut().insert(header::RETRY_AFTER, after.as_secs().into());
        }
        let then = refusal.then();
        // RFC 9113 §8.2.2: HTTP/2 has no such field.
        if matches!(then, Then::Close) && self.version() != Version::HTTP_2 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Answer { response, then }
    }
}

/// A response of our own; it must not be cached (RFC 9111 §5.2.2.5).
pub(crate) fn own_response(
    status: StatusCode,
    body: Bytes,
    fields: &[(HeaderName, HeaderValue)],
) -> Response<Body> {
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().extend(fields.iter().cloned());
    response
}

/// RFC 9110 §9.3.2: the response to HEAD describes a body but has none. in HTTP/2, hyper does not see to it.
pub(crate) fn fitting(mut answer: Response<Body>, method: &Method) -> Response<Body> {
    if *method == Method::HEAD {
        let length = answer.body().size_hint().lower();
        answer.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        *answer.body_mut() = Body::whole(Bytes::new());
    }
    answer
}

const PAGE_FIELDS: [(HeaderName, HeaderValue); 3] = [
    (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];
