//! Why a name cannot be served, as far as name, target and settings show it: no network is asked.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use psl::Type;

use super::{AuthorityRefusal, Issuance, OWNERSHIP_LABEL, PROBE_LABEL, Refusal, Requester, Rules};
use crate::{
    config::{DomainSettings, RequiredProof, WwwPair, leads_to},
    name::{Pattern, ServerName},
    store::domain_table::{DomainRecord, DomainStatus},
    target::{Endpoint, EndpointAddress, Location, Target, TargetHost},
};

/// What may not be meant, yet is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// It is suspended.
    #[error("it is still suspended and not served; `gatehouse domain resume` serves it again")]
    Suspended,
    /// It is not verified yet.
    #[error(
        "it is pending and not served until its verification; `gatehouse domain records NAME` shows the DNS records to set"
    )]
    Pending,
    /// Its requests are not forwarded.
    #[error(
        "its requests are answered with 503, for maintenance; `gatehouse domain maintenance NAME off` ends that"
    )]
    Maintenance,
    /// A label with `_`.
    #[error("its name has a `_`: public CAs will refuse it, the internal issuer does not")]
    Underscore,
    /// One label.
    #[error("its name is a single label: public CAs will refuse it")]
    SingleLabel,
    /// Of two tenants' entries that share names, the exact one is served.
    #[error(
        "another tenant has an entry that shares names with it; of the two, the exact name comes before the wildcard"
    )]
    Overlap,
    /// It goes to itself.
    #[error(
        "its target is a name that it covers: unless this host resolves it to another server, requests return here endlessly"
    )]
    TargetsItself,
}

/// Whether requests for `pattern`, and the other name that `settings` may have it speak for, can reach `target`, or else the default, under a
/// certificate.
pub(super) fn check(
    pattern: &Pattern,
    target: Option<&Target>,
    settings: DomainSettings,
    rules: &Rules,
) -> Result<Vec<Warning>, Refusal> {
    let mut warnings = Vec::new();
    warnings.extend(certifiable(pattern, rules.issuance)?);
    match target {
        Some(target) => warnings.extend(reachable(pattern, target, settings, rules)?),
        None if rules.default_target.is_none() => return Err(Refusal::NoTarget(pattern.clone())),
        None => {}
    }
    Ok(warnings)
}

/// Whether `by` may have what others are warned of: an operator knows what they do, a tenant's program does not.
pub(super) fn check_for(by: &Requester, pattern: &Pattern, warnings: &[Warning]) -> Result<(), Refusal> {
    if by.tenant().is_none() {
        return Ok(());
    }
    let (Pattern::Exact(name) | Pattern::Wildcard(name)) = pattern;
    if let Some(kind) = name.public_suffix() {
        return Err(Refusal::PublicSuffix { pattern: pattern.clone(), kind });
    }
    if name.parent().is_none() {
        return Err(AuthorityRefusal::SingleLabel(pattern.clone()).into());
    }
    let is_itself = warnings.contains(&Warning::TargetsItself);
    if is_itself { Err(AuthorityRefusal::TargetsItself(pattern.clone()).into()) } else { Ok(()) }
}

/// Whether the target of `record` may be a tenant's.
pub(super) fn check_targets(by: &Requester, record: &DomainRecord) -> Result<(), Refusal> {
    let covers = |target| covers_a_host(&record.pattern, record.settings, target);
    let is_itself = record.target.as_ref().is_some_and(covers);
    if is_itself && by.tenant().is_some() {
        return Err(AuthorityRefusal::TargetsItself(record.pattern.clone()).into());
    }
    Ok(())
}

fn covers_a_host(pattern: &Pattern, settings: DomainSettings, target: &Target) -> bool {
    let other = settings.counterpart(pattern);
    let mut hosts = target.endpoints().iter().filter_map(Endpoint::host);
    hosts.any(
        |host| matches!(host, TargetHost::Name(name) if pattern.covers(name) || other.as_ref() == Some(name)),
    )
}

/// Whether `record` can speak for a pair, where it is to.
pub(super) fn check_pair(record: &DomainRecord) -> Result<(), Refusal> {
    let fault = record.settings.check_pair(&record.pattern);
    fault.map_err(|fault| Refusal::Pair {
        pattern: record.pattern.clone(),
        www: record.settings.www.unwrap_or(WwwPair::Off),
        fault,
    })
}

/// Whether the name that is asked for the proof of `record`, which waits for `required`, can be one (RFC 1035 §2.3.4).
pub(super) fn check_provable(record: &DomainRecord, required: RequiredProof) -> Result<(), Refusal> {
    let asked = match (required, &record.pattern) {
        (RequiredProof::Txt, pattern) => format!("{OWNERSHIP_LABEL}.{}", pattern.name()),
        (RequiredProof::Dns, Pattern::Wildcard(suffix)) => format!("{PROBE_LABEL}.{suffix}"),
        (RequiredProof::Dns, Pattern::Exact(_)) | (RequiredProof::None, _) => return Ok(()),
    };
    if record.status != DomainStatus::Pending || ServerName::parse(&asked).is_ok() {
        return Ok(());
    }
    Err(Refusal::Unprovable(record.pattern.clone()))
}

/// Whether a CA may issue for what `pattern` covers.
fn certifiable(pattern: &Pattern, issuance: Issuance) -> Result<Option<Warning>, Refusal> {
    let name = pattern.name();
    if let Some(kind) = name.public_suffix() {
        let is_refused = match kind {
            // Its operator may have a site there, and CAs issue for it.
            Type::Private => matches!(pattern, Pattern::Wildcard(_)),
            Type::Icann => true,
        };
        if is_refused {
            return Err(Refusal::PublicSuffix { pattern: pattern.clone(), kind });
        }
    }
    // CA/Browser Forum, Baseline Requirements §7.1.2.7.12: no underscore in a dNSName.
    match (name.as_str().contains('_'), issuance) {
        (true, Issuance::Acme) => return Err(Refusal::Underscore(pattern.clone())),
        (true, Issuance::Internal) => return Ok(Some(Warning::Underscore)),
        (false, _) => {}
    }
    let is_single = name.parent().is_none() && issuance == Issuance::Acme;
    Ok(is_single.then_some(Warning::SingleLabel))
}

fn reachable(
    pattern: &Pattern,
    target: &Target,
    settings: DomainSettings,
    rules: &Rules,
) -> Result<Option<Warning>, Refusal> {
    let refuse = |refusal: fn(Pattern, Target) -> Refusal| Err(refusal(pattern.clone(), target.clone()));
    if rules.listeners.iter().any(|own| leads_to(target, *own)) {
        return refuse(|pattern, target| Refusal::OwnListener { pattern, target });
    }
    let mut addresses = target.endpoints().iter().filter_map(known_address);
    match addresses.find(|address| !(rules.permits)(address)) {
        Some(EndpointAddress::Tcp(_)) => {
            return refuse(|pattern, target| Refusal::Address { pattern, target });
        }
        Some(EndpointAddress::Unix(_)) => {
            return refuse(|pattern, target| Refusal::Socket { pattern, target });
        }
        None => {}
    }
    let mut wanted = target.endpoints().iter().filter_map(|endpoint| endpoint.tls.as_ref());
    if wanted.any(|name| !rules.entry_tls.contains(name)) {
        return refuse(|pattern, target| Refusal::Tls { pattern, target });
    }
    Ok(covers_a_host(pattern, settings, target).then_some(Warning::TargetsItself))
}

/// The address that an endpoint is known to have without asking anybody; RFC 6761 §6.3: `localhost` is loopback.
fn known_address(endpoint: &Endpoint) -> Option<EndpointAddress> {
    match &endpoint.location {
        Location::Tcp { host, port } => {
            literal(host).map(|address| EndpointAddress::Tcp(SocketAddr::new(address, *port)))
        }
        Location::Unix(path) => Some(EndpointAddress::Unix(path.clone())),
    }
}

fn literal(host: &TargetHost) -> Option<IpAddr> {
    match host {
        TargetHost::Address(address) => Some(*address),
        TargetHost::Name(name) => {
            let is_local = name.as_str() == "localhost" || name.as_str().ends_with(".localhost");
            is_local.then_some(IpAddr::V4(Ipv4Addr::LOCALHOST))
        }
    }
}
