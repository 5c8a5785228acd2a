//! What makes two destinations the same.

use super::address_policy::ChosenBy;
use crate::target::{Endpoint, EndpointAddress, Weight};

/// Destinations with the same key are one: a connection to one can serve the other's requests. Where a target may lie depends on who chose
/// it: what the configuration may reach, a domain's entry may not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct DestinationKey {
    /// Whole, so that no parameter can be forgotten: a connection that has shown a certificate must not carry requests of who may not use it.
    endpoint: Endpoint,
    address: EndpointAddress,
    chosen_by: ChosenBy,
}

impl DestinationKey {
    pub(super) fn new(endpoint: &Endpoint, address: EndpointAddress, chosen_by: ChosenBy) -> Self {
        // Its share of a target's requests is no matter of its connections.
        let mut endpoint = endpoint.clone();
        endpoint.weight = Weight::default();
        Self { endpoint, address, chosen_by }
    }
}
