//! gRPC's own server and client, from `PyPI`, with Gatehouse between them.

use std::{
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use anyhow::ensure;

use crate::{
    authority::KeyFiles,
    edge::Edge,
    gatehouse::Place,
    namespace::Namespace,
    network::LOOPBACK,
    origin::{programs, python},
    process::Process,
};

/// A running server (`grpc_server.py`).
pub struct GrpcServer {
    process: Process,
    address: SocketAddr,
}

impl GrpcServer {
    /// Starts it inside `edge` at `port` of the loopback address, with TLS if there is a certificate, and waits until it accepts connections.
    pub fn start(
        edge: &Namespace,
        port: u16,
        certificate: Option<&KeyFiles>,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let mut command = python();
        command.arg(programs().join("grpc_server.py")).arg(port.to_string());
        if let Some(KeyFiles { chain, key }) = certificate {
            command.arg(chain).arg(key);
        }
        let (name, address) = (format!("grpc-{port}"), SocketAddr::new(LOOPBACK, port));
        let mut process = Process::start(edge, &name, command, folder)?;
        process.wait_until(&name, START, || {
            edge.await_inside(move || TcpStream::connect(address).map(drop))??;
            Ok(())
        })?;
        Ok(Self { process, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it wrote so far.
    #[must_use]
    pub fn output(&self) -> String {
        self.process.output()
    }
}

/// Calls everything the server has as `name`, at the instance at place A (`grpc_client.py`); fails where an answer is not the right one.
pub fn call_everything(edge: &Edge, name: &str) -> anyhow::Result<()> {
    let folder = edge.folder().join(format!("calls-to-{name}"));
    std::fs::create_dir_all(&folder)?;
    let mut command = python();
    command.arg(programs().join("grpc_client.py")).arg(Edge::https(Place::A).to_string()).arg(name);
    command.arg(edge.ca.roots()).arg(&folder);
    let mut client = Process::start(&edge.network.client, "grpc-client", command, &folder)?;
    let status = client.wait(PATIENCE)?;
    ensure!(status.success(), "{status}\n{}", client.output());
    Ok(())
}

const START: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_mins(2);
