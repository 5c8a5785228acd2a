//! What a request over the control socket asks for.

use std::{error::Error, str::FromStr};

use hyper::{Method, StatusCode};

use super::wire::{Bookmark, Fault, Tenant, WireProblem};
use crate::{
    api_token::TokenId,
    certificates::{OnRequest, RevocationReason},
    config::{Maintenance, WebhookName},
    name::{Pattern, ServerName},
};

/// A request understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ControlRoute {
    Status,
    ListDomains(ListPage<Pattern>),
    ShowDomain(Pattern),
    ShowName(ServerName),
    AddDomain(Pattern),
    PreviewDomain(Pattern),
    RemoveDomain(Pattern),
    SuspendDomain(Pattern),
    ResumeDomain(Pattern),
    MaintainDomain(Pattern, Maintenance),
    LinkDomain(Pattern),
    ReindexDomains,
    Reload,
    Upgrade,
    ListCertificates(ListPage<Bookmark>),
    ShowCertificate(Pattern),
    RetryCertificate(Pattern),
    SpreadRenewals,
    OrderCertificate(Pattern, OnRequest),
    RevokeCertificate(Pattern, RevocationReason),
    ImportCertificate,
    RemoveCertificate(Pattern),
    CreateToken,
    ListTokens,
    RevokeToken(TokenId),
    ListInstances,
    CountEntries(Tenant),
    AskGuard,
    ListEvents,
    ListWebhooks,
    Replay(WebhookName),
}

/// Which part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListPage<N> {
    pub(super) after: Option<N>,
    pub(super) limit: u16,
    /// Of domains only.
    pub(super) tenant: Option<Tenant>,
}

impl ControlRoute {
    /// Reads method, path and query.
    pub(super) fn of(method: &Method, path: &str, query: Option<&str>) -> Result<Self, WireProblem> {
        let mut steps = path.strip_prefix(PREFIX).unwrap_or_default().split('/');
        let step = (steps.next().unwrap_or_default(), steps.next(), steps.next());
        Ok(match (method.as_str(), step) {
            ("GET", ("status", None, None)) => Self::Status,
            ("GET", ("domains", None, None)) => Self::ListDomains(part(query)?),
            ("GET", ("domains", Some(name), None)) => Self::ShowDomain(read(name)?),
            ("GET", ("names", Some(name), None)) => Self::ShowName(read(name)?),
            ("PUT", ("domains", Some(name), None)) => Self::AddDomain(read(name)?),
            ("POST", ("domains", Some(name), Some("preview"))) => Self::PreviewDomain(read(name)?),
            ("DELETE", ("domains", Some(name), None)) => Self::RemoveDomain(read(name)?),
            ("POST", ("domains", Some(name), Some("suspend"))) => Self::SuspendDomain(read(name)?),
            ("POST", ("domains", Some(name), Some("resume"))) => Self::ResumeDomain(read(name)?),
            ("PUT", ("domains", Some(name), Some("maintenance"))) => {
                Self::MaintainDomain(read(name)?, Maintenance::On)
            }
            ("DELETE", ("domains", Some(name), Some("maintenance"))) => {
                Self::MaintainDomain(read(name)?, Maintenance::Off)
            }
            ("POST", ("domains", Some(name), Some("link"))) => Self::LinkDomain(read(name)?),
            ("POST", ("reindex", None, None)) => Self::ReindexDomains,
            ("POST", ("reload", None, None)) => Self::Reload,
            ("POST", ("upgrade", None, None)) => Self::Upgrade,
            ("GET", ("certificates", None, None)) => Self::ListCertificates(part(query)?),
            ("GET", ("certificates", Some(name), None)) => Self::ShowCertificate(read(name)?),
            ("POST", ("certificates", Some(name), Some("retry"))) => Self::RetryCertificate(read(name)?),
            ("POST", ("certificates", Some(name), Some("obtain"))) => {
                Self::OrderCertificate(read(name)?, OnRequest::Obtain)
            }
            ("POST", ("certificates", Some(name), Some("renew"))) => {
                Self::OrderCertificate(read(name)?, OnRequest::Renew)
            }
            ("POST", ("certificates", Some(name), Some("revoke"))) => {
                Self::RevokeCertificate(read(name)?, reason(query)?)
            }
            ("POST", ("renewals", None, None)) => Self::SpreadRenewals,
            ("POST", ("own-certificates", None, None)) => Self::ImportCertificate,
            ("DELETE", ("own-certificates", Some(name), None)) => Self::RemoveCertificate(read(name)?),
            ("POST", ("tokens", None, None)) => Self::CreateToken,
            ("GET", ("tokens", None, None)) => Self::ListTokens,
            ("DELETE", ("tokens", Some(id), None)) => Self::RevokeToken(read(id)?),
            ("GET", ("instances", None, None)) => Self::ListInstances,
            ("POST", ("tenants", Some(tenant), Some("count"))) => Self::CountEntries(read(tenant)?),
            ("POST", ("guard", Some("questions"), None)) => Self::AskGuard,
            ("POST", ("events", Some("questions"), None)) => Self::ListEvents,
            ("GET", ("webhooks", None, None)) => Self::ListWebhooks,
            ("POST", ("webhooks", Some(name), Some("replay"))) => Self::Replay(read(name)?),
            _ => {
                return Err(problem(StatusCode::NOT_FOUND, format!("{method} {path}: nothing answers here")));
            }
        })
    }
}

/// A refusal.
pub(super) fn problem(status: StatusCode, detail: impl Into<String>) -> WireProblem {
    WireProblem { status: status.as_u16(), detail: detail.into(), fault: Fault::default() }
}

fn read<N: FromStr<Err: Error>>(text: &str) -> Result<N, WireProblem> {
    text.parse().map_err(|error: N::Err| problem(StatusCode::BAD_REQUEST, error.to_string()))
}

fn part<N: FromStr<Err: Error>>(query: Option<&str>) -> Result<ListPage<N>, WireProblem> {
    let mut part = ListPage { after: None, limit: DEFAULT_LIMIT, tenant: None };
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).take(MAX_PAIRS) {
        match pair.split_once('=') {
            Some(("after", name)) => part.after = Some(read(name)?),
            Some(("limit", limit)) => part.limit = bounded(limit)?,
            Some(("tenant", tenant)) => part.tenant = Some(read(tenant)?),
            _ => {
                return Err(problem(StatusCode::BAD_REQUEST, "write the query like `?after=NAME&limit=100`"));
            }
        }
    }
    Ok(part)
}

fn reason(query: Option<&str>) -> Result<RevocationReason, WireProblem> {
    match query.map(|query| query.split_once('=')) {
        None => Ok(RevocationReason::default()),
        Some(Some(("reason", reason))) => read(reason),
        Some(_) => Err(problem(StatusCode::BAD_REQUEST, "write the query like `?reason=superseded`")),
    }
}

fn bounded(text: &str) -> Result<u16, WireProblem> {
    let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    limit.ok_or_else(|| problem(StatusCode::BAD_REQUEST, format!("limit: write 1 to {MAX_LIMIT}")))
}

/// The first path of everything, so that a later form can stand beside this one.
pub(super) const PREFIX: &str = "/v1/";
const DEFAULT_LIMIT: u16 = 100;
const MAX_LIMIT: u16 = 1000;
const MAX_PAIRS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::wire::NewDomain;

    fn route(line: &str) -> Result<ControlRoute, u16> {
        let (method, target) = line.split_once(' ').unwrap();
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        ControlRoute::of(&method.parse().unwrap(), path, query).map_err(|problem| problem.status)
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    fn server_name(text: &str) -> ServerName {
        ServerName::parse(text).unwrap()
    }

    fn bookmark() -> Bookmark {
        "a.example,2026-11-24T02:15:08.123456Z".parse().unwrap()
    }

    #[test]
    fn requests_are_understood_or_refused() {
        let name = |text: &str| Pattern::parse(text).unwrap();
        let part = |after: Option<&str>, limit| ListPage { after: after.map(name), limit, tenant: None };
        let of = |tenant: &str| ListPage { tenant: Some(tenant.parse().unwrap()), ..part(None, 100) };
        for (line, wanted) in [
            ("GET /v1/status", Ok(ControlRoute::Status)),
            ("GET /v1/domains", Ok(ControlRoute::ListDomains(part(None, 100)))),
            (
                "GET /v1/domains?limit=5&after=a.example",
                Ok(ControlRoute::ListDomains(part(Some("a.example"), 5))),
            ),
            ("GET /v1/domains?tenant=acme-1", Ok(ControlRoute::ListDomains(of("acme-1")))),
            ("GET /v1/domains?tenant=", Err(400)),
            ("GET /v1/domains?tenant=a%20b", Err(400)),
            ("GET /v1/domains/*.a.example", Ok(ControlRoute::ShowDomain(name("*.a.example")))),
            ("PUT /v1/domains/A.example.", Ok(ControlRoute::AddDomain(name("a.example")))),
            ("DELETE /v1/domains/a.example", Ok(ControlRoute::RemoveDomain(name("a.example")))),
            ("POST /v1/domains/*.a.example/suspend", Ok(ControlRoute::SuspendDomain(name("*.a.example")))),
            ("POST /v1/domains/a.example/resume", Ok(ControlRoute::ResumeDomain(name("a.example")))),
            (
                "PUT /v1/domains/a.example/maintenance",
                Ok(ControlRoute::MaintainDomain(name("a.example"), Maintenance::On)),
            ),
            (
                "DELETE /v1/domains/a.example/maintenance",
                Ok(ControlRoute::MaintainDomain(name("a.example"), Maintenance::Off)),
            ),
            ("POST /v1/domains/*.a.example/link", Ok(ControlRoute::LinkDomain(name("*.a.example")))),
            ("GET /v1/domains/a.example/link", Err(404)),
            ("POST /v1/domains/a.example/remove", Err(404)),
            ("POST /v1/reindex", Ok(ControlRoute::ReindexDomains)),
            ("POST /v1/reload", Ok(ControlRoute::Reload)),
            ("POST /v1/upgrade", Ok(ControlRoute::Upgrade)),
            ("POST /v1/tokens", Ok(ControlRoute::CreateToken)),
            ("GET /v1/tokens", Ok(ControlRoute::ListTokens)),
            (
                "DELETE /v1/tokens/0123456789ab",
                Ok(ControlRoute::RevokeToken("0123456789ab".parse().unwrap())),
            ),
            ("DELETE /v1/tokens/0123", Err(400)),
            ("GET /v1/instances", Ok(ControlRoute::ListInstances)),
            ("GET /v1/instances/i-0", Err(404)),
            ("POST /v1/tenants/acme/count", Ok(ControlRoute::CountEntries("acme".parse().unwrap()))),
            ("POST /v1/tenants/a%20b/count", Err(400)),
            ("GET /v1/tenants/acme/count", Err(404)),
            ("POST /v1/guard/questions", Ok(ControlRoute::AskGuard)),
            ("POST /v1/guard", Err(404)),
            ("POST /v1/events/questions", Ok(ControlRoute::ListEvents)),
            ("GET /v1/webhooks", Ok(ControlRoute::ListWebhooks)),
            ("POST /v1/webhooks/crm/replay", Ok(ControlRoute::Replay("crm".parse().unwrap()))),
            ("POST /v1/webhooks/CRM/replay", Err(400)),
            ("GET /v1/domains?limit=0", Err(400)),
            ("GET /v1/domains?limit=1001", Err(400)),
            ("GET /v1/domains?page=2", Err(400)),
            ("PUT /v1/domains/10.0.0.1", Err(400)),
            ("PUT /v1/domains/a.example/b", Err(404)),
            ("POST /v1/status", Err(404)),
            ("GET /", Err(404)),
            ("GET /v2/status", Err(404)),
        ] {
            assert_eq!(route(line), wanted, "{line}");
        }
    }

    #[test]
    fn requests_about_certificates_are_understood_or_refused() {
        for (line, wanted) in [
            (
                "GET /v1/certificates?limit=7",
                Ok(ControlRoute::ListCertificates(ListPage { after: None, limit: 7, tenant: None })),
            ),
            (
                "GET /v1/certificates?after=a.example,2026-11-24T02:15:08.123456Z",
                Ok(ControlRoute::ListCertificates(ListPage {
                    after: Some(bookmark()),
                    limit: 100,
                    tenant: None,
                })),
            ),
            ("GET /v1/certificates?after=a.example", Err(400)),
            (
                "POST /v1/domains/a.example/preview",
                Ok(ControlRoute::PreviewDomain(Pattern::parse("a.example").unwrap())),
            ),
            ("GET /v1/names/a.example", Ok(ControlRoute::ShowName(server_name("a.example")))),
            ("GET /v1/certificates/a.example", Ok(ControlRoute::ShowCertificate(pattern("a.example")))),
            ("GET /v1/certificates/*.a.example", Ok(ControlRoute::ShowCertificate(pattern("*.a.example")))),
            ("GET /v1/certificates/*.example", Err(400)),
            (
                "POST /v1/certificates/a.example/retry",
                Ok(ControlRoute::RetryCertificate(pattern("a.example"))),
            ),
            ("GET /v1/certificates/a.example/retry", Err(404)),
            (
                "POST /v1/certificates/a.example/obtain",
                Ok(ControlRoute::OrderCertificate(pattern("a.example"), OnRequest::Obtain)),
            ),
            (
                "POST /v1/certificates/a.example/renew",
                Ok(ControlRoute::OrderCertificate(pattern("a.example"), OnRequest::Renew)),
            ),
            (
                "POST /v1/certificates/a.example/revoke",
                Ok(ControlRoute::RevokeCertificate(pattern("a.example"), RevocationReason::Unspecified)),
            ),
            (
                "POST /v1/certificates/a.example/revoke?reason=key-compromise",
                Ok(ControlRoute::RevokeCertificate(pattern("a.example"), RevocationReason::KeyCompromise)),
            ),
            ("POST /v1/certificates/a.example/revoke?reason=boredom", Err(400)),
            ("POST /v1/certificates/a.example/revoke?limit=1", Err(400)),
            (
                "POST /v1/certificates/*.a.example/obtain",
                Ok(ControlRoute::OrderCertificate(pattern("*.a.example"), OnRequest::Obtain)),
            ),
            ("POST /v1/renewals", Ok(ControlRoute::SpreadRenewals)),
            ("GET /v1/renewals", Err(404)),
            ("POST /v1/own-certificates", Ok(ControlRoute::ImportCertificate)),
            (
                "DELETE /v1/own-certificates/*.a.example",
                Ok(ControlRoute::RemoveCertificate(Pattern::parse("*.a.example").unwrap())),
            ),
            ("GET /v1/own-certificates", Err(404)),
            ("DELETE /v1/own-certificates/10.0.0.1", Err(400)),
        ] {
            assert_eq!(route(line), wanted, "{line}");
        }
    }

    #[test]
    fn a_mutated_corpus_of_requests_is_understood_or_refused_in_few_words() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/control_request");
        proxy_common::fixture::fuzz::Corpus::read(corpus).run(|input| {
            let text = String::from_utf8_lossy(input);
            let (line, body) = text.split_once('\n').unwrap_or((&text, ""));
            if let Ok(new) = serde_json::from_str::<NewDomain>(body) {
                let written = serde_json::to_string(&new).unwrap();
                let again: NewDomain = serde_json::from_str(&written).unwrap();
                assert_eq!(serde_json::to_string(&again).unwrap(), written);
            }
            let Some((method, target)) = line.split_once(' ') else { return };
            let (Ok(method), Ok(target)) = (method.parse(), target.parse::<hyper::Uri>()) else { return };
            match ControlRoute::of(&method, target.path(), target.query()) {
                Ok(ControlRoute::ListDomains(ListPage { limit, .. })) => {
                    assert!((1..=MAX_LIMIT).contains(&limit));
                }
                Ok(ControlRoute::ListCertificates(ListPage { after, limit, .. })) => {
                    assert!((1..=MAX_LIMIT).contains(&limit));
                    let again = after.as_ref().map(|after| after.to_string().parse().unwrap());
                    assert_eq!(again, after);
                }
                Ok(_) => {}
                Err(WireProblem { status, detail, .. }) => {
                    assert!(matches!(status, 400 | 404) && !detail.is_empty(), "{status} {detail}");
                    assert!(detail.len() <= line.len() + 300, "{} bytes: {detail}", detail.len());
                }
            }
        });
    }
}
