//! Requests about entries of the domains table. What is decided is decided by `domains::admin`.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use hyper::{
    HeaderMap, StatusCode,
    header::{ETAG, HeaderValue, LOCATION},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    ApiState,
    cursor::Cursors,
    extract::{IfMatch, JsonBody, NamedDomain, Parameters},
    holder::{Holder, Reads, Writes},
    idempotency::IdempotencyKey,
    openapi::{Acts, Changes, Queries},
    problem::{Problem, ProblemKind},
    resource::{ChangedResource, DnsRecords, DomainList, DomainResource},
    search,
    wanted::{ChangeParameters, DomainPatch, ListParameters, NewDomain, RecordsParameters},
};
use crate::{
    config::Maintenance,
    domains::{
        ChangeError,
        admin::{Action, Decision, Existing, Refusal, Request, Wanted},
    },
    name::{self, Pattern},
    store::domain_table::{
        self, DEFAULT_TENANT, DomainRecord, DomainStatus, ListQuery, Tenant,
        checks::{Checks, get_checked},
    },
    telemetry::admit_line,
};

/// List entries
///
/// Of one tenant in the order of their names; of all in no order that means anything. An entry that stays as it is while a list is read is
/// in it once.
#[utoipa::path(
    get, path = "/api/v1/domains", tag = "domains", operation_id = "listDomains", params(ListParameters),
    responses((status = 200, description = "Part of the list.", body = DomainList), Queries)
)]
pub(super) async fn list(
    State(api): State<Arc<ApiState>>,
    holder: Holder<Reads>,
    Parameters(parameters): Parameters<ListParameters>,
) -> Result<Json<DomainList>, Problem> {
    part(&api, &holder, parameters).await.map(Json)
}

/// What a list begins with, or goes on with.
pub(crate) async fn part(
    api: &ApiState,
    holder: &Holder<Reads>,
    parameters: ListParameters,
) -> Result<DomainList, Problem> {
    let ListParameters { tenant, prefix, status, limit, cursor } = parameters;
    let (tenant, limit) = (holder.tenant(tenant)?, limited(limit)?);
    let tenant = tenant.as_ref().map(Tenant::as_str);
    let prefix = prefix.as_deref().map(name::beginning).filter(|prefix| !prefix.is_empty());
    if let Some(prefix) = prefix.as_deref().filter(|prefix| prefix.len() > LONGEST_NAME) {
        return Err(Problem::new(ProblemKind::Invalid, "prefix: no name is as long").of("prefix", prefix));
    }
    let cursors = Cursors::of(&holder.hash, &("domains", tenant, &prefix, status));
    let place = cursor.map(|cursor| opened(&cursors, &cursor)).transpose()?;
    let query = ListQuery { tenant, prefix: prefix.as_deref(), status, limit };
    let part = search::part(api, query, place).await?;
    if let (Some(fault), Some(left_out)) = (part.malformed.first(), admit_line("api_malformed", "")) {
        tracing::warn!(error = %fault, left_out, "an item of the domains table is no entry, and left out of a list");
    }
    let items = part.records.iter().map(|record| DomainResource::of(record, None)).collect();
    Ok(DomainList { items, next: part.next.map(|next| cursors.seal(&next)) })
}

/// Add an entry
///
/// 201 when it is new, 200 when it is there and says the same, so that a request may be repeated. One that says something else is not
/// replaced (409): change it by `PATCH`.
#[utoipa::path(
    post, path = "/api/v1/domains", tag = "domains", operation_id = "addDomain",
    params(ChangeParameters, IdempotencyKey),
    request_body = NewDomain,
    responses(
        (status = 200, description = "It was there already, or would be added.", body = ChangedResource,
            headers(("ETag" = String, description = "The version."))),
        (status = 201, description = "It was added.", body = ChangedResource,
            headers(("ETag" = String, description = "The version."), ("Location" = String, description = "The entry."))),
        Changes
    )
)]
pub(super) async fn add(
    State(api): State<Arc<ApiState>>,
    holder: Holder<Writes>,
    Parameters(parameters): Parameters<ChangeParameters>,
    JsonBody(new): JsonBody<NewDomain>,
) -> Result<Response, Problem> {
    let (pattern, wanted) = new.wanted(Existing::Keep);
    change(&api, Request::new(pattern, wanted, holder.requester), parameters.dry_run).await
}

/// Read an entry
///
/// With what the last checks of its name found.
#[utoipa::path(
    get, path = "/api/v1/domains/{domain}", tag = "domains", operation_id = "readDomain",
    params(NamedDomain),
    responses(
        (status = 200, description = "The entry.", body = DomainResource,
            headers(("ETag" = String, description = "The version."))),
        Queries
    )
)]
pub(super) async fn read(
    State(api): State<Arc<ApiState>>,
    holder: Holder<Reads>,
    NamedDomain(pattern): NamedDomain,
) -> Result<Response, Problem> {
    let (record, checks) = entry(&api, &holder, &pattern).await?;
    let resource = DomainResource::of(&record, checks.as_ref());
    Ok((entity_tag(record.version), Json(resource)).into_response())
}

/// The entry of `pattern`, if it is there and its holder may see it.
pub(crate) async fn entry<S>(
    api: &ApiState,
    holder: &Holder<S>,
    pattern: &Pattern,
) -> Result<(DomainRecord, Option<Checks>), Problem> {
    let found = get_checked(&api.instance.store, pattern).await?;
    let found = found.filter(|(record, _)| {
        record.status != DomainStatus::Removed && holder.requester.may_work_with(&record.tenant)
    });
    found.ok_or_else(|| ChangeError::Refused(Refusal::Absent(pattern.clone())).into())
}

/// Change an entry
///
/// A merge patch (RFC 7396): what is absent stays, `null` is as the settings have it. `If-Match` says for which version it is.
#[utoipa::path(
    patch, path = "/api/v1/domains/{domain}", tag = "domains", operation_id = "changeDomain",
    params(
        NamedDomain,
        ("If-Match" = String, Header, description = "The `ETag` of the version that was read, or `*`."),
        ChangeParameters
    ),
    request_body(content((DomainPatch = "application/merge-patch+json"), (DomainPatch = "application/json"))),
    responses(
        (status = 200, description = "It was changed, or says that already.", body = ChangedResource,
            headers(("ETag" = String, description = "The version."))),
        Changes
    )
)]
pub(super) async fn patch(
    State(api): State<Arc<ApiState>>,
    holder: Holder<Writes>,
    NamedDomain(pattern): NamedDomain,
    Parameters(parameters): Parameters<ChangeParameters>,
    if_match: IfMatch,
    JsonBody(patch): JsonBody<DomainPatch>,
) -> Result<Response, Problem> {
    let expected = if_match.needed()?;
    let request = Request { expected, ..Request::new(pattern, patch.wanted(), holder.requester) };
    change(&api, request, parameters.dry_run).await
}

/// Remove an entry
#[utoipa::path(
    delete, path = "/api/v1/domains/{domain}", tag = "domains", operation_id = "removeDomain",
    params(NamedDomain, IfMatch, ChangeParameters),
    responses((status = 200, description = "It was removed.", body = ChangedResource), Acts)
)]
pub(super) async fn remove(
    State(api): State<Arc<ApiState>>,
    holder: Holder<Writes>,
    NamedDomain(pattern): NamedDomain,
    Parameters(parameters): Parameters<ChangeParameters>,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    act(&api, holder, pattern, if_match, Wanted::Absent, parameters.dry_run).await
}

/// Suspend an entry
///
/// It is kept and not served. With a token of all tenants alone.
#[utoipa::path(
    post, path = "/api/v1/domains/{domain}/suspend", tag = "domains", operation_id = "suspendDomain",
    params(NamedDomain, IfMatch, ChangeParameters, IdempotencyKey),
    responses(
        (status = 200, description = "It is suspended.", body = ChangedResource,
            headers(("ETag" = String, description = "The version."))),
        Acts
    )
)]
pub(super) async fn suspend(
    State(api): State<Arc<ApiState>>,
    holder: Holder<Writes>,
    NamedDomain(pattern): NamedDomain,
    Parameters(parameters): Parameters<ChangeParameters>,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    act(&api, holder, pattern, if_match, Wanted::Suspended, parameters.dry_run).await
}

/// Resume an entry
///
/// It is served again. With a token of all tenants alone.
#[utoipa::path(
    post, path = "/api/v1/domains/{domain}/resume", tag = "domains", operation_id = "resumeDomain",
    params(NamedDomain, IfMatch, ChangeParameters, IdempotencyKey),
    responses(
        (status = 200, description = "It is served.", body = ChangedResource,
            headers(("ETag" = String, description = "The version."))),
        Acts
    )
)]
pub(super) async fn resume(
    State(api): State<Arc<ApiState>>,
    holder: Holder<Writes>,
    NamedDomain(pattern): NamedDomain,
    Parameters(parameters): Parameters<ChangeParameters>,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    act(&api, holder, pattern, if_match, Wanted::Resumed, parameters.dry_run).await
}

/// Begin the maintenance of an entry
///
/// Its requests are answered with 503 in place of its target.
#[utoipa::path(
    put, path = "/api/v1/domains/{domain}/maintenance", tag = "domains", operation_id = "beginMaintenance",
    params(NamedDomain, IfMatch, ChangeParameters),
    responses(
        (status = 200, description = "It is in maintenance.", body = ChangedResource,
            headers(("ETag" = String, description = "The version."))),
        Acts
    )
)]
pub(super) async fn begin_maintenance(
    State(api): State<Arc<ApiState>>,
    holder: Holder<Writes>,
    NamedDomain(pattern): NamedDomain,
    Parameters(parameters): Parameters<ChangeParameters>,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    act(&api, holder, pattern, if_match, Wanted::Maintained(Maintenance::On), parameters.dry_run).await
}

/// End the maintenance of an entry
#[utoipa::path(
    delete, path = "/api/v1/domains/{domain}/maintenance", tag = "domains", operation_id = "endMaintenance",
    params(NamedDomain, IfMatch, ChangeParameters),
    responses(
        (status = 200, description = "Its requests go to its target.", body = ChangedResource,
            headers(("ETag" = String, description = "The version."))),
        Acts
    )
)]
pub(super) async fn end_maintenance(
    State(api): State<Arc<ApiState>>,
    holder: Holder<Writes>,
    NamedDomain(pattern): NamedDomain,
    Parameters(parameters): Parameters<ChangeParameters>,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    act(&api, holder, pattern, if_match, Wanted::Maintained(Maintenance::Off), parameters.dry_run).await
}

/// Say which DNS records the owner of a name sets
///
/// For an entry that is there or one that is to be added. One that is there and speaks for both names of a pair has those of both.
#[utoipa::path(
    get, path = "/api/v1/domains/{domain}/records", tag = "domains", operation_id = "recordsOfDomain",
    params(NamedDomain, RecordsParameters),
    responses((status = 200, description = "The records.", body = DnsRecords), Queries)
)]
pub(super) async fn records(
    State(api): State<Arc<ApiState>>,
    holder: Holder<Reads>,
    NamedDomain(pattern): NamedDomain,
    Parameters(parameters): Parameters<RecordsParameters>,
) -> Result<Json<DnsRecords>, Problem> {
    records_to_set(&api, &holder, &pattern, parameters.tenant).await.map(Json)
}

/// The records that the owner of `pattern` sets, where it is or will be an entry of `tenant`; absent, of whose it is.
pub(crate) async fn records_to_set(
    api: &ApiState,
    holder: &Holder<Reads>,
    pattern: &Pattern,
    tenant: Option<Tenant>,
) -> Result<DnsRecords, Problem> {
    let asked = holder.tenant(tenant)?;
    let found = domain_table::get(&api.instance.store, pattern).await?;
    let found = found.filter(|record| record.status != DomainStatus::Removed);
    let tenant = match (&asked, &found) {
        (Some(asked), _) => asked.as_str().to_owned(),
        (None, Some(record)) => record.tenant.clone(),
        (None, None) => DEFAULT_TENANT.to_owned(),
    };
    // What another tenant has set is nobody else's business.
    let settings = found.filter(|record| record.tenant == tenant).map(|record| record.settings);
    let Some(looker) = &api.looker else {
        let fault = "`verification.edge_names` is not set, so that no record can lead to the edge";
        return Err(Problem::new(ProblemKind::Conflict, fault).mend("ask the operator to set it"));
    };
    let records = looker.records(pattern, settings.unwrap_or_default(), &tenant).await;
    Ok(DnsRecords { records: records.into_iter().map(Into::into).collect() })
}

async fn act(
    api: &ApiState,
    holder: Holder<Writes>,
    pattern: Pattern,
    if_match: IfMatch,
    wanted: Wanted,
    is_preview: bool,
) -> Result<Response, Problem> {
    let expected = if_match.or_any();
    change(api, Request { expected, ..Request::new(pattern, wanted, holder.requester) }, is_preview).await
}

async fn change(api: &ApiState, request: Request, is_preview: bool) -> Result<Response, Problem> {
    decide(api, request, is_preview).await.map(|decision| changed(&decision, is_preview))
}

/// Does what `request` asks for, or says what it would do.
pub(super) async fn decide(api: &ApiState, request: Request, is_preview: bool) -> Result<Decision, Problem> {
    if is_preview { Ok(api.instance.preview(&request).await?) } else { administer(api, request).await }
}

/// Does what `request` asks for.
pub(crate) async fn administer(api: &ApiState, request: Request) -> Result<Decision, Problem> {
    let (decision, _) = api.instance.administer(request).await?;
    Ok(decision)
}

fn changed(decision: &Decision, is_preview: bool) -> Response {
    let body = Json(ChangedResource::of(decision));
    if is_preview || decision.record.status == DomainStatus::Removed {
        return body.into_response();
    }
    let mut headers = entity_tag(decision.record.version);
    if decision.report.action != Action::Add {
        return (headers, body).into_response();
    }
    let location = format!("/api/v1/domains/{}", in_a_path(&decision.record.pattern.to_string()));
    headers.extend(HeaderValue::try_from(location).ok().map(|location| (LOCATION, location)));
    (StatusCode::CREATED, headers, body).into_response()
}

/// A name as a segment of a path. RFC 3986 §3.3 lets `*` stand there as it is.
pub(crate) fn in_a_path(name: &str) -> String {
    utf8_percent_encode(name, OF_A_PATH).to_string()
}

fn entity_tag(version: u64) -> HeaderMap {
    let tag = HeaderValue::try_from(format!("\"{version}\"")).ok();
    tag.into_iter().map(|tag| (ETAG, tag)).collect()
}

/// How many a part of a list has.
pub(super) fn limited(limit: Option<u16>) -> Result<u16, Problem> {
    let limit = limit.unwrap_or(MOST_ITEMS);
    if (1..=MOST_ITEMS).contains(&limit) {
        return Ok(limit);
    }
    let fault = format!("limit: `{limit}` is not from 1 to {MOST_ITEMS}");
    Err(Problem::new(ProblemKind::Invalid, fault).of("limit", &limit.to_string()))
}

/// Where `cursor` says that a part begins.
pub(super) fn opened<P: serde::de::DeserializeOwned>(cursors: &Cursors, cursor: &str) -> Result<P, Problem> {
    cursors.open(cursor).map_err(|_| {
        let fault = "cursor: it is not of this token and these parameters";
        let remedy = "send the `next` of the part before as it is, with the same parameters, or begin anew";
        Problem::new(ProblemKind::Malformed, fault).of("cursor", cursor).mend(remedy)
    })
}

const MOST_ITEMS: u16 = 100;
/// RFC 1035 §2.3.4, as text.
const LONGEST_NAME: usize = 253;
const OF_A_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'*');
