//! The body of a response over HTTP/2.

use std::{
    cell::RefCell,
    io,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body as _, Incoming};

use super::{destination::InFlight, http2::Http2Stream, permits::UpstreamPermit};
use crate::{
    forward::upload::{Upload, length},
    http2_data::poll_data,
};

/// A body that is read from a stream; dropped before its end, it resets the stream.
pub(super) struct Http2Body {
    /// None behind its end.
    source: Option<Source>,
    /// Received, and more than was asked for.
    rest: Bytes,
    trailers: Option<Box<HeaderMap>>,
}

/// What a request has as long as its response is not over.
struct Source {
    incoming: Incoming,
    upload: Rc<RefCell<Upload>>,
    _stream: Http2Stream,
    _in_flight: InFlight,
    _permit: UpstreamPermit,
}

impl Drop for Source {
    /// Nobody asks for what of the request is still to come.
    fn drop(&mut self) {
        self.upload.borrow_mut().give_up();
    }
}

impl Http2Body {
    /// The body of the response to a request that sends `upload`.
    pub(super) fn new(
        incoming: Incoming,
        upload: Rc<RefCell<Upload>>,
        stream: Http2Stream,
        in_flight: InFlight,
        permit: UpstreamPermit,
    ) -> Self {
        let source = Source { incoming, upload, _stream: stream, _in_flight: in_flight, _permit: permit };
        Self { source: Some(source), rest: Bytes::new(), trailers: None }
    }

    /// The next data, at most `most` bytes; none behind its end.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<Option<Bytes>>> {
        while self.rest.is_empty() {
            let Some(source) = &mut self.source else { return Poll::Ready(Ok(None)) };
            match ready!(poll_data(&mut source.incoming, &mut self.trailers, cx, most))? {
                Some(data) => self.rest = data,
                None => return Poll::Ready(Ok(None)),
            }
        }
        let count = self.rest.len().min(most);
        Poll::Ready(Ok(Some(self.rest.split_to(count))))
    }

    /// Whether all of it was read, trailers too.
    pub(super) fn is_over(&self) -> bool {
        let is_received = self.source.as_ref().is_none_or(|source| source.incoming.is_end_stream());
        is_received && self.rest.is_empty()
    }

    /// Frees what the request had, once its response is over.
    pub(super) fn release(&mut self) {
        self.source = None;
    }

    /// How many bytes are to come, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        let Some(source) = &self.source else { return Some(length(&self.rest)) };
        if self.is_over() {
            return Some(0);
        }
        source.incoming.size_hint().exact().map(|left| left + length(&self.rest))
    }

    pub(super) fn has_trailers(&self) -> bool {
        self.trailers.is_some()
    }

    /// The trailers, once.
    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take().map(|trailers| *trailers)
    }
}
