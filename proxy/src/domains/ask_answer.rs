//! Caddy's question and its answer, for who is asked (Caddy's documentation, "On-demand TLS"): a 2xx permits a certificate, and all else does
//! not. Pure; not here: who listens, and what is known of the name.

use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;

use super::Permission;
use crate::name::ServerName;

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskAnswer {
    /// The answer, for programs.
    pub status: StatusCode,
    /// Why, for people: a line.
    pub text: String,
}

/// The name that a request asks for at one of `paths`; or the answer to what is no question.
pub fn asked(
    method: &Method,
    path: &str,
    query: Option<&str>,
    paths: &[&str],
) -> Result<ServerName, AskAnswer> {
    if !paths.contains(&path) {
        return Err(AskAnswer::new(StatusCode::NOT_FOUND, "ask at /ask?domain=www.example.com"));
    }
    if method != Method::GET && method != Method::HEAD {
        return Err(AskAnswer::new(StatusCode::METHOD_NOT_ALLOWED, "GET only"));
    }
    name_in(query).map_err(|fault| AskAnswer::new(StatusCode::BAD_REQUEST, &format!("domain: {fault}")))
}

fn name_in(query: Option<&str>) -> Result<ServerName, String> {
    let pairs = query.unwrap_or_default().split('&').take(MOST_PAIRS);
    let mut named = pairs.filter_map(|pair| pair.strip_prefix("domain="));
    let (Some(name), None) = (named.next(), named.next()) else {
        return Err("write it once, like `/ask?domain=www.example.com`".to_owned());
    };
    let name = percent_decode_str(name).decode_utf8().map_err(|error| error.to_string())?;
    ServerName::parse(&name).map_err(|error| error.to_string())
}

impl AskAnswer {
    /// To who asked for a name of which this is known.
    #[must_use]
    pub fn of(permission: &Permission) -> Self {
        match permission {
            Permission::Allow(entry) => {
                Self::new(StatusCode::OK, &format!("served: by the entry `{}`", entry.pattern))
            }
            Permission::Deny(denial) => Self::new(StatusCode::NOT_FOUND, &format!("not served: {denial}")),
            // No 4xx: whoever asks must not take it for a denial.
            Permission::Unknown(reason) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, &format!("unknown now: {reason}; ask again"))
            }
        }
    }

    fn new(status: StatusCode, text: &str) -> Self {
        Self { status, text: format!("{text}\n") }
    }
}

const MOST_PAIRS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domains::{Denial, UnknownReason};

    fn question(query: Option<&str>) -> Result<ServerName, AskAnswer> {
        asked(&Method::GET, "/ask", query, &["/ask"])
    }

    #[test]
    fn a_question_names_one_name() {
        for (query, name) in [
            ("domain=shop.example", "shop.example"),
            ("x=1&domain=Shop.Example.", "shop.example"),
            ("domain=b%C3%BCcher.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(question(Some(query)).unwrap().as_str(), name, "{query}");
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
            let answer = question(query).unwrap_err();
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query:?}");
            assert!(answer.text.starts_with("domain: "), "{query:?}: {}", answer.text);
        }
    }

    #[test]
    fn what_is_no_question_is_told_what_is_one() {
        let query = Some("domain=shop.example");
        for (method, path, status) in [
            (Method::HEAD, "/ask", None),
            (Method::GET, "/", Some(StatusCode::NOT_FOUND)),
            (Method::POST, "/ask", Some(StatusCode::METHOD_NOT_ALLOWED)),
        ] {
            let refused = asked(&method, path, query, &["/ask"]).err().map(|answer| answer.status);
            assert_eq!(refused, status, "{method} {path}");
        }
        assert!(asked(&Method::GET, "/", query, &["/", "/ask"]).is_ok());
    }

    #[test]
    fn what_cannot_be_known_is_no_denial() {
        for (permission, status, said) in [
            (Permission::Deny(Denial::NoEntry), 404, "not served: no source knows it\n"),
            (
                Permission::Deny(Denial::Withdrawn),
                404,
                "not served: its entry is pending, suspended or removed\n",
            ),
            (
                Permission::Unknown(UnknownReason::SourceDown),
                503,
                "unknown now: the domains table does not answer; ask again\n",
            ),
        ] {
            let answer = AskAnswer::of(&permission);
            assert_eq!((answer.status.as_u16(), answer.text.as_str()), (status, said));
        }
    }
}
