//! The upstream: echoes requests, streams, answers slowly, breaks off.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use anyhow::anyhow;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    header,
    http::request::Parts,
};
use serde_json::{Value, json};

use crate::{
    authority::Authority,
    namespace::Namespace,
    service::{self, Body, Service},
};

/// Servers at the edge, on ports 9000 (cleartext) and 9443 (TLS, as `upstream.test`). Paths:
/// `/` and all others echo the request as JSON once its body has ended; `/stream/N` answers N bytes; `/slow/MS` echoes
/// after so many milliseconds; `/break` ends in the middle of its body.
#[derive(Debug)]
pub struct Upstream {
    tally: Arc<Tally>,
    address: IpAddr,
    _cleartext: Service,
    _tls: Service,
}

#[derive(Debug, Default)]
struct Tally {
    requests: AtomicU64,
    answered: AtomicU64,
    slow: AtomicU64,
    body_bytes: AtomicU64,
}

impl Upstream {
    /// Starts both at `address` inside `edge`.
    pub fn start(edge: &Namespace, address: IpAddr, authority: &Authority) -> anyhow::Result<Self> {
        let tally = Arc::new(Tally::default());
        let tls = authority.issue("upstream.test", &["upstream.test"])?.server()?;
        let serve = |port, tls| {
            let tally = Arc::clone(&tally);
            Service::start(edge, SocketAddr::new(address, port), move |listener| {
                service::http(listener, tls, move |request| Arc::clone(&tally).answer(request))
            })
        };
        let (cleartext, tls) = (serve(PORT, None)?, serve(PORT_TLS, Some(tls))?);
        Ok(Self { tally, address, _cleartext: cleartext, _tls: tls })
    }

    /// The cleartext target.
    #[must_use]
    pub fn target(&self) -> String {
        format!("http://{}", SocketAddr::new(self.address, PORT))
    }

    /// The TLS target, in a process's settings: the edge takes the name to be its loopback.
    #[must_use]
    pub fn tls_target(&self) -> String {
        format!("https://upstream.test:{PORT_TLS}")
    }

    /// Requests that began.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.tally.requests.load(Ordering::Relaxed)
    }

    /// Requests whose head was answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.tally.answered.load(Ordering::Relaxed)
    }

    /// Requests for `/slow/MS` that began and are not answered yet.
    #[must_use]
    pub fn slow_in_flight(&self) -> u64 {
        self.tally.slow.load(Ordering::Relaxed)
    }

    /// Bytes of request bodies that arrived.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        self.tally.body_bytes.load(Ordering::Relaxed)
    }
}

impl Tally {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let mut words = path.split('/').skip(1);
        let response = match (words.next(), words.next()) {
            (Some("stream"), Some(length)) => stream(length.parse()?),
            (Some("slow"), Some(millis)) => {
                self.slow.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(millis.parse()?)).await;
                self.slow.fetch_sub(1, Ordering::Relaxed);
                self.echo(&parts, body).await
            }
            (Some("break"), _) => broken(),
            _ => self.echo(&parts, body).await,
        };
        // A request whose body broke off has no answer.
        self.answered.fetch_add(u64::from(response.is_ok()), Ordering::Relaxed);
        response
    }

    async fn echo(&self, parts: &Parts, mut body: Incoming) -> anyhow::Result<Response<Body>> {
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            let data = frame?.into_data().map_or(0, |data| data.len() as u64);
            self.body_bytes.fetch_add(data, Ordering::Relaxed);
            length += data;
        }
        let text = describe(parts, length).to_string();
        Ok(Response::builder().header(header::CONTENT_TYPE, "application/json").body(service::full(text))?)
    }
}

/// What arrived, as JSON: `headers` is a list of pairs, so that a repeated field is seen.
fn describe(parts: &Parts, body_bytes: u64) -> Value {
    let headers: Vec<[String; 2]> = parts
        .headers
        .iter()
        .map(|(name, value)| [name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()])
        .collect();
    json!({
        "method": parts.method.as_str(),
        "path": parts.uri.to_string(),
        "version": format!("{:?}", parts.version),
        "headers": headers,
        "body_bytes": body_bytes,
    })
}

fn stream(length: u64) -> anyhow::Result<Response<Body>> {
    let mut left = length;
    let chunk = Bytes::from(vec![b'g'; CHUNK]);
    let frames = Frames(move || {
        let size = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        left -= size as u64;
        (size > 0).then(|| Ok(chunk.slice(..size)))
    });
    Ok(Response::builder().header(header::CONTENT_LENGTH, length).body(Body::new(frames))?)
}

fn broken() -> anyhow::Result<Response<Body>> {
    let mut sent = false;
    let frames = Frames(move || {
        let first = !std::mem::replace(&mut sent, true);
        Some(if first { Ok(Bytes::from_static(b"half of the truth")) } else { Err(anyhow!("broken off")) })
    });
    Ok(Response::builder().header(header::CONTENT_LENGTH, 1_000).body(Body::new(frames))?)
}

/// A stream of what a closure yields.
struct Frames<F>(F);

impl<F: FnMut() -> Option<anyhow::Result<Bytes>> + Unpin> hyper::body::Body for Frames<F> {
    type Data = Bytes;
    type Error = anyhow::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, anyhow::Error>>> {
        Poll::Ready((self.get_mut().0)().map(|data| data.map(Frame::data)))
    }
}

const PORT: u16 = 9_000;
const PORT_TLS: u16 = 9_443;
const CHUNK: usize = 64 << 10;
