//! The cleartext port: health, ACME's http-01, and redirects for everything else.

use hyper::{Request, StatusCode, header::HeaderValue};

use super::{
    Arrival, Outcome, Service,
    admit::{Head, admit},
    answer::Answer,
    page::Page,
};
use crate::{domains::Permission, name::ServerName, worker::Phase};

/// Answers `request`.
pub(super) async fn answer<B>(service: &Service, request: &Request<B>, arrival: &Arrival) -> Answer {
    let path = request.uri().path();
    // A balancer asks by address, so health comes before any host is looked at.
    if path == "/health" {
        return health(*service.phase.borrow());
    }
    let host = match admit(&Head::of(request), None) {
        Ok(host) => host,
        Err(offence) => return Answer::refuse(offence),
    };
    let permission = match service.domains.known(&host) {
        Some(permission) => permission,
        None => service.domains.permission(&host, arrival.peer.ip()).await,
    };
    if let Permission::Deny(_) = permission {
        return Answer::page(Page::of(StatusCode::NOT_FOUND), Outcome::RefuseDenied);
    }
    match path.strip_prefix(CHALLENGE) {
        Some(token) => challenge(service, &host, token).await,
        None => redirect(service, &host, request),
    }
}

fn health(phase: Phase) -> Answer {
    let (status, text) = match phase {
        Phase::Serving => (StatusCode::OK, "ok\n"),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Unable => (StatusCode::SERVICE_UNAVAILABLE, "unable to serve\n"),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    };
    Answer::page(Page::text(status, text), Outcome::Health)
}

/// RFC 8555 §8.3: the key authorization as text, for the token that was asked for.
async fn challenge(service: &Service, host: &ServerName, token: &str) -> Answer {
    match service.certificates.http_answer(host, token).await {
        Some(authorization) => Answer::page(Page::text(StatusCode::OK, authorization), Outcome::Challenge),
        None => Answer::page(Page::of(StatusCode::NOT_FOUND), Outcome::ChallengeUnknown),
    }
}

fn redirect<B>(service: &Service, host: &ServerName, request: &Request<B>) -> Answer {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path } else { "/" };
    let location = match service.public_https_port {
        443 => format!("https://{host}{path}"),
        port => format!("https://{host}:{port}{path}"),
    };
    match HeaderValue::try_from(location) {
        Ok(location) => Answer::redirect(location),
        Err(_) => Answer::page(Page::of(StatusCode::BAD_REQUEST), Outcome::RefuseOffence),
    }
}

const CHALLENGE: &str = "/.well-known/acme-challenge/";
