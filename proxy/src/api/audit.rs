//! Who changed which entry.

use std::sync::Arc;

use axum::{Json, extract::State};

use super::{
    ApiState,
    cursor::Cursors,
    domains::{limited, opened},
    extract::Parameters,
    holder::{Audits, Holder},
    openapi::Queries,
    problem::{Problem, ProblemKind},
    resource::AuditList,
    wanted::AuditParameters,
};
use crate::{
    clock,
    store::{
        instant::Micros,
        state_table::{self, LogDay},
    },
};

/// List the changes of a day
///
/// Of one tenant's entries, the oldest first. They are kept for `domains.audit_kept`.
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "audit", operation_id = "listChanges", params(AuditParameters),
    responses((status = 200, description = "Part of the list.", body = AuditList), Queries)
)]
pub(super) async fn list(
    State(api): State<Arc<ApiState>>,
    holder: Holder<Audits>,
    Parameters(parameters): Parameters<AuditParameters>,
) -> Result<Json<AuditList>, Problem> {
    part(&api, &holder, parameters).await.map(Json)
}

/// What the list of a day's changes begins with, or goes on with.
pub(crate) async fn part(
    api: &ApiState,
    holder: &Holder<Audits>,
    parameters: AuditParameters,
) -> Result<AuditList, Problem> {
    let AuditParameters { tenant, day, limit, cursor } = parameters;
    let (tenant, limit) = (holder.tenant(tenant)?.unwrap_or_default(), limited(limit)?);
    let day = match &day {
        None => LogDay::of(Micros::of(clock::wall())),
        Some(text) => LogDay::parse(text).ok_or_else(|| {
            let fault = format!("day: `{text}` is no day; write it like `2026-11-29`");
            Problem::new(ProblemKind::Invalid, fault).of("day", text)
        })?,
    };
    let cursors = Cursors::of(&holder.hash, &("audit", tenant.as_str(), day.as_str()));
    let after: Option<String> = cursor.map(|cursor| opened(&cursors, &cursor)).transpose()?;
    let part = state_table::audit(&api.instance.store, &tenant, &day, after.as_deref(), limit).await?;
    let items = part.records.into_iter().map(Into::into).collect();
    Ok(AuditList { items, next: part.next.map(|next| cursors.seal(&next)) })
}
