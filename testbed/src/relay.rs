//! The recording layer: stands in front of a real part, counts what is asked of it, and can hold or cut the traffic.
//! Invariant: what is held reaches the part only once it is let go, and not at all when its client has gone meanwhile
//! (`what_is_held_is_counted_and_goes_on_when_let_go`).

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, Uri, body::Incoming, header, http::request::Parts};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::watch;

use crate::{
    authority,
    namespace::Namespace,
    service::{self, Body, Service},
};

/// What the relay does with traffic.
#[derive(Debug, Clone, Copy)]
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
}

/// Names what a request asks for; each name is counted with its outcome.
pub type Classify = fn(&Parts, &[u8]) -> Vec<String>;

/// How a relay reaches what stands behind it.
pub(crate) type Client = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

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
    /// Who signs the certificate of the part behind it.
    pub roots: &'a Path,
}

impl Relay {
    /// Starts it inside `namespace`.
    pub fn start(namespace: &Namespace, place: Place<'_>, classify: Classify) -> anyhow::Result<Self> {
        let roots = authority::roots(place.roots)?;
        let tls_behind = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let record = Arc::new(Record { counts: Mutex::default(), traffic: watch::channel(Traffic::Pass).0 });
        let (shared, behind, tls) = (Arc::clone(&record), place.behind, place.tls);
        let service = Service::start(namespace, place.address, move |listener| {
            let client = client(tls_behind);
            service::http(listener, tls, move |request| {
                Arc::clone(&shared).pass(request, client.clone(), behind.clone(), classify)
            })
        })?;
        Ok(Self { record, _service: service })
    }

    /// How many requests of `name` were answered; `<name> refused` and `<name> cut` count the others, `<name> held` those that
    /// had to wait, however they ended. (Pebble refuses one in twenty for its nonce, on purpose.)
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.counts().get(name).copied().unwrap_or(0)
    }

    /// All counts.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.record.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
    fn holds(self, names: &[String]) -> bool {
        match self {
            Self::Hold => true,
            Self::HoldOnly(held) => names.iter().any(|name| name == held),
            Self::Pass | Self::Cut | Self::Rewrite(_) => false,
        }
    }
}

impl Record {
    async fn pass(
        self: Arc<Self>,
        request: Request<Incoming>,
        client: Client,
        behind: String,
        classify: Classify,
    ) -> anyhow::Result<Response<Body>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let names = classify(&parts, &body);
        let traffic = self.admit(&names).await?;
        if matches!(traffic, Traffic::Cut) {
            self.note(names, "cut");
            anyhow::bail!("cut");
        }
        let (mut head, body) = forward(&client, &behind, parts, body).await?.into_parts();
        let answered = head.status.is_success() || head.status.is_redirection();
        self.note(names, if answered { "" } else { "refused" });
        let mut body = body.collect().await?.to_bytes();
        if let Traffic::Rewrite(rewrite) = traffic {
            body = rewrite(body);
            head.headers.remove(header::CONTENT_LENGTH);
        }
        Ok(Response::from_parts(head, service::full(body)))
    }

    /// What is to become of a request for `names`, once it is not held any more.
    async fn admit(&self, names: &[String]) -> anyhow::Result<Traffic> {
        let mut traffic = self.traffic.subscribe();
        if traffic.borrow().holds(names) {
            self.note(names.to_vec(), "held");
        }
        Ok(*traffic.wait_for(|traffic| !traffic.holds(names)).await?)
    }

    fn note(&self, names: Vec<String>, outcome: &str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            *counts.entry(format!("{name} {outcome}").trim_end().to_owned()).or_default() += 1;
        }
    }
}
