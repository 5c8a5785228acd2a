//! Pages by which people manage entries: what the API can, for who signs in with one of its tokens.
//! Not here: what a token may do and what a change makes of an entry (`api`, `domains::admin`): a page asks as a program does.
//! Invariants: nothing is shown or changed for who is not signed in, nor beyond the token (`nobody_gets_beyond_a_token`), save for what a setup
//! link shows (`setup`); nothing is changed
//! by a form that is not of the same session and origin (`only_our_own_forms_change_anything`); what others wrote is text on a page, and
//! nothing else (`whatever_others_wrote_is_text`).

mod assets;
mod audit;
mod domain;
mod domains;
mod done;
mod failure;
mod fields;
mod fleet;
mod import;
mod layout;
mod origin;
mod overview;
mod session;
mod setup;
mod sign_in;
#[cfg(test)]
mod tests;
mod visitor;

use std::sync::Arc;

use aws_lc_rs::error::Unspecified;
use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse as _, Redirect, Response},
    routing::{get, post},
};
use hyper::header::{HeaderName, HeaderValue};

use self::{failure::Failure, session::SessionKey, visitor::SessionCookie};
use crate::{
    api::{ApiState, Problem, ProblemKind, limited_in_time},
    config::Config,
    name::ServerName,
};

/// There is no console: the library has no random numbers for its sessions.
#[derive(Debug, thiserror::Error)]
#[error("the console has no key for its sessions")]
pub struct NoConsole(#[from] Unspecified);

/// What pages are made from.
struct Console {
    api: Arc<ApiState>,
    key: SessionKey,
    cookie: SessionCookie,
    /// The name by which browsers reach it, beside loopback addresses.
    name: Option<ServerName>,
}

/// What `config` has of pages, to be put beside the paths of the API: those of setup links alone, where no others are wanted.
pub fn pages(config: &Config) -> Result<impl FnOnce(Arc<ApiState>) -> Router + use<>, NoConsole> {
    let key = config.api.console.then(SessionKey::generate).transpose()?;
    let name = config.api.name.clone();
    Ok(move |api| {
        let links = setup::router(Arc::clone(&api));
        let Some(key) = key else { return links };
        let cookie = SessionCookie::of(name.as_ref());
        router(Arc::new(Console { api, key, cookie, name })).merge(links)
    })
}

fn router(console: Arc<Console>) -> Router {
    let pages = Router::new()
        .route("/", get(async || Redirect::to(DOMAINS)))
        .route("/sign-in", get(sign_in::show).post(sign_in::begin))
        .route("/sign-out", post(sign_in::end))
        .route("/domains", get(domains::list).post(domains::add))
        .route("/domains/new", get(domains::new))
        .route("/domains/{domain}", get(domain::show))
        .route("/domains/{domain}/removal", get(domain::confirm_removal))
        .route("/domains/{domain}/{action}", post(domain::act))
        .route("/import", get(import::show).post(import::import))
        .route("/audit", get(audit::list))
        .route("/fleet", get(fleet::show))
        .route("/overview", get(overview::show))
        .route("/assets/{name}", get(assets::asset))
        .fallback(nowhere)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&console), guarded))
        .with_state(console);
    Router::new().nest(ROOT, pages)
}

/// Answers browsers that mean this console alone, and tells them to run nothing that is not its own.
async fn guarded(State(console): State<Arc<Console>>, request: Request, next: Next) -> Response {
    let mut response = if origin::is_expected_host(request.headers(), console.name.as_ref()) {
        in_time(next.run(request)).await
    } else {
        // A name that somebody else leads to this address (DNS rebinding).
        let fault = "`Host` is neither `api.name` nor a loopback address";
        Failure::from(Problem::new(ProblemKind::Forbidden, fault)).into_response()
    };
    for (name, value) in HEADERS.into_iter().chain(OF_ALL_PAGES) {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// A page also for who waits in vain.
async fn in_time(answer: impl Future<Output = Response>) -> Response {
    let answered = limited_in_time(answer).await;
    answered.unwrap_or_else(|problem| Failure::from(problem).into_response())
}

async fn nowhere() -> Failure {
    Problem::new(ProblemKind::Absent, "there is no page at this address").into()
}

async fn no_method() -> Failure {
    Problem::new(ProblemKind::Method, "this page is not asked for in this way").into()
}

const ROOT: &str = "/console";
const DOMAINS: &str = "/console/domains";
const SIGN_IN: &str = "/console/sign-in";
/// `Referrer-Policy` is not `no-referrer`: the `Origin` of a form would be `null` then.
const HEADERS: [(&str, &str); 2] = [
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; \
         frame-ancestors 'none'; base-uri 'none'",
    ),
    ("referrer-policy", "same-origin"),
];
/// Of the pages of setup links as well.
const OF_ALL_PAGES: [(&str, &str); 3] = [
    ("x-content-type-options", "nosniff"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];
