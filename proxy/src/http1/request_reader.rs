//! Header sections of requests, read (RFC 9112 §3, §5).

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, Uri, Version, request, uri::PathAndQuery};
use percent_encoding::{AsciiSet, utf8_percent_encode};

use super::{
    MessageViolation,
    fields::{EndSearch, persists, version},
    framing::BodyFraming,
};
use crate::{field_name::FieldName, fields::Fields};

/// What a request asks for, of either version of HTTP.
#[derive(Debug)]
pub struct RequestParts {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) fields: Fields,
}

impl From<request::Parts> for RequestParts {
    fn from(parts: request::Parts) -> Self {
        let fields = Fields::from(&parts.headers);
        Self { method: parts.method, uri: parts.uri, version: parts.version, fields }
    }
}

/// A request's header section.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) parts: Box<RequestParts>,
    /// None where the fields leave it in doubt: the request must be refused, and its connection end.
    pub(crate) framing: Option<BodyFraming>,
    /// Whether the client may send another request over the connection (RFC 9112 §9.3).
    pub(crate) is_persistent: bool,
    /// Whether the client may wait for an interim response before it sends the body (RFC 9110 §10.1.1).
    pub(crate) expects_continue: bool,
}

/// What a header section may have at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestLimits {
    pub(crate) bytes: usize,
    pub(crate) fields: usize,
}

/// Reads one request's header section after the other.
#[derive(Debug, Default)]
pub(crate) struct RequestReader {
    search: EndSearch,
}

impl RequestReader {
    /// Takes the next header section out of `received`, once it is there.
    pub(crate) fn read(
        &mut self,
        received: &mut BytesMut,
        limits: RequestLimits,
    ) -> Result<Option<RequestHead>, MessageViolation> {
        // RFC 9112 §2.2: empty lines in front of a request line are ignored.
        while received.starts_with(b"\r\n") {
            received.advance(2);
            self.search = EndSearch::default();
        }
        match self.search.find(received) {
            Some(length) if length > limits.bytes => Err(MessageViolation::HeaderSectionSize),
            Some(length) => parse(&received.split_to(length).freeze(), limits.fields).map(Some),
            None if received.len() < limits.bytes => Ok(None),
            None if received.contains(&b'\n') => Err(MessageViolation::HeaderSectionSize),
            None => Err(MessageViolation::RequestLineSize),
        }
    }
}

fn parse(head: &Bytes, most_fields: usize) -> Result<RequestHead, MessageViolation> {
    let mut few = [const { MaybeUninit::uninit() }; FEW_FIELDS];
    let mut many = Vec::new();
    let place = if let Some(few) = few.get_mut(..most_fields) {
        few
    } else {
        many.resize_with(most_fields, MaybeUninit::uninit);
        &mut many
    };
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, place) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(MessageViolation::HeaderSectionSize),
        Err(httparse::Error::Version) if names_version(head) => return Err(MessageViolation::Version),
        Err(httparse::Error::Version | httparse::Error::Token) => return Err(MessageViolation::RequestLine),
        Ok(_) | Err(_) => return Err(MessageViolation::HeaderSection),
    }
    let version = version(request.version);
    let method = method(request.method).ok_or(MessageViolation::RequestLine)?;
    let uri = target(head, &method, request.path).ok_or(MessageViolation::RequestLine)?;
    let fields = Fields::received(head.clone(), request.headers).ok_or(MessageViolation::HeaderSection)?;
    let framing = BodyFraming::of_request(version, &fields).ok();
    let is_persistent = persists(version, &fields);
    // RFC 9110 §10.1.1: in HTTP/1.0 it is ignored.
    let expects_continue = version == Version::HTTP_11 && expects_continue(&fields);
    let parts = Box::new(RequestParts { method, uri, version, fields });
    Ok(RequestHead { parts, framing, is_persistent, expects_continue })
}

/// Whether the request line ends as one of HTTP does, whatever its version (RFC 9112 §2.3).
fn names_version(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.rsplit(|byte| *byte == b' ').next().is_some_and(|word| word.starts_with(b"HTTP/"))
}

fn method(method: Option<&str>) -> Option<Method> {
    Method::from_bytes(method?.as_bytes()).ok()
}

fn target(head: &Bytes, method: &Method, target: Option<&str>) -> Option<Uri> {
    // RFC 9112 §3.2: there is no fragment in it; `http::Uri` would drop one.
    let target = target.filter(|target| !target.contains('#'))?;
    let uri = Uri::from_maybe_shared(head.slice_ref(target.as_bytes()))
        .or_else(|_| Uri::try_from(utf8_percent_encode(target, UNWRITTEN).to_string()))
        .ok()?;
    if *method != Method::OPTIONS {
        return Some(uri);
    }
    // In `http::Uri` it looks as if it had one.
    let (_, behind_scheme) = target.split_once("://").unwrap_or_default();
    if uri.authority().is_none_or(|authority| authority.as_str() != behind_scheme) {
        return Some(uri);
    }
    // RFC 9112 §3.2.4: without a path, OPTIONS asks about the server.
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static("*"));
    Uri::from_parts(parts).ok()
}

fn expects_continue(fields: &Fields) -> bool {
    fields.first(FieldName::Expect).is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"))
}

/// What RFC 3986 keeps out of targets and `http::Uri` refuses, but scripts send unencoded, as in `?filter={"a":1}`. Encoded, as browsers send it,
/// it means the same.
const UNWRITTEN: &AsciiSet = &AsciiSet::EMPTY.add(b'"').add(b'<').add(b'>').add(b'`');
/// So many fit on the stack.
const FEW_FIELDS: usize = 128;
