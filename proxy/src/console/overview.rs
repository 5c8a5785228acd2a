//! The instance that answers, and the renewals of the fleet.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, response::Response};
use hyper::StatusCode;

use super::{
    Console,
    failure::{Failure, page},
    layout::{Layout, Section},
    visitor::Visitor,
};
use crate::{
    api::{Problem, ProblemKind, Reads},
    certificates::listing,
    control::wire::InstanceStatus,
    guard::{GuardReport, GuardStatus},
};

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    layout: Layout,
    status: InstanceStatus,
    instance: Option<String>,
    /// Those that are renewed next.
    renewals: Vec<listing::Row>,
}

impl OverviewPage {
    fn guard(&self) -> Option<&GuardReport> {
        match &self.status.guard {
            GuardStatus::Off => None,
            GuardStatus::On(report) => Some(report.as_ref()),
        }
    }
}

pub(super) async fn show(State(console): State<Arc<Console>>, visitor: Visitor) -> Result<Response, Failure> {
    if visitor.admitted.holder::<Reads>()?.requester.tenant().is_some() {
        let fault = "the instance and its certificates are shown to tokens of all tenants alone";
        return Err(Problem::new(ProblemKind::Forbidden, fault).into());
    }
    let instance = &console.api.instance;
    let renewals = listing::next(&instance.store, RENEWALS).await.map_err(Problem::from)?;
    let status = instance.status();
    let shown = OverviewPage {
        layout: Layout::of(&visitor, Section::Overview),
        instance: status.instance.as_ref().map(|instance| instance.id.clone()),
        status,
        renewals,
    };
    Ok(page(StatusCode::OK, &shown))
}

/// So many fit on a page beside the rest.
const RENEWALS: u16 = 20;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::console) fn sample(text: &str) -> String {
        let status = serde_json::json!({
            "version": text, "pid": 1, "phase": "serving", "uptime_seconds": 1, "io": text, "workers": 1, "https": [], "http": [],
            "metrics": null, "store": text, "issuers": [text, text], "names": 1, "revision": 1, "connections": 1, "guard": GuardStatus::Off,
        });
        let row = serde_json::json!({
            "server_name": "shop.customer.test", "due_at": "2026-11-29T03:20:00.000000Z", "not_after": null,
        });
        let page = OverviewPage {
            layout: Layout::sample(text),
            status: serde_json::from_value(status).unwrap(),
            instance: Some(text.to_owned()),
            renewals: vec![serde_json::from_value(row).unwrap()],
        };
        page.render().unwrap()
    }
}
