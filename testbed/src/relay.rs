//! The recording layer: stands in front of a real part, counts what is asked of it, can hold, cut or refuse requests, and adds
//! what the part lacks.
//! Invariant: what is held reaches the part only once it is let go, and not at all when its client has gone meanwhile
//! (`what_is_held_is_counted_and_goes_on_when_let_go`).

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use aws_policy::Recorder;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, Uri, body::Incoming, header, http::request::Parts};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::sync::watch;

use crate::{
    authority,
    namespace::Namespace,
    service::{self, Body, Service},
};

/// What the relay does with traffic.
#[derive(Debug, Clone)]
pub enum Traffic {
    /// Passes it.
    Pass,
    /// Lets it wait until this changes.
    Hold,
    /// Lets requests of this name wait until this changes, and passes the others.
    HoldOnly(&'static str),
    /// Cuts the connection without an answer: the part is down.
    Cut,
    /// Passes it, answers rewritten.
    Rewrite(fn(Bytes) -> Bytes),
    /// Meets requests of one name with a fault, and passes the others.
    Fail(Fault),
}

/// What goes wrong with requests of one name.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Their name.
    pub at: &'static str,
    /// How.
    pub kind: FaultKind,
    /// How many of them; those after pass.
    pub times: u32,
}

/// How a request goes wrong.
#[derive(Debug, Clone)]
pub enum FaultKind {
    /// The connection is cut before the part gets the request.
    CutBefore,
    /// The part does what it was asked for, and the connection is cut before the answer.
    CutAfter,
    /// The part's answer is another's.
    Refuse(Refusal),
}

/// An answer in the part's stead.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// HTTP status.
    pub status: StatusCode,
    /// `Retry-After` (RFC 9110 §10.2.3).
    pub retry_after_seconds: Option<u32>,
    /// `Content-Type`.
    pub media_type: &'static str,
    /// The body.
    pub body: String,
}

/// Names what a request asks for; each name is counted with its outcome.
pub type Classify = fn(&Parts, &[u8]) -> Vec<String>;

/// What a relay adds to a part that lacks it.
#[derive(Debug, Clone, Copy)]
pub struct Extension {
    /// What is answered in the part's stead to requests of these names with this body.
    pub refuse: fn(&[String], &[u8]) -> Option<Refusal>,
    /// The part's answer with what is added; the names and the second argument are the request's.
    pub complete: fn(&[String], &[u8], Bytes) -> Bytes,
}

/// How a relay reaches what stands behind it.
pub(crate) type Client = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A request that was answered, and when: from its last byte to the answer's.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// What was asked for.
    pub names: Vec<String>,
    /// When it had come.
    pub begun: Instant,
    /// When the part had answered.
    pub ended: Instant,
}

/// A running relay.
#[derive(Debug)]
pub struct Relay {
    record: Arc<Record>,
    _service: Service,
}

#[derive(Debug)]
struct Record {
    counts: Mutex<BTreeMap<String, u64>>,
    traffic: watch::Sender<Traffic>,
    calls: Recorder,
    /// Absent while nobody wants to know.
    exchanges: Mutex<Option<Vec<Exchange>>>,
}

/// Where a relay stands.
#[derive(Debug)]
pub struct Place<'a> {
    /// Its own address.
    pub address: SocketAddr,
    /// Its own TLS, if it speaks TLS.
    pub tls: Option<Arc<ServerConfig>>,
    /// The part behind it: `http://...` or `https://...`, without a path.
    pub behind: String,
    /// Who signs the certificate of the part behind it, if that speaks TLS.
    pub roots: Option<&'a Path>,
}

impl Relay {
    /// Starts it inside `namespace`.
    pub fn start(namespace: &Namespace, place: Place<'_>, classify: Classify) -> anyhow::Result<Self> {
        Self::start_extended(namespace, place, classify, NOTHING)
    }

    /// The same with what `extension` adds.
    pub fn start_extended(
        namespace: &Namespace,
        place: Place<'_>,
        classify: Classify,
        extension: Extension,
    ) -> anyhow::Result<Self> {
        let roots = place.roots.map_or_else(|| Ok(RootCertStore::empty()), authority::roots)?;
        let tls_behind = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let record = Arc::new(Record {
            counts: Mutex::default(),
            traffic: watch::channel(Traffic::Pass).0,
            calls: Recorder::from_environment(),
            exchanges: Mutex::default(),
        });
        let (shared, behind, tls) = (Arc::clone(&record), place.behind, place.tls);
        let service = Service::start(namespace, place.address, move |listener| {
            let client = client(tls_behind);
            service::http(listener, tls, move |request| {
                Arc::clone(&shared).pass(request, client.clone(), behind.clone(), classify, extension)
            })
        })?;
        Ok(Self { record, _service: service })
    }

    /// How many requests of `name` were answered; `<name> refused` and `<name> cut` count the others, `<name> held` those that
    /// had to wait, however they ended, `<name> gone` those of them whose client left meanwhile, and `<name> failed` those that
    /// met a [`Fault`]. (Pebble refuses one in twenty for its nonce, on purpose.)
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.counts().get(name).copied().unwrap_or(0)
    }

    /// All counts.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.record.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was answered since this was last asked, as it ended; nothing the first time, from when on it is noted.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        let mut exchanges = self.record.exchanges.lock().unwrap_or_else(PoisonError::into_inner);
        exchanges.replace(Vec::new()).unwrap_or_default()
    }

    /// Changes what happens to traffic from now on.
    pub fn set(&self, traffic: Traffic) {
        self.record.traffic.send_replace(traffic);
    }
}

/// A client that speaks cleartext or, where it is asked to, TLS.
pub(crate) fn client(tls: ClientConfig) -> Client {
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
    legacy::Client::builder(TokioExecutor::new()).build(connector.build())
}

/// Sends a request on to `behind`, which is an origin.
pub(crate) async fn forward(
    client: &Client,
    behind: &str,
    mut head: Parts,
    body: Bytes,
) -> anyhow::Result<Response<Incoming>> {
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = Uri::try_from(format!("{behind}{path}"))?;
    // The framing towards the part follows from the collected body.
    head.headers.remove(header::TRANSFER_ENCODING);
    head.headers.remove(header::CONNECTION);
    Ok(client.request(Request::from_parts(head, Full::new(body))).await?)
}

impl Traffic {
    fn holds(&self, names: &[String]) -> bool {
        match self {
            Self::Hold => true,
            Self::HoldOnly(held) => names.iter().any(|name| name == held),
            Self::Pass | Self::Cut | Self::Rewrite(_) | Self::Fail(_) => false,
        }
    }

    /// The fault that a request of `names` meets, which is one fewer for those that follow.
    fn next_fault(&mut self, names: &[String]) -> Option<FaultKind> {
        let Self::Fail(fault) = self else { return None };
        if !names.iter().any(|name| name == fault.at) {
            return None;
        }
        fault.times = fault.times.checked_sub(1)?;
        Some(fault.kind.clone())
    }
}

impl Refusal {
    fn response(self) -> anyhow::Result<Response<Body>> {
        let response = Response::builder().status(self.status).header(header::CONTENT_TYPE, self.media_type);
        let response = match self.retry_after_seconds {
            Some(seconds) => response.header(header::RETRY_AFTER, seconds),
            None => response,
        };
        Ok(response.body(service::full(self.body))?)
    }
}

impl Record {
    async fn pass(
        self: Arc<Self>,
        request: Request<Incoming>,
        client: Client,
        behind: String,
        classify: Classify,
        extension: Extension,
    ) -> anyhow::Result<Response<Body>> {
        let (parts, body) = request.into_parts();
        let asked = body.collect().await?.to_bytes();
        let begun = Instant::now();
        self.note_call(&parts, &asked)?;
        let names = classify(&parts, &asked);
        let traffic = self.admit(&names).await?;
        if matches!(traffic, Traffic::Cut) {
            self.note(&names, "cut");
            anyhow::bail!("cut");
        }
        let fault = self.next_fault(&names);
        if fault.is_some() {
            self.note(&names, "failed");
        }
        match fault {
            Some(FaultKind::CutBefore) => anyhow::bail!("cut"),
            Some(FaultKind::Refuse(refusal)) => return refusal.response(),
            Some(FaultKind::CutAfter) => {
                forward(&client, &behind, parts, asked).await?.collect().await?;
                anyhow::bail!("cut");
            }
            None => {}
        }
        if let Some(refusal) = (extension.refuse)(&names, &asked) {
            self.note(&names, "refused");
            return refusal.response();
        }
        let (mut head, body) = forward(&client, &behind, parts, asked.clone()).await?.into_parts();
        let answered = head.status.is_success() || head.status.is_redirection();
        self.note(&names, if answered { "" } else { "refused" });
        let mut body = (extension.complete)(&names, &asked, body.collect().await?.to_bytes());
        if let Some(exchanges) = &mut *self.exchanges.lock().unwrap_or_else(PoisonError::into_inner) {
            exchanges.push(Exchange { names: names.clone(), begun, ended: Instant::now() });
        }
        if let Traffic::Rewrite(rewrite) = traffic {
            body = rewrite(body);
        }
        head.headers.remove(header::CONTENT_LENGTH);
        Ok(Response::from_parts(head, service::full(body)))
    }

    /// What a part of AWS's is asked for, and by whom: for the comparison with policies.
    fn note_call(&self, head: &Parts, body: &[u8]) -> std::io::Result<()> {
        let field = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        self.calls.note(&aws_policy::Request {
            method: head.method.as_str(),
            target: head.uri.path_and_query().map_or("/", |target| target.as_str()),
            authorization: field("authorization").unwrap_or_default(),
            operation: field("x-amz-target"),
            body,
        })
    }

    fn next_fault(&self, names: &[String]) -> Option<FaultKind> {
        let mut fault = None;
        // Nobody who waits is let go by it.
        self.traffic.send_if_modified(|traffic| {
            fault = traffic.next_fault(names);
            false
        });
        fault
    }

    /// What is to become of a request for `names`, once it is not held any more.
    async fn admit(&self, names: &[String]) -> anyhow::Result<Traffic> {
        let mut traffic = self.traffic.subscribe();
        let mut held = HeldRequest { record: self, names, waits: traffic.borrow().holds(names) };
        if held.waits {
            self.note(names, "held");
        }
        let admitted = traffic.wait_for(|traffic| !traffic.holds(names)).await?.clone();
        held.waits = false;
        Ok(admitted)
    }

    fn note(&self, names: &[String], outcome: &str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            *counts.entry(format!("{name} {outcome}").trim_end().to_owned()).or_default() += 1;
        }
    }
}

/// A request that may be held: dropped while it waits, its client has left.
struct HeldRequest<'a> {
    record: &'a Record,
    names: &'a [String],
    waits: bool,
}

impl Drop for HeldRequest<'_> {
    fn drop(&mut self) {
        if self.waits {
            self.record.note(self.names, "gone");
        }
    }
}

const NOTHING: Extension = Extension { refuse: |_, _| None, complete: |_, _, answer| answer };
