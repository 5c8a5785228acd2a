//! The beginning and the end of a session. Not here: what its token may do.
//! Invariant: a token is in no answer and in no cookie (`nobody_gets_beyond_a_token`, `a_person_adds_changes_and_removes_a_domain_by_forms`).

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{Request, State},
    response::{AppendHeaders, IntoResponse as _, Redirect, Response},
};
use hyper::{StatusCode, header::SET_COOKIE};

use super::{
    Console, DOMAINS, SIGN_IN,
    failure::{Failure, page},
    session::{SESSION_LIFE, Session},
    visitor::{SignedForm, read_form},
};
use crate::{
    api::{Problem, ProblemBody, ProblemKind, caller},
    api_token::ApiToken,
    clock,
    domains::Caller,
    store::instant::Micros,
};

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    problem: Option<ProblemBody>,
}

pub(super) async fn show() -> Response {
    page(StatusCode::OK, &SignInPage { problem: None })
}

pub(super) async fn begin(
    State(console): State<Arc<Console>>,
    request: Request,
) -> Result<Response, Failure> {
    let caller = caller(request.extensions());
    let mut fields = read_form(request, &console).await?;
    match session(&console, &fields.take("token"), caller).await {
        Ok(session) => {
            let cookie = console.cookie.set(&console.key.seal(session));
            Ok((AppendHeaders(cookie.map(|cookie| (SET_COOKIE, cookie))), Redirect::to(DOMAINS))
                .into_response())
        }
        Err(problem) => {
            let status = problem.status();
            Ok(page(status, &SignInPage { problem: Some(problem.into_body()) }))
        }
    }
}

async fn session(console: &Console, text: &str, caller: Caller) -> Result<Session, Problem> {
    let token = ApiToken::parse(text)
        .map_err(|fault| Problem::new(ProblemKind::Unauthenticated, fault.to_string()).about("token"))?;
    console.api.admit(token.hash(), caller).await?;
    let ends_at = Micros::of(clock::wall()).more(SESSION_LIFE);
    Ok(Session { token: token.hash(), ends_at })
}

pub(super) async fn end(State(console): State<Arc<Console>>, _: SignedForm) -> Response {
    let cookie = console.cookie.clear();
    (AppendHeaders(cookie.map(|cookie| (SET_COOKIE, cookie))), Redirect::to(SIGN_IN)).into_response()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::console) fn sample(text: &str) -> String {
        SignInPage { problem: Some(super::super::failure::tests::problem_body(text)) }.render().unwrap()
    }
}
