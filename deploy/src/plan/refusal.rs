//! What forbids a plan: each a variant, with field, value and remedy.

use super::{
    Purpose, Removal, losses,
    removal::{is_failed, own_tables},
    rollout::{becomes_dual_stack, functions_are_replaced},
};
use crate::{
    found::{Found, FoundRegion},
    stack::{Condition, Kind, StackKey},
    wanted::{ImageChoice, Region, RegionWanted, Stage, Wanted},
};

/// Why nothing is changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "region: `{0}` is none that this account may use; `aws ec2 describe-regions` lists them, and the console enables others"
    )]
    UnknownRegion(Region),
    #[error("function: there is no file `{0}`; `cargo xtask package function` makes it, and says its name")]
    NoFunction(String),
    #[error(
        "domain_functions.package: there is no file `{0}`; `cargo xtask package function` makes it, and says its name"
    )]
    NoDomainFunctions(String),
    #[error(
        "regions.{region}: no image of version `{version}` is published there; `cargo xtask image publish` does, or set `image_id`"
    )]
    NoImage { region: Region, version: String },
    #[error(
        "regions.{region}.image_id: `{id}` is not there, or is not this account's to launch; images have another id in each region"
    )]
    OtherImage { region: Region, id: String },
    #[error(
        "--image-version: this account has no image of version `{version}` in {region} for `{instance_type}`; `cargo xtask image ami` makes it there (`ami_regions`), or name one of another account as `image_id` in `[regions.{region}]` and leave this out"
    )]
    NoImageOfVersion { region: Region, version: String, instance_type: String },
    #[error(
        "--image-version: `{version}` is the version of {} images in {region} ({}); deregister those that are not meant, or name one as `image_id` in `[regions.{region}]` and leave this out",
        ids.len(),
        first_few(ids)
    )]
    SeveralImages { region: Region, version: String, ids: Vec<String> },
    #[error("regions.{region}: the image `{id}` is not available yet; wait until EC2 has copied it")]
    UnfinishedImage { region: Region, id: String },
    #[error("regions.{region}.instance_type: `{instance_type}` is not offered there; choose another")]
    NoInstanceType { region: Region, instance_type: String },
    #[error(
        "regions.{region}.instance_type: `{instance_type}` is not of the image's architecture, {architecture}; `t4g` and `c7g` are arm64"
    )]
    OtherArchitecture { region: Region, instance_type: String, architecture: String },
    #[error(
        "regions.{region}.instance_type: `{instance_type}` has one virtual CPU, so its card has one queue, and the guard's native mode needs two; write \
         `attach = \"generic\"` under `[guard]` in the settings, or choose another type"
    )]
    NoQueueForGuard { region: Region, instance_type: String },
    #[error("{field}: `{value}` is none that CloudFormation takes; write it as `{form}` says: {description}")]
    Parameter { field: String, value: String, form: String, description: String },
    #[error("{field}: `{value}` is of another region; the stack in {region} takes one of {region} alone")]
    Elsewhere { field: String, value: String, region: Region },
    #[error("regions.{region}: there is no default VPC with public subnets; set `vpc` and `subnets`")]
    NoNetwork { region: Region },
    #[error(
        "regions.{region}.instance_count: `{count}`, and one more while it is updated, want {wanted} virtual CPUs; the quota L-1216C47A is {permitted}: have it raised, or take fewer"
    )]
    TooFewCpus { region: Region, count: u32, wanted: u32, permitted: u32 },
    #[error(
        "edge: the account has {used} accelerators, and its quota is {most}; have `Standard accelerators per AWS account` raised, or delete one"
    )]
    TooManyAccelerators { used: u32, most: u32 },
    #[error("edge.hosted_zone_id: the account has no zone `{0}`; `aws route53 list-hosted-zones` lists them")]
    NoZone(String),
    #[error("edge.name: `{name}` is not in the zone {zone}; give a name under it")]
    OutsideZone { name: String, zone: String },
    #[error(
        "edge.name: `{name}` has a record of type {kind} in the zone already, and CloudFormation takes over none; leave `[edge]`'s zone and name out, and lead the record to the accelerator by hand once its fleet serves: docs/coming-from-caddy.md, \"A name that is there already\""
    )]
    NameIsTaken { name: String, kind: String },
    #[error(
        "edge.ip_address_type: the accelerator takes no endpoint without IPv6 once it is `DUAL_STACK`, so every fleet comes before it; leave `--region` out"
    )]
    DualStackWithoutAll,
    #[error(
        "home_region: {fleet} has its tables and its accelerator in `{now}`; in `{wanted}` others would be made, tables without an entry and an accelerator with other addresses, and those that customers' domains point to would lead to no instance; write `{now}` again, {}",
        or_confirm(stage)
    )]
    OtherHome { fleet: StackKey, now: String, wanted: Region, stage: Stage },
    #[error(
        "edge.name: `{name}` would be deleted from the zone {zone}, and with it what customers' domains point to; write both under `[edge]` again, {}",
        or_confirm(stage)
    )]
    NameWouldGo { name: String, zone: String, stage: Stage },
    #[error(
        "edge.ip_address_type: the accelerator's static IPv6 addresses would be lost for ever, and the name's AAAA record with them; write `DUAL_STACK` again, {}",
        or_confirm(stage)
    )]
    Ipv6WouldGo { stage: Stage },
    #[error(
        "domain_functions.verifier: the verifier's URL would be lost for ever, and whoever asks it gets no answer; write `public` again, {}",
        or_confirm(stage)
    )]
    UrlWouldGo { stage: Stage },
    #[error("{key}: it is `{status}`: something is under way; wait for its end, then try again")]
    Busy { key: StackKey, status: String },
    #[error(
        "{key}: it is `{status}`: its creation failed, and its events say why; `gatehouse-deploy remove --failed --stage {stage}` deletes it with what it left, and nothing that ever worked"
    )]
    Undone { key: StackKey, status: String, stage: Stage },
    #[error(
        "{key}: it is `{status}`: its deletion failed, and its events say why; `{}` goes on with it, {}",
        by_hand("delete-stack", key, stage),
        lost_with(key.kind)
    )]
    HalfDeleted { key: StackKey, status: String, stage: Stage },
    #[error(
        "{key}: it is `{status}`: an update failed, and so did the way back; its events say why, and `{}` goes on with it",
        by_hand("continue-update-rollback", key, stage)
    )]
    Stuck { key: StackKey, status: String, stage: Stage },
    #[error("{0}: there is none to update; `gatehouse-deploy deploy` makes it")]
    NothingToUpdate(StackKey),
    #[error(
        "--confirm: the accelerator's static addresses would be lost for ever; say so by `--confirm {stage}`"
    )]
    Unconfirmed { stage: String },
    #[error(
        "--confirm: {} would be deleted with all their data, which a creation that failed has left; say so by `--confirm {stage}`",
        tables.join(" ")
    )]
    UnconfirmedTables { tables: Vec<String>, stage: String },
    #[error(
        "--failed: of no stack of this stage has the creation failed; `--region` and `--all` remove others"
    )]
    NothingFailed,
    #[error("--region: `{0}` has neither a fleet nor a bucket of this stage")]
    NothingToRemove(Region),
}

/// Of what is to be made or changed.
pub(super) fn of_rollout(wanted: &Wanted, found: &Found, purpose: Purpose) -> Vec<Refusal> {
    let mut refused = Vec::new();
    if !found.looked {
        return refused;
    }
    let regions = || std::iter::once(&wanted.home).chain(wanted.regions.keys());
    let mut unknown: Vec<_> = regions().filter(|region| !found.regions.contains(region)).collect();
    unknown.sort();
    unknown.dedup();
    refused.extend(unknown.into_iter().cloned().map(Refusal::UnknownRegion));
    if !refused.is_empty() {
        // Nobody could look there.
        return refused;
    }
    let judged =
        found.stacks.iter().filter(|(key, stack)| is_in_the_way(key, stack.condition(), wanted, purpose));
    refused.extend(judged.filter_map(|(key, stack)| state(key, &stack.status, &wanted.stage)));
    match purpose {
        Purpose::Update => {
            let fleets = wanted.regions.keys().map(|region| StackKey::new(Kind::Fleet, region));
            let absent = fleets.filter(|key| found.stack(key).is_none());
            refused.extend(absent.map(Refusal::NothingToUpdate));
        }
        Purpose::Deploy => of_edge(&mut refused, wanted, found),
    }
    for (region, of_region) in &wanted.regions {
        let place = found.places.get(region).cloned().unwrap_or_default();
        of_place(&mut refused, wanted, region, of_region, &place);
    }
    of_packages(&mut refused, wanted, found, purpose);
    refused.extend(losses::of_rollout(wanted, found, purpose));
    refused
}

/// Of what is to go. A stack in any settled state can be deleted.
pub(super) fn of_removal(wanted: &Wanted, found: &Found, removal: &Removal) -> Vec<Refusal> {
    let busy = found.stacks.iter().filter(|(_, stack)| stack.condition() == Condition::Busy);
    let mut refused: Vec<_> =
        busy.filter_map(|(key, stack)| state(key, &stack.status, &wanted.stage)).collect();
    match removal {
        Removal::Regions(regions) => {
            let has = |region: &Region| {
                found.stacks.keys().any(|key| &key.region == region && !key.kind.is_at_home())
            };
            let bare = regions.iter().filter(|region| !has(region));
            refused.extend(bare.cloned().map(Refusal::NothingToRemove));
        }
        Removal::Failed { confirmed } => {
            let stage = wanted.stage.to_string();
            let mut failed = found.stacks.keys().filter(|key| is_failed(found, key)).peekable();
            if failed.peek().is_none() {
                refused.push(Refusal::NothingFailed);
            }
            let tables: Vec<_> = failed.flat_map(|key| own_tables(found, key)).collect();
            if !tables.is_empty() && confirmed.as_ref() != Some(&stage) {
                refused.push(Refusal::UnconfirmedTables { tables, stage });
            }
        }
        Removal::All { confirmed, .. } => {
            let stage = wanted.stage.to_string();
            if confirmed.as_ref() != Some(&stage) {
                refused.push(Refusal::Unconfirmed { stage });
            }
        }
    }
    refused
}

/// Whether a stack's condition forbids a rollout. What it neither changes nor takes anything from does not: an image that mends a hole
/// must not wait for functions that could not be made.
fn is_in_the_way(key: &StackKey, condition: Condition, wanted: &Wanted, purpose: Purpose) -> bool {
    match (purpose, key.kind) {
        (Purpose::Deploy, Kind::Functions) => !functions_are_replaced(wanted, condition),
        (Purpose::Update, Kind::Functions) => false,
        // Their outputs are parameters of fleets, and may be about to change.
        (Purpose::Update, Kind::Domains | Kind::Edge) => condition == Condition::Busy,
        (Purpose::Update, Kind::Artifacts | Kind::Fleet) => wanted.regions.contains_key(&key.region),
        (Purpose::Deploy, _) => true,
    }
}

fn state(key: &StackKey, status: &str, stage: &Stage) -> Option<Refusal> {
    let (key, status, stage) = (key.clone(), status.to_owned(), stage.clone());
    match Condition::of(&status) {
        Condition::Absent | Condition::Ready => None,
        Condition::Busy => Some(Refusal::Busy { key, status }),
        Condition::Undone => Some(Refusal::Undone { key, status, stage }),
        Condition::HalfDeleted => Some(Refusal::HalfDeleted { key, status, stage }),
        Condition::Stuck => Some(Refusal::Stuck { key, status, stage }),
    }
}

/// The command of AWS's own that is about this stack alone.
fn by_hand(verb: &str, key: &StackKey, stage: &Stage) -> String {
    format!("aws cloudformation {verb} --stack-name {} --region {}", key.name(stage), key.region)
}

/// How what would be lost is lost on purpose.
fn or_confirm(stage: &Stage) -> String {
    format!("or say that it shall be so by `gatehouse-deploy deploy --stage {stage} --confirm {stage}`")
}

/// As many of them as a person looks at.
fn first_few(ids: &[String]) -> String {
    let more = if ids.len() > MOST_IDS { " ..." } else { "" };
    format!("{}{more}", ids.iter().take(MOST_IDS).map(String::as_str).collect::<Vec<_>>().join(" "))
}

/// What goes with a stack whose deletion goes on.
fn lost_with(kind: Kind) -> &'static str {
    match kind {
        Kind::Edge => {
            "and the accelerator's static addresses are lost for ever unless `--retain-resources` names it"
        }
        Kind::Domains => "and leaves tables and key",
        Kind::Artifacts | Kind::Functions | Kind::Fleet => "and with all that it still holds",
    }
}

fn of_place(
    refused: &mut Vec<Refusal>,
    wanted: &Wanted,
    region: &Region,
    of_region: &RegionWanted,
    place: &FoundRegion,
) {
    let region = region.clone();
    if of_region.network.is_none() && place.network.is_none() {
        refused.push(Refusal::NoNetwork { region: region.clone() });
    }
    refused.extend(of_image(wanted, &region, of_region, place));
    let instance_type = of_region.instance_type.clone();
    let Some(found) = &place.instance_type else {
        return refused.push(Refusal::NoInstanceType { region, instance_type });
    };
    if let Some(image) = &place.image
        && !found.architectures.contains(&image.architecture)
    {
        let (region, architecture) = (region.clone(), image.architecture.clone());
        let instance_type = instance_type.clone();
        refused.push(Refusal::OtherArchitecture { region, instance_type, architecture });
    }
    // Else no instance would start, which is told after twenty minutes.
    if found.vcpus < 2 && wanted.has_native_guard(of_region) {
        refused.push(Refusal::NoQueueForGuard { region: region.clone(), instance_type });
    }
    let count = of_region.instance_count;
    let cpus = found.vcpus.saturating_mul(count.saturating_add(1));
    if let Some(permitted) = place.vcpus_permitted.filter(|permitted| *permitted < cpus) {
        refused.push(Refusal::TooFewCpus { region, count, wanted: cpus, permitted });
    }
}

fn of_image(
    wanted: &Wanted,
    region: &Region,
    of_region: &RegionWanted,
    place: &FoundRegion,
) -> Option<Refusal> {
    let region = region.clone();
    let version = wanted.image_version.clone();
    match (&place.image, &of_region.image) {
        (Some(image), _) if image.is_available => None,
        (Some(image), _) => Some(Refusal::UnfinishedImage { region, id: image.id.clone() }),
        (None, ImageChoice::Id(id)) => Some(Refusal::OtherImage { region, id: id.clone() }),
        (None, ImageChoice::Published) => Some(Refusal::NoImage { region, version }),
        (None, ImageChoice::Tagged) if place.same_version.is_empty() => {
            let instance_type = of_region.instance_type.clone();
            Some(Refusal::NoImageOfVersion { region, version, instance_type })
        }
        (None, ImageChoice::Tagged) => {
            Some(Refusal::SeveralImages { region, version, ids: place.same_version.clone() })
        }
    }
}

fn of_packages(refused: &mut Vec<Refusal>, wanted: &Wanted, found: &Found, purpose: Purpose) {
    let is_uploaded = |region| found.places.get(region).is_some_and(|place| place.has_code);
    if !found.has_package && !wanted.regions.keys().all(is_uploaded) {
        refused.push(Refusal::NoFunction(wanted.function.path().display().to_string()));
    }
    if let (Some(functions), Purpose::Deploy) = (&wanted.domain_functions, purpose)
        && !found.functions.is_here
        && !found.functions.is_uploaded
    {
        refused.push(Refusal::NoDomainFunctions(functions.package.path().display().to_string()));
    }
}

fn of_edge(refused: &mut Vec<Refusal>, wanted: &Wanted, found: &Found) {
    if becomes_dual_stack(wanted, found) && !wanted.others.is_empty() {
        refused.push(Refusal::DualStackWithoutAll);
    }
    let edge = StackKey::new(Kind::Edge, &wanted.home);
    if let (None, Some(quota)) = (found.stack(&edge), found.accelerators)
        && quota.used >= quota.most
    {
        refused.push(Refusal::TooManyAccelerators { used: quota.used, most: quota.most });
    }
    let (id, name) = (&wanted.edge.hosted_zone_id, &wanted.edge.name);
    if id.is_empty() {
        return;
    }
    match found.zone.as_deref().map(|zone| zone.trim_end_matches('.')) {
        None => refused.push(Refusal::NoZone(id.clone())),
        Some(zone) if name == zone || name.ends_with(&format!(".{zone}")) => {}
        Some(zone) => {
            refused.push(Refusal::OutsideZone { name: name.clone(), zone: zone.to_owned() });
        }
    }
    if let Some(kind) = taken(wanted, found) {
        refused.push(Refusal::NameIsTaken { name: name.clone(), kind: kind.to_owned() });
    }
}

/// The type of a record that keeps the stack from making its own: one of the same type, or an alias of another name (RFC 1034 §3.6.2). Its own
/// are no others.
fn taken<'a>(wanted: &Wanted, found: &'a Found) -> Option<&'a str> {
    let edge = found.stack(&StackKey::new(Kind::Edge, &wanted.home));
    let is_now = |parameter: &str, value: &str| {
        edge.and_then(|edge| edge.parameters.get(parameter)).is_some_and(|now| now == value)
    };
    let has_name = is_now("HostedZoneId", &wanted.edge.hosted_zone_id) && is_now("Name", &wanted.edge.name);
    let makes = |kind: &str| match kind {
        "A" | "CNAME" => !has_name,
        "AAAA" => {
            wanted.edge.ip_address_type == "DUAL_STACK"
                && !(has_name && is_now("IpAddressType", "DUAL_STACK"))
        }
        _ => false,
    };
    found.records.iter().map(String::as_str).find(|kind| makes(kind))
}

const MOST_IDS: usize = 5;
