//! A request on its way to an upstream.

use std::{
    borrow::Cow,
    cell::{RefCell, RefMut},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Uri, Version, header, uri::PathAndQuery};
use hyper::ext::Protocol;

use crate::{
    client_stream::RequestBody,
    field_name::FieldName,
    fields::Fields,
    forward::{
        min_rate::MinRate,
        rewrite::Framing,
        upload::{Upload, UploadEnd},
    },
    http1::{self, MessageWriter, OutgoingFraming, RequestParts, WrongLength},
    http1_stream::Http1Stream,
    proxy_protocol::ProxiedClient,
    target::{Endpoint, Scheme},
};

/// What an upstream's side of an exchange has to know beside the request.
#[derive(Default)]
pub(in crate::forward) struct ExchangeTerms {
    /// Whom it is for, where an endpoint is told by a PROXY header.
    pub(in crate::forward) client: Option<Rc<ProxiedClient>>,
    /// Whether it came on a stream of HTTP/2, as one of many whose responses its client may leave unread.
    pub(in crate::forward) is_multiplexed: bool,
    /// How long its response may be waited for, where that is not `upstream.response_timeout`.
    pub(in crate::forward) response_limit: Option<Duration>,
    /// Whether it asks for another protocol. Connections of HTTP/2 can switch to none, but may carry a WebSocket on a stream.
    pub(in crate::forward) wants_switch: bool,
}

/// Writes one request: its header section, then its body as the client sends it.
pub(in crate::forward) struct RequestWriter {
    head: Box<RequestParts>,
    /// Whether its path is the endpoint's own: checks have no base path.
    is_check: bool,
    terms: ExchangeTerms,
    /// In place of the destination's authority.
    host: Option<HeaderValue>,
    framing: Framing,
    /// Shared with hyper while it goes over HTTP/2.
    upload: Rc<RefCell<Upload>>,
    message: MessageWriter<Bytes>,
    /// The body waits for the upstream's word, as its client does (RFC 9110 §10.1.1).
    awaits_continue: bool,
}

/// Why a request was not written to its end.
#[derive(Debug)]
pub(super) enum WriteFailure {
    Client(UploadEnd),
    /// The upstream takes no more. It may have answered: its side of the connection tells.
    Upstream,
}

impl RequestWriter {
    /// `head` without Host: that is `host`, or else what the destination decides on.
    pub(in crate::forward) fn new(
        head: Box<RequestParts>,
        framing: Framing,
        upload: Upload,
        host: Option<HeaderValue>,
        terms: ExchangeTerms,
    ) -> Self {
        let message = MessageWriter::new(BytesMut::new(), outgoing(framing));
        let awaits_continue = upload.awaits_continue();
        let upload = Rc::new(RefCell::new(upload));
        Self { message, head, is_check: false, terms, host, framing, awaits_continue, upload }
    }

    /// A request that asks for `path` to see whether the endpoint is well.
    pub(super) fn check(path: &PathAndQuery) -> Self {
        let mut fields = Fields::default();
        fields.push(FieldName::UserAgent, CHECKER);
        fields.push(FieldName::Connection, "close");
        let head =
            RequestParts { method: Method::GET, uri: path.clone().into(), version: Version::HTTP_11, fields };
        let head = Box::new(head);
        let upload = Upload::new(RequestBody::empty(), false, MinRate::new(Duration::MAX, 0));
        Self { is_check: true, ..Self::new(head, Framing::Empty, upload, None, ExchangeTerms::default()) }
    }

    /// Begins to write it, to a destination of this endpoint.
    pub(super) fn address(&mut self, endpoint: &Endpoint) {
        let host = self.host.as_ref().unwrap_or(endpoint.authority());
        let head = http1::request_head(&self.head, &self.target(endpoint), host);
        self.message = MessageWriter::new(head, outgoing(self.framing));
    }

    /// What this endpoint is asked for.
    fn target(&self, endpoint: &Endpoint) -> Cow<'_, str> {
        let target = self.head.uri.path_and_query().map_or("/", |path| path.as_str());
        match &endpoint.base_path {
            Some(base) if !self.is_check => base.join(target).into(),
            Some(_) | None => target.into(),
        }
    }

    /// The same for HTTP/2: what belongs to one connection of HTTP/1.1 is left out (RFC 9113 §8.2.2), and so is the expectation, whose interim
    /// response hyper does not show: the client is told to send its body when it is read.
    pub(super) fn http2(&self, endpoint: &Endpoint) -> http::Result<Request<Rc<RefCell<Upload>>>> {
        let scheme = match endpoint.scheme {
            Scheme::Http => http::uri::Scheme::HTTP,
            Scheme::Https => http::uri::Scheme::HTTPS,
        };
        let authority = self.host.as_ref().unwrap_or(endpoint.authority()).as_bytes();
        let target = self.target(endpoint);
        let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(&*target).build()?;
        let mut message = Request::new(Rc::clone(&self.upload));
        (*message.uri_mut(), *message.version_mut()) = (uri, Version::HTTP_2);
        message.method_mut().clone_from(&self.head.method);
        *message.headers_mut() = self.head.fields.to_map();
        for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::EXPECT] {
            message.headers_mut().remove(name);
        }
        Ok(message)
    }

    /// The Sec-WebSocket-Key, if it asks for a WebSocket (RFC 6455 §4.1).
    pub(super) fn websocket_key(&self) -> Option<&[u8]> {
        let RequestParts { method, fields, .. } = &*self.head;
        if !self.terms.wants_switch || *method != Method::GET {
            return None;
        }
        let offers = |name: &[u8]| name.eq_ignore_ascii_case(WEBSOCKET.as_bytes());
        fields.named(&header::SEC_WEBSOCKET_KEY).filter(|_| fields.list(FieldName::Upgrade).any(offers))
    }

    /// The same WebSocket asked for over HTTP/2 (RFC 8441 §5): without the key, whose answer is ours then.
    pub(super) fn extended_connect(&self, endpoint: &Endpoint) -> http::Result<Request<Rc<RefCell<Upload>>>> {
        let mut message = self.http2(endpoint)?;
        *message.method_mut() = Method::CONNECT;
        message.extensions_mut().insert(Protocol::from_static(WEBSOCKET));
        message.headers_mut().remove(header::SEC_WEBSOCKET_KEY);
        Ok(message)
    }

    /// Whether the body waits for [`RequestWriter::proceed`].
    pub(super) fn awaits_continue(&self) -> bool {
        self.awaits_continue
    }

    /// Lets the client send its body.
    pub(super) fn proceed(&mut self) {
        self.awaits_continue = false;
    }

    /// Whom a connection to `endpoint` has to be for, so that it can carry the request; none where it may carry anybody's.
    pub(super) fn client_of_connection(&self, endpoint: &Endpoint) -> Option<&Rc<ProxiedClient>> {
        self.terms.client.as_ref().filter(|_| endpoint.proxy_protocol.is_some())
    }

    pub(super) fn terms(&self) -> &ExchangeTerms {
        &self.terms
    }

    pub(super) fn method(&self) -> &Method {
        &self.head.method
    }

    pub(super) fn upload(&self) -> RefMut<'_, Upload> {
        self.upload.borrow_mut()
    }

    /// The body alone, for the response that may come before its end.
    pub(super) fn into_upload(self) -> Rc<RefCell<Upload>> {
        self.upload
    }

    /// Whether the same may be written once more, though some of it was sent: RFC 9110 §9.2.2, a proxy repeats only idempotent requests on its
    /// own; a body that was written is no longer there.
    pub(super) fn is_repeatable(&self) -> bool {
        self.framing == Framing::Empty && IDEMPOTENT.contains(&self.head.method)
    }

    /// Ready when the kernel has all of the request.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Http1Stream,
    ) -> Poll<Result<(), WriteFailure>> {
        loop {
            // The first bytes of a body share the header section's send, if they are there.
            let is_filled = self.poll_fill(cx)?;
            ready!(stream.poll_write(cx, &mut self.message)).map_err(|_| WriteFailure::Upstream)?;
            let flushed = stream.poll_flush(cx).map_err(|_| WriteFailure::Upstream)?;
            if self.message.is_over() {
                return flushed.map(Ok);
            }
            ready!(is_filled);
        }
    }

    /// Takes the next of the body from the client, once the last was written.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteFailure>> {
        if !self.message.needs_body() {
            return Poll::Ready(Ok(()));
        }
        if self.awaits_continue {
            return Poll::Pending;
        }
        let mut upload = self.upload.borrow_mut();
        let put = match ready!(upload.poll_next(cx)) {
            Some(Ok(data)) => self.message.put_body(Some(data), upload.is_over()),
            Some(Err(end)) => return Poll::Ready(Err(WriteFailure::Client(end))),
            None => self.message.put_end(upload.take_trailers().as_ref()),
        };
        // The client is at fault.
        Poll::Ready(put.map_err(|WrongLength| WriteFailure::Client(UploadEnd::Gone)))
    }
}

fn outgoing(framing: Framing) -> OutgoingFraming {
    match framing {
        Framing::Empty => OutgoingFraming::Length { left: 0 },
        Framing::Length(left) => OutgoingFraming::Length { left },
        Framing::Chunked => OutgoingFraming::Chunked,
    }
}

/// By which an endpoint's log tells checks from clients.
const CHECKER: &str = "Gatehouse-Health-Check";

/// Its name, in Upgrade (RFC 6455 §4.1) and in `:protocol` (RFC 8441 §5).
pub(super) const WEBSOCKET: &str = "websocket";

const IDEMPOTENT: &[Method] = &[Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE];
