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
    let day = day.as_deref().map(parsed).transpose()?;
    let cursors = Cursors::of(&holder.hash, &("audit", tenant.as_str(), day.as_ref().map(LogDay::as_str)));
    let today = LogDay::of(Micros::of(clock::wall()));
    let (day, after) = begin(&cursors, day, cursor.as_deref(), today)?;
    let part = state_table::audit(&api.instance.store, &tenant, &day, after.as_deref(), limit).await?;
    let items = part.records.into_iter().map(Into::into).collect();
    Ok(AuditList { items, next: part.next.map(|next| cursors.seal(&(day.as_str(), next))) })
}

fn parsed(text: &str) -> Result<LogDay, Problem> {
    LogDay::parse(text).ok_or_else(|| {
        let fault = format!("day: `{text}` is no day; write it like `2026-11-29`");
        Problem::new(ProblemKind::Invalid, fault).of("day", text)
    })
}

/// The day of a part, and the change behind which it begins. A list that began without a day goes on with what was today then.
fn begin(
    cursors: &Cursors,
    day: Option<LogDay>,
    cursor: Option<&str>,
    today: LogDay,
) -> Result<(LogDay, Option<String>), Problem> {
    let Some(cursor) = cursor else { return Ok((day.unwrap_or(today), None)) };
    let (begun, after): (String, String) = opened(cursors, cursor)?;
    Ok((day.or_else(|| LogDay::parse(&begun)).unwrap_or(today), Some(after)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_token::ApiToken;

    #[test]
    fn a_list_of_todays_changes_goes_on_after_midnight() {
        let hash = ApiToken::generate().unwrap().hash();
        let cursors = |day: Option<&LogDay>| Cursors::of(&hash, &("audit", "acme", day.map(LogDay::as_str)));
        let day = |text| LogDay::parse(text).unwrap();
        let (one, next) = (day("2026-11-29"), day("2026-11-30"));
        let cursor = cursors(None).seal(&(one.as_str(), "place"));
        let found = begin(&cursors(None), None, Some(&cursor), next.clone()).unwrap();
        assert_eq!(found, (one.clone(), Some("place".to_owned())));
        let other = begin(&cursors(Some(&next)), Some(next.clone()), Some(&cursor), next.clone());
        assert_eq!(other.unwrap_err().kind(), ProblemKind::Malformed, "it is of another question");
        assert_eq!(begin(&cursors(None), None, None, next.clone()).unwrap(), (next.clone(), None));
        assert_eq!(begin(&cursors(Some(&one)), Some(one.clone()), None, next).unwrap(), (one, None));
    }
}
