//! Pebble, Let's Encrypt's own test CA, with the DNS it validates by, behind a recording layer that adds what Pebble lacks.

mod extension;

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use hyper::{StatusCode, http::request::Parts};
use serde_json::{Value, json};

pub use self::extension::{PROFILES, problem};
use crate::{
    authority::{Authority, KeyFiles},
    cleartext,
    namespace::Namespace,
    network::{CLIENT, EDGE_A, LOOPBACK},
    process::{self, Process},
    relay::{Fault, FaultKind, Place, Refusal, Relay, Traffic},
    wait,
};

/// A CA in the client's namespace. It validates on ports 80 and 443, where the world would.
#[derive(Debug)]
pub struct Pebble {
    /// What stands in front of it: counts `newOrder`, `newAccount`, `challenge`, `finalize`, ...
    pub relay: Relay,
    server: Process,
    _dns: Process,
    roots: PathBuf,
    authority: PathBuf,
    alternate_chains: u8,
}

/// How a CA differs from what it is by itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Variant {
    /// Whether an account needs the external account [`EXTERNAL_ACCOUNT`] (RFC 8555 §7.3.4).
    pub wants_external_account: bool,
    /// How many other chains it offers for each certificate, each with a root of its own (RFC 8555 §7.4.2).
    pub alternate_chains: u8,
}

impl Pebble {
    /// Starts CA and DNS inside `client`; every name resolves to instance A until told otherwise.
    pub fn start(client: &Namespace, authority: &Authority, folder: &Path) -> anyhow::Result<Self> {
        Self::start_variant(client, authority, folder, Variant::default())
    }

    /// The same for a CA that differs.
    pub fn start_variant(
        client: &Namespace,
        authority: &Authority,
        folder: &Path,
        variant: Variant,
    ) -> anyhow::Result<Self> {
        let dns = dns(client, folder)?;
        let own = authority.issue("pebble", &["localhost", "127.0.0.1"])?;
        let front = authority.issue("ca.test", &["ca.test"])?;
        let config = folder.join("pebble.json");
        fs::write(&config, settings(&own, variant).to_string())?;
        let mut command = process::command("pebble");
        command.arg("-config").arg(&config).args(["-dnsserver", &format!("127.0.0.1:{PORT_DNS}")]);
        // Validations at once, and each order validated anew: reuse would hide who answered.
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", "0");
        command.env("PEBBLE_ALTERNATE_ROOTS", variant.alternate_chains.to_string());
        let mut server = Process::start(client, "pebble", command, folder)?;
        let place = Place {
            address: SocketAddr::from((CLIENT, PORT)),
            tls: Some(front.server()?),
            behind: format!("https://127.0.0.1:{PORT_BEHIND}"),
            roots: Some(authority.file()),
        };
        let relay = Relay::start_extended(client, place, classify, extension::EXTENSION)?;
        let roots = issuing_root(client, &mut server, authority.file(), folder)?;
        let (authority, alternate_chains) = (authority.file().to_owned(), variant.alternate_chains);
        Ok(Self { relay, server, _dns: dns, roots, authority, alternate_chains })
    }

    /// The directory as Gatehouse is told it.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("https://ca.test:{PORT}/dir")
    }

    /// Where Pebble writes what it does.
    #[must_use]
    pub fn log(&self) -> &Path {
        self.server.log()
    }

    /// Who signs the directory's own certificate.
    #[must_use]
    pub fn directory_roots(&self) -> &Path {
        &self.authority
    }

    /// Who signs what it issues.
    #[must_use]
    pub fn roots(&self) -> &Path {
        &self.roots
    }

    /// The roots of its chains, as PEM: the default chain's first.
    pub fn all_roots(&self, client: &Namespace) -> anyhow::Result<Vec<String>> {
        let root = |number| root(client, &self.authority, number);
        (0..=self.alternate_chains).map(root).collect()
    }

    /// Makes `name` resolve to `address` for the CA.
    pub fn resolve(&self, client: &Namespace, name: &str, address: IpAddr) -> anyhow::Result<()> {
        let call = if address.is_ipv4() { "/add-a" } else { "/add-aaaa" };
        let addresses = [address.to_string()];
        self.tell_dns(client, call, &json!({ "host": format!("{name}."), "addresses": addresses }))
    }

    /// Makes a call to the DNS server's management (`pebble-challtestsrv`), as `/set-cname`.
    pub fn tell_dns(&self, client: &Namespace, call: &str, body: &Value) -> anyhow::Result<()> {
        let server = SocketAddr::new(LOOPBACK, PORT_DNS_MANAGEMENT);
        let answer = cleartext::post(client, server, call, &body.to_string())?;
        anyhow::ensure!(answer.status == 200, "{call}: {answer:?}");
        Ok(())
    }

    /// Where instances ask for names.
    #[must_use]
    pub fn dns_server() -> SocketAddr {
        SocketAddr::from((CLIENT, PORT_DNS))
    }
}

/// Keeps only tls-alpn-01 in an authorization, as a CA would that offers nothing else.
#[must_use]
pub fn only_tls_alpn(body: Bytes) -> Bytes {
    let Ok(mut value) = serde_json::from_slice::<Value>(&body) else { return body };
    let Some(challenges) = value.get_mut("challenges").and_then(Value::as_array_mut) else { return body };
    challenges.retain(|challenge| challenge.get("type").is_some_and(|kind| kind == "tls-alpn-01"));
    value.to_string().into()
}

/// What the CA answers from now on when it is asked when a certificate is to be renewed (RFC 9773 §4.2): between `start` and `end`, RFC
/// 3339 both. By itself Pebble answers 404.
#[must_use]
pub fn renewal_window(start: &str, end: &str, retry_after_seconds: u32) -> Traffic {
    let body =
        json!({ "suggestedWindow": { "start": start, "end": end }, "explanationURL": "https://ca.test/why" });
    let answer = Refusal {
        status: StatusCode::OK,
        retry_after_seconds: Some(retry_after_seconds),
        media_type: "application/json",
        body: body.to_string(),
    };
    Traffic::Fail(Fault { at: RENEWAL_INFO, kind: FaultKind::Refuse(answer), times: u32::MAX })
}

/// A directory of a CA that does not say when certificates are to be renewed.
#[must_use]
pub fn without_renewal_info(body: Bytes) -> Bytes {
    let Ok(Value::Object(mut object)) = serde_json::from_slice(&body) else { return body };
    match object.remove("renewalInfo") {
        Some(_) => Value::Object(object).to_string().into(),
        None => body,
    }
}

/// An order of a CA that takes long to issue: it has been finalized, and its certificate is not there yet (RFC 8555 §7.4).
#[must_use]
pub fn still_processing(body: Bytes) -> Bytes {
    let Ok(Value::Object(mut object)) = serde_json::from_slice(&body) else { return body };
    if !object.contains_key("finalize") || object.get("status").is_none_or(|status| status != "valid") {
        return body;
    }
    object.remove("certificate");
    object.insert("status".to_owned(), json!("processing"));
    Value::Object(object).to_string().into()
}

/// An order of a CA that does not repeat what it is to replace, against RFC 9773 §5.
#[must_use]
pub fn without_replaces(body: Bytes) -> Bytes {
    let Ok(Value::Object(mut object)) = serde_json::from_slice(&body) else { return body };
    match object.remove("replaces") {
        Some(_) => Value::Object(object).to_string().into(),
        None => body,
    }
}

/// What a CA says of an order that it could not validate because it has failed itself: Boulder's words where a remote perspective does not
/// answer.
#[must_use]
pub fn failed_by_itself(body: Bytes) -> Bytes {
    let Ok(text) = std::str::from_utf8(&body) else { return body };
    let kind = |kind: &str| format!("urn:ietf:params:acme:error:{kind}");
    let verdicts = ["connection", "dns", "unauthorized"];
    verdicts
        .iter()
        .fold(text.to_owned(), |text, verdict| text.replace(&kind(verdict), &kind("serverInternal")))
        .into()
}

/// Puts a challenge of a type that nobody knows before the others (RFC 8555 §7.5.1 leaves the choice to the client).
#[must_use]
pub fn with_unknown_challenge(body: Bytes) -> Bytes {
    let Ok(mut value) = serde_json::from_slice::<Value>(&body) else { return body };
    let Some(challenges) = value.get_mut("challenges").and_then(Value::as_array_mut) else { return body };
    let unknown = json!({ "type": "quantum-01", "url": "https://ca.test/quantum", "status": "pending", "entangled": [1] });
    challenges.insert(0, unknown);
    value.to_string().into()
}

fn dns(client: &Namespace, folder: &Path) -> anyhow::Result<Process> {
    let mut command = process::command("pebble-challtestsrv");
    command.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]);
    command.args([
        "-defaultIPv4",
        &EDGE_A.to_string(),
        "-dns01",
        &format!("127.0.0.1:{PORT_DNS},{CLIENT}:{PORT_DNS}"),
    ]);
    command.args(["-management", &format!("127.0.0.1:{PORT_DNS_MANAGEMENT}")]);
    let mut server = Process::start(client, "dns", command, folder)?;
    server.wait_until("DNS", START, || {
        cleartext::get(client, SocketAddr::new(LOOPBACK, PORT_DNS_MANAGEMENT), "localhost", "/").map(drop)
    })?;
    Ok(server)
}

fn issuing_root(
    client: &Namespace,
    server: &mut Process,
    authority: &Path,
    folder: &Path,
) -> anyhow::Result<PathBuf> {
    let pem = server.wait_until("Pebble", START, || root(client, authority, 0))?;
    let file = folder.join("pebble-root.pem");
    fs::write(&file, pem)?;
    Ok(file)
}

fn root(client: &Namespace, authority: &Path, number: u8) -> anyhow::Result<String> {
    let authority = authority.to_str().context("the folder's path is not UTF-8")?;
    let url = format!("https://127.0.0.1:{PORT_MANAGEMENT}/roots/{number}");
    client.run("curl", &["-sS", "--fail", "--max-time", "5", "--cacert", authority, &url])
}

fn settings(own: &KeyFiles, variant: Variant) -> Value {
    let (id, key) = EXTERNAL_ACCOUNT;
    json!({ "pebble": {
        "listenAddress": format!("127.0.0.1:{PORT_BEHIND}"),
        "managementListenAddress": format!("127.0.0.1:{PORT_MANAGEMENT}"),
        "certificate": own.chain, "privateKey": own.key,
        "httpPort": 80, "tlsPort": 443, "ocspResponderURL": "",
        "externalAccountBindingRequired": variant.wants_external_account,
        "externalAccountMACKeys": { id: key },
    }})
}

/// Pebble's own paths, by the resource of RFC 8555 §7.1 that each is.
fn classify(parts: &Parts, body: &[u8]) -> Vec<String> {
    let first = parts.uri.path().split('/').nth(1).unwrap_or_default();
    let name = match first {
        "dir" => "directory",
        "nonce-plz" => "newNonce",
        "sign-me-up" => "newAccount",
        "order-plz" => "newOrder",
        "authZ" => "authorization",
        "chalZ" => "challenge",
        "finalize-order" => "finalize",
        "my-order" => "order",
        "certZ" => "certificate",
        "my-account" => "account",
        "revoke-cert" => "revokeCert",
        "renewal-info" => RENEWAL_INFO,
        other => other,
    };
    let more = if name == "newOrder" { extension::asks(body) } else { Vec::new() };
    std::iter::once(name.to_owned()).chain(more).collect()
}

/// Waits until the CA was asked for `count` of `name`, as [`Relay::count`] counts.
pub fn wait_for_requests(relay: &Relay, name: &str, count: u64, within: Duration) -> anyhow::Result<()> {
    wait::until(&format!("{count} {name}"), within, || {
        let seen = relay.count(name);
        anyhow::ensure!(seen >= count, "{seen}");
        Ok(())
    })
}

/// The external account that [`Variant::wants_external_account`] asks for: its id, and its key in base64url.
pub const EXTERNAL_ACCOUNT: (&str, &str) =
    ("testbed-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W");
/// As the relay counts the questions when a certificate is to be renewed.
const RENEWAL_INFO: &str = "renewalInfo";
const PORT: u16 = 14_000;
const PORT_BEHIND: u16 = 14_001;
const PORT_MANAGEMENT: u16 = 15_000;
const PORT_DNS: u16 = 8_053;
const PORT_DNS_MANAGEMENT: u16 = 8_055;
const START: Duration = Duration::from_secs(20);
