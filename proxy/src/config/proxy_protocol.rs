//! Load balancers that say who their client is.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::network::{Network, contain};

/// Who sends PROXY headers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyProtocol {
    /// The networks of the load balancers.
    pub from: Vec<Network>,
}

impl ProxyProtocol {
    /// Whether a connection from `peer` begins with a header.
    #[must_use]
    pub fn comes_from(&self, peer: IpAddr) -> bool {
        contain(&self.from, peer)
    }
}
