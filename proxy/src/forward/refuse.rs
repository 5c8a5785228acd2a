//! Answers in place of a site, and what the record of the request says of them.

use http::{HeaderValue, StatusCode, Version, header};
use hyper::body::Body as _;

use super::{
    Answer, Then,
    error_pages::{ErrorPages, Problem},
    metrics::RequestOutcome,
    own_response::{fitting, permanent_redirect},
    refusal::RequestRefusal,
    request_log::RequestRecord,
};
use crate::field_name::FieldName;

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
        if status == StatusCode::METHOD_NOT_ALLOWED {
            // RFC 9110 §15.5.6: it must say which there are; what the site has of them it says itself.
            answer.fields.push_named(&header::ALLOW, &HeaderValue::from_static(METHODS));
        }
        answer.then = refusal.then(self.version());
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

/// Methods that are passed on, those that few know apart.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
