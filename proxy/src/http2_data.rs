//! The data of a body that hyper receives over HTTP/2, of a request or of a response.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body as _, Frame, Incoming};

use crate::small_pieces::join;

/// The next data of `incoming`, small frames that are there as one, at least as much as one has, and else about `most` bytes at most; none behind
/// the end. Its trailers are left in `trailers`.
pub(crate) fn poll_data(
    incoming: &mut Incoming,
    trailers: &mut Option<Box<HeaderMap>>,
    cx: &mut Context<'_>,
    most: usize,
) -> Poll<io::Result<Option<Bytes>>> {
    let Some(first) = ready!(poll_frame(incoming, trailers, cx))? else { return Poll::Ready(Ok(None)) };
    // What ends it is there when it is asked for again.
    let joined = join(first, most, |_| match poll_frame(incoming, trailers, cx) {
        Poll::Ready(Ok(data)) => data,
        Poll::Ready(Err(_)) | Poll::Pending => None,
    });
    Poll::Ready(Ok(Some(joined)))
}

/// The same of one frame.
fn poll_frame(
    incoming: &mut Incoming,
    trailers: &mut Option<Box<HeaderMap>>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Option<Bytes>>> {
    loop {
        let frame = ready!(Pin::new(&mut *incoming).poll_frame(cx));
        match frame.transpose().map_err(io::Error::other)?.map(Frame::into_data) {
            Some(Ok(data)) => return Poll::Ready(Ok(Some(data))),
            Some(Err(frame)) => *trailers = frame.into_trailers().ok().map(Box::new),
            None if incoming.is_end_stream() => return Poll::Ready(Ok(None)),
            // hyper reports a reset with NO_ERROR as an end. RFC 9113 §8.1: only END_STREAM ends a message.
            None => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}
