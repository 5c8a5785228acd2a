//! Caddy's question, answered: `GET /ask?domain=NAME` says whether the name may be served, for other servers of the same operator
//! (Caddy's documentation, "On-demand TLS"). What the ask endpoint of the settings says is part of the answer, so it must not be this one.

use hyper::{Method, Request, StatusCode};
use percent_encoding::percent_decode_str;

use super::{exposition::plain, server::ControlResponse};
use crate::{
    domains::{Caller, Domains, Permission},
    name::ServerName,
};

/// Answers one question.
pub(super) async fn answer<B>(domains: Domains, request: Request<B>) -> ControlResponse {
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/ask") => {}
        (_, "/ask") => return plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n"),
        _ => return plain(StatusCode::NOT_FOUND, "ask at /ask?domain=www.example.com\n"),
    }
    match asked(request.uri().query()) {
        Err(fault) => plain(StatusCode::BAD_REQUEST, &format!("domain: {fault}\n")),
        Ok(name) => match domains.permission(&name, Caller::Internal).await {
            Permission::Allow(_) => plain(StatusCode::OK, "served\n"),
            Permission::Deny(_) => plain(StatusCode::NOT_FOUND, "not served\n"),
            // No 4xx: whoever asks must not take it for a denial.
            Permission::Unknown(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "unknown now; ask again\n"),
        },
    }
}

/// The name that a query asks for.
fn asked(query: Option<&str>) -> Result<ServerName, String> {
    let pairs = query.unwrap_or_default().split('&').take(MOST_PAIRS);
    let mut named = pairs.filter_map(|pair| pair.strip_prefix("domain="));
    let (Some(name), None) = (named.next(), named.next()) else {
        return Err("write it once, like `/ask?domain=www.example.com`".to_owned());
    };
    let name = percent_decode_str(name).decode_utf8().map_err(|error| error.to_string())?;
    ServerName::parse(&name).map_err(|error| error.to_string())
}

const MOST_PAIRS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_names_one_name() {
        for (query, name) in [
            ("domain=shop.example", "shop.example"),
            ("x=1&domain=Shop.Example.", "shop.example"),
            ("domain=b%C3%BCcher.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(asked(Some(query)).unwrap().as_str(), name, "{query}");
        }
        for query in [
            None,
            Some(""),
            Some("domain"),
            Some("domain="),
            Some("domain=a.example&domain=b.example"),
            Some("domain=%ff"),
            Some("domain=192.0.2.1"),
        ] {
            assert!(asked(query).is_err(), "{query:?}");
        }
    }
}
