//! The back-off of a name whose orders have failed, ended on request.

use std::sync::Arc;

use axum::{Json, extract::State};

use super::{
    ApiState,
    domains::entry,
    extract::{NamedDomain, NoParameters, Parameters},
    holder::{Holder, Writes},
    idempotency::IdempotencyKey,
    openapi::Acts,
    problem::{Problem, ProblemKind},
    resource::Retry,
};
use crate::name::Pattern;

/// Order the certificate of an entry without waiting
///
/// Where orders of its name have failed, or of the other one of its pair, the next handshake places one at once. How often orders may fail within
/// an hour stays bounded.
#[utoipa::path(
    post, path = "/api/v1/domains/{domain}/retry", tag = "domains", operation_id = "retryDomain",
    params(NamedDomain, IdempotencyKey),
    responses((status = 200, description = "Its next handshake does not wait.", body = Retry), Acts)
)]
pub(super) async fn retry(
    State(api): State<Arc<ApiState>>,
    holder: Holder<Writes>,
    NamedDomain(pattern): NamedDomain,
    Parameters(NoParameters {}): Parameters<NoParameters>,
) -> Result<Json<Retry>, Problem> {
    end_back_off(&api, &holder, &pattern).await.map(Json)
}

/// Ends the back-off of the entry of `pattern`, if its holder may work with it.
pub(crate) async fn end_back_off(
    api: &ApiState,
    holder: &Holder<Writes>,
    pattern: &Pattern,
) -> Result<Retry, Problem> {
    let (record, _) = entry(api, holder, pattern).await?;
    if matches!(pattern, Pattern::Wildcard(_)) {
        let fault = format!("domain: `{pattern}` is a wildcard, whose names have certificates of their own");
        let problem = Problem::new(ProblemKind::Invalid, fault).of("domain", &pattern.to_string());
        return Err(problem.mend("add the name itself, or have the operator do it"));
    }
    let retried = api.instance.retry_entry(&record).await?;
    if retried.had_failed {
        let caller = &holder.requester.name;
        tracing::info!(server_name = %pattern, caller, "the back-off of a name was ended");
    }
    Ok(Retry { domain: pattern.to_string(), had_failed: retried.had_failed })
}
