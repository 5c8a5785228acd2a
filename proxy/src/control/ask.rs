//! Caddy's question, answered: `GET /ask?domain=NAME` says whether the name may be served, for other servers of the same operator. What the
//! ask endpoint of the settings says is part of the answer, so it must not be this one.

use hyper::Request;

use super::{exposition::plain, server::ControlResponse};
use crate::domains::{
    Caller, Domains,
    ask_answer::{AskAnswer, asked},
};

/// Answers one question.
pub(super) async fn answer<B>(domains: Domains, request: Request<B>) -> ControlResponse {
    let uri = request.uri();
    let answer = match asked(request.method(), uri.path(), uri.query(), &["/ask"]) {
        Ok(name) => AskAnswer::of(&domains.permission(&name, Caller::Internal).await),
        Err(answer) => answer,
    };
    plain(answer.status, &answer.text)
}
