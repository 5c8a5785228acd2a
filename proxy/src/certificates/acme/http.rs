//! The HTTP client for ACME: roots from a file, time-outs, a limit on bodies, our user agent, and `Retry-After` passed on.

use std::{
    cell::{Cell, RefCell},
    error::Error,
    future::Future,
    path::Path,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, StatusCode,
    header::{CONTENT_TYPE, HeaderValue, LINK, RETRY_AFTER, USER_AGENT},
    http::response::Parts,
};
use hyper_rustls::HttpsConnectorBuilder;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

use super::{AcmeError, Awaited};
use crate::{
    clock,
    http_client::{PooledClient, pooled, system_tls},
};

/// Cheap to clone; connections are shared.
#[derive(Clone)]
pub(super) struct Http(PooledClient<Full<Bytes>>);

impl Http {
    pub(super) fn new(roots: Option<&Path>) -> Result<Self, AcmeError> {
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls(roots)?);
        // RFC 8555 §6.1: HTTPS only.
        let connector = connector.https_only().enable_http1().enable_http2().build();
        Ok(Self(pooled(connector, IDLE)))
    }

    async fn exchange(
        self,
        request: hyper::Request<BodyWrapper<Bytes>>,
    ) -> Result<BytesResponse, instant_acme::Error> {
        let (mut head, body) = request.into_parts();
        // RFC 8555 §7.1.1 and §7.2: all else is asked for by POST.
        let resource = match head.method {
            Method::GET => Some("directory"),
            Method::HEAD => Some("nonces"),
            _ => None,
        };
        // RFC 8555 §6.1: clients MUST send a User-Agent with their name and version.
        head.headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let body = body.collect().await.map_err(failed)?.to_bytes();
        forget();
        let response =
            self.0.request(hyper::Request::from_parts(head, Full::new(body))).await.map_err(failed)?;
        let (head, body) = response.into_parts();
        remember(&head, &[]);
        // The protocol library reads any answer to these as what it hoped for.
        if let Some(resource) = resource.filter(|_| !head.status.is_success()) {
            let unexpected = UnexpectedStatus { resource, status: head.status };
            return Err(instant_acme::Error::Other(unexpected.into()));
        }
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| {
            // It broke off, or is too long.
            forget_status();
            instant_acme::Error::Other(error)
        })?;
        let body = body.to_bytes();
        remember(&head, &body);
        Ok(BytesResponse::from(hyper::Response::from_parts(head, Full::new(body))))
    }
}

/// An answer to a request that only success can answer.
#[derive(Debug, thiserror::Error)]
#[error("{status} for the {resource}")]
struct UnexpectedStatus {
    resource: &'static str,
    status: StatusCode,
}

/// The resource that was answered with another status than success, and the status, if `error` says so.
pub(super) fn unexpected_status(error: &instant_acme::Error) -> Option<(&'static str, StatusCode)> {
    let instant_acme::Error::Other(error) = error else { return None };
    error.downcast_ref::<UnexpectedStatus>().map(|error| (error.resource, error.status))
}

impl HttpClient for Http {
    fn request(
        &self,
        request: hyper::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let exchange = self.clone().exchange(request);
        Box::pin(async move {
            tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or_else(|error| {
                forget_status();
                Err(failed(error))
            })
        })
    }
}

/// What is remembered of the responses to one order: the protocol library keeps it to itself, and the client is shared between
/// orders.
#[derive(Default)]
struct OrderTrace {
    retry_after: Cell<Option<SystemTime>>,
    status: Cell<Option<u16>>,
    awaited: Cell<Awaited>,
    chain: RefCell<Option<OfferedChain>>,
}

/// A certificate chain as the CA sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OfferedChain {
    pub(super) pem: String,
    /// URLs of others for the same certificate.
    pub(super) alternates: Vec<String>,
}

/// Runs an order within which [`retry_after`] and [`status`] tell what the last response said, [`awaited`] what it waits for, and
/// [`take_chain`] what was downloaded.
pub(super) async fn within_order<T>(order: impl Future<Output = T>) -> T {
    ORDER.scope(OrderTrace::default(), order).await
}

/// What this order waits for.
pub(super) fn awaited() -> Awaited {
    ORDER.try_with(|order| order.awaited.get()).unwrap_or_default()
}

/// Sets what it waits for from now on.
pub(super) fn set_awaited(awaited: Awaited) {
    let _ = ORDER.try_with(|order| order.awaited.set(awaited));
}

/// The `Retry-After` of the last response of this order.
pub(super) fn retry_after() -> Option<SystemTime> {
    ORDER.try_with(|order| order.retry_after.get()).ok().flatten()
}

/// The status of the last response of this order; none where a request was left without one.
pub(super) fn status() -> Option<u16> {
    ORDER.try_with(|order| order.status.get()).ok().flatten()
}

#[cfg(test)]
pub(super) fn answered_for_tests(status: Option<u16>) {
    let _ = ORDER.try_with(|order| order.status.set(status));
}

/// The last chain that was downloaded, once.
pub(super) fn take_chain() -> Option<OfferedChain> {
    ORDER.try_with(|order| order.chain.borrow_mut().take()).ok().flatten()
}

/// There is another request, to which what was said before is no answer.
fn forget() {
    let _ = ORDER.try_with(|order| order.retry_after.set(None));
    forget_status();
}

/// The response is not complete.
fn forget_status() {
    let _ = ORDER.try_with(|order| order.status.set(None));
}

fn remember(head: &Parts, body: &[u8]) {
    let fields = &head.headers;
    let text = |name| fields.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let at = text(RETRY_AFTER).and_then(|value| parse_retry_after(value, clock::wall()));
    // RFC 8555 §9.1.
    let is_chain =
        text(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/pem-certificate-chain"));
    let pem = std::str::from_utf8(body).ok().filter(|_| is_chain);
    let links = fields.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let chain = pem.map(|pem| OfferedChain { pem: pem.to_owned(), alternates: alternates(links) });
    // Outside of an order nobody asks.
    let _ = ORDER.try_with(|order| {
        order.retry_after.set(at);
        order.status.set(Some(head.status.as_u16()));
        if chain.is_some() {
            order.chain.replace(chain);
        }
    });
}

/// RFC 8555 §7.4.2, RFC 8288 §3: the targets of links with the relation `alternate`.
fn alternates<'a>(links: impl Iterator<Item = &'a str>) -> Vec<String> {
    let target = |link: &str| {
        let (url, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_alternate = parameters.split(';').any(|parameter| {
            let relation = parameter.trim().strip_prefix("rel=").unwrap_or_default();
            relation.trim_matches('"').eq_ignore_ascii_case("alternate")
        });
        is_alternate.then(|| url.to_owned())
    };
    links.flat_map(|value| value.split(',')).filter_map(target).take(MAX_ALTERNATES).collect()
}

/// RFC 9110 §10.2.3: seconds, or a date in the form of §5.6.7.
fn parse_retry_after(text: &str, now: SystemTime) -> Option<SystemTime> {
    match text.trim().parse::<u32>() {
        Ok(seconds) => Some(now + Duration::from_secs(seconds.into())),
        Err(_) => OffsetDateTime::parse(text.trim(), &Rfc2822).ok().map(SystemTime::from),
    }
}

fn tls(roots: Option<&Path>) -> Result<ClientConfig, AcmeError> {
    let Some(file) = roots else { return system_tls().map_err(AcmeError::Verifier) };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(AcmeError::Verifier)?;
    let store = roots_of(file).map_err(|source| AcmeError::Roots { file: file.to_owned(), source })?;
    Ok(builder.with_root_certificates(store).with_no_client_auth())
}

fn roots_of(file: &Path) -> Result<RootCertStore, Box<dyn Error + Send + Sync>> {
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(file)? {
        store.add(root?)?;
    }
    if store.is_empty() { Err("no certificate in it".into()) } else { Ok(store) }
}

fn failed(error: impl Error + Send + Sync + 'static) -> instant_acme::Error {
    instant_acme::Error::Other(error.into())
}

tokio::task_local! {
    static ORDER: OrderTrace;
}

const AGENT: &str = concat!("gatehouse/", env!("CARGO_PKG_VERSION"));
const TIMEOUT: Duration = Duration::from_secs(15);
const IDLE: Duration = Duration::from_secs(30);
/// The largest answer is a chain: a few certificates of a few kB.
const MAX_BODY: usize = 256 << 10;
/// CAs offer two or three.
const MAX_ALTERNATES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        let at = |seconds: u64| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        for (text, expected) in [
            ("120", at(1_800_000_120)),
            (" 3 ", at(1_800_000_003)),
            ("Fri, 31 Dec 1999 23:59:59 GMT", at(946_684_799)),
            ("", None),
            ("-1", None),
            ("soon", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(parse_retry_after(text, now), expected, "{text:?}");
        }
    }

    #[test]
    fn other_chains_are_found_among_the_links() {
        for (links, expected) in [
            (
                &["<https://ca.example/dir>;rel=\"index\"", "<https://ca.example/c/1>;rel=\"alternate\""][..],
                &["https://ca.example/c/1"][..],
            ),
            (
                &["<https://ca.example/1>; title=x; rel=alternate, <https://ca.example/2>;rel=\"alternate\""],
                &["https://ca.example/1", "https://ca.example/2"],
            ),
            (&["https://ca.example/1;rel=alternate", "<", "<>", "", "<https://ca.example/1"], &[]),
        ] {
            assert_eq!(alternates(links.iter().copied()), expected, "{links:?}");
        }
        let many = vec!["<https://ca.example/1>;rel=\"alternate\""; 100];
        assert_eq!(alternates(many.into_iter()).len(), MAX_ALTERNATES);
    }

    #[test]
    fn roots_that_are_none_are_refused_with_their_field() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Http::new(Some(file.path())).err().unwrap().to_string();
        assert!(error.contains("certificates.issuers.roots"), "{error}");
    }
}
