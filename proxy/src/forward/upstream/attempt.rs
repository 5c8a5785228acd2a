//! One attempt at a request: over a connection that is open, or over a new one.

use std::{future::Future, rc::Rc, time::Duration};

use http::{HeaderValue, Response, StatusCode, header};
use hyper::{body::Incoming, upgrade::Upgraded};

use super::{
    RequestWriter, UpstreamBody, UpstreamFailure, UpstreamResponse, Upstreams,
    connection::Connection,
    connector::NewConnection,
    destination::{ChosenVersion, Destination, InFlight},
    http2::Http2Stream,
    http2_body::Http2Body,
    permits::UpstreamPermit,
    pooled::{PooledConnection, UpstreamTunnel},
    request_writer::WEBSOCKET,
    slots::Slot,
};
use crate::{
    clock::now,
    field_name::FieldName,
    fields::Fields,
    forward::{metrics::ConnectionOrigin, websocket_accept::websocket_accept},
    http1::ResponseHead,
    target::UpstreamProtocol,
    transport::Transport,
};

/// A response whose header section is there, and what it came over.
pub(super) enum Answered {
    Http1(ResponseHead, Box<Connection>),
    Http2(Response<Incoming>, Http2Stream),
    /// The fields of its agreement to a WebSocket, and what that goes over.
    WebSocket(Fields, Upgraded, Http2Stream),
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
            Self::WebSocket(fields, upgraded, stream) => {
                let peer = stream.peer().clone();
                let tunnel = UpstreamTunnel::over_http2(upgraded, stream, in_flight, permit);
                let status = StatusCode::SWITCHING_PROTOCOLS;
                UpstreamResponse { status, fields, peer, body: tunnel.into() }
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
        let Protocols { open, new } = protocols_for(destination, request);
        let reused = match open {
            Some(ChosenVersion::Http1) => self.reuse_http1(destination, request, attempts).await?,
            Some(ChosenVersion::Http2) => Box::pin(self.reuse_http2(destination, request, attempts)).await?,
            None => None,
        };
        if let Some(answered) = reused {
            return Ok(answered);
        }
        // Boxed: a stream's task is as large as the largest thing it ever waits for, and is there as long as its response.
        match new {
            UpstreamProtocol::Http1 => Box::pin(self.open_http1(destination, request, attempts)).await,
            UpstreamProtocol::Http2 => Box::pin(self.open_http2(destination, request, attempts)).await,
            UpstreamProtocol::Auto => Box::pin(self.open_auto(destination, request, attempts)).await,
        }
    }

    /// Sends `request` over an open connection of HTTP/1.1; none if there is none, or if it may be sent anew.
    async fn reuse_http1(
        &self,
        destination: &Destination,
        request: &mut RequestWriter,
        attempts: &mut Attempts,
    ) -> Result<Option<Answered>, UpstreamFailure> {
        let client = request.client_of_connection(&destination.endpoint);
        let Some(mut connection) = destination.take(client.map(Rc::as_ref), now()) else { return Ok(None) };
        request.address(&destination.endpoint);
        match connection.exchange(request, *self.settings.limits.response_timeout).await {
            Ok(head) => {
                self.metrics.connections.bump(ConnectionOrigin::Reuse);
                Ok(Some(Answered::Http1(head, connection)))
            }
            // RFC 9112 §9.3.1: an idle connection may be closed at any time, also while a request is being sent.
            Err(UpstreamFailure::Closed(_)) if request.is_repeatable() => {
                attempts.origin = ConnectionOrigin::Retry;
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Sends `request` over a new connection of HTTP/1.1.
    async fn open_http1(
        &self,
        destination: &Destination,
        request: &mut RequestWriter,
        attempts: &mut Attempts,
    ) -> Result<Answered, UpstreamFailure> {
        let origin = attempts.origin;
        let slot = self.connection_slot(destination).await?;
        let client = request.client_of_connection(&destination.endpoint).cloned();
        let connecting = self.connector.http1(destination, client);
        let connection = self.connected(attempts, connecting).await?;
        self.begin_http1((connection, slot, origin), destination, request).await
    }

    /// Sends `request` as the first one over a connection, which holds its slot and is counted as its origin.
    async fn begin_http1(
        &self,
        (mut connection, slot, origin): (Box<Connection>, Option<Slot>, ConnectionOrigin),
        destination: &Destination,
        request: &mut RequestWriter,
    ) -> Result<Answered, UpstreamFailure> {
        connection.hold(slot);
        self.metrics.connections.bump(origin);
        request.address(&destination.endpoint);
        let head = connection.exchange(request, *self.settings.limits.response_timeout).await?;
        Ok(Answered::Http1(head, connection))
    }

    /// Sends `request` over an open connection of HTTP/2; none if none has room for it, or if it may be sent anew.
    async fn reuse_http2(
        &self,
        destination: &Destination,
        request: &mut RequestWriter,
        attempts: &mut Attempts,
    ) -> Result<Option<Answered>, UpstreamFailure> {
        let Some(stream) = destination.http2_stream(request, now()) else { return Ok(None) };
        match self.exchange_http2(stream, destination, request, attempts).await {
            Ok(answered) => {
                self.metrics.connections.bump(ConnectionOrigin::Reuse);
                Ok(Some(answered))
            }
            Err(failure @ UpstreamFailure::NoWebSocket) => Err(failure),
            // As over HTTP/1.1: the connection may have been about to end.
            Err(failure) if failure.retry().permits(request.is_repeatable()) => {
                attempts.origin = ConnectionOrigin::Retry;
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Sends `request` over a new connection of HTTP/2, or one that another request has opened meanwhile.
    async fn open_http2(
        &self,
        destination: &Destination,
        request: &mut RequestWriter,
        attempts: &mut Attempts,
    ) -> Result<Answered, UpstreamFailure> {
        let origin = attempts.origin;
        let (stream, origin) =
            self.connected(attempts, self.connect_http2_once(destination, request, origin)).await?;
        self.metrics.connections.bump(origin);
        self.exchange_http2(stream, destination, request, attempts).await
    }

    /// Sends `request` on `stream`. One that asks for a WebSocket does so if its server takes them, and goes to another destination before it
    /// goes as if it asked for nothing.
    async fn exchange_http2(
        &self,
        stream: Http2Stream,
        destination: &Destination,
        request: &mut RequestWriter,
        attempts: &mut Attempts,
    ) -> Result<Answered, UpstreamFailure> {
        let limit = request.terms().response_limit.unwrap_or(*self.settings.limits.response_timeout);
        if request.websocket_key().is_some() {
            if self.connected(attempts, stream.takes_websockets()).await? {
                let response = stream.ask_for_websocket(request, &destination.endpoint, limit).await?;
                return answer_to_websocket(response, stream, request).await;
            }
            if attempts.seeks_switch && attempts.left > 1 {
                return Err(UpstreamFailure::NoWebSocket);
            }
        }
        let response = stream.exchange(request, &destination.endpoint, limit).await?;
        Ok(Answered::Http2(response, stream))
    }

    /// Sends `request` over a new connection in the version that its server chooses, or over one of HTTP/2 that another request has opened
    /// meanwhile.
    async fn open_auto(
        &self,
        destination: &Destination,
        request: &mut RequestWriter,
        attempts: &mut Attempts,
    ) -> Result<Answered, UpstreamFailure> {
        let origin = attempts.origin;
        // Connections of HTTP/1.1 alone are bounded, and this may become one.
        let slot = self.connection_slot(destination).await?;
        match self.connected(attempts, self.connect_auto(destination, request, origin)).await? {
            Opened::Http1(connection) => {
                self.begin_http1((connection, slot, origin), destination, request).await
            }
            Opened::Http2(stream, origin) => {
                drop(slot);
                self.metrics.connections.bump(origin);
                self.exchange_http2(stream, destination, request, attempts).await
            }
        }
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
        request: &RequestWriter,
        origin: ConnectionOrigin,
    ) -> Result<(Http2Stream, ConnectionOrigin), UpstreamFailure> {
        let _opening = destination.http2.opening().await;
        if let Some(stream) = destination.http2_stream(request, now()) {
            return Ok((stream, ConnectionOrigin::Reuse));
        }
        let connection = self.connector.http2(destination).await?;
        Ok((destination.http2.add(connection), origin))
    }

    /// The same in the version that the server chooses. As long as that may be HTTP/2, requests that come at once open one connection.
    async fn connect_auto(
        &self,
        destination: &Destination,
        request: &RequestWriter,
        origin: ConnectionOrigin,
    ) -> Result<Opened, UpstreamFailure> {
        let speaks_http1 = || destination.version() == Some(ChosenVersion::Http1);
        let opening = if speaks_http1() { None } else { Some(destination.http2.opening().await) };
        // Who was before in opening one may have learned it.
        let _opening = opening.filter(|_| !speaks_http1());
        if !speaks_http1()
            && let Some(stream) = destination.http2_stream(request, now())
        {
            return Ok(Opened::Http2(stream, ConnectionOrigin::Reuse));
        }
        Ok(match self.connector.auto(destination).await? {
            NewConnection::Http1(connection) => Opened::Http1(connection),
            NewConnection::Http2(connection) => Opened::Http2(destination.http2.add(connection), origin),
        })
    }
}

/// What a request goes over whose endpoint's server chooses.
enum Opened {
    Http1(Box<Connection>),
    /// Counted as such.
    Http2(Http2Stream, ConnectionOrigin),
}

/// What a request may go over.
struct Protocols {
    /// Which of the connections that are open.
    open: Option<ChosenVersion>,
    /// What a new one offers.
    new: UpstreamProtocol,
}

/// What `request` may go over to `destination`. Where its server chooses, to another protocol only a connection can switch that offers
/// HTTP/1.1 alone; but what is open may carry a WebSocket on a stream.
fn protocols_for(destination: &Destination, request: &RequestWriter) -> Protocols {
    let (version, protocol) = (destination.version(), destination.endpoint.protocol);
    if protocol != UpstreamProtocol::Auto || !request.terms().wants_switch {
        return Protocols { open: version, new: protocol };
    }
    let takes_it = || destination.http2.websockets.get() == Some(true) && request.websocket_key().is_some();
    let open = version.filter(|version| *version == ChosenVersion::Http2 && takes_it());
    Protocols { open: open.or(Some(ChosenVersion::Http1)), new: UpstreamProtocol::Http1 }
}

/// What the server has said to a WebSocket: its agreement as one of HTTP/1.1, whose handshake is ours towards `request`.
async fn answer_to_websocket(
    mut response: Response<Incoming>,
    stream: Http2Stream,
    request: &RequestWriter,
) -> Result<Answered, UpstreamFailure> {
    if !response.status().is_success() {
        return Ok(Answered::Http2(response, stream));
    }
    // hyper knows no agreement but 200 (RFC 8441 §5 has any of 2xx), and tells this one from it by an error.
    let upgraded = hyper::upgrade::on(&mut response).await.map_err(|_| UpstreamFailure::ProtocolSwitch)?;
    let accept = request.websocket_key().map(websocket_accept).map(HeaderValue::try_from);
    let Some(Ok(accept)) = accept else { return Err(UpstreamFailure::ProtocolSwitch) };
    let mut fields = Fields::from(response.headers());
    fields.set(FieldName::Upgrade, WEBSOCKET);
    fields.remove_named(&header::SEC_WEBSOCKET_ACCEPT);
    fields.push_named(&header::SEC_WEBSOCKET_ACCEPT, &accept);
    Ok(Answered::WebSocket(fields, upgraded, stream))
}

/// The attempts of one request.
pub(super) struct Attempts {
    pub(super) origin: ConnectionOrigin,
    /// What is left for connecting: the time that an upstream takes to answer is not of it.
    connecting: Duration,
    /// Destinations that were not tried, the present one among them.
    pub(super) left: usize,
    /// Whether it asks for another protocol that some of them may know.
    pub(super) seeks_switch: bool,
}

impl Attempts {
    pub(super) fn new(connecting: Duration) -> Self {
        Self { origin: ConnectionOrigin::Open, connecting, left: 1, seeks_switch: false }
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
