//! What a rollout would end for customers: names, addresses and URLs that stand in others' DNS and settings, and lead nowhere once they are gone.
//! Such a change has to be confirmed by the stage's name, as a removal has to (`what_customers_point_to_goes_only_where_the_stages_name_is_typed_again`).

use super::{Purpose, Refusal};
use crate::{
    domain_functions::Verifier,
    found::Found,
    stack::{Condition, Kind, StackKey},
    wanted::Wanted,
};

/// What would end, unless the operator has confirmed it.
pub(super) fn of_rollout(wanted: &Wanted, found: &Found, purpose: Purpose) -> Vec<Refusal> {
    if wanted.is_confirmed {
        return Vec::new();
    }
    let home = home(wanted, found);
    match purpose {
        // Whose outputs are looked for at home as well.
        Purpose::Update => home.into_iter().collect(),
        Purpose::Deploy => [home, name(wanted, found), ipv6(wanted, found), url(wanted, found)]
            .into_iter()
            .flatten()
            .collect(),
    }
}

/// Of a fleet whose tables and accelerator are in another region than the one that is wanted.
fn home(wanted: &Wanted, found: &Found) -> Option<Refusal> {
    let fleets = found
        .stacks
        .iter()
        .filter(|(key, stack)| key.kind == Kind::Fleet && stack.condition() != Condition::Absent);
    let elsewhere = fleets.filter_map(|(fleet, stack)| {
        let now = stack.parameters.get("HomeRegion")?;
        (now != wanted.home.as_str()).then(|| (fleet.clone(), now.clone()))
    });
    elsewhere.min().map(|(fleet, now)| {
        let (wanted, stage) = (wanted.home.clone(), wanted.stage.clone());
        Refusal::OtherHome { fleet, now, wanted, stage }
    })
}

/// Of the record that the accelerator's stack holds.
fn name(wanted: &Wanted, found: &Found) -> Option<Refusal> {
    let edge = found.stack(&StackKey::new(Kind::Edge, &wanted.home))?;
    let now = |parameter: &str| edge.parameters.get(parameter).filter(|text| !text.is_empty());
    let (zone, name) = (now("HostedZoneId")?, now("Name")?);
    (*zone != wanted.edge.hosted_zone_id || *name != wanted.edge.name).then(|| {
        let (name, zone, stage) = (name.clone(), zone.clone(), wanted.stage.clone());
        Refusal::NameWouldGo { name, zone, stage }
    })
}

/// Of the accelerator's addresses and the record of its name.
fn ipv6(wanted: &Wanted, found: &Found) -> Option<Refusal> {
    let edge = found.stack(&StackKey::new(Kind::Edge, &wanted.home))?;
    let is_dual_stack = edge.parameters.get("IpAddressType").is_some_and(|now| now == "DUAL_STACK");
    (is_dual_stack && wanted.edge.ip_address_type != "DUAL_STACK")
        .then(|| Refusal::Ipv6WouldGo { stage: wanted.stage.clone() })
}

/// Of the verifier. A stack that was never made, or that is half deleted, has none that anybody asks.
fn url(wanted: &Wanted, found: &Found) -> Option<Refusal> {
    let functions = found.stack(&StackKey::new(Kind::Functions, &wanted.home))?;
    let was_made = matches!(functions.condition(), Condition::Ready | Condition::Stuck);
    let is_public = functions.parameters.get("Verifier").is_some_and(|now| now == Verifier::Public.as_str());
    let stays = wanted.domain_functions.as_ref().is_some_and(|wanted| wanted.verifier == Verifier::Public);
    (was_made && is_public && !stays).then(|| Refusal::UrlWouldGo { stage: wanted.stage.clone() })
}
