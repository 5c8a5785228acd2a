//! Settings that are each well formed but wrong together: contradictions, collisions, limits of zero.

mod api;
mod clients;
mod issuers;
mod targets;
mod verification;
mod webhooks;

use std::{
    collections::HashSet,
    net::SocketAddr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use proxy_common::maps::SOURCE_NETWORKS_CAPACITY;
use toml::{Table, Value};
use tracing_subscriber::EnvFilter;

pub(crate) use self::{clients::LONGEST_TICKET_KEY_PERIOD, issuers::MAX_ISSUERS, targets::leads_to};
use super::{
    Config, SettingOrigin,
    enums::GuardMode,
    error::{At, SettingsProblem},
};
use crate::target::LONGEST_SOCKET_PATH;

/// All errors in `config` that can be found without looking at anything else.
pub(super) fn validate(config: &Config) -> Vec<SettingsProblem> {
    let mut findings = Findings(Vec::new());
    for check in [
        addresses,
        api::api,
        clients::balancers,
        clients::tls,
        sources,
        static_names,
        quotas,
        targets::loops,
        targets::tls,
        zeros,
        bounds,
        issuers::issuers,
        tables,
        guard,
        paths,
        filter,
        verification::verification,
        webhooks::webhooks,
    ] as [SettingsCheck; 18]
    {
        check(config, &mut findings);
    }
    findings.0
}

/// Files that are named but do not exist.
pub(super) fn missing_files(config: &Config) -> Vec<SettingsProblem> {
    let mut findings = Findings(Vec::new());
    issuers::missing_files(config, &mut findings);
    webhooks::missing_files(config, &mut findings);
    findings.add_if_missing("upstream.roots", config.upstream.roots.as_deref(), ROOTS);
    if let Some(directory) = config.error_pages.directory.as_deref().filter(|path| !path.is_dir()) {
        let fault = format!("`{}` is not a directory", directory.display());
        findings.add(
            "error_pages.directory",
            fault,
            "name the directory of your error pages, or remove the setting",
        );
    }
    for (name, tls) in &config.upstream.tls {
        for (key, path) in tls.files() {
            let remedy = if key == "roots" { ROOTS } else { PEM };
            findings.add_if_missing(
                &format!("upstream.tls.{name}.{key}"),
                path.map(PathBuf::as_path),
                remedy,
            );
        }
    }
    findings.0
}

type SettingsCheck = fn(&Config, &mut Findings);

struct Findings(Vec<SettingsProblem>);

impl Findings {
    fn add(&mut self, field: &str, fault: impl Into<String>, remedy: impl Into<String>) {
        let at = At { place: SettingOrigin::Default, line: None };
        self.0.push(SettingsProblem {
            at,
            field: field.to_owned(),
            fault: fault.into(),
            remedy: remedy.into(),
        });
    }

    fn add_if_missing(&mut self, field: &str, path: Option<&Path>, remedy: &str) {
        if let Some(path) = path.filter(|path| !path.is_file()) {
            self.add(field, format!("`{}` is not a file", path.display()), remedy);
        }
    }
}

/// Where a secret of the settings lies: in the file under `<key>_file`, or in the environment variable under `<key>_variable`.
struct SecretPlace<'a> {
    /// What it is called.
    what: &'a str,
    key: &'a str,
    file: Option<&'a Path>,
    variable: Option<&'a str>,
}

impl SecretPlace<'_> {
    /// That it is in one place, which its keys below `field` name.
    fn validate(&self, field: &str, findings: &mut Findings) {
        let Self { what, key, file, variable } = *self;
        if variable.is_some_and(|name| name.starts_with("GATEHOUSE_")) {
            let fault = "variables that begin with `GATEHOUSE_` are settings";
            findings.add(&format!("{field}.{key}_variable"), fault, "give the variable another name");
        }
        if file.is_some() == variable.is_some() {
            let fault = match file {
                Some(_) => format!("the {what} is in two places"),
                None => format!("there is no {what}"),
            };
            let remedy = format!(
                "write either `{key}_file`, a file's path, or `{key}_variable`, the name of an environment variable"
            );
            findings.add(field, fault, remedy);
        }
    }
}

/// Without the query, which may hold a secret.
pub(crate) fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

fn addresses(config: &Config, findings: &mut Findings) {
    if config.listen.https.is_empty() {
        findings.add("listen.https", "`[]` leaves nothing to serve", "give at least one address");
    }
    let listen = &config.listen;
    let mut sockets: Vec<(&str, SocketAddr)> = Vec::new();
    let wanted = listen.https.iter().map(|address| ("listen.https", *address));
    let wanted = wanted.chain(listen.http.iter().map(|address| ("listen.http", *address)));
    let control = &config.control;
    let wanted = wanted.chain(control.metrics.address().map(|address| ("control.metrics", address)));
    let wanted = wanted.chain(control.ask.map(|address| ("control.ask", address)));
    for (field, address) in wanted.chain(config.api.listen.map(|address| ("api.listen", address))) {
        if let Some((other, taken)) = sockets.iter().find(|(_, taken)| collide(*taken, address)) {
            let fault = format!("`{address}` is taken by {other} = `{taken}`");
            findings.add(field, fault, "give each an address and port of its own");
        }
        sockets.push((field, address));
    }
}

/// Whether both cannot be bound: our IPv6 sockets are IPv6 only, and port 0 is a free one each time.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let overlap = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && overlap
}

fn sources(config: &Config, findings: &mut Findings) {
    let domains = &config.domains;
    if !domains.table && domains.r#static.is_empty() && domains.ask.is_none() {
        let remedy = "set it to true, or give `domains.static` or `domains.ask`";
        findings.add("domains.table", "`false` leaves no source of names: nothing could be served", remedy);
    }
    if domains.ask.is_some() && domains.default_target.is_none() {
        let remedy = "write it like `https://origin.example.com`";
        findings.add(
            "domains.default_target",
            "absent, and names that `domains.ask` allows have no target of their own",
            remedy,
        );
    }
    let own = config.control.ask.map(|address| address.to_string());
    let asked: Option<http::Uri> = domains.ask.as_deref().and_then(|url| url.parse().ok());
    if let (Some(own), Some(asked)) = (own, asked)
        && asked.authority().is_some_and(|authority| authority.as_str() == own)
    {
        let fault = format!("`{}` is this instance's own `control.ask`", without_query(&asked.to_string()));
        findings.add("domains.ask", fault, "name an endpoint that decides by itself, or leave it out");
    }
    if let Some(url) = domains.ask.as_deref().filter(|url| !is_url(url, &["http", "https"])) {
        let remedy = "write it like `http://127.0.0.1:9000/check`";
        findings.add("domains.ask", format!("`{}` is not an http or https URL", without_query(url)), remedy);
    }
}

fn static_names(config: &Config, findings: &mut Findings) {
    let mut seen = HashSet::new();
    for (i, entry) in config.domains.r#static.iter().enumerate() {
        if !seen.insert(&entry.name) {
            let remedy = "keep one of the two";
            findings.add(
                &format!("domains.static[{i}].name"),
                format!("`{}` is listed twice", entry.name),
                remedy,
            );
        }
        if entry.target.is_none() && config.domains.default_target.is_none() {
            let fault = format!("`{}` has no target, and there is no `domains.default_target`", entry.name);
            findings.add(
                &format!("domains.static[{i}].target"),
                fault,
                "give it one like `http://10.0.0.5:8080`",
            );
        }
        if let (Some(www), Err(fault)) = (entry.settings.www, entry.settings.check_pair(&entry.name)) {
            let (fault, remedy) = fault.explain(&entry.name, www);
            findings.add(&format!("domains.static[{i}].www"), fault, remedy);
        }
    }
}

fn quotas(config: &Config, findings: &mut Findings) {
    let mut seen = HashSet::new();
    for (i, quota) in config.domains.quotas.iter().enumerate() {
        if !seen.insert(&quota.tenant) {
            let fault = format!("`{}` is listed twice", quota.tenant);
            findings.add(&format!("domains.quotas[{i}].tenant"), fault, "keep one of the two");
        }
    }
}

fn zeros(config: &Config, findings: &mut Findings) {
    let Ok(table) = Table::try_from(config) else { return };
    for (section, values) in &table {
        for (key, value) in values.as_table().into_iter().flatten() {
            let field = format!("{section}.{key}");
            if is_zero(value) && !ZERO_IS_MEANT.contains(&field.as_str()) {
                let remedy = "write a limit; there is no value for `unlimited`";
                let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                findings.add(&field, format!("`{shown}` would let nothing through"), remedy);
            }
        }
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Integer(number) => *number == 0,
        Value::String(text) => text == "0ms" || text == "0B",
        Value::Array(items) => !items.is_empty() && items.iter().any(|item| item.as_integer() == Some(0)),
        _ => false,
    }
}

fn bounds(config: &Config, findings: &mut Findings) {
    let limits = &config.limits;
    let sizes = [
        ("limits.header_size", limits.header_size, SMALLEST_HEAD, 1 << 20),
        ("api.body_size", config.api.body_size, 4 << 10, 1 << 20),
        ("store.local_copy_size", config.store.local_copy_size, 64 << 10, 1 << 30),
        // RFC 9113 §6.9.1: a window never exceeds 2^31-1.
        ("limits.http2_stream_window", limits.http2_stream_window, 16 << 10, MAX_WINDOW),
        ("limits.http2_connection_window", limits.http2_connection_window, 64 << 10, MAX_WINDOW),
    ];
    for (field, size, least, most) in sizes {
        if size.bytes() != 0 && !(least..=most).contains(&size.bytes()) {
            findings.add(field, format!("`{size}` is out of bounds"), format!("write {least}B to {most}B"));
        }
    }
    if limits.http2_connection_window < limits.http2_stream_window {
        let fault = format!("`{}` is less than one stream's", limits.http2_connection_window);
        let remedy = format!("write at least `{}`", limits.http2_stream_window);
        findings.add("limits.http2_connection_window", fault, remedy);
    }
    if config.worker.threads > MAX_WORKERS {
        let fault = format!("`{}` is more than any machine can use", config.worker.threads);
        findings.add("worker.threads", fault, "0 means one for each core");
    }
}

fn tables(config: &Config, findings: &mut Findings) {
    let store = &config.store;
    if store.region.as_deref().is_some_and(str::is_empty) {
        findings.add("store.region", "`` is no region", "write it like `eu-central-1`, or leave it out");
    }
    let mut seen = HashSet::new();
    for (field, name) in [
        ("store.certificates_table", &store.certificates_table),
        ("store.domains_table", &store.domains_table),
        ("store.state_table", &store.state_table),
    ] {
        // API page `CreateTable`, TableName.
        let permitted = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if !(3..=255).contains(&name.len()) || !name.bytes().all(permitted) {
            let remedy = "write 3 to 255 letters, digits, `_`, `.` or `-`";
            findings.add(field, format!("`{name}` cannot name a table"), remedy);
        }
        if !seen.insert(name) {
            findings.add(
                field,
                format!("`{name}` is another table's name"),
                "give each table a name of its own",
            );
        }
    }
}

fn guard(config: &Config, findings: &mut Findings) {
    let (guard, domains) = (&config.guard, &config.domains);
    let listed = domains.table || !domains.r#static.is_empty();
    if guard.mode == GuardMode::Strict && domains.ask.is_some() && !listed {
        let fault =
            "`strict` with `domains.ask` and no list would reject every name before it could be asked for";
        findings.add("guard.mode", fault, "set `adaptive`, or list names in the table or `domains.static`");
    }
    if let Some(ttl) = guard.denial_ttl.filter(|ttl| **ttl > *domains.deny_ttl) {
        let fault =
            format!("`{ttl}` is longer than `domains.deny_ttl`, after which the name is asked for again");
        let remedy = format!("write at most `{}`, or leave it out", domains.deny_ttl);
        findings.add("guard.denial_ttl", fault, remedy);
    }
    if guard.sampled_rejections > MOST_SAMPLED {
        let fault = format!("`{}` is more than is read", guard.sampled_rejections);
        findings.add("guard.sampled_rejections", fault, format!("write at most {MOST_SAMPLED}"));
    }
    let networks = guard.deny.len() + guard.exempt.len();
    if networks > MOST_NETWORKS {
        let fault = format!(
            "{networks} networks, with those of `guard.exempt`, are more than the kernel's map can hold"
        );
        findings.add(
            "guard.deny",
            fault,
            format!("write at most {MOST_NETWORKS}; join neighbours to larger ones"),
        );
    }
    let denied: HashSet<_> = guard.deny.iter().collect();
    for (i, network) in guard.exempt.iter().enumerate().filter(|(_, network)| denied.contains(network)) {
        let fault = format!("`{network}` is in `guard.deny`, too");
        findings.add(
            &format!("guard.exempt[{i}]"),
            fault,
            "take it out of one of them, or write a part of it here",
        );
    }
    let mut seen = HashSet::new();
    for (i, interface) in guard.interfaces.iter().enumerate() {
        let field = format!("guard.interfaces[{i}]");
        if interface.is_empty() || interface.len() > LONGEST_INTERFACE || interface.contains(['/', ' ']) {
            findings.add(
                &field,
                format!("`{interface}` cannot name an interface"),
                "write it as `ip link` shows it",
            );
        }
        if !seen.insert(interface) {
            findings.add(&field, format!("`{interface}` is listed twice"), "keep one of the two");
        }
    }
}

fn paths(config: &Config, findings: &mut Findings) {
    let socket = config.control_socket();
    if socket.as_os_str().as_bytes().len() > LONGEST_SOCKET_PATH {
        let fault = format!(
            "`{}` is longer than the {LONGEST_SOCKET_PATH} bytes of a socket's path",
            socket.display()
        );
        findings.add("control.socket", fault, "give a shorter one like `/run/gatehouse/control.sock`");
    }
    for (field, path) in [
        ("state_directory", config.state_directory.as_path()),
        ("guard.pin_path", config.guard.pin_path.as_path()),
    ] {
        if path == Path::new("") {
            findings.add(field, "`` is no path", "name a directory of Gatehouse's own");
        }
    }
}

fn filter(config: &Config, findings: &mut Findings) {
    if let Err(error) = EnvFilter::try_new(&config.log.filter) {
        let fault = format!("`{}` is not a filter ({error})", config.log.filter);
        findings.add("log.filter", fault, "write it like `info,gatehouse::certificates=debug`");
    }
}

fn is_url(text: &str, schemes: &[&str]) -> bool {
    let uri: Result<http::Uri, _> = text.parse();
    uri.is_ok_and(|uri| {
        uri.scheme_str().is_some_and(|scheme| schemes.contains(&scheme))
            && uri.host().is_some_and(|host| !host.is_empty())
    })
}

/// Settings in which zero has a meaning of its own.
const ZERO_IS_MEANT: &[&str] = &[
    "worker.threads",
    "worker.drain_deadline",
    "upstream.idle_per_target",
    "upstream.max_pending",
    "limits.minimum_rate",
    "guard.unknown_burst",
    "guard.sampled_rejections",
    "domains.stale_ttl",
    "verification.moved_for",
];
/// What to do about a file that is not there.
const PEM: &str = "give the path of a PEM file";
/// What to do about one of roots.
const ROOTS: &str = "give the path of a PEM file, or leave it out for the system's roots";
/// The smallest buffer in which hyper reads header sections.
const SMALLEST_HEAD: u64 = 8 << 10;
/// Networks of `guard.deny` and `guard.exempt`: half of what the map can hold.
const MOST_NETWORKS: usize = SOURCE_NETWORKS_CAPACITY as usize / 2;
/// Of a quarter of a second, fewer than the ring to user space holds.
const MOST_SAMPLED: u32 = 1000;
const MAX_WINDOW: u64 = (1 << 31) - 1;
const MAX_WORKERS: usize = 1024;
/// `IFNAMSIZ` less its zero.
const LONGEST_INTERFACE: usize = 15;
