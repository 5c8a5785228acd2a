//! A connection to a TLS port: ClientHello, permission, certificate, handshake, requests.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::SystemTime};

use rustls::ServerConfig;
use tracing::info;

use super::{
    activity::now,
    connections::{ConnectionSource, ConnectionsFull},
    context::Worker,
    http::{self, ConnectionContext, Version},
    metrics::{CertificateOrigin, ConnectionOutcome},
};
use crate::{
    certificates::CertificateRefusal,
    domains::{Caller, Permission},
    forward::Downstream,
    name::ServerName,
    telemetry::admit_line,
    tls::{Alert, HelloFacts, TlsStream, read_hello},
    transport::Transport,
};

/// Serves one connection to its end and counts its outcome.
pub(super) async fn serve<T: Transport>(worker: Rc<Worker<T>>, stream: T::Stream, peer: SocketAddr) {
    let place = match worker.shared.connections.admit(peer.ip()) {
        Ok(place) => place,
        Err(full) => return worker.shared.metrics.connections.bump(full.into()),
    };
    if worker.shared.connections.sheds(&place) {
        return worker.shared.metrics.connections.bump(ConnectionOutcome::RefuseMemory);
    }
    let met = meet(&worker, stream, peer).await;
    let metrics = &worker.shared.metrics;
    match met {
        Ok((stream, name)) => {
            metrics.connections.bump(ConnectionOutcome::Serve);
            answer_requests(&worker, stream, ClientConnection { peer, source: place.source() }, name).await;
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

/// The server's answer to a ClientHello.
enum HelloResponse {
    Serve { name: ServerName, config: Arc<ServerConfig>, found: CertificateOrigin },
    Validate { config: Arc<ServerConfig> },
}

struct Refuse(Alert, ConnectionOutcome);

/// From the first byte to the completed handshake.
async fn meet<T: Transport>(
    worker: &Worker<T>,
    stream: T::Stream,
    peer: SocketAddr,
) -> Result<(TlsStream<T::Stream>, ServerName), ConnectionOutcome> {
    let limits = worker.shared.limits.load_full();
    let (hello, pending) = read_hello(stream, *limits.hello_timeout).await?;
    let begun = now();
    match judge(worker, hello, peer).await {
        Ok(HelloResponse::Serve { name, config, found }) => {
            let stream = pending.accept(config, *limits.handshake_timeout).await?;
            worker.shared.metrics.handshakes.observe(found, begun.elapsed().as_secs_f64());
            Ok((stream, name))
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

async fn judge<T: Transport>(
    worker: &Worker<T>,
    hello: HelloFacts,
    peer: SocketAddr,
) -> Result<HelloResponse, Refuse> {
    let name = hello.server_name.ok_or(Refuse(Alert::UnrecognizedName, ConnectionOutcome::RefuseNoName))?;
    let domains = &worker.shared.domains;
    let permission = domains.permission(&name, Caller::Client(peer.ip())).await;
    if let Permission::Deny(_) = permission {
        return Err(Refuse(Alert::UnrecognizedName, ConnectionOutcome::RefuseForeign));
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
) -> Result<HelloResponse, Refuse> {
    let unknown = || Refuse(Alert::UnrecognizedName, ConnectionOutcome::RefuseChallenge);
    if !permission.allows_reads() {
        return Err(unknown());
    }
    let answer = worker.shared.certificates.tls_alpn_answer(name, peer.ip()).await.ok_or_else(unknown)?;
    let config = worker.shared.server_configs.answering(answer).map_err(|_| unknown())?;
    Ok(HelloResponse::Validate { config })
}

/// This worker's cache, then the process's, then the table or an order.
async fn certificate<T: Transport>(
    worker: &Worker<T>,
    name: ServerName,
    permission: &Permission,
    peer: SocketAddr,
) -> Result<HelloResponse, Refuse> {
    if let Some(config) = worker.configs.get(&name, SystemTime::now()) {
        return Ok(HelloResponse::Serve { name, config, found: CertificateOrigin::Worker });
    }
    let shared = &worker.shared;
    let cached = shared.certificates.cached(&name).filter(|slot| slot.current(SystemTime::now()).is_some());
    let (slot, found) = match cached {
        Some(slot) => (slot, CertificateOrigin::Process),
        None => match shared.certificates.obtain(&name, permission, peer.ip()).await {
            Ok(slot) => (slot, CertificateOrigin::Obtained),
            Err(refusal) => {
                tell_without_certificate(worker, &name, permission, refusal, peer);
                return Err(refusal.into());
            }
        },
    };
    let config = worker.configs.insert(&name, slot, SystemTime::now(), &shared.server_configs);
    let config = config.ok_or(Refuse(Alert::InternalError, ConnectionOutcome::RefuseNoCertificate))?;
    Ok(HelloResponse::Serve { name, config, found })
}

/// A name that may be served, and is not.
fn tell_without_certificate<T: Transport>(
    worker: &Worker<T>,
    name: &ServerName,
    permission: &Permission,
    refusal: CertificateRefusal,
    client: SocketAddr,
) {
    if let CertificateRefusal::Denied | CertificateRefusal::Unknown = refusal {
        return worker.shared.domains.tell_refused(name, permission, client.ip());
    }
    if let Some(left_out) = admit_line("no_certificate", name.as_str()) {
        info!(server_name = %name, reason = ?refusal, %client, left_out, "there is no certificate for a name; `gatehouse certificate show` says why");
    }
}

impl From<CertificateRefusal> for Refuse {
    fn from(refusal: CertificateRefusal) -> Self {
        match refusal {
            CertificateRefusal::Denied => Self(Alert::UnrecognizedName, ConnectionOutcome::RefuseForeign),
            CertificateRefusal::Unknown => Self(Alert::InternalError, ConnectionOutcome::RefuseUnknown),
            CertificateRefusal::Busy
            | CertificateRefusal::Slow
            | CertificateRefusal::BackingOff
            | CertificateRefusal::Failed => {
                Self(Alert::InternalError, ConnectionOutcome::RefuseNoCertificate)
            }
        }
    }
}

/// Who a connection is from.
struct ClientConnection {
    peer: SocketAddr,
    source: ConnectionSource,
}

async fn answer_requests<T: Transport>(
    worker: &Rc<Worker<T>>,
    stream: TlsStream<T::Stream>,
    client: ClientConnection,
    name: ServerName,
) {
    let ClientConnection { peer, source } = client;
    let version = if stream.is_http2() { Version::Http2 } else { Version::Http1 };
    let downstream = Rc::new(Downstream { peer, server_name: Some(name) });
    let forwarder = worker.forwarder.clone();
    let answer = move |request| {
        let (forwarder, downstream) = (forwarder.clone(), Rc::clone(&downstream));
        async move { forwarder.serve_https(request, &downstream, now()).await }
    };
    let shared = &worker.shared;
    let limits = shared.limits.load_full();
    let terms = ConnectionContext {
        version,
        limits: &limits,
        phase: shared.phase.clone(),
        metrics: &shared.metrics,
        buffers: &worker.buffers,
        source,
    };
    http::serve(stream, terms, answer).await;
}
