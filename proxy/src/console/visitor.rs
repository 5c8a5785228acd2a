//! Who looks at a page: the cookie of a session, the token behind it, and the forms that are its own.
//! Invariant: a [`SignedForm`] was sent by one of our pages to the session that sends it; there is no other way to one
//! (`only_our_own_forms_change_anything`).

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Request};
use http::request::Parts;
use hyper::{
    HeaderMap,
    header::{COOKIE, HeaderValue},
};

use super::{
    Console, ROOT,
    failure::Failure,
    fields::Fields,
    origin,
    session::{SESSION_LIFE, Session},
};
use crate::{
    api::{Admitted, Problem, ProblemKind, caller, collect, media_type},
    clock,
    domains::Caller,
    name::ServerName,
    store::instant::Micros,
};

/// How a browser keeps a session.
pub(super) struct SessionCookie {
    name: &'static str,
    attributes: String,
}

/// Who is signed in, with a token that holds.
pub(super) struct Visitor {
    pub(super) admitted: Admitted,
    /// What each form of the session sends back.
    pub(super) csrf_token: String,
}

/// A form of one of our pages.
pub(super) struct SignedForm {
    pub(super) visitor: Visitor,
    pub(super) fields: Fields,
}

impl SessionCookie {
    /// Where the console has the name of a certificate, it speaks TLS.
    pub(super) fn of(name: Option<&ServerName>) -> Self {
        match name {
            // RFC 6265bis §4.1.3.2: no other host has set it, and it was not sent in cleartext.
            Some(_) => Self::new("__Host-gatehouse", "Path=/; Secure"),
            // On loopback in cleartext a browser may refuse `Secure`.
            None => Self::new("gatehouse-console", &format!("Path={ROOT}")),
        }
    }

    fn new(name: &'static str, scope: &str) -> Self {
        Self { name, attributes: format!("{scope}; HttpOnly; SameSite=Strict") }
    }

    /// What keeps `session`.
    pub(super) fn set(&self, session: &str) -> Option<HeaderValue> {
        self.value(session, SESSION_LIFE.as_secs())
    }

    /// What forgets it.
    pub(super) fn clear(&self) -> Option<HeaderValue> {
        self.value("", 0)
    }

    fn value(&self, session: &str, seconds: u64) -> Option<HeaderValue> {
        let Self { name, attributes } = self;
        let text = format!("{name}={session}; {attributes}; Max-Age={seconds}");
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// What a browser keeps of it; of several the first.
    pub(super) fn find<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let lines = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == self.name).map(|(_, value)| value)
    }
}

impl FromRequestParts<Arc<Console>> for Visitor {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, console: &Arc<Console>) -> Result<Self, Failure> {
        signed_in(&parts.headers, caller(&parts.extensions), console).await.map(|(visitor, _)| visitor)
    }
}

async fn signed_in(
    headers: &HeaderMap,
    caller: Caller,
    console: &Console,
) -> Result<(Visitor, Session), Failure> {
    let cookie = console.cookie.find(headers).ok_or(Failure::SignedOut)?;
    let now = Micros::of(clock::wall());
    let session = console.key.open(cookie, now).map_err(|_| Failure::SignedOut)?;
    let admitted =
        console.api.admit(session.token, caller).await.map_err(|problem| match problem.kind() {
            ProblemKind::Unauthenticated => Failure::SignedOut,
            _ => problem.into(),
        })?;
    Ok((Visitor { admitted, csrf_token: console.key.form(session) }, session))
}

impl FromRequest<Arc<Console>> for SignedForm {
    type Rejection = Failure;

    async fn from_request(request: Request, console: &Arc<Console>) -> Result<Self, Failure> {
        let caller = caller(request.extensions());
        let (visitor, session) = signed_in(request.headers(), caller, console).await?;
        let mut fields = read_form(request, console).await?;
        console.key.check_form(session, &fields.take("csrf_token")).map_err(|_| {
            let fault = "the form is not of this session";
            Problem::new(ProblemKind::Forbidden, fault).mend("open the page anew, and send its form")
        })?;
        Ok(Self { visitor, fields })
    }
}

/// The fields of a form that a page of ours has sent.
pub(super) async fn read_form(request: Request, console: &Console) -> Result<Fields, Problem> {
    if !origin::is_same_origin(request.headers()) {
        let fault = "the form was not sent by a page of this console";
        return Err(Problem::new(ProblemKind::Forbidden, fault).mend("open the page here, and send its form"));
    }
    if media_type(request.headers()) != Some("application/x-www-form-urlencoded") {
        return Err(Problem::new(ProblemKind::MediaType, "the body is no form of a page"));
    }
    Fields::parse(&collect(request.into_body(), console.api.body_size).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_others() {
        let cookie = SessionCookie::of(None);
        let mut headers = HeaderMap::new();
        assert_eq!(cookie.find(&headers), None);
        headers.append(COOKIE, "a=b; xgatehouse-console=no;gatehouse-console=yes; c".parse().unwrap());
        assert_eq!(cookie.find(&headers), Some("yes"));
        let set = cookie.set("yes").unwrap();
        assert_eq!(
            set.to_str().unwrap(),
            "gatehouse-console=yes; Path=/console; HttpOnly; SameSite=Strict; Max-Age=43200"
        );
        let name = ServerName::parse("api.example.net").unwrap();
        let set = SessionCookie::of(Some(&name)).set("yes").unwrap();
        assert!(set.to_str().unwrap().starts_with("__Host-gatehouse=yes; Path=/; Secure; HttpOnly"));
    }
}
