//! A connection to a TLS port: ClientHello, permission, certificate, handshake, requests.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::SystemTime};

use rustls::ServerConfig;

use super::{
    activity::now,
    connections::{Full, Source},
    http::{self, Terms, Version},
    metrics::{Found, Outcome},
    thread::Worker,
};
use crate::{
    certificates::Refusal,
    domains::Permission,
    forward::Arrival,
    name::ServerName,
    tls::{Alert, Hello, TlsStream, read_hello},
    transport::Transport,
};

/// Serves one connection to its end and counts what became of it.
pub(super) async fn serve<T: Transport>(worker: Rc<Worker<T>>, stream: T::Stream, peer: SocketAddr) {
    let place = match worker.shared.connections.admit(peer.ip()) {
        Ok(place) => place,
        Err(full) => return worker.shared.metrics.connections.bump(full.into()),
    };
    if worker.shared.connections.sheds(&place) {
        return worker.shared.metrics.connections.bump(Outcome::RefuseMemory);
    }
    let met = meet(&worker, stream, peer).await;
    let metrics = &worker.shared.metrics;
    match met {
        Ok((stream, name)) => {
            metrics.connections.bump(Outcome::Serve);
            answer_requests(&worker, stream, Client { peer, source: place.source() }, name).await;
        }
        Err(outcome) => metrics.connections.bump(outcome),
    }
    drop(place);
}

impl From<Full> for Outcome {
    fn from(full: Full) -> Self {
        match full {
            Full::Total => Self::RefuseFull,
            Full::Source => Self::RefuseSource,
        }
    }
}

/// What the server makes of a ClientHello.
enum Answer {
    Serve { name: ServerName, config: Arc<ServerConfig>, found: Found },
    Validate { config: Arc<ServerConfig> },
}

struct Refuse(Alert, Outcome);

/// From the first byte to the completed handshake.
async fn meet<T: Transport>(
    worker: &Worker<T>,
    stream: T::Stream,
    peer: SocketAddr,
) -> Result<(TlsStream<T::Stream>, ServerName), Outcome> {
    let limits = worker.shared.limits.kept();
    let (hello, pending) = read_hello(stream, *limits.hello_timeout).await?;
    let begun = now();
    match judge(worker, hello, peer).await {
        Ok(Answer::Serve { name, config, found }) => {
            let stream = pending.accept(config, *limits.handshake_timeout).await?;
            worker.shared.metrics.handshakes.observe(found, begun.elapsed().as_secs_f64());
            Ok((stream, name))
        }
        Ok(Answer::Validate { config }) => {
            // RFC 8737 §3: the validation is over with the handshake, no application data follows.
            pending.accept(config, *limits.handshake_timeout).await?;
            Err(Outcome::AnswerChallenge)
        }
        Err(Refuse(alert, outcome)) => {
            pending.refuse(alert).await;
            Err(outcome)
        }
    }
}

async fn judge<T: Transport>(worker: &Worker<T>, hello: Hello, peer: SocketAddr) -> Result<Answer, Refuse> {
    let name = hello.server_name.ok_or(Refuse(Alert::UnrecognizedName, Outcome::RefuseNoName))?;
    let domains = &worker.shared.domains;
    let permission = match domains.known(&name) {
        Some(permission) => permission,
        None => domains.permission(&name, peer.ip()).await,
    };
    if let Permission::Deny(_) = permission {
        return Err(Refuse(Alert::UnrecognizedName, Outcome::RefuseForeign));
    }
    if hello.acme_challenge {
        return validate(worker, &name, &permission, peer).await;
    }
    certificate(worker, name, &permission, peer).await
}

async fn validate<T: Transport>(
    worker: &Worker<T>,
    name: &ServerName,
    permission: &Permission,
    peer: SocketAddr,
) -> Result<Answer, Refuse> {
    let unknown = || Refuse(Alert::UnrecognizedName, Outcome::RefuseChallenge);
    if !permission.allows_reads() {
        return Err(unknown());
    }
    let answer = worker.shared.certificates.tls_alpn_answer(name, peer.ip()).await.ok_or_else(unknown)?;
    let config = worker.shared.server_configs.answering(answer).map_err(|_| unknown())?;
    Ok(Answer::Validate { config })
}

/// This worker's cache, then the process's, then the table or an order.
async fn certificate<T: Transport>(
    worker: &Worker<T>,
    name: ServerName,
    permission: &Permission,
    peer: SocketAddr,
) -> Result<Answer, Refuse> {
    if let Some(config) = worker.configs.get(&name, SystemTime::now()) {
        return Ok(Answer::Serve { name, config, found: Found::Worker });
    }
    let shared = &worker.shared;
    let cached = shared.certificates.cached(&name).filter(|slot| slot.current(SystemTime::now()).is_some());
    let (slot, found) = match cached {
        Some(slot) => (slot, Found::Process),
        None => (shared.certificates.obtain(&name, permission, peer.ip()).await?, Found::Obtained),
    };
    let config = worker.configs.insert(&name, slot, SystemTime::now(), &shared.server_configs);
    let config = config.ok_or(Refuse(Alert::InternalError, Outcome::RefuseNoCertificate))?;
    Ok(Answer::Serve { name, config, found })
}

impl From<Refusal> for Refuse {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied => Self(Alert::UnrecognizedName, Outcome::RefuseForeign),
            Refusal::Unknown => Self(Alert::InternalError, Outcome::RefuseUnknown),
            Refusal::Busy | Refusal::Slow | Refusal::BackingOff | Refusal::Failed => {
                Self(Alert::InternalError, Outcome::RefuseNoCertificate)
            }
        }
    }
}

/// Who a connection is from.
struct Client {
    peer: SocketAddr,
    source: Source,
}

async fn answer_requests<T: Transport>(
    worker: &Rc<Worker<T>>,
    stream: TlsStream<T::Stream>,
    client: Client,
    name: ServerName,
) {
    let Client { peer, source } = client;
    let version = if stream.is_http2() { Version::Http2 } else { Version::Http1 };
    let arrival = Rc::new(Arrival { peer, server_name: Some(name) });
    let forwarder = worker.forwarder.clone();
    let answer = move |request| {
        let (forwarder, arrival) = (forwarder.clone(), Rc::clone(&arrival));
        async move { forwarder.serve_https(request, &arrival, now()).await }
    };
    let shared = &worker.shared;
    let limits = shared.limits.kept();
    let terms = Terms {
        version,
        limits: &limits,
        phase: shared.phase.clone(),
        metrics: &shared.metrics,
        buffers: &worker.buffers,
        source,
    };
    http::serve(stream, terms, answer).await;
}
