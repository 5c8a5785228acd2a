//! The state of this instance between start and end: one value for `/health`, every worker and every forwarder.
//! Not here: what changes it (`run`).

use tokio::sync::watch;

/// Whether this instance serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not ready yet: health says 503.
    Starting,
    /// Serving: health says 200.
    Serving,
    /// Serving what memory and the settings hold, while other names cannot be looked up: health says 200 and `degraded`. A table that
    /// is down is down for the whole fleet, which must not leave the load balancer for it.
    Degraded,
    /// Started while the tables did not answer, and serving what this machine's copy holds, while other names cannot be looked up: health
    /// says 200.
    Restored,
    /// Running, and unable to serve names it does not know: health says 503.
    Unable,
    /// Short of memory for longer than a moment: health says 503, new connections are refused.
    Overloaded,
    /// The Auto Scaling group takes the instance out of service: health says 503, open connections end in order, new ones are served.
    Leaving,
    /// Ending: health says 503, requests in flight finish.
    Draining,
    /// A successor serves at the same sockets: requests in flight finish, and health says 200, since who asks it means the successor.
    Replaced,
}

impl Phase {
    /// Whether connections are to end, each as soon as its requests allow it.
    #[must_use]
    pub fn ends_connections(self) -> bool {
        match self {
            Self::Starting
            | Self::Serving
            | Self::Degraded
            | Self::Restored
            | Self::Unable
            | Self::Overloaded => false,
            Self::Leaving | Self::Draining | Self::Replaced => true,
        }
    }

    /// Whether the process ends.
    #[must_use]
    pub fn is_end(self) -> bool {
        match self {
            Self::Starting
            | Self::Serving
            | Self::Degraded
            | Self::Restored
            | Self::Unable
            | Self::Overloaded
            | Self::Leaving => false,
            Self::Draining | Self::Replaced => true,
        }
    }

    /// Whether health says 200.
    #[must_use]
    pub fn is_healthy(self) -> bool {
        match self {
            Self::Serving | Self::Degraded | Self::Restored | Self::Replaced => true,
            Self::Starting | Self::Unable | Self::Overloaded | Self::Leaving | Self::Draining => false,
        }
    }
}

/// The phase as those who follow it see it.
pub type PhaseWatch = watch::Receiver<Phase>;
