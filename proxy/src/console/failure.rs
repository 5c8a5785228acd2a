//! What a request for a page ends in that is no page of its own.

use askama::Template;
use axum::response::{IntoResponse, Redirect, Response};
use hyper::{
    StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};

use super::SIGN_IN;
use crate::api::{Problem, ProblemBody};

/// See the module.
pub(super) enum Failure {
    /// Nobody is signed in, or no longer.
    SignedOut,
    /// It cannot be done.
    Problem(Problem),
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    problem: ProblemBody,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let problem = match self {
            Self::SignedOut => return Redirect::to(SIGN_IN).into_response(),
            Self::Problem(problem) => problem,
        };
        let (status, retry_after) = (problem.status(), problem.retry_after());
        let mut response = page(status, &ProblemPage { problem: problem.into_body() });
        response.headers_mut().extend(retry_after.map(|seconds| (RETRY_AFTER, seconds)));
        response
    }
}

/// An answer with the page of `template`.
pub(super) fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => (status, [(CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page of the console cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::console) fn sample(text: &str) -> String {
        ProblemPage { problem: problem_body(text) }.render().unwrap()
    }

    /// A problem that says `text` wherever it may.
    pub(in crate::console) fn problem_body(text: &str) -> ProblemBody {
        Problem::new(crate::api::ProblemKind::Invalid, text).of("domain", text).mend(text).into_body()
    }
}
