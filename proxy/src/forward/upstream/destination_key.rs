//! What makes two destinations the same.

use http::uri::PathAndQuery;

use super::address_policy::ChosenBy;
use crate::target::{EndpointAddress, Location, Scheme, UpstreamProtocol};

/// Destinations with the same key are one: a connection to one can serve the other's requests. Where a target may lie depends on who chose
/// it: what the configuration may reach, a domain's entry may not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct DestinationKey {
    pub(super) scheme: Scheme,
    pub(super) protocol: UpstreamProtocol,
    pub(super) location: Location,
    pub(super) address: EndpointAddress,
    pub(super) chosen_by: ChosenBy,
    pub(super) health: Option<PathAndQuery>,
}
