//! What an instance prints when it has started: a few lines for people, one event for machines.

use std::net::SocketAddr;

use tracing::info;

use crate::{
    certificates::Root,
    config::{ApiConfig, Config, Endpoint, LogFormat, without_query},
    control::{ControlContext, RunFacts},
    ec2::Ec2Facts,
    guard::{GuardHandle, GuardStatus},
    telemetry::{Telemetry, metrics::Label},
};

/// One line per matter.
pub(super) struct StartupBanner(Vec<(&'static str, String)>);

impl StartupBanner {
    /// Of what has been started.
    pub(super) fn of(
        config: &Config,
        instance: &ControlContext,
        seen: &Ec2Facts,
        root: Option<&Root>,
    ) -> Self {
        let identity = &instance.identity;
        let metrics = identity.metrics.map_or_else(|| "off".to_owned(), |at| format!("http://{at}/metrics"));
        Self(vec![
            ("https", addresses(&identity.https)),
            ("http", addresses(&identity.http)),
            ("workers", format!("{} on {}", identity.workers, identity.backend.as_str())),
            ("instance", seen.to_string()),
            ("domains", domains(config)),
            ("store", store(config, instance)),
            ("issuers", issuers(identity, root)),
            ("guard", guarded(&instance.guard)),
            ("metrics", metrics),
            ("api", api(&config.api)),
            ("control", config.control_socket().display().to_string()),
        ])
    }

    /// Writes it.
    pub(super) fn show(&self, telemetry: &Telemetry, format: LogFormat) {
        match format {
            LogFormat::Text => {
                telemetry.say(&format!("gatehouse {} has started", env!("CARGO_PKG_VERSION")));
                self.0.iter().for_each(|(what, value)| telemetry.say(&format!("  {what:<10}{value}")));
            }
            LogFormat::Json => {
                let all: Vec<_> = self.0.iter().map(|(what, value)| format!("{what}: {value}")).collect();
                info!(version = env!("CARGO_PKG_VERSION"), banner = all.join("; "), "started");
            }
        }
    }
}

fn api(config: &ApiConfig) -> String {
    match (config.listen, &config.name) {
        (None, _) => "off".to_owned(),
        (Some(at), None) => format!("http://{at}/api/v1"),
        (Some(at), Some(name)) => format!("https://{name}:{}/api/v1 on {at}", at.port()),
    }
}

fn domains(config: &Config) -> String {
    let domains = &config.domains;
    let mut sources = Vec::new();
    if !domains.r#static.is_empty() {
        sources.push(format!("{} in the settings", domains.r#static.len()));
    }
    if domains.table {
        sources.push(format!("table {}", config.store.domains_table));
    }
    sources.extend(domains.ask.iter().map(|url| format!("ask {}", without_query(url))));
    sources.join(", ")
}

fn store(config: &Config, instance: &ControlContext) -> String {
    match &config.store.endpoint {
        Endpoint::Embedded => format!("embedded in {}", config.state_directory.display()),
        Endpoint::Aws => format!("DynamoDB {}", instance.store.region().unwrap_or_default()),
        Endpoint::Url(url) => url.clone(),
    }
}

fn issuers(identity: &RunFacts, root: Option<&Root>) -> String {
    match root {
        Some(root) => {
            format!("internal; root certificate: {} (SHA-256 {})", root.file.display(), root.fingerprint)
        }
        None => identity.issuers.join(" "),
    }
}

fn guarded(guard: &GuardHandle) -> String {
    match guard.status() {
        GuardStatus::Off => "off".to_owned(),
        GuardStatus::On(report) => {
            let interfaces: Vec<_> =
                report.interfaces.iter().map(|interface| interface.name.as_str()).collect();
            format!("{} on {}, enforcement {}", report.mode, interfaces.join(" "), report.enforcement)
        }
    }
}

fn addresses(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(" ")
}
