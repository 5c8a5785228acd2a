//! From a request to its upstream and back: admission, rewriting, upstream connections, streaming, error pages.
//! Not here: connections and their limits (`worker`), which names are served (`domains`).

use std::{net::SocketAddr, sync::Arc, time::Instant};

use bytes::Bytes;
use hyper::{Request, Response, body::Incoming};

use crate::{name::ServerName, transport::Transport};

/// What all workers' forwarders share.
pub struct Service {}

/// A connection as its requests see it.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The client.
    pub peer: SocketAddr,
    /// The name its handshake was for; absent in cleartext.
    pub server_name: Option<ServerName>,
}

/// What is answered.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

/// One worker's: its transport and its upstream connections.
pub struct Forwarder<T: Transport> {
    transport: T,
    service: Arc<Service>,
}

impl<T: Transport> Clone for Forwarder<T> {
    fn clone(&self) -> Self {
        Self { transport: self.transport.clone(), service: Arc::clone(&self.service) }
    }
}

impl<T: Transport> Forwarder<T> {
    /// For one worker.
    pub fn new(transport: T, service: Arc<Service>) -> Self {
        Self { transport, service }
    }

    /// Answers a request that came over TLS.
    pub async fn serve_https(
        &self,
        _request: Request<Incoming>,
        _arrival: &Arrival,
        _at: Instant,
    ) -> Response<Body> {
        todo!()
    }

    /// Answers a request on the cleartext port: health, ACME challenges, redirects.
    pub async fn serve_http(
        &self,
        _request: Request<Incoming>,
        _arrival: &Arrival,
        _at: Instant,
    ) -> Response<Body> {
        todo!()
    }
}
