//! HTTP servers of our own, each on a thread inside a namespace.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::{net::TcpListener, sync::oneshot, task::LocalSet};
use tokio_rustls::TlsAcceptor;

use crate::namespace::Namespace;

/// Any body.
pub type Body = UnsyncBoxBody<Bytes, anyhow::Error>;

/// A server that ends with this value.
#[derive(Debug)]
pub struct Service {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Binds `address` inside `namespace` and runs what `serve` makes of the listener, until dropped.
    pub fn start<S, F>(namespace: &Namespace, address: SocketAddr, serve: S) -> anyhow::Result<Self>
    where
        S: FnOnce(TcpListener) -> F + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let (bound, outcome) = mpsc::channel();
        let thread = namespace.thread(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(bound.send(Err(error))),
            };
            let listener = match runtime.block_on(TcpListener::bind(address)) {
                Ok(listener) => listener,
                Err(error) => return drop(bound.send(Err(error))),
            };
            let _ = bound.send(Ok(()));
            let tasks = LocalSet::new();
            tasks.spawn_local(serve(listener));
            // Both a word and the sender's end mean the same.
            let _ = tasks.block_on(&runtime, stopped);
        })?;
        let service = Self { stop: Some(stop), thread: Some(thread) };
        outcome
            .recv()
            .context("the server's thread is gone")?
            .with_context(|| format!("cannot bind {address}"))?;
        Ok(service)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Accepts for ever and answers HTTP/1.1 requests by `handle`; an error of `handle` cuts the connection.
pub async fn http<H, F>(listener: TcpListener, tls: Option<Arc<ServerConfig>>, handle: H)
where
    H: Fn(Request<Incoming>) -> F + 'static,
    F: Future<Output = anyhow::Result<Response<Body>>> + 'static,
{
    let acceptor = tls.map(TlsAcceptor::from);
    let handle = Rc::new(handle);
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let (acceptor, handle) = (acceptor.clone(), Rc::clone(&handle));
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| handle(request));
            // What ends a connection is the peer's or the handler's will; there is nobody to tell.
            let _ = match acceptor {
                None => http1::Builder::new().serve_connection(TokioIo::new(stream), service).await,
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => http1::Builder::new().serve_connection(TokioIo::new(stream), service).await,
                    Err(_) => return,
                },
            };
        });
    }
}

/// A body known from the start.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
