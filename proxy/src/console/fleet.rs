//! The instances of the fleet.

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
    api::{self, Reads},
    control::fleet::FleetInstance,
};

#[derive(Template)]
#[template(path = "fleet.html")]
struct FleetPage {
    layout: Layout,
    instances: Vec<FleetInstance>,
}

pub(super) async fn show(State(console): State<Arc<Console>>, visitor: Visitor) -> Result<Response, Failure> {
    let fleet = api::whole_fleet(&console.api, &visitor.admitted.holder::<Reads>()?).await?;
    let shown = FleetPage { layout: Layout::of(&visitor, Section::Fleet), instances: fleet.instances };
    Ok(page(StatusCode::OK, &shown))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::console) fn sample(text: &str) -> String {
        let instance = serde_json::json!({
            "id": text, "seen_at": "2026-11-29T03:20:00.000000Z", "seen_seconds_ago": 1, "host": text, "region": text, "version": text,
            "started_at": "2026-11-29T03:10:00.000000Z", "phase": text,
            "guard": { "mode": text, "enforcement": text, "attach": text },
            "last_warning": { "at": "2026-11-29T03:19:00.000000Z", "text": text },
            "warnings": [{ "kind": "silent", "detail": text }],
        });
        let instances = vec![serde_json::from_value(instance).unwrap()];
        FleetPage { layout: Layout::sample(text), instances }.render().unwrap()
    }
}
