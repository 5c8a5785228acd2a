//! Many entries by one request. Not here: how a row is asked for, and what is told of it (`domains::import`).

use std::sync::Arc;

use axum::{Json, extract::State};

use super::{
    ApiState,
    domains::decide,
    extract::{JsonBody, Parameters},
    holder::{Holder, Writes},
    idempotency::IdempotencyKey,
    openapi::Changes,
    problem::{Problem, ProblemKind},
    resource::ImportResource,
    wanted::{ChangeParameters, NewDomains},
};
use crate::domains::import::{ImportReport, ImportRow};

/// Add many entries
///
/// Each as by `addDomain`, at most 500, one request at a time at an instance. A row that is refused hinders no other, but a request that
/// cannot be read is refused as a whole. If the answer is lost, or does not come in time, repeat the request: what was done is unchanged then.
#[utoipa::path(
    post, path = "/api/v1/imports", tag = "domains", operation_id = "importDomains",
    params(ChangeParameters, IdempotencyKey),
    request_body = NewDomains,
    responses((status = 200, description = "What became of each, or would.", body = ImportResource), Changes)
)]
pub(super) async fn import(
    State(api): State<Arc<ApiState>>,
    holder: Holder<Writes>,
    Parameters(parameters): Parameters<ChangeParameters>,
    JsonBody(new): JsonBody<NewDomains>,
) -> Result<Json<ImportResource>, Problem> {
    let rows = new.rows(&holder.requester)?;
    carry_out(&api, rows, parameters.dry_run).await.map(|report| Json(report.into()))
}

/// Does what `rows` ask for, or says what it would do.
///
/// # Cancel safety
/// Rows that were asked for may have been done; the others are not asked for.
pub(crate) async fn carry_out(
    api: &Arc<ApiState>,
    rows: Vec<ImportRow>,
    is_dry_run: bool,
) -> Result<ImportReport<Problem>, Problem> {
    let _turn = api.imports.try_acquire().map_err(|_| {
        let problem = Problem::new(ProblemKind::TooMany, "another import is under way at this instance");
        problem.mend("wait for the seconds of `Retry-After`")
    })?;
    let report = ImportReport::of(rows, is_dry_run, |request| {
        let api = Arc::clone(api);
        async move { decide(&api, request, is_dry_run).await.map(|decision| decision.report) }
    });
    Ok(report.await)
}
