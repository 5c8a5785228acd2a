//! A request's head as the upstream gets it, a response's head as the client gets it.

use std::net::IpAddr;

use hyper::{
    HeaderMap, Request, Response, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue},
    http::{self, uri::PathAndQuery},
};

use super::admit::shadows;
use crate::{name::ServerName, target::Target};

/// Who asked for what, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) host: &'a ServerName,
    pub(super) client: IpAddr,
    pub(super) scheme: &'static str,
    pub(super) port: u16,
}

/// The head for `target`: in origin form (RFC 9112 §3.2.1), without what was meant for us alone, with who asked for what.
pub(super) fn towards_upstream(
    head: &http::request::Parts,
    asked: &Asked<'_>,
    target: &Target,
) -> Result<Request<()>, http::Error> {
    let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut request = Request::builder()
        .method(head.method.clone())
        .uri(Uri::from(path))
        .version(Version::HTTP_11)
        .body(())?;
    let fields = request.headers_mut();
    *fields = head.headers.clone();
    remove_hop_by_hop(fields);
    // What frames the message is the body hyper is given (RFC 9112 §6), never what a client wrote.
    fields.remove(CONTENT_LENGTH);
    remove_ours(fields);
    fields.insert(HOST, HeaderValue::try_from(target.authority())?);
    let host = HeaderValue::try_from(asked.host.as_str())?;
    fields.insert(USER_CUSTOM_DOMAIN, host.clone());
    fields.insert(X_FORWARDED_HOST, host);
    fields.insert(X_FORWARDED_FOR, HeaderValue::try_from(asked.client.to_canonical().to_string())?);
    fields.insert(X_FORWARDED_PROTO, HeaderValue::from_static(asked.scheme));
    fields.insert(X_FORWARDED_PORT, HeaderValue::from(asked.port));
    Ok(request)
}

/// The head for the client: without what concerned only our connection to the upstream.
pub(super) fn towards_client<B>(response: &mut Response<B>) {
    remove_hop_by_hop(response.headers_mut());
    *response.version_mut() = Version::default();
}

/// RFC 9110 §7.6.1: `Connection`, the fields it nominates, and those known to be meant for one hop.
fn remove_hop_by_hop(fields: &mut HeaderMap) {
    let nominated: Vec<HeaderName> = fields
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|token| token.trim().parse().ok())
        // A client may not have the fields removed that everything else rests on.
        .filter(|name| *name != HOST && *name != CONTENT_LENGTH)
        .collect();
    for name in nominated {
        fields.remove(name);
    }
    for name in HOP_BY_HOP {
        fields.remove(*name);
    }
}

/// The client's own claims in our name, also under names that an upstream may read as ours.
fn remove_ours(fields: &mut HeaderMap) {
    let claims = |name: &&HeaderName| OURS.contains(&name.as_str()) || shadows(name, OURS);
    let claims: Vec<HeaderName> = fields.keys().filter(claims).cloned().collect();
    for name in claims {
        fields.remove(name);
    }
}

const USER_CUSTOM_DOMAIN: HeaderName = HeaderName::from_static("user-custom-domain");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const OURS: &[&str] = &[
    "user-custom-domain",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
];
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-authenticate",
    "proxy-authorization",
    "expect",
    "keep-alive",
    "proxy-connection",
    "http2-settings",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(fields: &[(&str, &str)]) -> Request<()> {
        let mut builder = Request::builder().uri("https://a.example/p?q=1").version(Version::HTTP_2);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        let (head, ()) = builder.body(()).unwrap().into_parts();
        let host = ServerName::parse("a.example").unwrap();
        let client = "::ffff:192.0.2.7".parse().unwrap();
        let asked = Asked { host: &host, client, scheme: "https", port: 443 };
        towards_upstream(&head, &asked, &Target::parse("https://origin.example:8443").unwrap()).unwrap()
    }

    #[test]
    fn the_upstream_learns_who_asked_for_what_from_us_alone() {
        let request = rewritten(&[
            ("host", "a.example"),
            ("user-custom-domain", "evil.example"),
            ("x-forwarded-for", "203.0.113.9"),
            ("x_forwarded_for", "203.0.113.9"),
            ("User_Custom_Domain", "evil.example"),
            ("forwarded", "for=203.0.113.9"),
            ("accept", "*/*"),
        ]);
        assert_eq!((request.uri().to_string().as_str(), request.version()), ("/p?q=1", Version::HTTP_11));
        let mut got: Vec<_> =
            request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        got.sort_unstable();
        assert_eq!(
            got,
            [
                ("accept", "*/*"),
                ("host", "origin.example:8443"),
                ("user-custom-domain", "a.example"),
                ("x-forwarded-for", "192.0.2.7"),
                ("x-forwarded-host", "a.example"),
                ("x-forwarded-port", "443"),
                ("x-forwarded-proto", "https"),
            ]
        );
    }

    #[test]
    fn framing_follows_from_the_body_alone() {
        let request =
            rewritten(&[("content-length", "5"), ("transfer-encoding", "chunked"), ("te", "trailers")]);
        for name in ["content-length", "transfer-encoding", "te"] {
            assert!(!request.headers().contains_key(name), "{name}");
        }
    }

    #[test]
    fn nominated_fields_go_and_host_stays() {
        let fields = [
            ("connection", "close, x-secret, host"),
            ("x-secret", "1"),
            ("keep-alive", "5"),
            ("upgrade", "h2c"),
        ];
        let request = rewritten(&fields);
        assert_eq!(request.headers().get("host").unwrap(), "origin.example:8443");
        for name in ["connection", "x-secret", "keep-alive", "upgrade"] {
            assert!(!request.headers().contains_key(name), "{name}");
        }
    }
}
