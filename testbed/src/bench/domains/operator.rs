//! Who uses an instance's API and console: by curl, and over a connection that is kept.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    curl::{Curl, Reply},
    gatehouse::Settings,
    keep_alive_client::Kept,
    network::Network,
};

/// Somebody with a token of all tenants.
pub(super) struct Operator {
    network: Arc<Network>,
    roots: PathBuf,
    address: Ipv4Addr,
    token: String,
}

/// Lets the instance at `address` have an API and a console, over TLS, and as many requests as are made here.
pub(super) fn open(settings: &mut Settings, address: Ipv4Addr) {
    settings.domain(NAME).text("api", "listen", &format!("{address}:{PORT}")).text("api", "name", NAME);
    settings.raw("api", "console", "true");
    settings.raw("api", "requests_per_second", "100000").raw("api", "requests_burst", "100000");
}

/// What has a token made.
pub(super) const TOKEN: [&str; 10] = [
    "token",
    "create",
    "--name",
    "bench",
    "--all-tenants",
    "--scope",
    "domains:read",
    "--scope",
    "domains:write",
    "--json",
];

impl Operator {
    /// With the token that the command [`TOKEN`] has answered, at the instance at `address`, which presents what `roots` signed.
    pub(super) fn new(
        network: &Arc<Network>,
        roots: &Path,
        address: Ipv4Addr,
        answer: &str,
    ) -> anyhow::Result<Self> {
        let answer: Value = serde_json::from_str(answer)?;
        let token = answer.get("token").and_then(Value::as_str).context("no token")?.to_owned();
        Ok(Self { network: Arc::clone(network), roots: roots.to_owned(), address, token })
    }

    /// GET of a path of the API, by a connection of its own.
    pub(super) fn api(&self, path: &str) -> anyhow::Result<Reply> {
        self.get(&format!("/api/v1/{path}"), &format!("Authorization: Bearer {}", self.token))
    }

    /// GET of a page of the console.
    pub(super) fn page(&self, path: &str, session: &Session) -> anyhow::Result<Reply> {
        self.get(&format!("/console/{path}"), &format!("Cookie: {}", session.0))
    }

    /// Signs in at the console.
    pub(super) fn sign_in(&self) -> anyhow::Result<Session> {
        let (origin, token) = (format!("Origin: https://{NAME}:{PORT}"), format!("token={}", self.token));
        let form = ["-H", &origin, "-H", "Sec-Fetch-Site: same-origin", "--data-urlencode", &token];
        let reply = self.curl("/console/sign-in").with(&form).run()?;
        let cookie = reply.header("set-cookie").with_context(|| format!("no session: {reply:?}"))?;
        Ok(Session(cookie.split(';').next().unwrap_or_default().to_owned()))
    }

    /// A connection to the API for many requests.
    pub(super) fn connect(&self) -> anyhow::Result<Api> {
        let to = (self.address, PORT).into();
        let connection = Kept::connect(&self.network.client, to, NAME, &self.roots)?;
        Ok(Api { connection, token: self.token.clone() })
    }

    fn get(&self, path: &str, field: &str) -> anyhow::Result<Reply> {
        let reply = self.curl(path).with(&["-H", field]).run()?;
        ensure!(reply.status == 200, "{path}: {reply:?}");
        Ok(reply)
    }

    fn curl(&self, path: &str) -> Curl {
        let url = format!("https://{NAME}:{PORT}{path}");
        Curl::new(Arc::clone(&self.network), &self.roots, &url).at(IpAddr::V4(self.address))
    }
}

/// A session's cookie.
pub(super) struct Session(String);

/// A kept connection to the API.
pub(super) struct Api {
    connection: Kept,
    token: String,
}

impl Api {
    /// Adds an entry, which must be new.
    pub(super) fn add(&mut self, name: &str) -> anyhow::Result<()> {
        let body = format!("{{\"domain\":{name:?}}}");
        self.expect(201, "POST", "domains", &body)
    }

    /// Removes an entry.
    pub(super) fn remove(&mut self, name: &str) -> anyhow::Result<()> {
        self.expect(200, "DELETE", &format!("domains/{name}"), "")
    }

    fn expect(&mut self, wanted: u16, method: &str, path: &str, body: &str) -> anyhow::Result<()> {
        let (token, length) = (&self.token, body.len());
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let request = format!(
            "{method} /api/v1/{path} HTTP/1.1\r\nHost: {NAME}:{PORT}\r\nAuthorization: Bearer {token}\r\n{kind}\
             Content-Length: {length}\r\n\r\n{body}"
        );
        let (status, answer) = self.connection.exchange(request.as_bytes())?;
        ensure!(status == wanted, "{method} {path}: {status}: {}", String::from_utf8_lossy(&answer));
        Ok(())
    }
}

/// The API's name, which each instance serves.
pub(super) const NAME: &str = "api.edge.test";
const PORT: u16 = 9443;
