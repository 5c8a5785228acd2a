//! The same requests over HTTP/2.

use std::{
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, pki_types::ServerName};
use testbed::namespace::Namespace;
use tokio::{runtime::Runtime, task::LocalSet};
use tokio_rustls::TlsConnector;

use super::{client::Answer, draft::Draft, message::latin1};

/// A connection that is kept, and what drives it.
pub(super) struct Http2 {
    runtime: Runtime,
    tasks: LocalSet,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Http2 {
    pub(super) fn new() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, tasks: LocalSet::new(), sender: None })
    }

    /// Sends a request, and waits for its answer.
    pub(super) fn request(
        &mut self,
        draft: &Draft,
        host: &str,
        namespace: &Namespace,
        to: SocketAddr,
        config: &ClientConfig,
    ) -> anyhow::Result<Answer> {
        let mut config = config.clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let request = request(draft, host)?;
        let Self { runtime, tasks, sender } = self;
        tasks.block_on(runtime, async {
            if sender.as_ref().is_none_or(SendRequest::is_closed) {
                *sender = Some(connect(namespace, to, host, config).await?);
            }
            let sending = sender.as_mut().context("no connection")?.send_request(request);
            let response = match sending.await {
                Ok(response) => response,
                // A stream that is reset is an answer that breaks off before it begins.
                Err(error) if is_reset(&error) => return Ok(Answer::cut()),
                Err(error) => return Err(error.into()),
            };
            let (head, body) = response.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes().to_vec());
            let fields =
                head.headers.iter().map(|(name, value)| (name.to_string(), latin1(value.as_bytes())));
            let mut answer = Answer::new(head.status.as_u16(), fields.collect(), Vec::new());
            if let Ok(body) = body {
                answer.body = body;
            } else {
                (answer.is_cut, answer.is_last) = (true, true);
            }
            Ok(answer)
        })
    }
}

/// RFC 9113 §6.4.
fn is_reset(error: &hyper::Error) -> bool {
    std::error::Error::source(error)
        .is_some_and(|source| source.to_string().starts_with("stream error received"))
}

async fn connect(
    namespace: &Namespace,
    to: SocketAddr,
    host: &str,
    config: ClientConfig,
) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let socket = namespace.inside(move || TcpStream::connect(to))??;
    socket.set_nonblocking(true)?;
    let socket = tokio::net::TcpStream::from_std(socket)?;
    let name = ServerName::try_from(host.to_owned())?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

fn request(draft: &Draft, host: &str) -> anyhow::Result<Request<Full<Bytes>>> {
    let mut request = Request::builder()
        .method(Method::from_bytes(draft.method.as_bytes())?)
        .uri(format!("https://{host}{}", draft.target));
    for (name, value) in &draft.fields {
        request = request.header(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_bytes(value)?);
    }
    Ok(request.body(Full::new(draft.body.clone().into()))?)
}
