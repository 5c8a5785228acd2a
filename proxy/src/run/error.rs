//! Why an instance does not start, or does not end as it should.

use std::{io, net::SocketAddr, path::PathBuf};

use super::upgrade::NoPredecessor;
use crate::{
    api::ApiStartError,
    certificates::{self, AcmeError},
    console::NoConsole,
    control::{ControlPortError, SocketError},
    domains, forward,
    guard::GuardError,
    store::{ConnectError, tables::TablesError},
    telemetry,
    tls::tickets::TicketKeysError,
    transport::{RingRefused, socket::BindError},
    verification::VerificationStartError,
    webhooks::{WebhookError, WebhooksStartError},
};

impl RunError {
    /// Whether the settings ask for what this machine has not, whatever else runs on it: nothing but other settings helps.
    #[must_use]
    pub fn is_of_settings(&self) -> bool {
        match self {
            Self::Telemetry(telemetry::TelemetryStartError::Logs(_))
            | Self::Socket(SocketError::NotASocket { .. })
            | Self::Domains(domains::DomainsStartError::Ask(_))
            | Self::Certificates(certificates::CertificatesStartError::Acme(
                AcmeError::Roots { .. } | AcmeError::ExternalAccountKey { .. },
            ))
            | Self::ErrorPages(_)
            | Self::Webhook(_)
            | Self::Upstreams(_)
            | Self::Guard(GuardError::NoInterface { .. }) => true,
            Self::StateDirectory { source, .. } | Self::Socket(SocketError::Refused { source, .. }) => {
                source.kind() == io::ErrorKind::NotADirectory
            }
            Self::Connect(error) => error.is_of_settings(),
            Self::ControlPort(error) => error.is_of_settings(),
            Self::Bind(error) => error.is_of_settings(),
            _ => false,
        }
    }
}

/// Why an instance does not start, or does not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Metrics and logs.
    #[error(transparent)]
    Telemetry(#[from] telemetry::TelemetryStartError),
    /// A metric is declared twice or wrongly.
    #[error("a metric cannot be registered")]
    Metrics(#[from] prometheus::Error),
    /// The API.
    #[error(transparent)]
    Api(#[from] ApiStartError),
    /// Its pages.
    #[error(transparent)]
    Console(#[from] NoConsole),
    /// Checks of names.
    #[error(transparent)]
    Verification(#[from] VerificationStartError),
    /// A webhook of the settings.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// Webhooks.
    #[error(transparent)]
    Webhooks(#[from] WebhooksStartError),
    /// The control runtime.
    #[error("the control runtime could not be started; raise the limit of processes")]
    Runtime(#[source] io::Error),
    /// Signals.
    #[error("signals cannot be received")]
    Signals(#[source] io::Error),
    /// The state directory.
    #[error("state_directory: `{path}` cannot be created; name a directory that this user may write to")]
    StateDirectory {
        /// As configured.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The control socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The metrics' address.
    #[error(transparent)]
    ControlPort(#[from] ControlPortError),
    /// Answering on the control socket.
    #[error("the control socket cannot be used")]
    Control(#[source] io::Error),
    /// The store.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The embedded store's tables.
    #[error(transparent)]
    Tables(#[from] TablesError),
    /// The operator's error pages.
    #[error(transparent)]
    ErrorPages(#[from] forward::ErrorPagesError),
    /// Permission.
    #[error(transparent)]
    Domains(#[from] domains::DomainsStartError),
    /// Certificates.
    #[error(transparent)]
    Certificates(#[from] certificates::CertificatesStartError),
    /// Connections to targets.
    #[error(transparent)]
    Upstreams(#[from] forward::UpstreamError),
    /// Session tickets.
    #[error(transparent)]
    Tickets(#[from] TicketKeysError),
    /// The ring.
    #[error(transparent)]
    Ring(#[from] RingRefused),
    /// A listener.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A listener's port is somebody else's.
    #[error(
        "{field}: `{address}` is listened on already{}; end that process (`ss -ltnp sport = :{}`), choose another port, or set `listen.share_ports` so that both accept connections",
        .holder.as_ref().map(|holder| format!(" by {holder}")).unwrap_or_default(),
        .address.port()
    )]
    Taken {
        /// Which setting.
        field: &'static str,
        /// As configured.
        address: SocketAddr,
        /// Whose it is, where that can be seen.
        holder: Option<String>,
    },
    /// A listener of a predecessor.
    #[error(
        "the inherited socket of `{address}` cannot be used; restart without it: `systemctl stop`, then `start`"
    )]
    Inherited {
        /// Its address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Descriptors for a successor.
    #[error("listening sockets cannot be prepared for a successor; raise LimitNOFILE")]
    Share(#[source] io::Error),
    /// The program to start a successor from.
    #[error("it cannot be found out which program this is; mount /proc")]
    Program(#[source] io::Error),
    /// A predecessor.
    #[error(transparent)]
    Predecessor(#[from] NoPredecessor),
    /// The guard.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// Starting the workers.
    #[error("worker.threads: the workers could not be started; lower it, or raise the limit of processes")]
    Spawn(#[source] io::Error),
    /// Waiting for them.
    #[error("waiting for the workers' end failed")]
    Workers,
}
