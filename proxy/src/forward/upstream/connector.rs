//! New connections to destinations.

use std::{rc::Rc, sync::Arc};

use super::{
    connection::Connection,
    destination::{ChosenVersion, Destination},
    failure::UpstreamFailure,
    http2::Http2Connection,
    settings::UpstreamSettings,
    tls_configs::TlsConfigs,
};
use crate::{
    proxy_protocol::{self, ProxiedClient},
    target::{Endpoint, EndpointAddress, Scheme, UpstreamProtocol},
    tls::{self, TlsStream},
    transport::{Chunk, Stream as _, Transport},
};

/// One worker's.
pub(super) struct Connector<T: Transport> {
    transport: T,
    settings: Arc<UpstreamSettings>,
    tls: TlsConfigs,
}

/// A new connection, for the version of HTTP that its server has chosen.
pub(super) enum NewConnection {
    Http1(Box<Connection>),
    Http2(Rc<Http2Connection>),
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
                let securing = self.secure(stream, &destination.endpoint, UpstreamProtocol::Http1);
                Connection::new(Box::pin(securing).await?, peer)
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
        let websockets = Rc::clone(&destination.http2.websockets);
        // A call without a deadline waits for whoever has vanished.
        stream.probe_peer();
        match destination.endpoint.scheme {
            Scheme::Http => Http2Connection::open(stream, peer, websockets).await,
            Scheme::Https => {
                let securing = self.secure(stream, &destination.endpoint, UpstreamProtocol::Http2);
                let stream = Box::pin(securing).await?;
                // RFC 9113 §3.2: over TLS, HTTP/2 is what ALPN has chosen.
                if !stream.is_http2() {
                    return Err(UpstreamFailure::NoHttp2);
                }
                Http2Connection::open(stream, peer, websockets).await
            }
        }
    }

    /// Connects over TLS for the version of HTTP that the server chooses, and remembers which it was.
    pub(super) async fn auto(&self, destination: &Destination) -> Result<NewConnection, UpstreamFailure> {
        let (peer, stream) = (destination.address.clone(), self.connect(destination).await?);
        // As for HTTP/2, which it may become.
        stream.probe_peer();
        let securing = self.secure(stream, &destination.endpoint, UpstreamProtocol::Auto);
        let stream = Box::pin(securing).await?;
        // RFC 7301 §3.2: a server that knows nothing of ALPN chooses nothing, and speaks HTTP/1.1.
        let version = if stream.is_http2() { ChosenVersion::Http2 } else { ChosenVersion::Http1 };
        destination.note_version(version);
        Ok(match version {
            ChosenVersion::Http1 => NewConnection::Http1(Box::new(Connection::new(stream, peer))),
            ChosenVersion::Http2 => {
                let websockets = Rc::clone(&destination.http2.websockets);
                NewConnection::Http2(Http2Connection::open(stream, peer, websockets).await?)
            }
        })
    }

    async fn connect(&self, destination: &Destination) -> Result<T::Stream, UpstreamFailure> {
        let connected = match &destination.address {
            EndpointAddress::Tcp(address) => self.transport.connect(*address).await,
            EndpointAddress::Unix(path) => self.transport.connect_unix(path.as_path()).await,
        };
        connected.map_err(UpstreamFailure::Unreachable)
    }

    /// TLS over `stream` for `protocol`, verified for `endpoint`. Its future is large, and a part of each request's that may wait for a connection: to be
    /// boxed.
    async fn secure(
        &self,
        stream: T::Stream,
        endpoint: &Endpoint,
        protocol: UpstreamProtocol,
    ) -> Result<TlsStream<T::Stream>, UpstreamFailure> {
        let (config, name) = self.tls.of(endpoint, protocol)?;
        let limit = *self.settings.limits.connect_timeout;
        tls::connect(stream, name, config, limit).await.map_err(UpstreamFailure::Untrusted)
    }
}
