//! Real HTTP servers as origins behind Gatehouse, each with a small program that tells what the server read.
//!
//! A program answers every request with `ok` and the request's serial number as `X-Origin`. A request for `/sentinel?N` is answered with
//! [`Readings`] as JSON: what was read since the last sentinel, and the sentinel itself. Requests that do not come to their end are not
//! counted. nginx, Apache and lighttpd run no programs of their own: they hand requests to one of ours over `FastCGI` ([`gateway`]).

mod config;
mod gateway;

use std::{
    fmt::Write as _,
    fs,
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context;
use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use self::gateway::Gateway;
use crate::{
    edge::root,
    namespace::Namespace,
    network::LOOPBACK,
    process::{self, Process},
};

/// A server, known by its HTTP parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// nginx.
    Nginx,
    /// Apache's httpd.
    Apache,
    /// lighttpd.
    Lighttpd,
    /// Node, whose parser is llhttp.
    Node,
    /// gunicorn.
    Gunicorn,
    /// uvicorn with h11.
    Uvicorn,
    /// tornado.
    Tornado,
    /// waitress.
    Waitress,
}

/// A request as a server read it; texts are ISO 8859-1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Counts the server's requests.
    pub serial: u64,
    /// The port of the client's end: the same for requests of the same connection.
    pub connection: String,
    /// The method.
    pub method: String,
    /// The request target.
    pub target: String,
    /// Names and values; [`Server::fields_are_variables`] says of which kind.
    pub fields: Vec<(String, String)>,
    /// The body's length.
    pub bytes: u64,
    /// The body's SHA-256, in hexadecimal.
    pub sha256: String,
}

/// The answer to a sentinel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readings {
    /// The sentinel.
    pub own: Reading,
    /// What was read before it, since the last one.
    pub readings: Vec<Reading>,
}

impl Server {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Nginx,
        Self::Apache,
        Self::Lighttpd,
        Self::Node,
        Self::Gunicorn,
        Self::Uvicorn,
        Self::Tornado,
        Self::Waitress,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Apache => "apache",
            Self::Lighttpd => "lighttpd",
            Self::Node => "node",
            Self::Gunicorn => "gunicorn",
            Self::Uvicorn => "uvicorn",
            Self::Tornado => "tornado",
            Self::Waitress => "waitress",
        }
    }

    /// Whether it hands fields over as variables of the CGI kind (RFC 3875 §4.1.18): `X_NAME` for `X-Name`, repeated ones joined.
    #[must_use]
    pub const fn fields_are_variables(self) -> bool {
        !matches!(self, Self::Node | Self::Uvicorn | Self::Tornado)
    }

    /// What of this needs a program of ours over `FastCGI`.
    const fn needs_gateway(self) -> bool {
        matches!(self, Self::Nginx | Self::Apache | Self::Lighttpd)
    }

    const fn port(self) -> u16 {
        FIRST_PORT + self as u16
    }

    const fn gateway_port(self) -> u16 {
        FIRST_GATEWAY_PORT + self as u16
    }
}

/// The SHA-256 of `bytes`, in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in digest(&SHA256, bytes).as_ref() {
        // Writing into memory does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A running server.
pub struct Origin {
    server: Server,
    process: Process,
    _gateway: Option<Gateway>,
}

impl Origin {
    /// Starts `server` inside `edge` on a port of its own of the loopback address, with its files in `folder`, and does not wait.
    pub fn launch(edge: &Namespace, server: Server, folder: &Path) -> anyhow::Result<Self> {
        let folder = folder.join(server.name());
        fs::create_dir_all(&folder)?;
        let gateway = SocketAddr::new(LOOPBACK, server.gateway_port());
        let gateway_service = server.needs_gateway().then(|| Gateway::start(edge, gateway)).transpose()?;
        let command = command(server, &folder, gateway)?;
        let process = Process::start(edge, server.name(), command, &folder)?;
        Ok(Self { server, process, _gateway: gateway_service })
    }

    /// Waits until it accepts connections.
    pub fn wait_until_listening(&mut self, edge: &Namespace) -> anyhow::Result<()> {
        let address = SocketAddr::new(LOOPBACK, self.server.port());
        self.process.wait_until(self.server.name(), START, || {
            edge.await_inside(move || TcpStream::connect(address).map(drop))??;
            Ok(())
        })
    }

    /// Which it is.
    #[must_use]
    pub fn server(&self) -> Server {
        self.server
    }

    /// The target of a domain that it is the origin of.
    #[must_use]
    pub fn target(&self) -> String {
        format!("http://{}", SocketAddr::new(LOOPBACK, self.server.port()))
    }
}

fn command(server: Server, folder: &Path, gateway: SocketAddr) -> anyhow::Result<Command> {
    let port = server.port().to_string();
    let programs = programs();
    let configured = |text: String| -> anyhow::Result<PathBuf> {
        let file = folder.join("server.conf");
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    };
    let mut command = match server {
        Server::Nginx | Server::Apache | Server::Lighttpd | Server::Node => {
            process::command(config::program(server))
        }
        Server::Gunicorn | Server::Uvicorn | Server::Tornado | Server::Waitress => python(),
    };
    match server {
        Server::Nginx => {
            command.arg("-c").arg(configured(config::nginx(&port, gateway))?).arg("-p").arg(folder)
        }
        Server::Apache => {
            command.arg("-DFOREGROUND").arg("-f").arg(configured(config::apache(&port, gateway, folder))?)
        }
        Server::Lighttpd => {
            command.arg("-D").arg("-f").arg(configured(config::lighttpd(&port, gateway, folder))?)
        }
        Server::Node => command.arg(programs.join("node_origin.js")).arg(port),
        Server::Gunicorn => run_gunicorn(&mut command, format!("127.0.0.1:{port}")),
        Server::Uvicorn => {
            command.args(config::uvicorn(&port)).arg("--app-dir").arg(programs).arg("asgi:application")
        }
        Server::Tornado => command.arg(programs.join("tornado_origin.py")).arg(port),
        Server::Waitress => {
            command.env("PYTHONPATH", programs).args(config::waitress(&port)).arg("wsgi:application")
        }
    };
    Ok(command)
}

/// Starts nginx inside `edge` at `address` with `server`, what stands in its block `server` beside `listen`, and waits until it accepts
/// connections. `listen` is what stands behind the address there.
pub fn nginx_with(
    edge: &Namespace,
    address: SocketAddr,
    (listen, server): (&str, &str),
    folder: &Path,
) -> anyhow::Result<Process> {
    let (name, file) =
        (format!("nginx-{}", address.port()), folder.join(format!("nginx-{}.conf", address.port())));
    fs::write(&file, config::nginx_with(&name, address, listen, server))?;
    let mut command = process::command("nginx");
    command.arg("-c").arg(file).arg("-p").arg(folder);
    let mut process = Process::start(edge, &name, command, folder)?;
    process.wait_until(&name, START, || {
        edge.await_inside(move || TcpStream::connect(address).map(drop))??;
        Ok(())
    })?;
    Ok(process)
}

/// Starts `HAProxy` inside `edge` with these `sections` behind its defaults, and waits until it accepts connections at `address`.
pub fn haproxy_with(
    edge: &Namespace,
    (name, sections): (&str, &str),
    address: SocketAddr,
    folder: &Path,
) -> anyhow::Result<Process> {
    let defaults = "defaults\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n";
    let file = folder.join(name).with_extension("conf");
    fs::write(&file, format!("global\n maxconn 100\n{defaults}{sections}"))?;
    let mut command = process::command("haproxy");
    command.args(["-db", "-f"]).arg(&file);
    let mut process = Process::start(edge, name, command, folder)?;
    process.wait_until(name, START, || {
        edge.await_inside(move || TcpStream::connect(address).map(drop))??;
        Ok(())
    })?;
    Ok(process)
}

/// Starts gunicorn inside `edge` at the Unix socket `path`, with its files in `folder`, and waits until it accepts connections.
pub fn gunicorn_at(edge: &Namespace, path: &Path, folder: &Path) -> anyhow::Result<Process> {
    let mut command = python();
    run_gunicorn(&mut command, format!("unix:{}", path.display()));
    let mut process = Process::start(edge, "gunicorn-unix", command, folder)?;
    process.wait_until("gunicorn", START, || Ok(UnixStream::connect(path).map(drop)?))?;
    Ok(process)
}

fn run_gunicorn(command: &mut Command, bind: String) -> &mut Command {
    command.args(config::gunicorn(bind)).arg("--chdir").arg(programs()).arg("wsgi")
}

/// Python with what `cargo xtask setup` installs for origins.
pub(crate) fn python() -> Command {
    let mut command = process::command(root().join(PYTHON));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Where the programs of origins lie.
pub(crate) fn programs() -> PathBuf {
    root().join("testbed/origins")
}

/// Below the workspace, as `cargo xtask setup` makes it.
const PYTHON: &str = "target/origins/bin/python";
const FIRST_PORT: u16 = 9_100;
const FIRST_GATEWAY_PORT: u16 = 9_200;
const START: Duration = Duration::from_secs(30);
