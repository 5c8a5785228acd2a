//! What became of domains and certificates, as webhooks are told it.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    ApiState,
    cursor::Cursors,
    domains::{limited, opened},
    extract::Parameters,
    holder::{Audits, Holder},
    openapi::Queries,
    problem::{Problem, ProblemKind},
    wanted::EventParameters,
};
use crate::{
    clock,
    control::events::{self, EventQuestion, LISTED, ListedEvent, Thoroughness},
    store::{domain_table::Tenant, instant::Micros, state_table::EventId},
};

/// Part of the events, the oldest first. It may be short, or empty, and have a next part all the same.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventList)]
pub(super) struct EventListResource {
    /// Events.
    items: Vec<EventResource>,
    /// The `cursor` of the next part; absent, this was the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next: Option<String>,
}

/// An event, as webhooks are sent it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
struct EventResource {
    /// The same wherever it is told.
    #[schema(example = "evt_000646a3c1d0f4a85d7f0c2e9b81a6d3")]
    id: String,
    /// What it tells.
    #[schema(example = "domain.verified")]
    r#type: String,
    /// When it came about.
    timestamp: String,
    /// Of which `domain`, of which `tenant`, and more by its type.
    #[schema(value_type = Object)]
    data: Value,
}

/// List what became of domains and certificates
///
/// The oldest first, each as webhooks are sent it. A tenant's token sees events of its own entries alone, and of those that it has lost to another tenant.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "events", operation_id = "listEvents", params(EventParameters),
    responses((status = 200, description = "Part of the list.", body = EventListResource), Queries)
)]
pub(super) async fn list(
    State(api): State<Arc<ApiState>>,
    holder: Holder<Audits>,
    Parameters(parameters): Parameters<EventParameters>,
) -> Result<Json<EventListResource>, Problem> {
    let EventParameters { tenant, domain, r#type, since, limit, cursor } = parameters;
    let (tenant, limit, now) = (holder.tenant(tenant)?, limited(limit)?, Micros::of(clock::wall()));
    let name = domain.as_ref().map(ToString::to_string);
    let cursors = Cursors::of(
        &holder.hash,
        &("events", tenant.as_ref().map(Tenant::as_str), name, r#type, since.as_deref()),
    );
    let after = match cursor {
        Some(cursor) => opened(&cursors, &cursor)?,
        None => EventId::before(since.map(|since| instant(&since)).transpose()?.unwrap_or(now.less(LISTED))),
    };
    let question = EventQuestion { after, name: domain, kind: r#type, tenant, limit };
    let part = events::events(&api.instance.store, &question, Thoroughness::Brief, now).await?;
    let items = part.events.into_iter().map(Into::into).collect();
    Ok(Json(EventListResource { items, next: part.next.map(|next| cursors.seal(&next)) }))
}

fn instant(text: &str) -> Result<Micros, Problem> {
    Micros::from_rfc3339(text).ok_or_else(|| {
        let fault = format!("since: `{text}` is no instant; write it like `2026-11-29T03:20:00Z`");
        Problem::new(ProblemKind::Invalid, fault).of("since", text)
    })
}

impl From<ListedEvent> for EventResource {
    fn from(event: ListedEvent) -> Self {
        let ListedEvent { id, kind, at, domain, tenant, detail } = event;
        let mut data = detail;
        data.insert("domain".to_owned(), domain.to_string().into());
        data.extend(tenant.map(|tenant| ("tenant".to_owned(), tenant.into())));
        Self { id: id.to_string(), r#type: kind, timestamp: at.to_string(), data: Value::Object(data) }
    }
}
