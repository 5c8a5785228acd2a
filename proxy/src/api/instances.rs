//! The instances of the fleet.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ApiState,
    holder::{Holder, Reads},
    openapi::Queries,
    problem::{Problem, ProblemKind},
};
use crate::{
    clock,
    control::fleet::{self, Fleet, FleetInstance, FleetWarning, GuardSummary, InstanceReport},
    store::instant::Micros,
};

/// The instances that were heard of within the last hour.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InstanceList {
    /// By region, then by id.
    items: Vec<InstanceResource>,
}

/// What an instance said of itself, at most once a minute.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Instance)]
struct InstanceResource {
    /// The id of its EC2 instance, or one of its own.
    #[schema(example = "i-0123456789abcdef0")]
    id: String,
    /// The name of its machine.
    host: String,
    /// Where it is, if it is known to be on EC2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "eu-central-1")]
    region: Option<String>,
    /// Its release.
    #[schema(example = "1.0.0")]
    version: String,
    /// When it started.
    started_at: String,
    /// When it said what stands here.
    seen_at: String,
    /// How long ago that was.
    seen_seconds_ago: u64,
    /// Whether it serves: `serving`, `degraded`, `draining`, ...
    #[schema(example = "serving")]
    phase: String,
    /// Names that it knows.
    names: u64,
    /// Its open connections.
    connections: u64,
    /// Its guard; absent, it is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    guard: Option<GuardResource>,
    /// The last warning or error of its log.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    last_warning: Option<LastWarningResource>,
    /// What to look at.
    warnings: Vec<WarningResource>,
}

/// The guard of an instance.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Guard)]
struct GuardResource {
    /// What happens to unknown names: `observe`, `adaptive`, `strict`.
    #[schema(example = "adaptive")]
    mode: String,
    /// Whether it happens now: `on`, or why not.
    #[schema(example = "on")]
    enforcement: String,
    /// How it is attached: `native`, `generic`.
    #[schema(example = "native")]
    attach: String,
    /// To how many interfaces it is attached.
    attached: u64,
    /// To how many it should be.
    interfaces: u64,
    /// Names in the kernel.
    names: u64,
}

/// A line of an instance's log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LastWarning)]
struct LastWarningResource {
    /// When.
    at: String,
    /// What; at most 200 characters.
    text: String,
}

/// Something about an instance that an operator should look at.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Warning)]
struct WarningResource {
    /// What, for programs: `silent`, `other_version`, `phase`, `names_unread`, `guard_detached`, `guard_behind`.
    #[schema(example = "silent")]
    kind: &'static str,
    /// What, for people, and what to do.
    detail: String,
}

/// List the instances of the fleet
///
/// As each said of itself within the last hour, once a minute. With a token of all tenants alone.
#[utoipa::path(
    get, path = "/api/v1/instances", tag = "fleet", operation_id = "listInstances",
    responses((status = 200, description = "All of them.", body = InstanceList), Queries)
)]
pub(super) async fn list(
    State(api): State<Arc<ApiState>>,
    holder: Holder<Reads>,
) -> Result<Json<InstanceList>, Problem> {
    let Fleet { instances } = whole_fleet(&api, &holder).await?;
    Ok(Json(InstanceList { items: instances.into_iter().map(Into::into).collect() }))
}

/// The fleet, for who may see all of it.
pub(crate) async fn whole_fleet(api: &ApiState, holder: &Holder<Reads>) -> Result<Fleet, Problem> {
    if holder.requester.tenant().is_some() {
        let fault = "instances are shown to tokens of all tenants alone";
        return Err(Problem::new(ProblemKind::Forbidden, fault));
    }
    Ok(fleet::fleet(&api.instance.store, Micros::of(clock::wall())).await?)
}

impl From<FleetInstance> for InstanceResource {
    fn from(instance: FleetInstance) -> Self {
        let FleetInstance { id, seen_at, seen_seconds_ago, report, warnings } = instance;
        let InstanceReport {
            host,
            region,
            version,
            started_at,
            phase,
            names,
            connections,
            guard,
            last_warning,
            ..
        } = report;
        Self {
            id,
            host,
            region,
            version,
            started_at: started_at.to_string(),
            seen_at: seen_at.to_string(),
            seen_seconds_ago,
            phase,
            names,
            connections,
            guard: guard.map(Into::into),
            last_warning: last_warning
                .map(|last| LastWarningResource { at: last.at.to_string(), text: last.text }),
            warnings: warnings.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<GuardSummary> for GuardResource {
    fn from(guard: GuardSummary) -> Self {
        let GuardSummary { mode, enforcement, attach, attached, interfaces, names, .. } = guard;
        Self { mode, enforcement, attach, attached, interfaces, names }
    }
}

impl From<FleetWarning> for WarningResource {
    fn from(warning: FleetWarning) -> Self {
        Self { kind: warning.kind.as_str(), detail: warning.detail }
    }
}
