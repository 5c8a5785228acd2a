//! Responses of our own, in place of the upstream's.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use hyper::body::Body as _;

use super::{
    Answer, Body, Then,
    error_pages::{ErrorPages, Problem},
    metrics::RequestOutcome,
    refusal::RequestRefusal,
    request_log::RequestRecord,
};
use crate::{field_name::FieldName, fields::Fields};

impl RequestRecord {
    /// Answers in place of the site, with one of `pages`.
    pub(crate) fn refuse(mut self, refusal: &RequestRefusal, pages: &ErrorPages) -> Answer {
        if let RequestRefusal::Violation(violation) = refusal {
            self.count_violation(*violation);
        }
        let status = refusal.status();
        let problem = Problem {
            status,
            notice: refusal.notice(),
            is_maintenance: matches!(refusal, RequestRefusal::Maintenance),
            host: self.server_name.as_ref(),
            reference: self.reference(),
        };
        let mut answer = fitting(pages.answer(&problem, self.problem_form()), self.method());
        self.ours(refusal.outcome(), status, answer.body.size_hint().lower());
        if let Some(after) = refusal.retry_after() {
            // RFC 9110 §10.2.3: when it makes sense to try again.
            answer.fields.push_named(&header::RETRY_AFTER, &after.as_secs().into());
        }
        answer.then = refusal.then();
        // RFC 9113 §8.2.2: HTTP/2 has no such field.
        if matches!(answer.then, Then::Close) && self.version() != Version::HTTP_2 {
            answer.fields.push(FieldName::Connection, "close");
        }
        answer
    }

    /// Leads a client elsewhere.
    pub(super) fn redirect(mut self, location: &str) -> Answer {
        let answer = permanent_redirect(location);
        self.ours(RequestOutcome::Redirect, answer.status, 0);
        answer
    }
}

/// A response of our own; it must not be cached (RFC 9111 §5.2.2.5).
pub(crate) fn own_response(status: StatusCode, body: Bytes, fields: &[(HeaderName, HeaderValue)]) -> Answer {
    own_response_of(status, Body::whole(body), fields)
}

/// The same with a body in pieces.
pub(super) fn own_response_of(
    status: StatusCode,
    body: Body,
    fields: &[(HeaderName, HeaderValue)],
) -> Answer {
    let mut own = Fields::default();
    own.push_named(&header::CACHE_CONTROL, &HeaderValue::from_static("no-store"));
    for (name, value) in fields {
        own.push_named(name, value);
    }
    Answer { status, fields: own, body, then: Then::KeepAlive }
}

/// Leads to `location`, with the method and the body of the request (RFC 9110 §15.4.9).
pub(crate) fn permanent_redirect(location: impl AsRef<[u8]>) -> Answer {
    let mut answer = own_response(StatusCode::PERMANENT_REDIRECT, Bytes::new(), &[]);
    answer.fields.push(FieldName::Location, location);
    answer
}

/// RFC 9110 §9.3.2: the response to HEAD describes a body but has none. in HTTP/2, hyper does not see to it.
pub(crate) fn fitting(mut answer: Answer, method: &Method) -> Answer {
    if *method == Method::HEAD {
        let length = answer.body.size_hint().lower();
        answer.fields.push(FieldName::ContentLength, itoa::Buffer::new().format(length));
        answer.body = Body::whole(Bytes::new());
    }
    answer
}
