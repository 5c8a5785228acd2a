//! Where a request comes from, by what a browser says of it.
//! Invariant: a form of another origin, or of an unknown one, is refused (`a_form_comes_from_our_own_pages`).

use std::net::IpAddr;

use hyper::{
    HeaderMap,
    header::{HOST, HeaderName, ORIGIN},
};

use crate::name::ServerName;

/// Whether a request means this console: by the name of its certificate, or by an address of this machine.
pub(super) fn is_expected_host(headers: &HeaderMap, name: Option<&ServerName>) -> bool {
    let Some(authority) = text(headers, &HOST) else { return false };
    let host = without_port(authority);
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.is_loopback())
        || name.is_some_and(|name| host.eq_ignore_ascii_case(name.as_str()))
}

/// Whether a form was sent by a page of this console. What says nothing of it is no browser of today.
pub(super) fn is_same_origin(headers: &HeaderMap) -> bool {
    let (origin, site) = (text(headers, &ORIGIN), text(headers, &SEC_FETCH_SITE));
    let host = text(headers, &HOST);
    let of_host = |origin: &str| origin.split_once("://").map(|(_, authority)| authority) == host;
    (origin.is_some() || site.is_some())
        && origin.is_none_or(of_host)
        && site.is_none_or(|site| site == "same-origin")
}

/// The one value of a field; of several, one that fits nothing.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() {
        return Some("");
    }
    Some(first.to_str().unwrap_or_default())
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !host.ends_with(':') => host,
        _ => authority,
    }
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_name_that_others_lead_here_is_not_answered() {
        let name = ServerName::parse("api.example.net").unwrap();
        for (host, expected) in [
            ("api.example.net", true),
            ("API.example.net:9466", true),
            ("127.0.0.1:9466", true),
            ("[::1]:9466", true),
            ("[::1]", true),
            ("localhost:9466", true),
            ("evil.example", false),
            ("api.example.net.evil.example", false),
            ("192.0.2.1", false),
            ("", false),
        ] {
            assert_eq!(is_expected_host(&headers(&[("host", host)]), Some(&name)), expected, "{host}");
        }
        assert!(!is_expected_host(&headers(&[("host", "api.example.net")]), None));
        assert!(!is_expected_host(&headers(&[]), Some(&name)));
        assert!(!is_expected_host(&headers(&[("host", "localhost"), ("host", "localhost")]), Some(&name)));
    }

    #[test]
    fn a_form_comes_from_our_own_pages() {
        let host = ("host", "127.0.0.1:9466");
        let (own, site) = (("origin", "http://127.0.0.1:9466"), ("sec-fetch-site", "same-origin"));
        for (fields, expected) in [
            (vec![own, site], true),
            (vec![own], true),
            (vec![site], true),
            (vec![], false),
            (vec![own, ("sec-fetch-site", "same-site")], false),
            (vec![own, ("sec-fetch-site", "cross-site")], false),
            (vec![own, ("sec-fetch-site", "none")], false),
            (vec![("origin", "null"), site], false),
            (vec![("origin", "http://127.0.0.1:9467"), site], false),
            (vec![("origin", "https://evil.example")], false),
            (vec![own, own], false),
        ] {
            let fields: Vec<_> = fields.into_iter().chain([host]).collect();
            assert_eq!(is_same_origin(&headers(&fields)), expected, "{fields:?}");
        }
    }
}
