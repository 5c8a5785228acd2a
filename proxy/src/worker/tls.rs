//! A connection to a TLS port: ClientHello, permission, certificate, handshake, requests.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use super::{
    connections::{ConnectionSource, ConnectionsFull},
    context::Worker,
    handshake::{Handshakes, HelloResponse, Refuse},
    http::{self, ConnectionContext, Version},
    metrics::{ConnectionOutcome, HeaderOutcome, SessionKind},
    origin::{NotTaken, Taken},
};
use crate::{
    clock::now,
    config::LimitsConfig,
    forward::Downstream,
    name::ServerName,
    tls::{TlsStream, read_hello},
    transport::{Replayed, Transport},
};

/// Serves one connection to its end and counts its outcome.
pub(super) async fn serve<T: Transport>(worker: Rc<Worker<T>>, stream: T::Stream, peer: SocketAddr) {
    let metrics = &worker.shared.metrics;
    let limits = worker.shared.limits.load_full();
    let taken = worker.shared.reception(*limits.hello_timeout).take(stream, peer).await;
    let Taken { stream, client, place, left } = match taken {
        Ok(taken) => taken,
        Err(not_taken) => return metrics.connections.bump(not_taken.into()),
    };
    if worker.shared.connections.sheds(&place) {
        return metrics.connections.bump(ConnectionOutcome::RefuseMemory);
    }
    let allowed = Allowed { hello: left, handshake: *limits.handshake_timeout };
    // Boxed: a handshake takes several times the memory of an idle connection, which has none of it.
    let met = Box::pin(meet(&worker, stream, client, allowed)).await;
    match met {
        Ok((stream, name)) => {
            metrics.connections.bump(ConnectionOutcome::Serve);
            let client = ClientConnection { peer: client, source: place.source() };
            let limits = worker.shared.limits.load_full();
            answer_requests(&worker, &limits, stream, client, name).await;
        }
        Err(outcome) => metrics.connections.bump(outcome),
    }
    drop(place);
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

/// How long the parts of a handshake may take.
struct Allowed {
    hello: Duration,
    handshake: Duration,
}

/// From the first byte to the completed handshake.
async fn meet<T: Transport>(
    worker: &Worker<T>,
    stream: Replayed<T::Stream>,
    peer: SocketAddr,
    allowed: Allowed,
) -> Result<(TlsStream<Replayed<T::Stream>>, ServerName), ConnectionOutcome> {
    let (hello, pending) = read_hello(stream, allowed.hello).await?;
    let begun = now();
    let handshakes = Handshakes { shared: &worker.shared, configs: &worker.configs };
    match handshakes.judge(hello, peer).await {
        Ok(HelloResponse::Serve { name, config, found }) => {
            let stream = pending.accept(config, allowed.handshake).await?;
            worker.shared.metrics.handshakes.observe(found, begun.elapsed().as_secs_f64());
            worker.shared.metrics.sessions.bump(SessionKind::of(stream.is_resumed()));
            Ok((stream, name))
        }
        Ok(HelloResponse::Validate { config }) => {
            // RFC 8737 §3: the validation is over with the handshake, no application data follows.
            pending.accept(config, allowed.handshake).await?;
            Err(ConnectionOutcome::AnswerChallenge)
        }
        Err(Refuse(alert, outcome)) => {
            pending.refuse(alert).await;
            Err(outcome)
        }
    }
}

/// Who a connection is from.
struct ClientConnection {
    peer: SocketAddr,
    source: ConnectionSource,
}

fn answer_requests<'a, T: Transport>(
    worker: &'a Rc<Worker<T>>,
    limits: &'a LimitsConfig,
    stream: TlsStream<Replayed<T::Stream>>,
    client: ClientConnection,
    name: ServerName,
) -> impl Future<Output = ()> + 'a {
    let ClientConnection { peer, source } = client;
    let version = if stream.is_http2() { Version::Http2 } else { Version::Http1 };
    let tls = stream.version();
    let downstream = Rc::new(Downstream { peer, through: None, server_name: Some(name), tls: Some(tls) });
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
        source,
        unparsed: Box::new(move |status| request_log.record_unparsed(&from, status)),
    };
    http::serve(stream, terms, answer)
}
