//! Cleartext ports that lead to Gatehouse over TLS, for tools that speak no TLS, or send no server name. HTTP passes byte for byte.
//! Little is buffered on the way, so that a tool that does not read is met by Gatehouse as one.

use std::{net::SocketAddr, path::Path, sync::Arc};

use rustls::{ClientConfig, pki_types::ServerName};
use socket2::SockRef;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_rustls::TlsConnector;

use crate::{authority, edge::Edge, gatehouse::Place, load::Protocol, network::EDGE_A, service::Service};

/// A port beside Gatehouse's own, at the same address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tunnel {
    /// As cases of varnishtest call it.
    pub(super) called: &'static str,
    pub(super) port: u16,
    /// What is spoken in it, and nothing else is offered by ALPN.
    pub(super) protocol: Protocol,
    /// The server name.
    pub(super) name: &'static str,
}

/// A tunnel that is closed with this value.
pub(super) struct OpenTunnel {
    _service: Service,
}

impl Tunnel {
    pub(super) fn address(self) -> SocketAddr {
        SocketAddr::from((EDGE_A, self.port))
    }

    /// Listens; connections are carried on to the instance at place A.
    pub(super) fn open(self, edge: &Edge) -> anyhow::Result<OpenTunnel> {
        let connector = connector(edge.ca.roots(), self.protocol)?;
        let name = ServerName::try_from(self.name)?;
        let service = Service::start(&edge.network.edge, self.address(), move |listener| {
            accept(listener, connector, name)
        })?;
        Ok(OpenTunnel { _service: service })
    }
}

fn connector(roots: &Path, protocol: Protocol) -> anyhow::Result<TlsConnector> {
    let roots = authority::roots(roots)?;
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.alpn().to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn accept(listener: TcpListener, connector: TlsConnector, name: ServerName<'static>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let (connector, name) = (connector.clone(), name.clone());
        tokio::task::spawn_local(async move {
            // A tool sees how a connection has ended by its own connection's end.
            let _ = carry(client, &connector, name).await;
        });
    }
}

async fn carry(
    mut client: TcpStream,
    connector: &TlsConnector,
    name: ServerName<'static>,
) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    SockRef::from(&client).set_send_buffer_size(BUFFER_BYTES)?;
    let server = TcpSocket::new_v4()?;
    SockRef::from(&server).set_recv_buffer_size(BUFFER_BYTES)?;
    let server = server.connect(Edge::https(Place::A)).await?;
    server.set_nodelay(true)?;
    let mut server = connector.connect(name, server).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

const BUFFER_BYTES: usize = 16 << 10;
