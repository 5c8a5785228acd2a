//! Responses of our own, in place of the upstream's.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use hyper::body::Body as _;

use super::{Answer, Body, Then};
use crate::{field_name::FieldName, fields::Fields};

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
