//! Who changed which entry on a day.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use hyper::StatusCode;

use super::{
    Console,
    failure::{Failure, page},
    fields::{Empty, Fields},
    layout::{Layout, Section},
    visitor::Visitor,
};
use crate::api::{self, AuditEntry, AuditParameters, Audits};

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    layout: Layout,
    fields: Fields,
    changes: Vec<AuditEntry>,
    next: Option<String>,
}

pub(super) async fn list(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let holder = visitor.admitted.holder::<Audits>()?;
    let fields = Fields::parse(query.unwrap_or_default().as_bytes())?;
    let list = api::audit_part(&console.api, &holder, fields.read::<AuditParameters>(Empty::Absent)?).await?;
    let listed = AuditPage {
        layout: Layout::of(&visitor, Section::Audit),
        changes: list.items,
        next: list.next.map(|cursor| fields.with("cursor", &cursor)),
        fields,
    };
    Ok(page(StatusCode::OK, &listed))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::console) fn sample(text: &str) -> String {
        use crate::api::ChangeResource;
        let said = || text.to_owned();
        let part = ChangeResource { field: said(), from: Some(said()), to: None };
        let change = AuditEntry {
            at: said(),
            by: said(),
            domain: said(),
            tenant: said(),
            action: said(),
            changes: vec![part],
        };
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("day", text).finish();
        let fields = Fields::parse(query.as_bytes()).unwrap();
        let next = Some(fields.with("cursor", text));
        AuditPage { layout: Layout::sample(text), fields, changes: vec![change], next }.render().unwrap()
    }
}
