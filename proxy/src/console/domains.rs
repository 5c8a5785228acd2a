//! The list of entries, and the addition of one.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use hyper::StatusCode;

use super::{
    Console,
    done::done,
    failure::{Failure, page},
    fields::{Empty, Fields},
    layout::{Choice, HOST, Layout, MINIMUM_TLS, REDIRECT, STATUS, Section, WWW, choices},
    visitor::{SignedForm, Visitor},
};
use crate::{
    api::{self, DomainResource, ListParameters, NewDomain, Problem, ProblemBody, Reads, Writes, administer},
    domains::admin::{Decision, Existing, Request},
};

#[derive(Template)]
#[template(path = "domains.html")]
struct ListPage {
    layout: Layout,
    /// What is looked for.
    fields: Fields,
    statuses: Vec<Choice>,
    entries: Vec<DomainResource>,
    /// Where the next part is.
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "new.html")]
struct NewPage {
    layout: Layout,
    /// What was asked for, and is wrong.
    fields: Fields,
    problem: Option<ProblemBody>,
    minimum_tls: Vec<Choice>,
    hosts: Vec<Choice>,
    redirects: Vec<Choice>,
    pairs: Vec<Choice>,
}

pub(super) async fn list(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let holder = visitor.admitted.holder::<Reads>()?;
    let fields = Fields::parse(query.unwrap_or_default().as_bytes())?;
    let list = api::domain_part(&console.api, &holder, fields.read::<ListParameters>(Empty::Absent)?).await?;
    let listed = ListPage {
        layout: Layout::of(&visitor, Section::Domains),
        statuses: choices(STATUS, fields.text("status")),
        entries: list.items,
        next: list.next.map(|cursor| fields.with("cursor", &cursor)),
        fields,
    };
    Ok(page(StatusCode::OK, &listed))
}

pub(super) async fn new(visitor: Visitor) -> Result<Response, Failure> {
    visitor.admitted.holder::<Writes>()?;
    Ok(new_page(&visitor, Fields::default(), None))
}

pub(super) async fn add(
    State(console): State<Arc<Console>>,
    SignedForm { visitor, fields }: SignedForm,
) -> Result<Response, Failure> {
    match added(&console, &visitor, fields.clone()).await {
        Ok(decision) => Ok(done(&visitor, &decision)),
        Err(problem) => Ok(new_page(&visitor, fields, Some(problem))),
    }
}

async fn added(console: &Console, visitor: &Visitor, mut fields: Fields) -> Result<Decision, Problem> {
    let holder = visitor.admitted.holder::<Writes>()?;
    fields.flag("verified");
    let (pattern, wanted) = fields.read::<NewDomain>(Empty::Absent)?.wanted(Existing::Keep);
    administer(&console.api, Request::new(pattern, wanted, holder.requester)).await
}

fn new_page(visitor: &Visitor, fields: Fields, problem: Option<Problem>) -> Response {
    let status = problem.as_ref().map_or(StatusCode::OK, Problem::status);
    let new = NewPage {
        layout: Layout::of(visitor, Section::Domains),
        minimum_tls: choices(MINIMUM_TLS, fields.text("minimum_tls")),
        hosts: choices(HOST, fields.text("host")),
        redirects: choices(REDIRECT, fields.text("redirect")),
        pairs: choices(WWW, fields.text("www")),
        fields,
        problem: problem.map(Problem::into_body),
    };
    page(status, &new)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::console) fn samples(text: &str) -> [String; 2] {
        let query =
            |name: &str| form_urlencoded::Serializer::new(String::new()).append_pair(name, text).finish();
        let list = ListPage {
            layout: Layout::sample(text),
            fields: Fields::parse(query("prefix").as_bytes()).unwrap(),
            statuses: choices(STATUS, text),
            entries: vec![super::super::done::tests::entry_sample(text)],
            next: Some(Fields::parse(query("tenant").as_bytes()).unwrap().with("cursor", text)),
        };
        let new = NewPage {
            layout: Layout::sample(text),
            fields: Fields::parse(query("domain").as_bytes()).unwrap(),
            problem: Some(super::super::failure::tests::problem_body(text)),
            minimum_tls: choices(MINIMUM_TLS, text),
            hosts: choices(HOST, text),
            redirects: choices(REDIRECT, text),
            pairs: choices(WWW, text),
        };
        [list.render().unwrap(), new.render().unwrap()]
    }
}
