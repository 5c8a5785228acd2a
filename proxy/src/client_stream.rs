//! The byte stream of an HTTP/1.1 connection to a client, shared by the task that answers its requests and by the request whose body is read.
//! Not here: what is answered (`worker`, `forward`), what the bytes mean (`http1`).
//! Invariants: a body is read as its own request's only (`a_body_belongs_to_its_request`); a connection is read from only while somebody takes what comes (`a_client_is_read_no_further_than_somebody_takes`); while
//! it waits for a request it holds no buffer.

use std::{
    cell::{RefCell, RefMut},
    io,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, StatusCode, Version};
use hyper::body::{Body as _, Incoming};

use crate::{
    fields::Fields,
    http1::{
        BodyFraming, BodyReader, MessageViolation, RequestHead, RequestLimits, RequestReader, put_interim,
    },
    http1_stream::Http1Stream,
    http2_data::poll_data,
    transport::ByteStream,
};

/// A connection's stream. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ClientStream(Rc<RefCell<Inner>>);

struct Inner {
    stream: Http1Stream,
    body: BodyReader,
    /// Counts requests: a body can be read only as long as its request is the last one.
    request: u64,
    /// The client waits for an interim response before it sends the body.
    awaits_continue: bool,
    /// What is unsent of interim responses.
    interim: BytesMut,
    /// Who looks for the client's end, and can do so only behind the body.
    awaits_body_end: Option<Waker>,
}

/// Why there is no further request.
#[derive(Debug)]
pub(crate) enum RequestEnd {
    /// The client has ended the connection.
    Closed,
    /// What it sent is not a request.
    Violation(MessageViolation),
}

impl ClientStream {
    pub(crate) fn new(stream: impl ByteStream) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            stream: Http1Stream::new(stream),
            body: BodyReader::new(BodyFraming::Length(0)),
            request: 0,
            awaits_continue: false,
            interim: BytesMut::new(),
            awaits_body_end: None,
        })))
    }

    /// The next request's header section.
    pub(crate) fn poll_request(
        &self,
        cx: &mut Context<'_>,
        reader: &mut RequestReader,
        limits: RequestLimits,
    ) -> Poll<Result<RequestHead, RequestEnd>> {
        let stream = &mut self.0.borrow_mut().stream;
        loop {
            if let Some(head) = reader.read(&mut stream.received, limits).map_err(RequestEnd::Violation)? {
                return Poll::Ready(Ok(head));
            }
            let most = limits.bytes.saturating_sub(stream.received.len()).clamp(1, HEAD_AT_ONCE);
            ready!(stream.poll_receive(cx, most)).map_err(|_| RequestEnd::Closed)?;
        }
    }

    /// The body of the request whose header section, `head`, was read last. One whose framing is in doubt breaks off when it is read.
    pub(crate) fn begin_body(&self, head: &RequestHead) -> RequestBody {
        let inner = &mut *self.0.borrow_mut();
        inner.body = BodyReader::new(head.framing.unwrap_or(BodyFraming::UntilClose));
        inner.request = inner.request.wrapping_add(1);
        inner.awaits_continue = head.expects_continue && !inner.is_body_over();
        let request = inner.request;
        let source = match head.framing {
            None => Source::InDoubt,
            Some(_) if inner.is_body_over() => Source::Empty,
            Some(_) => Source::Http1(RequestStream { stream: self.clone(), request }),
        };
        // RFC 9110 §15.2: HTTP/1.0 has no interim responses.
        let stream = (head.parts.version == Version::HTTP_11).then(|| Rc::downgrade(&self.0));
        RequestBody { source, interim: stream.map(|stream| InterimSender { stream, request }) }
    }

    /// Whether the last request's body was read to its end.
    pub(crate) fn is_body_over(&self) -> bool {
        self.0.borrow().is_body_over()
    }

    /// Whether the last request's body will be read to its end: it has been, or is being read. What is there already of one that is given
    /// up is read away; the rest may never come, if the client still waits for an interim response (RFC 9110 §10.1.1).
    pub(crate) fn ends_body(&self, cx: &mut Context<'_>) -> bool {
        if Rc::strong_count(&self.0) > 1 {
            return true;
        }
        let inner = &mut *self.0.borrow_mut();
        while !inner.is_body_over() && !inner.awaits_continue {
            if !matches!(inner.poll_body(cx), Poll::Ready(Ok(_))) {
                break;
            }
        }
        inner.is_body_over()
    }

    /// Whether something of the next request is there.
    pub(crate) fn has_received(&self) -> bool {
        !self.0.borrow().stream.received.is_empty()
    }

    /// Whether the client has said that it sends nothing more (RFC 8446 §6.1). It may still wait for a response.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.borrow().stream.has_ended()
    }

    /// Ready when the client has gone: it is looked for only behind the request's body, and while few bytes wait there.
    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let inner = &mut *self.0.borrow_mut();
        if !inner.is_body_over() {
            // Another task may read it, as where it goes to an upstream over HTTP/2.
            inner.awaits_body_end = Some(cx.waker().clone());
        }
        while inner.is_body_over() && !inner.stream.has_ended() && inner.stream.received.len() < HEAD_AT_ONCE
        {
            if ready!(inner.stream.poll_read(cx, HEAD_AT_ONCE)).is_err() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// The stream itself, for what is not HTTP.
    pub(crate) fn stream(&self) -> RefMut<'_, Http1Stream> {
        RefMut::map(self.0.borrow_mut(), |inner| &mut inner.stream)
    }

    /// Moves interim responses on. An error shows when the response is written.
    pub(crate) fn push_interim(&self, cx: &mut Context<'_>) {
        self.0.borrow_mut().push_interim(cx);
    }

    /// Ready when all of `bytes` was taken over; [`ClientStream::poll_flush`] moves it on.
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, bytes: &mut impl Buf) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.borrow_mut();
        ready!(inner.stream.poll_write(cx, &mut inner.interim))?;
        inner.stream.poll_write(cx, bytes)
    }

    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().stream.poll_flush(cx)
    }

    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().stream.poll_shutdown(cx)
    }

    /// Reads away what the client still sends; ready with its end, with an error, or when that was too much.
    pub(crate) fn poll_discard(&self, cx: &mut Context<'_>, left: &mut usize) -> Poll<()> {
        let stream = &mut self.0.borrow_mut().stream;
        loop {
            stream.received = BytesMut::new();
            if ready!(stream.poll_receive(cx, AT_ONCE)).is_err() || stream.received.len() >= *left {
                return Poll::Ready(());
            }
            *left -= stream.received.len();
        }
    }
}

impl Inner {
    fn is_body_over(&self) -> bool {
        self.body.end().is_some()
    }

    fn push_interim(&mut self, cx: &mut Context<'_>) {
        if self.interim.has_remaining() && self.stream.poll_write(cx, &mut self.interim).is_ready() {
            let _ = self.stream.poll_flush(cx);
            self.interim = BytesMut::new();
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Gone>> {
        if std::mem::take(&mut self.awaits_continue) && self.stream.received.is_empty() {
            put_interim(&mut self.interim, StatusCode::CONTINUE, &Fields::default());
        }
        self.push_interim(cx);
        let read = self.stream.poll_body(cx, &mut self.body, AT_ONCE).map_err(|_| Gone);
        if self.is_body_over()
            && let Some(waiting) = self.awaits_body_end.take()
            && !waiting.will_wake(cx.waker())
        {
            waiting.wake();
        }
        read
    }
}

/// The body of a client's request, and the way back for what the client is told before it is answered.
pub struct RequestBody {
    source: Source,
    /// None where the client's version has no interim responses, or hyper no way to send them (in HTTP/2).
    interim: Option<InterimSender>,
}

struct InterimSender {
    stream: Weak<RefCell<Inner>>,
    request: u64,
}

/// The stream of a connection, as long as a request is its last one.
struct RequestStream {
    stream: ClientStream,
    request: u64,
}

impl RequestStream {
    fn inner(&self) -> Option<RefMut<'_, Inner>> {
        Some(self.stream.0.borrow_mut()).filter(|inner| inner.request == self.request)
    }
}

enum Source {
    Empty,
    InDoubt,
    Http1(RequestStream),
    Http2 { incoming: Incoming, trailers: Option<Box<HeaderMap>> },
}

impl From<Incoming> for RequestBody {
    fn from(incoming: Incoming) -> Self {
        let source =
            if incoming.is_end_stream() { Source::Empty } else { Source::Http2 { incoming, trailers: None } };
        Self { source, interim: None }
    }
}

/// The client went away, or broke the rules, before its request was complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

impl RequestBody {
    /// One without data.
    pub(crate) fn empty() -> Self {
        Self { source: Source::Empty, interim: None }
    }

    /// One that has no more data, and was not complete.
    pub(crate) fn broken() -> Self {
        Self { source: Source::InDoubt, interim: None }
    }

    /// The next data; behind the last, there may be trailers.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Gone>>> {
        match &mut self.source {
            Source::Empty => Poll::Ready(None),
            Source::InDoubt => Poll::Ready(Some(Err(Gone))),
            Source::Http1(own) => match own.inner() {
                Some(mut inner) => inner.poll_body(cx).map(Result::transpose),
                None => Poll::Ready(Some(Err(Gone))),
            },
            Source::Http2 { incoming, trailers } => {
                poll_data(incoming, trailers, cx, usize::MAX).map_err(|_| Gone).map(Result::transpose)
            }
        }
    }

    /// How many bytes are to come, where that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        match &self.source {
            Source::Empty => Some(0),
            Source::InDoubt => None,
            Source::Http1(own) => own.inner()?.body.left(),
            Source::Http2 { incoming, .. } if incoming.is_end_stream() => Some(0),
            Source::Http2 { incoming, .. } => incoming.size_hint().exact(),
        }
    }

    /// Whether nothing more comes, not even trailers.
    pub(crate) fn is_over(&self) -> bool {
        self.left() == Some(0) && !self.has_trailers()
    }

    /// Whether it is a stream of HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.source, Source::Http2 { .. })
    }

    fn has_trailers(&self) -> bool {
        match &self.source {
            Source::Empty | Source::InDoubt => false,
            Source::Http1(own) => own.inner().is_some_and(|inner| inner.body.has_trailers()),
            Source::Http2 { trailers, .. } => trailers.is_some(),
        }
    }

    /// The trailer section behind the body, once.
    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        match &mut self.source {
            Source::Empty | Source::InDoubt => None,
            Source::Http1(own) => own.inner()?.body.take_trailers(),
            Source::Http2 { trailers, .. } => trailers.take().map(|trailers| *trailers),
        }
    }

    /// Whether the client sends nothing of it before it is told to (RFC 9110 §10.1.1), which it is when the body is read.
    pub(crate) fn awaits_continue(&self) -> bool {
        let Source::Http1(own) = &self.source else { return false };
        own.inner().is_some_and(|inner| inner.awaits_continue && inner.stream.received.is_empty())
    }

    /// Sends the client an interim response, if it can be sent one: they are optional to every client (RFC 9110 §15.2).
    pub(crate) fn send_interim(&self, status: StatusCode, fields: &Fields) {
        let Some(InterimSender { stream, request }) = &self.interim else { return };
        let Some(stream) = stream.upgrade().map(ClientStream) else { return };
        let own = RequestStream { stream, request: *request };
        if let Some(mut inner) = own.inner().filter(|inner| inner.interim.len() < MAX_INTERIM) {
            put_interim(&mut inner.interim, status, fields);
        }
    }
}

/// Unsent bytes of interim responses, beyond which there are no further ones.
const MAX_INTERIM: usize = 16 * 1024;
/// How much is received at once of header sections: no more than costs no memory until it comes.
const HEAD_AT_ONCE: usize = 8 * 1024;
/// How much is received at once of bodies.
const AT_ONCE: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::{io::IoSlice, mem::MaybeUninit, task::Waker};

    use super::*;
    use crate::transport::Outgoing as OnTheWay;

    /// Has these bytes, and then nothing yet.
    struct Fixed(&'static [u8]);

    impl ByteStream for Fixed {
        fn poll_read(
            &mut self,
            _: &mut Context<'_>,
            place: &mut [MaybeUninit<u8>],
        ) -> Poll<io::Result<usize>> {
            let count = self.0.len().min(place.len());
            let (now, later) = self.0.split_at(count);
            tokio::io::ReadBuf::uninit(place).put_slice(now);
            self.0 = later;
            if count == 0 { Poll::Pending } else { Poll::Ready(Ok(count)) }
        }

        fn poll_write(&mut self, _: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
        }

        fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn outgoing(&self) -> OnTheWay {
            OnTheWay { given: 0, acknowledged: 0 }
        }

        fn is_silent(&mut self) -> bool {
            self.0.is_empty()
        }

        fn reset_on_drop(&self) {}
    }

    #[test]
    fn a_body_belongs_to_its_request() {
        let client = ClientStream::new(Fixed(
            b"PUT /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nonePUT /b HTTP/1.1\r\nContent-Length: 3\r\n\r\ntwo",
        ));
        let mut cx = Context::from_waker(Waker::noop());
        let mut reader = RequestReader::default();
        let mut next = || {
            let limits = RequestLimits { bytes: 1000, fields: 10 };
            let Poll::Ready(Ok(head)) =
                client.poll_request(&mut Context::from_waker(Waker::noop()), &mut reader, limits)
            else {
                panic!("there is a request");
            };
            client.begin_body(&head)
        };
        let mut first = next();
        assert_eq!(first.poll_data(&mut cx), Poll::Ready(Some(Ok(Bytes::from_static(b"one")))));
        assert!(first.is_over() && client.is_body_over());
        let mut second = next();
        assert_eq!(first.poll_data(&mut cx), Poll::Ready(Some(Err(Gone))), "it is not given the next one's");
        assert_eq!((first.left(), second.left()), (None, Some(3)));
        assert_eq!(second.poll_data(&mut cx), Poll::Ready(Some(Ok(Bytes::from_static(b"two")))));
    }
}
