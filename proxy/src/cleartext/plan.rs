//! What a request on the cleartext port gets: health, a validation's answer, or a redirect to HTTPS.

use http::{HeaderValue, Uri, uri::Scheme};

use crate::{
    certificates::ChallengeToken,
    forward::{self, Authority, RequestViolation},
    http1::RequestParts,
    name::ServerName,
    verification::EDGE_PATH,
};

/// What to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Report the state of this instance, whatever host was named: load balancers name an address or nothing.
    Health,
    /// Answer an http-01 validation (RFC 8555 §8.3), never redirected.
    Challenge { name: ServerName, token: Option<ChallengeToken> },
    /// Say which edge this is, whatever host was named.
    Edge,
    /// Redirect the client to HTTPS.
    Redirect { host: Authority },
}

/// Decides by the header section alone; permission is asked afterwards.
pub(super) fn plan(head: &RequestParts) -> Result<Plan, RequestViolation> {
    forward::message(head)?;
    if is_health(&head.uri) {
        return Ok(Plan::Health);
    }
    if head.uri.path() == EDGE_PATH {
        return Ok(Plan::Edge);
    }
    let host = forward::host(head, &Scheme::HTTP, None)?;
    match head.uri.path().strip_prefix(CHALLENGE) {
        Some(token) => Ok(Plan::Challenge { name: host.name, token: ChallengeToken::parse(token) }),
        None => Ok(Plan::Redirect { host }),
    }
}

/// Whether a request on the cleartext port asks for health.
pub(crate) fn is_health(uri: &Uri) -> bool {
    uri.path() == HEALTH
}

/// The HTTPS address of what `head` asks for.
pub(super) fn location(
    head: &RequestParts,
    host: &Authority,
    https_port: u16,
) -> Result<HeaderValue, RequestViolation> {
    let there = Authority { name: host.name.clone(), port: Some(https_port).filter(|port| *port != 443) };
    HeaderValue::try_from(there.https_url(&head.uri)).map_err(|_| RequestViolation::TargetForm)
}

const HEALTH: &str = "/health";
const CHALLENGE: &str = "/.well-known/acme-challenge/";

#[cfg(test)]
mod tests {
    use super::*;

    fn head(target: &str, hosts: &[&str]) -> RequestParts {
        let request =
            hosts.iter().fold(http::Request::get(target), |request, host| request.header("host", *host));
        request.body(()).unwrap().into_parts().0.into()
    }

    fn challenge(token: Option<&str>) -> Plan {
        let name = ServerName::parse("shop.example").unwrap();
        Plan::Challenge { name, token: token.and_then(ChallengeToken::parse) }
    }

    #[test]
    fn only_health_validations_and_the_edges_name_are_not_redirected() {
        let redirect = |host: &[u8]| Ok(Plan::Redirect { host: Authority::parse(host, 80).unwrap() });
        for (target, host, expected) in [
            ("/health", Some("192.0.2.1"), Ok(Plan::Health)),
            ("/health", None, Ok(Plan::Health)),
            ("/.well-known/gatehouse", Some("shop.example"), Ok(Plan::Edge)),
            ("/.well-known/gatehouse/", Some("shop.example"), redirect(b"shop.example")),
            ("/healthy", Some("shop.example"), redirect(b"shop.example")),
            ("/", Some("Shop.example:8080"), redirect(b"shop.example:8080")),
            ("/.well-known/acme-challenge/abc-_1", Some("shop.example"), Ok(challenge(Some("abc-_1")))),
            ("/.well-known/acme-challenge/", Some("shop.example"), Ok(challenge(None))),
            ("/.well-known/acme-challenge/a/../b", Some("shop.example"), Ok(challenge(None))),
            ("/", Some("192.0.2.1"), Err(RequestViolation::HostMalformed)),
            ("/", None, Err(RequestViolation::HostMissing)),
        ] {
            assert_eq!(plan(&head(target, host.as_slice())), expected, "{target} {host:?}");
        }
    }

    #[test]
    fn redirects_keep_path_and_query_and_know_their_port() {
        for (target, port, expected) in [
            ("/a/b?c=d", 443, "https://shop.example/a/b?c=d"),
            ("/", 8443, "https://shop.example:8443/"),
            ("//evil.example/", 443, "https://shop.example//evil.example/"),
        ] {
            let host = Authority::parse(b"shop.example:8080", 80).unwrap();
            assert_eq!(location(&head(target, &[]), &host, port).unwrap(), expected, "{target}");
        }
    }
}
