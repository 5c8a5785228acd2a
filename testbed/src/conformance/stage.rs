//! What the tools meet: a running Gatehouse, what stands behind it, and ways to it.

use std::{
    fs::{self, File},
    net::{IpAddr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};

use super::tls_tunnel::{OpenTunnel, Tunnel};
use crate::{
    edge::{Edge, root},
    gatehouse::{Gatehouse, Place},
    load::Protocol,
    network::{EDGE_A, EDGE_NAME, LOOPBACK},
    process::{self, Process},
};

/// An edge for tools. Its instance is ended first.
pub(super) struct Stage {
    pub(super) gatehouse: Gatehouse,
    _tunnels: Vec<OpenTunnel>,
    _websocket_server: Process,
    edge: Edge,
}

/// What a tool printed.
#[derive(Debug)]
pub(super) struct Output {
    /// Standard output and error, in one order.
    pub(super) text: String,
    /// Whether the tool ended by itself.
    pub(super) is_whole: bool,
}

/// Where a tool runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Where clients are.
    Client,
    /// Where Gatehouse and its upstreams are: tools that are both client and upstream.
    Edge,
}

impl Stage {
    /// Starts everything around `binary`.
    pub(super) fn start(binary: &Path) -> anyhow::Result<Self> {
        let edge = Edge::start()?;
        let websocket_server = websocket_server(&edge)?;
        let mut settings = edge.settings(Place::A, "auto");
        settings.domain(NAME).domain_to(WEBSOCKET_NAME, &format!("http://127.0.0.1:{PORT_WEBSOCKET}"));
        settings.domain_to(H1_NAME, &format!("http://127.0.0.1:{PORT_H1}"));
        settings.domain_to(H2_NAME, &format!("http://127.0.0.1:{PORT_H2};protocol=h2"));
        // One, so that requests one after another find the connection that the one before has left.
        settings.raw("worker", "threads", "1");
        // So that slow clients are known for what they are within the tools' time.
        settings.text("limits", "idle", "10s").text("log", "filter", "info");
        let gatehouse = Gatehouse::start(&edge.network, binary, settings)?;
        for name in [NAME, WEBSOCKET_NAME, H1_NAME, H2_NAME] {
            let reply = edge.curl(&format!("https://{name}/")).run()?;
            ensure!(reply.exit == 0 && reply.status != 0, "before any tool: {name}: {reply:?}");
        }
        let tunnels = TUNNELS.iter().chain([&PLAIN]).map(|tunnel| tunnel.open(&edge));
        let tunnels = tunnels.collect::<anyhow::Result<_>>()?;
        Ok(Self { gatehouse, _tunnels: tunnels, _websocket_server: websocket_server, edge })
    }

    /// Who signs what Gatehouse presents.
    pub(super) fn roots(&self) -> &Path {
        self.edge.ca.roots()
    }

    /// The address clients reach Gatehouse at.
    pub(super) fn address() -> IpAddr {
        IpAddr::V4(EDGE_A)
    }

    /// Runs `command` in the folder of this run, at most for [`LIMIT_SECONDS`].
    pub(super) fn run(&self, command: &Command, side: Side) -> anyhow::Result<Output> {
        let log = self.edge.folder().join("tool.log");
        let output = File::create(&log)?;
        let mut limited = process::command("timeout");
        limited
            .args(["--kill-after", "5", LIMIT_SECONDS])
            .arg(command.get_program())
            .args(command.get_args());
        limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        limited.current_dir(self.edge.folder()).stdin(Stdio::null());
        limited.stdout(output.try_clone()?).stderr(output);
        let namespace = match side {
            Side::Client => &self.edge.network.client,
            Side::Edge => &self.edge.network.edge,
        };
        let status = namespace.await_inside(move || limited.status())?.context("cannot run `timeout`")?;
        let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
        // timeout(1): 124 and 137 when it ended the command, 125 to 127 when it could not run it.
        let is_whole = status.code().is_some_and(|code| !matches!(code, 124..=127 | 137));
        Ok(Output { text, is_whole })
    }
}

/// Leaves the output of the check of this name where it can be read after the run; the file.
pub(super) fn keep(name: &str, output: &str) -> anyhow::Result<PathBuf> {
    let folder = root().join("target/conformance-output");
    fs::create_dir_all(&folder)?;
    let file = folder.join(name.replace([' ', '/'], "-")).with_extension("txt");
    fs::write(&file, output)?;
    Ok(file)
}

/// A program of the environment that `cargo xtask conformance` makes from `testbed/conformance/requirements.txt`.
pub(super) fn python() -> Command {
    let mut command = Command::new(root().join("target/conformance/bin/python"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// A file in `testbed/conformance`.
pub(super) fn own(name: &str) -> PathBuf {
    root().join("testbed/conformance").join(name)
}

fn websocket_server(edge: &Edge) -> anyhow::Result<Process> {
    let mut command = process::command(root().join("target/conformance/bin/python"));
    command.arg(own("websocket_server.py")).arg(PORT_WEBSOCKET.to_string());
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    let mut process = Process::start(&edge.network.edge, "websocket-server", command, edge.folder())?;
    let address = SocketAddr::new(LOOPBACK, PORT_WEBSOCKET);
    process.wait_until("the WebSocket server", Duration::from_secs(20), || {
        edge.network.edge.await_inside(move || TcpStream::connect(address).map(drop))??;
        Ok(())
    })?;
    Ok(process)
}

/// A name whose upstream echoes.
pub(super) const NAME: &str = EDGE_NAME;
pub(super) const WEBSOCKET_NAME: &str = "websocket.edge.test";
const H1_NAME: &str = "h1.case.test";
const H2_NAME: &str = "h2.case.test";
/// Where the cases' servers listen, by the version they speak.
pub(super) const PORT_H1: u16 = 9_301;
pub(super) const PORT_H2: u16 = 9_302;
const PORT_WEBSOCKET: u16 = 9_310;

/// Each version in front with each behind.
pub(super) const TUNNELS: [Tunnel; 4] = [
    Tunnel { called: "h1_to_h1", port: 9_401, protocol: Protocol::Http1, name: H1_NAME },
    Tunnel { called: "h1_to_h2", port: 9_402, protocol: Protocol::Http1, name: H2_NAME },
    Tunnel { called: "h2_to_h1", port: 9_403, protocol: Protocol::Http2, name: H1_NAME },
    Tunnel { called: "h2_to_h2", port: 9_404, protocol: Protocol::Http2, name: H2_NAME },
];
/// To the upstream that echoes.
pub(super) const PLAIN: Tunnel =
    Tunnel { called: "plain", port: 9_405, protocol: Protocol::Http1, name: NAME };
const LIMIT_SECONDS: &str = "600";
