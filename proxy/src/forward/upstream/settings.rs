//! The settings for upstreams, prepared once per process.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use super::{
    address_policy::AddressPolicy,
    checks::Checks,
    circuit_breaker::CircuitBreakers,
    permits::{PermitLimits, UpstreamPermits},
    resolver::LookupThreads,
    tls_settings::{TlsSettings, UpstreamError},
};
use crate::{
    config::{self, UpstreamHost},
    forward::cdn_loop::CdnLoop,
};

/// Settings for connections to targets: limits, roots, and permitted addresses.
pub struct UpstreamSettings {
    pub(super) limits: config::UpstreamConfig,
    pub(super) address_policy: Arc<AddressPolicy>,
    pub(super) places: UpstreamPermits,
    pub(super) checks: Checks,
    pub(super) breakers: CircuitBreakers,
    pub(super) lookup_threads: Arc<LookupThreads>,
    /// The name by which repeated requests are recognised.
    pub(in crate::forward) cdn_loop: CdnLoop,
    pub(super) tls: TlsSettings,
}

impl UpstreamSettings {
    /// Whose authority targets read in Host, for domains that say nothing of it.
    pub(in crate::forward) fn host(&self) -> UpstreamHost {
        self.limits.host
    }

    /// Reads the roots and this host's own addresses; at most `connections` requests are with targets at once.
    pub fn new(limits: &config::UpstreamConfig, connections: usize) -> Result<Self, UpstreamError> {
        let places = UpstreamPermits::new(PermitLimits {
            total: limits.connections.min(connections),
            per_target: limits.connections_per_target,
            per_client: limits.connections_per_source,
        });
        let address_policy = Arc::new(AddressPolicy::of(limits));
        let cdn_loop = CdnLoop::new(limits.loop_id.as_ref(), RandomState::new().hash_one(0));
        let checks = Checks::default();
        Ok(Self {
            cdn_loop,
            address_policy,
            places,
            checks,
            breakers: CircuitBreakers::new(limits),
            lookup_threads: Arc::default(),
            tls: TlsSettings::read(limits)?,
            limits: limits.clone(),
        })
    }

    /// At most so many requests are with targets at once from now on.
    pub fn limit_connections(&self, connections: usize) {
        self.places.limit(self.limits.connections.min(connections));
    }

    /// How many requests may be with targets at once.
    #[cfg(test)]
    pub(crate) fn most_connections(&self) -> usize {
        self.places.most()
    }

    /// Where targets may lie.
    #[must_use]
    pub fn address_policy(&self) -> Arc<AddressPolicy> {
        Arc::clone(&self.address_policy)
    }

    /// Follows this host's addresses, which can change while it runs. Does not end.
    pub async fn follow_own_addresses(&self) {
        let mut ticks = tokio::time::interval(OWN_ADDRESSES_PERIOD);
        loop {
            ticks.tick().await;
            self.address_policy.refresh();
        }
    }
}

const OWN_ADDRESSES_PERIOD: Duration = Duration::from_secs(30);
