//! Reads the settings again while the instance runs: all are checked first, then those that can change are applied.
//! Invariants: wrong settings change nothing (`wrong_settings_change_nothing`, in `proxy/tests/process`); settings that are not in force
//! are named, at every further reload too (`what_waits_for_a_restart_is_named_again`).

use std::{pin::Pin, sync::Arc};

use tracing::{error, info};

use super::{error::RunError, sockets::Capacity};
use crate::{
    config::{self, Config, ConfigError, Loaded, Reloadable, difference, merge},
    control::{NotReloaded, wire::Reloaded},
    domains::{AskError, Domains},
    forward::{ErrorPages, ErrorPagesError, UpstreamSettings},
    guard::{GuardError, GuardHandle},
    target::Target,
    telemetry::error_chain,
    telemetry::{LogsError, Telemetry},
    webhooks::{WebhookError, Webhooks},
    worker::{Connections, HeldBytes},
};

/// Reads the settings again, from the places they were first read from.
pub type ReloadFn<'a> = &'a dyn Fn() -> Pin<Box<dyn Future<Output = Result<Loaded, ConfigError>>>>;

/// What can be changed while it runs.
pub(super) struct ReloadTargets {
    pub(super) domains: Domains,
    pub(super) guard: GuardHandle,
    pub(super) connections: Connections,
    pub(super) upstream: Arc<UpstreamSettings>,
    pub(super) held: HeldBytes,
    pub(super) workers: usize,
    pub(super) live: RuntimeSettings,
}

/// Settings that are read each time they are needed.
#[derive(Clone)]
pub(super) struct RuntimeSettings {
    pub(super) limits: Reloadable<config::LimitsConfig>,
    pub(super) events: Reloadable<config::EventsConfig>,
    pub(super) headers: Reloadable<config::HeadersConfig>,
    pub(super) compression: Reloadable<config::CompressionConfig>,
    pub(super) error_pages: Reloadable<ErrorPages>,
    pub(super) webhooks: Webhooks,
    pub(super) default_target: Reloadable<Option<Target>>,
    pub(super) drain_deadline: Reloadable<config::Span>,
}

impl RuntimeSettings {
    /// With the files that `config` names.
    pub(super) fn read(config: &Config) -> Result<Self, RunError> {
        Ok(Self {
            limits: Reloadable::new(config.limits.clone()),
            events: Reloadable::new(config.events.clone()),
            headers: Reloadable::new(config.headers.clone()),
            compression: Reloadable::new(config.compression.clone()),
            error_pages: Reloadable::new(ErrorPages::read(&config.error_pages)?),
            webhooks: Webhooks::read(&config.events)?,
            default_target: Reloadable::new(config.domains.default_target.clone()),
            drain_deadline: Reloadable::new(config.worker.drain_deadline),
        })
    }
}

/// The settings in force, and how to read new ones.
pub(super) struct Reloader<'a> {
    pub(super) again: ReloadFn<'a>,
    pub(super) in_force: Config,
    pub(super) parts: ReloadTargets,
    pub(super) telemetry: &'a Telemetry,
}

/// Why the settings in force stay.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Webhooks(#[from] WebhookError),
    #[error(transparent)]
    Guard(#[from] GuardError),
    #[error(transparent)]
    ErrorPages(#[from] ErrorPagesError),
    #[error(transparent)]
    Logs(#[from] LogsError),
}

impl From<ReloadError> for NotReloaded {
    fn from(error: ReloadError) -> Self {
        let why = error_chain(&error);
        if matches!(error, ReloadError::Guard(_)) { Self::Impossible(why) } else { Self::Wrong(why) }
    }
}

impl Reloader<'_> {
    /// Reads, checks and applies; logs the result as well.
    ///
    /// # Cancel safety
    /// Nothing is applied before everything was read.
    pub(super) async fn reload(&mut self) -> Result<Reloaded, NotReloaded> {
        let reloaded = self.read_and_apply().await.map_err(NotReloaded::from);
        match &reloaded {
            Ok(Reloaded { applied, needs_restart }) => {
                info!(?applied, ?needs_restart, "settings reloaded");
            }
            Err(NotReloaded::Wrong(error)) => {
                error!(error, "the settings are wrong; the old ones stay in force");
            }
            Err(NotReloaded::Impossible(error)) => {
                error!(error, "the settings cannot be followed now; the old ones stay in force");
            }
        }
        reloaded
    }

    async fn read_and_apply(&mut self) -> Result<Reloaded, ReloadError> {
        let wanted = (self.again)().await?.config;
        let next = merge(&self.in_force, &wanted, is_live);
        self.parts.apply(&next, self.telemetry)?;
        let reloaded = Reloaded {
            applied: difference(&self.in_force, &next),
            needs_restart: difference(&next, &wanted),
        };
        self.in_force = next;
        Ok(reloaded)
    }
}

impl ReloadTargets {
    /// What can fail comes first.
    fn apply(&self, config: &Config, telemetry: &Telemetry) -> Result<(), ReloadError> {
        let error_pages = ErrorPages::read(&config.error_pages)?;
        let webhooks = Webhooks::read(&config.events)?;
        // The kernel may be short of memory; whatever else can fail was validated.
        self.guard.set_policy(&config.guard)?;
        self.domains.reconfigure(&config.domains)?;
        telemetry.follow(&config.log)?;
        limit_connections(config, self.workers, (&self.connections, &self.upstream));
        self.held.limit(response_buffers(&config.limits));
        self.live.limits.replace(config.limits.clone());
        self.live.events.replace(config.events.clone());
        self.live.webhooks.follow(&webhooks);
        self.live.headers.replace(config.headers.clone());
        self.live.compression.replace(config.compression.clone());
        self.live.error_pages.replace(error_pages);
        self.live.default_target.replace(config.domains.default_target.clone());
        self.live.drain_deadline.replace(config.worker.drain_deadline);
        Ok(())
    }
}

/// Connections of clients, and requests at targets: memory and descriptors are for both.
fn limit_connections(
    config: &Config,
    workers: usize,
    (connections, upstream): (&Connections, &UpstreamSettings),
) {
    let capacity = Capacity::claim(config, workers);
    connections.limit(capacity.clients, config.limits.connections_per_source);
    upstream.limit_connections(capacity.targets);
}

pub(super) fn response_buffers(limits: &config::LimitsConfig) -> usize {
    usize::try_from(limits.response_buffers.bytes()).unwrap_or(usize::MAX)
}

/// Whether a setting can be changed while it is in use.
fn is_live(setting: &str) -> bool {
    LIVE_SECTIONS.iter().any(|section| setting.starts_with(section)) || LIVE.contains(&setting)
}

const LIVE_SECTIONS: &[&str] = &["limits.", "headers.", "compression.", "error_pages."];

const LIVE: &[&str] = &[
    // Each reading begins with it.
    "settings_parameter",
    "worker.drain_deadline",
    "domains.default_target",
    "domains.static",
    "domains.ask",
    "domains.ask_timeout",
    "events.webhooks",
    "guard.mode",
    "guard.deny",
    "guard.exempt",
    "guard.syns_per_source_per_second",
    "guard.syns_per_source_burst",
    "guard.unknown_per_second",
    "guard.unknown_burst",
    "guard.unknown_per_source_per_second",
    "guard.unknown_per_source_burst",
    "guard.resets_per_second",
    "guard.sampled_rejections",
    "log.filter",
    "log.access",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_live_setting_is_a_setting() {
        let reference = config::reference();
        for setting in LIVE {
            assert!(reference.contains(&format!("| `{setting}` |")), "{setting}");
        }
    }

    #[test]
    fn the_page_of_settings_names_all_that_are_live() {
        let page = include_str!("../../../docs/settings.md");
        let (_, section) = page.split_once("## Without a restart").unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        let sections = LIVE_SECTIONS.iter().map(|section| format!("`{section}*`"));
        for wanted in sections.chain(LIVE.iter().map(|setting| format!("`{setting}`"))) {
            assert!(section.contains(&wanted), "{wanted}");
        }
    }

    #[test]
    fn what_waits_for_a_restart_is_named_again() {
        let in_force = Config::default();
        let mut wanted = Config { state_directory: "/elsewhere".into(), ..Config::default() };
        wanted.limits.connections = 7;
        let next = merge(&in_force, &wanted, is_live);
        assert_eq!(difference(&in_force, &next), ["limits.connections"]);
        for _ in 0..2 {
            let again = merge(&next, &wanted, is_live);
            assert_eq!(difference(&again, &wanted), ["state_directory"]);
        }
    }

    #[test]
    fn requests_at_targets_follow_the_memory_too() {
        let (mut config, connections) = (Config::default(), Connections::new(9, 9));
        let upstream = UpstreamSettings::new(&config.upstream, 1).unwrap();
        for (memory, requests) in [("512MiB", 2_048), ("128MiB", 512), ("256MiB", 1_024)] {
            config.limits.memory = Some(memory.parse().unwrap());
            limit_connections(&config, 1, (&connections, &upstream));
            assert_eq!(upstream.most_connections(), requests, "{memory}");
        }
    }
}
