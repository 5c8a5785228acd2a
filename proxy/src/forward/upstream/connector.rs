//! New connections to destinations.

use std::{rc::Rc, sync::Arc};

use super::{
    connection::Connection, destination::Destination, failure::UpstreamFailure, http2::Http2Connection,
    settings::UpstreamSettings, tls_configs::TlsConfigs,
};
use crate::{
    proxy_protocol::{self, ProxiedClient},
    target::{Endpoint, EndpointAddress, Scheme},
    tls::{self, TlsStream},
    transport::{Chunk, Stream as _, Transport},
};

/// One worker's.
pub(super) struct Connector<T: Transport> {
    transport: T,
    settings: Arc<UpstreamSettings>,
    tls: TlsConfigs,
}

impl<T: Transport> Connector<T> {
    pub(super) fn new(transport: T, settings: Arc<UpstreamSettings>) -> Self {
        let tls = TlsConfigs::new(&settings.tls);
        Self { transport, settings, tls }
    }

    /// Connects for HTTP/1.1, for `client` where the endpoint is told whom connections are for.
    pub(super) async fn http1(
        &self,
        destination: &Destination,
        client: Option<Rc<ProxiedClient>>,
    ) -> Result<Box<Connection>, UpstreamFailure> {
        let (peer, mut stream) = (destination.address.clone(), self.connect(destination).await?);
        if let Some(version) = destination.endpoint.proxy_protocol {
            // It goes out with what follows, and before TLS.
            stream.send(Chunk::copy_of(&proxy_protocol::header(version, client.as_deref())));
        }
        let mut connection = match destination.endpoint.scheme {
            Scheme::Http => Connection::new(stream, peer),
            Scheme::Https => {
                Connection::new(Box::pin(self.secure(stream, &destination.endpoint)).await?, peer)
            }
        };
        connection.dedicate(client);
        // Boxed: each request moves it from its destination into its response's body, and back.
        Ok(Box::new(connection))
    }

    /// Connects for HTTP/2.
    pub(super) async fn http2(
        &self,
        destination: &Destination,
    ) -> Result<Rc<Http2Connection>, UpstreamFailure> {
        let (peer, stream) = (destination.address.clone(), self.connect(destination).await?);
        // A call without a deadline waits for whoever has vanished.
        stream.probe_peer();
        match destination.endpoint.scheme {
            Scheme::Http => Http2Connection::open(stream, peer).await,
            Scheme::Https => {
                let stream = Box::pin(self.secure(stream, &destination.endpoint)).await?;
                // RFC 9113 §3.2: over TLS, HTTP/2 is what ALPN has chosen.
                if !stream.is_http2() {
                    return Err(UpstreamFailure::NoHttp2);
                }
                Http2Connection::open(stream, peer).await
            }
        }
    }

    async fn connect(&self, destination: &Destination) -> Result<T::Stream, UpstreamFailure> {
        let connected = match &destination.address {
            EndpointAddress::Tcp(address) => self.transport.connect(*address).await,
            EndpointAddress::Unix(path) => self.transport.connect_unix(path.as_path()).await,
        };
        connected.map_err(UpstreamFailure::Unreachable)
    }

    /// TLS over `stream`, verified for `endpoint`. Its future is large, and a part of each request's that may wait for a connection: to be
    /// boxed.
    async fn secure(
        &self,
        stream: T::Stream,
        endpoint: &Endpoint,
    ) -> Result<TlsStream<T::Stream>, UpstreamFailure> {
        let (config, name) = self.tls.of(endpoint)?;
        let limit = *self.settings.limits.connect_timeout;
        tls::connect(stream, name, config, limit).await.map_err(UpstreamFailure::Untrusted)
    }
}
