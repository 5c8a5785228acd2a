//! The page of a setup link, for who owns a name and has no token: without a session, and without anything that a browser sends by itself;
//! and the script that shows the same within a page of the operator's.
//! Not here: which links hold and what they show (`api`).
//! Invariants: no cookie is read or set, whoever is signed in (`the_page_of_a_link_knows_no_session`); its address, which is the key to it,
//! is told to nobody: no referrer, no index, no store (the same).

use std::sync::Arc;

use askama::Template;
use axum::{
    Json, Router,
    extract::{Path, Request, State},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};
use hyper::{
    HeaderMap, StatusCode,
    header::{
        ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue,
        RETRY_AFTER,
    },
};

use super::{OF_ALL_PAGES, assets::asset, failure::page};
use crate::{
    api::{ApiState, Problem, ProblemBody, ProblemKind, SetupResource, SetupState, limited_in_time, linked},
    control::setup_links::SETUP_PATH,
};

#[derive(Template)]
#[template(path = "setup.html")]
struct SetupPage<'a> {
    shown: &'a SetupResource,
    ends_at: &'a str,
}

#[derive(Template)]
#[template(path = "setup_problem.html")]
struct SetupProblemPage {
    problem: ProblemBody,
}

/// As which a link is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LinkForm {
    Page,
    Json,
}

/// Where links are answered.
pub(super) fn router(api: Arc<ApiState>) -> Router {
    let paths = Router::new()
        .route("/{link}", get(show))
        .route("/widget.js", get(widget))
        .route("/assets/{name}", get(own_asset))
        .fallback(nowhere)
        .layer(middleware::from_fn(kept_private))
        .with_state(api);
    Router::new().nest(SETUP_PATH, paths)
}

async fn show(State(api): State<Arc<ApiState>>, headers: HeaderMap, Path(link): Path<String>) -> Response {
    let (link, form) = asked(&link, &headers);
    match (linked(&api, link).await, form) {
        (Ok(linked), LinkForm::Page) => {
            page(StatusCode::OK, &SetupPage { shown: &linked.shown, ends_at: &linked.ends_at })
        }
        (Ok(linked), LinkForm::Json) => (FOR_ALL_ORIGINS, Json(linked.json())).into_response(),
        (Err(problem), LinkForm::Page) => problem_page(problem),
        (Err(problem), LinkForm::Json) => (FOR_ALL_ORIGINS, problem).into_response(),
    }
}

/// The script that shows a link in a page of the operator's, which names it by this address.
async fn widget() -> Response {
    let of_script =
        [(CONTENT_TYPE, "text/javascript; charset=utf-8"), (CACHE_CONTROL, "public, max-age=3600")];
    (of_script, [(CROSS_ORIGIN_RESOURCE_POLICY, "cross-origin")], include_str!("widget.js")).into_response()
}

/// The link, and how it is to be shown. No link has a dot.
fn asked<'a>(link: &'a str, headers: &HeaderMap) -> (&'a str, LinkForm) {
    if let Some(link) = link.strip_suffix(".json") {
        return (link, LinkForm::Json);
    }
    let accepted = headers.get(ACCEPT).and_then(|accepted| accepted.to_str().ok()).unwrap_or_default();
    // A browser names the types of pages first of all, and none that JSON has.
    let is_json = accepted.contains("application/json") && !accepted.contains("text/html");
    (link, if is_json { LinkForm::Json } else { LinkForm::Page })
}

async fn own_asset(name: Path<String>) -> Response {
    match asset(name).await {
        Ok(asset) => asset,
        Err(_) => nowhere().await,
    }
}

async fn nowhere() -> Response {
    problem_page(Problem::new(ProblemKind::Absent, "there is nothing at this address"))
}

fn problem_page(problem: Problem) -> Response {
    let (status, retry_after) = (problem.status(), problem.retry_after());
    let mut response = page(status, &SetupProblemPage { problem: problem.into_body() });
    response.headers_mut().extend(retry_after.map(|seconds| (RETRY_AFTER, seconds)));
    response
}

/// Tells browsers, caches and search engines to keep the address to themselves, and to run nothing that is not of the page.
async fn kept_private(request: Request, next: Next) -> Response {
    let mut response = limited_in_time(next.run(request)).await.unwrap_or_else(problem_page);
    let headers = response.headers_mut();
    // What an answer says for itself stays.
    for (name, value) in HEADERS.into_iter().chain(OF_ALL_PAGES) {
        headers.entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-store"));
    response
}

/// Who has a link may read it from anywhere; a browser sends nothing of a session with it.
const FOR_ALL_ORIGINS: [(HeaderName, &str); 1] = [(ACCESS_CONTROL_ALLOW_ORIGIN, "*")];
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const HEADERS: [(&str, &str); 3] = [
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'none'; \
         frame-ancestors 'none'; base-uri 'none'",
    ),
    ("referrer-policy", "no-referrer"),
    ("x-robots-tag", "noindex, nofollow"),
];

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::console) fn samples(text: &str) -> [String; 2] {
        let shown = SetupResource::sample(text);
        let problem = super::super::failure::tests::problem_body(text);
        [
            SetupPage { shown: &shown, ends_at: "2026-12-29T03:20:00.000000Z" }.render().unwrap(),
            SetupProblemPage { problem }.render().unwrap(),
        ]
    }

    #[test]
    fn programs_are_answered_in_json_and_browsers_by_a_page() {
        for (link, accepted, form) in [
            ("AbC", None, LinkForm::Page),
            ("AbC", Some("*/*"), LinkForm::Page),
            ("AbC", Some("text/html,application/xhtml+xml,application/json;q=0.9"), LinkForm::Page),
            ("AbC", Some("application/json"), LinkForm::Json),
            ("AbC.json", None, LinkForm::Json),
            ("AbC.json", Some("text/html"), LinkForm::Json),
        ] {
            let headers = accepted.map(|text| (ACCEPT, HeaderValue::from_static(text))).into_iter().collect();
            assert_eq!(asked(link, &headers), ("AbC", form), "{link} {accepted:?}");
        }
    }

    /// By the link's own address alone everything of a page is found, wherever a site of the operator's passes it on.
    #[test]
    fn a_page_refers_to_nothing_but_its_own_folder_and_the_provider() {
        for page in samples("plain") {
            for attribute in ["href=\"", "src=\""] {
                for target in page.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()) {
                    let is_own = target.starts_with("assets/") || target == "#main";
                    assert!(is_own || target == "https://docs.gandi.net/", "{target}");
                }
            }
            assert!(!page.contains("<form") && !page.contains("/console/"), "{page}");
        }
    }
}
