//! The real curl, inside the client's namespace.

use std::{
    fs,
    net::IpAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use anyhow::Context;
use serde_json::Value;
use tempfile::TempDir;

use crate::network::Network;

/// A request in the making.
#[derive(Debug, Clone)]
pub struct Curl {
    network: Arc<Network>,
    url: String,
    address: Option<IpAddr>,
    arguments: Vec<String>,
    discard: bool,
}

/// A request under way.
#[derive(Debug)]
pub struct Running {
    child: Child,
    folder: TempDir,
}

/// What came of a request.
#[derive(Debug, Clone)]
pub struct Reply {
    /// curl's exit code, 0 when there was an answer.
    pub exit: i32,
    /// Its complaint.
    pub error: String,
    /// Status code, 0 without an answer.
    pub status: u16,
    /// HTTP version: `1.1`, `2`.
    pub version: String,
    /// Head, as received.
    pub head: String,
    /// Body.
    pub body: String,
    /// Its length, also when it was thrown away.
    pub body_bytes: u64,
    /// Seconds until the TLS handshake was done.
    pub handshake_seconds: f64,
    /// Seconds in all.
    pub seconds: f64,
    /// Connections made.
    pub connections: u64,
}

impl Curl {
    /// A request for `url` that trusts `roots`.
    #[must_use]
    pub fn new(network: Arc<Network>, roots: &Path, url: &str) -> Self {
        let roots = roots.to_string_lossy().into_owned();
        let arguments = ["-sS", "--max-time", "60", "--cacert", &roots].map(str::to_owned).to_vec();
        Self { network, url: url.to_owned(), address: None, arguments, discard: false }
    }

    /// Takes the URL's host to be at `address`.
    #[must_use]
    pub fn at(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Passes curl further arguments.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Throws the answer's body away, for one that is large.
    #[must_use]
    pub fn discarding_body(mut self) -> Self {
        self.discard = true;
        self
    }

    /// Sends it and waits for the answer.
    pub fn run(self) -> anyhow::Result<Reply> {
        self.spawn()?.reply()
    }

    /// Sends it.
    pub fn spawn(self) -> anyhow::Result<Running> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new("curl");
        command.args(&self.arguments).args(["-w", "%{json}"]);
        let body = if self.discard { "/dev/null".into() } else { folder.path().join("body") };
        command.arg("-D").arg(folder.path().join("head")).arg("-o").arg(body);
        if let Some(address) = self.address {
            command.args(["--connect-to", &format!("::{}:", bracketed(address))]);
        }
        command.arg(&self.url).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = self
            .network
            .client
            .inside(move || command.spawn())?
            .context("cannot run curl; `cargo xtask setup` installs it")?;
        Ok(Running { child, folder })
    }
}

impl Running {
    /// Waits for the answer.
    pub fn reply(self) -> anyhow::Result<Reply> {
        let output = self.child.wait_with_output()?;
        let facts: Value = serde_json::from_slice(&output.stdout).context("curl's --write-out")?;
        let read = |name: &str| {
            String::from_utf8_lossy(&fs::read(self.folder.path().join(name)).unwrap_or_default()).into_owned()
        };
        let number = |name: &str| facts.get(name).and_then(Value::as_u64).unwrap_or_default();
        let seconds = |name: &str| facts.get(name).and_then(Value::as_f64).unwrap_or_default();
        let text = |name: &str| facts.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Reply {
            exit: output.status.code().context("curl was killed")?,
            error: text("errormsg"),
            status: u16::try_from(number("http_code"))?,
            version: text("http_version"),
            head: read("head"),
            body: read("body"),
            body_bytes: number("size_download"),
            handshake_seconds: seconds("time_appconnect"),
            seconds: seconds("time_total"),
            connections: number("num_connects"),
        })
    }
}

impl Reply {
    /// The body as JSON, as the upstream describes a request.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("no JSON: {self:?}"))
    }

    /// Values of a request header as the upstream saw it.
    #[must_use]
    pub fn seen(&self, header: &str) -> Vec<String> {
        let Ok(described) = self.json() else { return Vec::new() };
        let pairs = described.get("headers").and_then(Value::as_array).cloned().unwrap_or_default();
        let matching = pairs.iter().filter(|pair| pair.get(0).is_some_and(|name| name == header));
        matching.filter_map(|pair| Some(pair.get(1)?.as_str()?.to_owned())).collect()
    }

    /// Values of a response header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }
}

fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}
