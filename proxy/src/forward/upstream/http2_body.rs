//! The body of a response over HTTP/2.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body as _, Frame, Incoming};

use super::{destination::InFlight, http2::Http2Stream, permits::UpstreamPermit};
use crate::{
    forward::upload::{Upload, length},
    small_pieces::join,
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
            let Some(first) = ready!(self.poll_frame(cx))? else { return Poll::Ready(Ok(None)) };
            // What ends it is there when it is asked for again.
            self.rest = join(first, most, |_| match self.poll_frame(cx) {
                Poll::Ready(Ok(data)) => Ok::<_, io::Error>(data),
                Poll::Ready(Err(_)) | Poll::Pending => Ok(None),
            })?;
        }
        let count = self.rest.len().min(most);
        Poll::Ready(Ok(Some(self.rest.split_to(count))))
    }

    /// The data of the next frame; none behind the last.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            let Some(source) = &mut self.source else { return Poll::Ready(Ok(None)) };
            let frame = ready!(Pin::new(&mut source.incoming).poll_frame(cx));
            match frame.transpose().map_err(io::Error::other)?.map(Frame::into_data) {
                Some(Ok(data)) => return Poll::Ready(Ok(Some(data))),
                Some(Err(frame)) => self.trailers = frame.into_trailers().ok().map(Box::new),
                None if source.incoming.is_end_stream() => return Poll::Ready(Ok(None)),
                // hyper reports a reset with NO_ERROR as an end. RFC 9113 §8.1: only END_STREAM ends a message.
                None => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            }
        }
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
