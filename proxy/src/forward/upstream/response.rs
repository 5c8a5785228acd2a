//! A response as its upstream sends it, over either version of HTTP.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{
    http2_body::Http2Body,
    pooled::{PooledConnection, UpstreamTunnel},
};
use crate::{
    fields::Fields,
    http1::{BodyFraming, BodyReader},
    target::EndpointAddress,
};

/// A response whose header section is there.
pub(in crate::forward) struct UpstreamResponse {
    pub(in crate::forward) status: StatusCode,
    pub(in crate::forward) fields: Fields,
    /// Whom it is from.
    pub(in crate::forward) peer: EndpointAddress,
    pub(in crate::forward) body: UpstreamBody,
}

/// A response's body; dropped before its end, it ends the request at its upstream.
pub(in crate::forward) struct UpstreamBody(Source);

enum Source {
    Http1 {
        reader: BodyReader,
        /// None behind the end.
        connection: Option<PooledConnection>,
    },
    Http2(Http2Body),
    /// The stream that carries another protocol.
    Tunnel(UpstreamTunnel),
}

impl UpstreamBody {
    pub(super) fn http1(framing: BodyFraming, connection: PooledConnection) -> Self {
        Self(Source::Http1 { reader: BodyReader::new(framing), connection: Some(connection) })
    }

    /// The next data, at most `most` bytes; none behind its end.
    pub(in crate::forward) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<io::Result<Option<Bytes>>> {
        match &mut self.0 {
            Source::Http1 { reader, connection: Some(connection) } => connection.poll_body(cx, reader, most),
            Source::Http1 { connection: None, .. } | Source::Tunnel(_) => Poll::Ready(Ok(None)),
            Source::Http2(body) => body.poll_data(cx, most),
        }
    }

    /// Whether all of it was read.
    pub(in crate::forward) fn is_over(&self) -> bool {
        match &self.0 {
            Source::Http1 { reader, .. } => reader.end().is_some(),
            Source::Http2(body) => body.is_over(),
            Source::Tunnel(_) => true,
        }
    }

    /// How many bytes are to come, where that is known.
    pub(in crate::forward) fn left(&self) -> Option<u64> {
        match &self.0 {
            Source::Http1 { reader, .. } => reader.left(),
            Source::Http2(body) => body.left(),
            Source::Tunnel(_) => Some(0),
        }
    }

    /// Whether trailers were read.
    pub(in crate::forward) fn has_trailers(&self) -> bool {
        match &self.0 {
            Source::Http1 { reader, .. } => reader.has_trailers(),
            Source::Http2(body) => body.has_trailers(),
            Source::Tunnel(_) => false,
        }
    }

    /// The trailers, once.
    pub(in crate::forward) fn take_trailers(&mut self) -> Option<HeaderMap> {
        match &mut self.0 {
            Source::Http1 { reader, .. } => reader.take_trailers(),
            Source::Http2(body) => body.take_trailers(),
            Source::Tunnel(_) => None,
        }
    }

    /// Leaves the connection to other requests, if the body is over.
    pub(in crate::forward) fn release(&mut self, now: Instant) {
        match &mut self.0 {
            Source::Http1 { reader, connection } => {
                if let Some((end, connection)) = reader.end().zip(connection.take()) {
                    connection.release(end, now);
                }
            }
            Source::Http2(body) => body.release(),
            Source::Tunnel(_) => {}
        }
    }

    /// Waits a while for the end of one without data, so that its stream is not reset; nobody else is kept.
    pub(in crate::forward) fn end_apart(mut self) {
        tokio::task::spawn_local(async move {
            let _ = tokio::time::timeout(END_APART, poll_fn(|cx| self.poll_data(cx, 1))).await;
        });
    }

    /// The connection without HTTP, or a stream of it, where that can carry another protocol: not if the request was not sent whole, nor if
    /// the connection carries others.
    pub(in crate::forward) fn into_tunnel(self) -> Option<UpstreamTunnel> {
        match self.0 {
            Source::Http1 { connection, .. } => connection?.into_tunnel(),
            Source::Http2(_) => None,
            Source::Tunnel(tunnel) => Some(tunnel),
        }
    }
}

impl From<UpstreamTunnel> for UpstreamBody {
    fn from(tunnel: UpstreamTunnel) -> Self {
        Self(Source::Tunnel(tunnel))
    }
}

impl From<Http2Body> for UpstreamBody {
    fn from(body: Http2Body) -> Self {
        Self(Source::Http2(body))
    }
}

/// An end that is sent apart is a frame of nine bytes behind the header section.
const END_APART: Duration = Duration::from_secs(1);
