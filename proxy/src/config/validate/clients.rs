//! Settings about who clients are, and how they may speak.

use std::time::Duration;

use super::Findings;
use crate::config::{Config, Network};

pub(super) fn balancers(config: &Config, findings: &mut Findings) {
    for (i, network) in config.listen.trusted_proxies.iter().enumerate() {
        trusts_all(&format!("listen.trusted_proxies[{i}]"), network, findings);
    }
    let Some(proxy_protocol) = &config.listen.proxy_protocol else { return };
    if proxy_protocol.from.is_empty() {
        let remedy =
            "give the networks of the load balancers like `10.0.0.0/8`, or leave `listen.proxy_protocol` out";
        findings.add("listen.proxy_protocol.from", "`[]` names no load balancer", remedy);
    }
    for (i, network) in proxy_protocol.from.iter().enumerate() {
        trusts_all(&format!("listen.proxy_protocol.from[{i}]"), network, findings);
    }
}

/// Whoever is trusted says who the client is.
fn trusts_all(field: &str, network: &Network, findings: &mut Findings) {
    if network.prefix_len() == 0 {
        let fault = format!("`{network}` would let every client choose its own address");
        findings.add(field, fault, "give the networks of your proxies alone, like `10.0.0.0/8`");
    }
}

pub(super) fn tls(config: &Config, findings: &mut Findings) {
    let period = config.tls.ticket_key_period;
    if !period.is_zero() && !(SHORTEST_TICKET_KEY_PERIOD..=LONGEST_TICKET_KEY_PERIOD).contains(&*period) {
        let fault = format!("`{period}` is out of bounds");
        findings.add("tls.ticket_key_period", fault, "write `10m` to `84h`");
    }
}

/// Below it, each instance would read the table every few seconds.
const SHORTEST_TICKET_KEY_PERIOD: Duration = Duration::from_mins(10);
/// A ticket can be opened for two periods, and lives seven days at most (RFC 8446 §4.6.1).
pub(crate) const LONGEST_TICKET_KEY_PERIOD: Duration = Duration::from_hours(84);
