//! One attempt at a request: over a connection that is open, or over a new one.

use std::{future::Future, rc::Rc, time::Duration};

use http::Response;
use hyper::body::Incoming;

use super::{
    RequestWriter, UpstreamBody, UpstreamFailure, UpstreamResponse, Upstreams,
    connection::Connection,
    destination::{Destination, InFlight},
    http2::Http2Stream,
    http2_body::Http2Body,
    permits::UpstreamPermit,
    pooled::PooledConnection,
};
use crate::{
    clock::now, fields::Fields, forward::metrics::ConnectionOrigin, http1::ResponseHead,
    target::UpstreamProtocol, transport::Transport,
};

/// A response whose header section is there, and what it came over.
pub(super) enum Answered {
    Http1(ResponseHead, Box<Connection>),
    Http2(Response<Incoming>, Http2Stream),
}

impl Answered {
    /// To `request`; `in_flight` and `permit` end with its body.
    pub(super) fn with(
        self,
        request: RequestWriter,
        in_flight: InFlight,
        permit: UpstreamPermit,
    ) -> UpstreamResponse {
        match self {
            Self::Http1(ResponseHead { status, fields, framing, is_persistent }, connection) => {
                let peer = connection.peer.clone();
                let pooled = PooledConnection::new(connection, request, is_persistent, in_flight, permit);
                UpstreamResponse { status, fields, peer, body: UpstreamBody::http1(framing, pooled) }
            }
            Self::Http2(response, stream) => {
                let (head, incoming) = response.into_parts();
                let peer = stream.peer().clone();
                let body = Http2Body::new(incoming, request.into_upload(), stream, in_flight, permit);
                let fields = Fields::from(&head.headers);
                UpstreamResponse { status: head.status, fields, peer, body: body.into() }
            }
        }
    }
}

impl<T: Transport> Upstreams<T> {
    /// Sends `request` to `destination`, over a connection that is open if there is one.
    pub(super) async fn attempt(
        &self,
        destination: &Destination,
        request: &mut RequestWriter,
        attempts: &mut Attempts,
    ) -> Result<Answered, UpstreamFailure> {
        match destination.endpoint.protocol {
            UpstreamProtocol::Http1 => self.attempt_http1(destination, request, attempts).await,
            UpstreamProtocol::Http2 => Box::pin(self.attempt_http2(destination, request, attempts)).await,
        }
    }

    async fn attempt_http1(
        &self,
        destination: &Destination,
        request: &mut RequestWriter,
        attempts: &mut Attempts,
    ) -> Result<Answered, UpstreamFailure> {
        request.address(&destination.endpoint);
        let client = request.client_of_connection(&destination.endpoint);
        if let Some(mut connection) = destination.take(client.map(Rc::as_ref), now()) {
            match connection.exchange(request, *self.settings.limits.response_timeout).await {
                Ok(head) => {
                    self.metrics.connections.bump(ConnectionOrigin::Reuse);
                    return Ok(Answered::Http1(head, connection));
                }
                // RFC 9112 §9.3.1: an idle connection may be closed at any time, also while a request is being sent.
                Err(UpstreamFailure::Closed(_)) if request.is_repeatable() => {
                    attempts.origin = ConnectionOrigin::Retry;
                    request.address(&destination.endpoint);
                }
                Err(failure) => return Err(failure),
            }
        }
        // Boxed: a stream's task is as large as the largest thing it ever waits for, and is there as long as its response.
        Box::pin(self.exchange_anew(destination, request, attempts)).await
    }

    /// Sends `request` over a new connection.
    async fn exchange_anew(
        &self,
        destination: &Destination,
        request: &mut RequestWriter,
        attempts: &mut Attempts,
    ) -> Result<Answered, UpstreamFailure> {
        let origin = attempts.origin;
        let slot = self.connection_slot(destination).await?;
        let client = request.client_of_connection(&destination.endpoint).cloned();
        let connecting = self.connector.http1(destination, client);
        let mut connection = self.connected(attempts, connecting).await?;
        connection.hold(slot);
        self.metrics.connections.bump(origin);
        let head = connection.exchange(request, *self.settings.limits.response_timeout).await?;
        Ok(Answered::Http1(head, connection))
    }

    async fn attempt_http2(
        &self,
        destination: &Destination,
        request: &mut RequestWriter,
        attempts: &mut Attempts,
    ) -> Result<Answered, UpstreamFailure> {
        let limit = request.terms().response_limit.unwrap_or(*self.settings.limits.response_timeout);
        if let Some(stream) = destination.http2_stream(now()) {
            match stream.exchange(request, &destination.endpoint, limit).await {
                Ok(response) => {
                    self.metrics.connections.bump(ConnectionOrigin::Reuse);
                    return Ok(Answered::Http2(response, stream));
                }
                // As over HTTP/1.1: the connection may have been about to end.
                Err(failure) if failure.retry().permits(request.is_repeatable()) => {
                    attempts.origin = ConnectionOrigin::Retry;
                }
                Err(failure) => return Err(failure),
            }
        }
        let origin = attempts.origin;
        let (stream, origin) = self.connected(attempts, self.connect_http2_once(destination, origin)).await?;
        self.metrics.connections.bump(origin);
        let response = stream.exchange(request, &destination.endpoint, limit).await?;
        Ok(Answered::Http2(response, stream))
    }

    /// Waits for `connecting` as long as the present attempt may; its failure is counted.
    async fn connected<C>(
        &self,
        attempts: &mut Attempts,
        connecting: impl Future<Output = Result<C, UpstreamFailure>>,
    ) -> Result<C, UpstreamFailure> {
        let begun = now();
        let connection = tokio::time::timeout(attempts.share(), connecting).await;
        let connection = connection.unwrap_or(Err(UpstreamFailure::ConnectTimeout));
        attempts.connected_for(now().saturating_duration_since(begun));
        if connection.is_err() {
            self.metrics.connections.bump(ConnectionOrigin::Fail);
        }
        connection
    }

    /// A place on a new connection, counted as `origin`, or on one that another request has opened meanwhile.
    async fn connect_http2_once(
        &self,
        destination: &Destination,
        origin: ConnectionOrigin,
    ) -> Result<(Http2Stream, ConnectionOrigin), UpstreamFailure> {
        let _opening = destination.http2.opening().await;
        if let Some(stream) = destination.http2_stream(now()) {
            return Ok((stream, ConnectionOrigin::Reuse));
        }
        let connection = self.connector.http2(destination).await?;
        Ok((destination.http2.add(connection), origin))
    }
}

/// The attempts of one request.
pub(super) struct Attempts {
    pub(super) origin: ConnectionOrigin,
    /// What is left for connecting: the time that an upstream takes to answer is not of it.
    connecting: Duration,
    /// Destinations that were not tried, the present one among them.
    pub(super) left: usize,
}

impl Attempts {
    pub(super) fn new(connecting: Duration) -> Self {
        Self { origin: ConnectionOrigin::Open, connecting, left: 1 }
    }

    /// How long the present one may take to connect.
    fn share(&self) -> Duration {
        self.connecting / u32::try_from(self.left.max(1)).unwrap_or(u32::MAX)
    }

    fn connected_for(&mut self, time: Duration) {
        self.connecting = self.connecting.saturating_sub(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_share_the_time_for_connecting_and_nothing_else_is_of_it() {
        let mut attempts = Attempts { left: 2, ..Attempts::new(Duration::from_secs(6)) };
        assert_eq!(attempts.share(), Duration::from_secs(3));
        attempts.connected_for(Duration::from_secs(3));
        attempts.left = 1;
        assert_eq!(attempts.share(), Duration::from_secs(3));
        attempts.connected_for(Duration::from_secs(9));
        assert_eq!(attempts.share(), Duration::ZERO);
    }
}
