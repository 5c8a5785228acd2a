//! What a running instance says of itself.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{
    domains::{AskState, Revision, revision},
    ec2,
    guard::GuardStatus,
    phase::Phase,
    tls::tickets::TicketKeySource,
    webhooks::standing::WebhookStanding,
};

/// A running instance at one moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Release.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Whether it serves.
    pub phase: PhaseWord,
    /// Since its start.
    pub uptime_seconds: u64,
    /// How workers reach the kernel: `uring` or `epoll`.
    pub io: String,
    /// How many workers.
    pub workers: usize,
    /// Addresses that speak TLS.
    pub https: Vec<SocketAddr>,
    /// Addresses that speak cleartext.
    pub http: Vec<SocketAddr>,
    /// Where metrics are.
    pub metrics: Option<SocketAddr>,
    /// Where other servers ask which names are served.
    #[serde(default)]
    pub ask_server: Option<SocketAddr>,
    /// Where the API is.
    #[serde(default)]
    pub api: Option<SocketAddr>,
    /// Who it is among the instances of EC2; absent, it is none, or is not asked.
    #[serde(default)]
    pub instance: Option<ec2::InstanceIdentity>,
    /// Where the tables are.
    pub store: String,
    /// Who issues certificates.
    pub issuers: Vec<String>,
    /// Names in the snapshot.
    pub names: usize,
    /// The snapshot's revision; none, not all lists were read.
    #[serde(with = "revision::or_zero")]
    pub revision: Option<Revision>,
    /// How the ask endpoint fares.
    #[serde(default)]
    pub ask: AskState,
    /// Open connections.
    pub connections: usize,
    /// Whose key seals session tickets; absent from releases that did not say it.
    #[serde(default)]
    pub tickets: Option<TicketKeySource>,
    /// How webhooks fare; empty, there are none, or the table does not say.
    #[serde(default)]
    pub webhooks: Vec<WebhookStanding>,
    /// The guard.
    pub guard: GuardStatus,
}

impl InstanceStatus {
    /// For how long it has run, for people.
    #[must_use]
    pub fn uptime(&self) -> String {
        span(self.uptime_seconds)
    }
}

/// [`Phase`] as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseWord {
    /// Not ready yet.
    Starting,
    /// Serving.
    Serving,
    /// Serving the names it knows, and unable to look others up.
    Degraded,
    /// Serving what its local copy holds, and unable to look others up.
    Restored,
    /// Unable to serve names it does not know.
    Unable,
    /// Short of memory.
    Overloaded,
    /// Its Auto Scaling group wants it gone.
    Leaving,
    /// Ending.
    Draining,
}

impl From<Phase> for PhaseWord {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Starting => Self::Starting,
            Phase::Serving => Self::Serving,
            Phase::Degraded => Self::Degraded,
            Phase::Restored => Self::Restored,
            Phase::Unable => Self::Unable,
            Phase::Overloaded => Self::Overloaded,
            Phase::Leaving => Self::Leaving,
            Phase::Draining | Phase::Replaced => Self::Draining,
        }
    }
}

impl PhaseWord {
    /// As JSON has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Degraded => "degraded",
            Self::Restored => "restored",
            Self::Unable => "unable",
            Self::Overloaded => "overloaded",
            Self::Leaving => "leaving",
            Self::Draining => "draining",
        }
    }

    /// What it means to an operator.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Degraded => {
                "degraded: the domains table cannot be read, known names are served; `gatehouse doctor` finds the cause"
            }
            Self::Restored => {
                "restored: the tables do not answer, names of the local copy are served; `gatehouse doctor` finds the cause"
            }
            Self::Unable => {
                "unable to serve: the source of names is down; `gatehouse doctor` finds the cause"
            }
            Self::Overloaded => "overloaded: memory is nearly used up, new connections are refused",
            Self::Leaving => "leaving: its Auto Scaling group takes it out of service; requests are served",
            Self::Draining => "draining",
        }
    }
}

fn span(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_two_units_at_most() {
        for (seconds, told) in [
            (0, "0 s"),
            (59, "59 s"),
            (61, "1 min"),
            (7260, "2 h 1 min"),
            (90_000, "1 d 1 h"),
            (864_000, "10 d 0 h"),
        ] {
            assert_eq!(span(seconds), told);
        }
    }
}
