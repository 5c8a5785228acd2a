//! After a change: to the entry that was changed, or to what is still to be looked at.

use askama::Template;
use axum::response::{IntoResponse as _, Redirect, Response};
use hyper::StatusCode;

use super::{
    DOMAINS,
    failure::page,
    layout::{Layout, Section},
    visitor::Visitor,
};
use crate::{
    api::in_a_path,
    domains::admin::{Decision, Warning},
    store::domain_table::DomainStatus,
};

#[derive(Template)]
#[template(path = "done.html")]
struct DonePage {
    layout: Layout,
    said: String,
    domain: String,
    path: Option<String>,
    warnings: Vec<String>,
}

/// To the entry that was changed, or to what still stands in its way.
pub(super) fn done(visitor: &Visitor, decision: &Decision) -> Response {
    let Decision { record, report, .. } = decision;
    let domain = record.pattern.to_string();
    let is_there = record.status != DomainStatus::Removed;
    // The page of the entry says these itself.
    let said =
        [Warning::Suspended, Warning::Pending, Warning::Maintenance].map(|warning| warning.to_string());
    let warnings: Vec<_> =
        report.warnings.iter().filter(|warning| !said.contains(warning)).cloned().collect();
    if warnings.is_empty() {
        return if is_there { to_entry(&domain) } else { Redirect::to(DOMAINS).into_response() };
    }
    let done = DonePage {
        layout: Layout::of(visitor, Section::Domains),
        said: report.to_string(),
        path: is_there.then(|| path_of(&domain)),
        domain,
        warnings,
    };
    page(StatusCode::OK, &done)
}

/// Where the page of an entry is.
pub(super) fn path_of(domain: &str) -> String {
    format!("{DOMAINS}/{}", in_a_path(domain))
}

/// To the page of an entry.
pub(super) fn to_entry(domain: &str) -> Response {
    Redirect::to(&path_of(domain)).into_response()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{api::DomainResource, name::Pattern};

    pub(in crate::console) fn sample(text: &str) -> String {
        let done = DonePage {
            layout: Layout::sample(text),
            said: text.to_owned(),
            domain: text.to_owned(),
            path: Some(path_of(text)),
            warnings: vec![text.to_owned()],
        };
        done.render().unwrap()
    }

    /// An entry that says `text` wherever it may.
    pub(in crate::console) fn entry_sample(text: &str) -> DomainResource {
        use crate::{
            config::DomainSettings,
            name::ServerName,
            store::{
                domain_table::{
                    DomainRecord, SettingsMap,
                    checks::{Check, Checks, Finding, Outcome, Reason},
                },
                instant::Micros,
            },
            telemetry::metrics::Label as _,
        };
        let record = DomainRecord {
            pattern: Pattern::Exact(ServerName::parse("shop.customer.test").unwrap()),
            target: None,
            settings: DomainSettings::default(),
            settings_map: SettingsMap::Absent,
            status: DomainStatus::Pending,
            tenant: String::new(),
            version: 1,
            created_at: None,
            changed_at: None,
            expires_at: None,
            is_unproven: false,
        };
        let finding = Finding {
            check: Check::ALL[0],
            outcome: Outcome::ALL[0],
            reason: Reason::ALL[0],
            detail: text.to_owned(),
            remedy: Some(text.to_owned()),
        };
        let at = Micros::from_epoch(1);
        let checks = Checks {
            checked_at: at,
            failures: 1,
            away_since: Some(at),
            unresolved: Vec::new(),
            findings: vec![finding],
        };
        let said = || text.to_owned();
        DomainResource {
            domain: said(),
            unicode: format!("{text}, as people read it"),
            target: Some(said()),
            tenant: said(),
            created_at: Some(said()),
            changed_at: Some(said()),
            ..DomainResource::of(&record, Some(&checks))
        }
    }
}
