//! A connection to a TLS port: ClientHello, permission, certificate, handshake, requests.

use std::{net::SocketAddr, rc::Rc};

use super::{
    connections::{ConnectionPermit, ConnectionsFull},
    context::Worker,
    handshake::{Handshakes, HelloResponse, Refuse},
    http::{self, ConnectionContext, Version},
    metrics::{ConnectionOutcome, HeaderOutcome, SessionKind},
    origin::{NotTaken, Taken},
};
use crate::{
    clock::now,
    config::LimitsConfig,
    forward::{Downstream, HandshakeName, NamedBy},
    tls::{TlsStream, read_hello},
    transport::{Replayed, Transport},
};

/// Serves one connection to its end and counts its outcome.
pub(super) async fn serve<T: Transport>(worker: Rc<Worker<T>>, stream: T::Stream, peer: SocketAddr) {
    let connections = &worker.shared.metrics.connections;
    let limits = worker.shared.limits.load_full();
    // Boxed: a handshake takes several times the memory of an idle connection, which has none of it.
    let requests = match Box::pin(handshake(&worker, &limits, stream, peer)).await {
        Ok(connection) => {
            connections.bump(ConnectionOutcome::Serve);
            answer_requests(&worker, &limits, connection)
        }
        Err(outcome) => return connections.bump(outcome),
    };
    requests.await;
}

impl From<ConnectionsFull> for ConnectionOutcome {
    fn from(full: ConnectionsFull) -> Self {
        match full {
            ConnectionsFull::Total => Self::RefuseFull,
            ConnectionsFull::Source => Self::RefuseSource,
        }
    }
}

impl From<NotTaken> for ConnectionOutcome {
    fn from(not_taken: NotTaken) -> Self {
        match not_taken {
            NotTaken::Full(full) => full.into(),
            NotTaken::Header(HeaderOutcome::Timeout) => Self::EndHelloTimeout,
            NotTaken::Header(HeaderOutcome::Closed) => Self::EndClosed,
            NotTaken::Header(_) => Self::RefuseProxyHeader,
        }
    }
}

/// A connection behind its handshake.
struct TlsConnection<S> {
    stream: TlsStream<Replayed<S>>,
    name: HandshakeName,
    client: SocketAddr,
    place: ConnectionPermit,
}

/// From the connection to the completed handshake.
async fn handshake<T: Transport>(
    worker: &Worker<T>,
    limits: &LimitsConfig,
    stream: T::Stream,
    peer: SocketAddr,
) -> Result<TlsConnection<T::Stream>, ConnectionOutcome> {
    let shared = &worker.shared;
    let Taken { stream, client, place, left } =
        shared.reception(*limits.hello_timeout).take(stream, peer).await?;
    if shared.connections.sheds(&place) {
        return Err(ConnectionOutcome::RefuseMemory);
    }
    let (hello, pending) = read_hello(stream, left).await?;
    let begun = now();
    let by = if hello.server_name.is_some() { NamedBy::Client } else { NamedBy::Settings };
    let handshakes = Handshakes { shared, configs: &worker.configs };
    match handshakes.judge(hello, client).await {
        Ok(HelloResponse::Serve { name, config, found }) => {
            let stream = pending.accept(config, *limits.handshake_timeout).await?;
            shared.metrics.handshakes.observe(found, begun.elapsed().as_secs_f64());
            shared.metrics.sessions.bump(SessionKind::of(stream.is_resumed()));
            let name = HandshakeName { name, by };
            Ok(TlsConnection { stream, name, client, place })
        }
        Ok(HelloResponse::Validate { config }) => {
            // RFC 8737 §3: the validation is over with the handshake, no application data follows.
            pending.accept(config, *limits.handshake_timeout).await?;
            Err(ConnectionOutcome::AnswerChallenge)
        }
        Err(Refuse(alert, outcome)) => {
            pending.refuse(alert).await;
            Err(outcome)
        }
    }
}

fn answer_requests<'a, T: Transport>(
    worker: &'a Worker<T>,
    limits: &'a LimitsConfig,
    connection: TlsConnection<T::Stream>,
) -> impl Future<Output = ()> + 'a {
    let TlsConnection { stream, name, client: peer, place } = connection;
    let version = if stream.is_http2() { Version::Http2 } else { Version::Http1 };
    let tls = stream.version();
    let (local, server_name) = (stream.local_address(), Some(name));
    let downstream = Rc::new(Downstream { peer, local, through: None, server_name, tls: Some(tls) });
    let (forwarder, from) = (worker.forwarder.clone(), Rc::clone(&downstream));
    let answer = move |head, body| {
        let (forwarder, downstream) = (forwarder.clone(), Rc::clone(&downstream));
        async move { forwarder.serve_https(head, body, &downstream, now()).await }
    };
    let shared = &worker.shared;
    let request_log = &worker.request_log;
    let terms = ConnectionContext {
        version,
        limits,
        phase: shared.phase.clone(),
        metrics: &shared.metrics,
        buffers: &worker.buffers,
        source: place.source(),
        unparsed: Box::new(move |status| request_log.record_unparsed(&from, status)),
    };
    let serving = http::serve(stream, terms, answer);
    async move {
        serving.await;
        drop(place);
    }
}
