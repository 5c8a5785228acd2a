//! What may be at one endpoint at a time.

use std::{fmt, num::NonZeroU32};

/// Bounds on the load at an endpoint: at each of its addresses, and by each instance. What is absent here the settings say.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct EndpointLimits {
    /// Open connections, unused ones among them.
    pub connections: Option<NonZeroU32>,
    /// Requests under way.
    pub requests: Option<NonZeroU32>,
    /// Requests that wait until another one ends; with 0 none does.
    pub pending: Option<u32>,
}

impl EndpointLimits {
    /// These, and of `general` what they leave open.
    #[must_use]
    pub fn or(self, general: Self) -> Self {
        Self {
            connections: self.connections.or(general.connections),
            requests: self.requests.or(general.requests),
            pending: self.pending.or(general.pending),
        }
    }
}

/// As parameters behind an endpoint.
impl fmt::Display for EndpointLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, requests, pending } = self;
        let written = [
            (MAX_CONNECTIONS, connections.map(NonZeroU32::get)),
            (MAX_REQUESTS, requests.map(NonZeroU32::get)),
            (MAX_PENDING, *pending),
        ];
        for (name, number) in written {
            if let Some(number) = number {
                write!(f, ";{name}={number}")?;
            }
        }
        Ok(())
    }
}

/// A number of connections or requests, 1 to [`MOST`].
pub(super) fn bound(digits: &str) -> Option<NonZeroU32> {
    pending(digits).and_then(NonZeroU32::new)
}

/// A number of requests that wait, 0 to [`MOST`].
pub(super) fn pending(digits: &str) -> Option<u32> {
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|number| is_plain && *number <= MOST)
}

pub(super) const MAX_CONNECTIONS: &str = "max_connections";
pub(super) const MAX_REQUESTS: &str = "max_requests";
pub(super) const MAX_PENDING: &str = "max_pending";
/// More than one server takes.
pub(super) const MOST: u32 = 1_000_000;
