//! Messages as the other side of the proxy sees them.

use std::net::IpAddr;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header::InvalidHeaderValue,
    uri::PathAndQuery,
};

use super::{authority::Authority, cdn_loop::CdnLoop, passage::Passage, trace_context};
use crate::{
    config::UpstreamHost,
    field_name::{FieldName, Letters},
    fields::{Field, Fields, elements},
    http1::RequestParts,
    telemetry::RequestId,
};

/// What the upstream is told about a request's origin.
#[derive(Debug, Clone, Copy)]
pub(super) struct ForwardContext<'a> {
    pub(super) host: &'a Authority,
    pub(super) client: IpAddr,
    /// The trusted proxy that it came through.
    pub(super) through: Option<IpAddr>,
    pub(super) public_port: &'a HeaderValue,
    pub(super) framing: Framing,
    /// Whether the client waits for the upstream's word before it sends the body.
    pub(super) awaits_continue: bool,
    /// The protocols that the client offers to switch to.
    pub(super) upgrade: Option<&'a [u8]>,
    pub(super) cdn_loop: &'a CdnLoop,
    pub(super) request_id: &'a RequestId,
}

/// How the end of a request's body is marked for the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Empty,
    Length(u64),
    Chunked,
}

/// Makes of an admitted `head` the header section sent to the upstream, without Host, which its destination decides on.
pub(super) fn request(head: &mut RequestParts, forward_context: &ForwardContext<'_>) {
    let ForwardContext { host, client, through, public_port, .. } = *forward_context;
    let fields = &mut head.fields;
    let takes_trailers = takes_trailers(fields);
    // Before anything is removed: Connection may name these fields, too.
    let passage = Passage::of(fields, host, through);
    remove(fields, |field| {
        let leaves = |name: FieldName| {
            name.is_hop_by_hop() || matches!(name, FieldName::Host | FieldName::ContentLength)
        };
        // In any spelling that an upstream would read as the same.
        field.known.claims_passage() || field.exact().is_some_and(leaves)
    });
    join_cookies(fields);
    trace_context::keep_valid(fields);
    frame(fields, &head.method, forward_context.framing);
    if forward_context.awaits_continue {
        fields.push(FieldName::Expect, "100-continue");
    }
    put_connection(fields, forward_context.upgrade, takes_trailers);
    // Which site the request is for, and how it came. All are replaced, so that an upstream can trust them.
    fields.push(FieldName::UserCustomDomain, host.name.as_str());
    fields.push(FieldName::XRequestId, forward_context.request_id.value());
    passage.put(fields, client, host, public_port);
    forward_context.cdn_loop.mark(fields);
    origin_form(&mut head.uri);
    // RFC 9112 §2.3: an intermediary sends its own version.
    head.version = Version::HTTP_11;
}

/// The Host that the upstream is to read in place of its own authority: as it was parsed, never as it came.
pub(super) fn host(
    whose: UpstreamHost,
    client: &Authority,
) -> Result<Option<HeaderValue>, InvalidHeaderValue> {
    match whose {
        UpstreamHost::Target => Ok(None),
        UpstreamHost::Client => client.value().map(Some),
    }
}

/// RFC 9112 §3.2.1: a path and a query alone; a target without a path gets one.
fn origin_form(uri: &mut Uri) {
    let Some(target) = uri.path_and_query() else {
        *uri = Uri::from_static("/");
        return;
    };
    if target.as_str().starts_with('?') {
        let with_path = PathAndQuery::try_from(format!("/{}", target.as_str()));
        *uri = with_path.map_or_else(|_| Uri::from_static("/"), Uri::from);
    } else if uri.authority().is_some() {
        *uri = Uri::from(target.clone());
    }
}

/// The fields sent to the client, which has asked by `method` in `version`, for the upstream's.
pub(super) fn response(
    status: StatusCode,
    mut fields: Fields,
    (method, version): (&Method, Version),
) -> Fields {
    // RFC 9110 §8.6: here it tells of a body that is not sent; anywhere else the length of what is sent is written.
    let tells_length = *method == Method::HEAD || status == StatusCode::NOT_MODIFIED;
    let leaves = |name: FieldName| name.is_hop_by_hop() || !tells_length && name == FieldName::ContentLength;
    // RFC 9110 §15.5.22: it must name the protocols that are required, and that is for whoever asked.
    let required = (status == StatusCode::UPGRADE_REQUIRED && version == Version::HTTP_11)
        .then(|| fields.only(FieldName::Upgrade).map(<[u8]>::to_vec));
    remove(&mut fields, |field| field.exact().is_some_and(leaves));
    if let Some(protocols) = required.flatten() {
        fields.push(FieldName::Upgrade, protocols);
    }
    if tells_length {
        tell_one_length(&mut fields);
    }
    fields
}

/// RFC 9110 §8.6: the same length several times is forwarded as one; of lengths that differ nothing can be said.
fn tell_one_length(fields: &mut Fields) {
    let mut lengths = fields.list(FieldName::ContentLength);
    let Some(first) = lengths.next().map(<[u8]>::to_vec) else { return };
    let (mut is_repeated, mut is_same) = (false, true);
    for length in lengths {
        (is_repeated, is_same) = (true, is_same && length == first);
    }
    match (is_repeated, is_same) {
        (false, _) => {}
        (true, true) => fields.set(FieldName::ContentLength, first),
        (true, false) => fields.remove(FieldName::ContentLength),
    }
}

/// The protocols that a client offers to switch to, where that is passed on (RFC 9110 §7.8): without a body, which would have to be sent
/// before, and not to another version of HTTP, which would end our own rules (RFC 9113 §3.1: `h2c` is obsolete).
pub(super) fn upgrade(head: &RequestParts, framing: Framing) -> Option<Bytes> {
    // In HTTP/2 the fields are those of a translated handshake: a client's would be malformed (RFC 9113 §8.2.2).
    let is_asked = matches!(head.version, Version::HTTP_11 | Version::HTTP_2)
        && framing == Framing::Empty
        && head.fields.list(FieldName::Connection).any(|option| option.eq_ignore_ascii_case(b"upgrade"));
    if !is_asked {
        return None;
    }
    let is_http = |protocol: &[u8]| {
        let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
        [&b"h2c"[..], b"h2", b"HTTP"].iter().any(|http| name.eq_ignore_ascii_case(http))
    };
    let is_other = !elements(head.fields.only(FieldName::Upgrade)?).any(is_http);
    is_other.then(|| head.fields.kept(FieldName::Upgrade))?
}

/// The fields sent to the client when the upstream has switched to one of the `offered` protocols; none if it was another.
pub(super) fn switched(fields: Fields, offered: &[u8]) -> Option<Fields> {
    let chosen = fields.only(FieldName::Upgrade)?.to_vec();
    // RFC 9110 §7.8: to none that was not offered.
    elements(offered).find(|offer| offer.eq_ignore_ascii_case(chosen.trim_ascii()))?;
    let mut fields = interim(fields);
    fields.push(FieldName::Upgrade, chosen);
    Some(fields)
}

/// RFC 9110 §7.6.1: what is said to the next recipient alone is named in Connection.
fn put_connection(fields: &mut Fields, upgrade: Option<&[u8]>, takes_trailers: bool) {
    if let Some(protocols) = upgrade {
        fields.push(FieldName::Upgrade, protocols);
    }
    if takes_trailers {
        fields.push(FieldName::Te, "trailers");
    }
    let options = match (upgrade.is_some(), takes_trailers) {
        (true, true) => "upgrade, te",
        (true, false) => "upgrade",
        (false, true) => "te",
        (false, false) => return,
    };
    fields.push(FieldName::Connection, options);
}

/// Whether a message is one of gRPC: its content type is `application/grpc`, or begins so with `+` or `;` behind.
pub(super) fn is_grpc(fields: &Fields) -> bool {
    let content_type = fields.first(FieldName::ContentType);
    let rest = content_type.and_then(|content_type| content_type.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Whether the client keeps trailers (RFC 9110 §10.1.4).
fn takes_trailers(fields: &Fields) -> bool {
    fields.list(FieldName::Te).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

/// The trailers of a message that its next recipient may see, if any. A recipient may take them for fields of the header section, so that
/// those are left out that decide where a message ends, whom it is for or from, or how it is to be read (RFC 9110 §6.5.1).
pub(super) fn trailers(mut trailers: HeaderMap) -> Option<HeaderMap> {
    let is_harmful = |name: &&HeaderName| {
        let name = name.as_str().as_bytes();
        let (known, letters) = (FieldName::of(name), Letters::of(name));
        known.is_hop_by_hop()
            || known.is_guarded()
            || known.claims_passage()
            || NO_TRAILERS.contains(&letters.as_bytes())
    };
    let harmful: Vec<HeaderName> = trailers.keys().filter(is_harmful).cloned().collect();
    for name in harmful {
        trailers.remove(name);
    }
    Some(trailers).filter(|trailers| !trailers.is_empty())
}

/// The fields sent to the client for those of an interim response.
pub(super) fn interim(mut fields: Fields) -> Fields {
    // RFC 9110 §8.6: there is no content whose length it could be.
    let leaves = |name: FieldName| name.is_hop_by_hop() || name == FieldName::ContentLength;
    remove(&mut fields, |field| field.exact().is_some_and(leaves));
    fields
}

/// Removes the fields that Connection names (RFC 9110 §7.6.1), and those that leave.
fn remove(fields: &mut Fields, leaves: impl Fn(Field<'_>) -> bool) {
    let nominated = Nominated::of(fields);
    fields.retain(|field| !leaves(field) && !nominated.contain(field.name));
}

/// The names in Connection of fields that would not leave anyway; in lower case and sorted, since both they and the fields may be many.
struct Nominated(Vec<Vec<u8>>);

impl Nominated {
    fn of(fields: &Fields) -> Self {
        let options = fields.list(FieldName::Connection);
        let names = options.filter(|option| !FieldName::of(option).is_hop_by_hop());
        let mut names: Vec<_> = names.map(<[u8]>::to_ascii_lowercase).collect();
        names.sort_unstable();
        Self(names)
    }

    fn contain(&self, name: &[u8]) -> bool {
        !self.0.is_empty() && self.0.binary_search(&name.to_ascii_lowercase()).is_ok()
    }
}

/// RFC 9113 §8.2.3: HTTP/2 may split Cookie; in HTTP/1.1 it is one field.
fn join_cookies(fields: &mut Fields) {
    if fields.values(FieldName::Cookie).nth(1).is_some() {
        let crumbs: Vec<&[u8]> = fields.values(FieldName::Cookie).collect();
        let cookie = crumbs.join(&b"; "[..]);
        fields.set(FieldName::Cookie, cookie);
    }
}

fn frame(fields: &mut Fields, method: &Method, framing: Framing) {
    match framing {
        // RFC 9110 §8.6: methods that usually carry a body say so when there is none.
        Framing::Empty if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
            fields.push(FieldName::ContentLength, "0");
        }
        Framing::Empty => {}
        Framing::Length(length) => {
            fields.push(FieldName::ContentLength, itoa::Buffer::new().format(length));
        }
        // RFC 9112 §6.3: a body has a length or is chunked.
        Framing::Chunked => fields.push(FieldName::TransferEncoding, "chunked"),
    }
}

/// Beside what frames a message, is for one connection or tells how it came: without punctuation.
const NO_TRAILERS: &[&[u8]] = &[
    b"contentencoding",
    b"contentrange",
    b"contenttype",
    b"maxforwards",
    b"range",
    b"ifmatch",
    b"ifnonematch",
    b"ifmodifiedsince",
    b"ifunmodifiedsince",
    b"ifrange",
    b"age",
    b"cachecontrol",
    b"date",
    b"expires",
    b"location",
    b"retryafter",
    b"vary",
    b"warning",
    b"authorization",
    b"cookie",
    b"setcookie",
    b"wwwauthenticate",
    b"authenticationinfo",
    b"proxyauthenticationinfo",
    b"cdnloop",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HeaderRule;

    fn rewritten(method: &str, target: &str, fields: &[(&str, &str)], framing: Framing) -> RequestParts {
        rewritten_through(None, method, target, fields, framing)
    }

    fn rewritten_through(
        proxy: Option<&str>,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        framing: Framing,
    ) -> RequestParts {
        let mut request = http::Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let forward_context = ForwardContext {
            host: &Authority::parse(b"shop.example:8443", 443).unwrap(),
            client: "::ffff:192.0.2.9".parse().unwrap(),
            through: proxy.map(|proxy| proxy.parse().unwrap()),
            public_port: &8443_u16.into(),
            framing,
            awaits_continue: false,
            upgrade: None,
            cdn_loop: &CdnLoop::new(None, 7),
            request_id: &RequestId::numbered(0xab),
        };
        let mut head = request.body(()).unwrap().into_parts().0.into();
        super::request(&mut head, &forward_context);
        head
    }

    fn text(fields: &Fields) -> Vec<String> {
        let line = |field: Field<'_>| {
            format!("{}: {}", field.name.escape_ascii(), String::from_utf8_lossy(field.value))
        };
        let mut lines: Vec<String> = fields.iter().map(line).collect();
        lines.sort();
        lines
    }

    const OURS: [&str; 7] = [
        "cdn-loop: gatehouse;process=0000000000000007",
        "user-custom-domain: shop.example",
        "x-forwarded-for: 192.0.2.9",
        "x-forwarded-host: shop.example:8443",
        "x-forwarded-port: 8443",
        "x-forwarded-proto: https",
        "x-request-id: 00000000000000ab",
    ];

    fn ours_and(more: &[&str]) -> Vec<String> {
        let mut lines: Vec<String> = OURS.iter().chain(more).map(ToString::to_string).collect();
        lines.sort();
        lines
    }

    #[test]
    fn what_concerns_one_connection_stays_behind() {
        let fields = [
            ("host", "shop.example:8443"),
            ("connection", "keep-alive, X-Secret"),
            ("connection", "upgrade, user-custom-domain"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "gzip"),
            ("upgrade", "websocket"),
            ("expect", "100-continue"),
            ("accept", "*/*"),
        ];
        let head = rewritten("GET", "https://shop.example:8443/a?b=c", &fields, Framing::Empty);
        assert_eq!(text(&head.fields), ours_and(&["accept: */*"]));
        assert_eq!((head.uri.to_string().as_str(), head.version), ("/a?b=c", Version::HTTP_11));
        for (target, sent) in [("https://shop.example", "/"), ("https://shop.example?q", "/?q"), ("*", "*")] {
            assert_eq!(rewritten("OPTIONS", target, &[], Framing::Empty).uri.to_string(), sent);
        }
    }

    #[test]
    fn the_clients_own_claims_never_reach_the_upstream() {
        let fields = [
            ("x-forwarded-for", "198.51.100.1"),
            ("x_forwarded_for", "198.51.100.2"),
            ("x-forwarded-server", "evil"),
            ("X-Forwarded-Proto", "http"),
            ("forwarded", "for=198.51.100.3"),
            ("user_custom_domain", "victim.example"),
            ("User-Custom-Domain", "victim.example"),
            ("x-real-ip", "198.51.100.4"),
            ("x-request-id", "1"),
            ("X_Request_ID", "2"),
            ("x-for", "kept"),
        ];
        let head = rewritten("GET", "/", &fields, Framing::Empty);
        assert_eq!(text(&head.fields), ours_and(&["x-for: kept"]));
    }

    #[test]
    fn what_a_trusted_proxy_says_is_kept_and_extended() {
        let through = |proxy, fields: &[(&str, &str)]| {
            let head = rewritten_through(Some(proxy), "GET", "/", fields, Framing::Empty);
            let lines = text(&head.fields).into_iter();
            lines.filter(|line| line.contains("forwarded") || line.starts_with("user-")).collect::<Vec<_>>()
        };
        let said = [
            ("x-forwarded-for", "198.51.100.1"),
            ("x-forwarded-for", "192.0.2.9"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "www.shop.example"),
            ("x-forwarded-port", "8080"),
            ("forwarded", "for=192.0.2.9;proto=http"),
            // Kept out of what only this proxy says, and of other spellings, whoever wrote them.
            ("user-custom-domain", "victim.example"),
            ("x_forwarded_for", "198.51.100.2"),
            ("x-forwarded-server", "evil"),
            ("connection", "x-forwarded-for, forwarded"),
        ];
        let kept = [
            "forwarded: for=192.0.2.9;proto=http, for=10.0.0.1;host=\"shop.example:8443\";proto=https",
            "user-custom-domain: shop.example",
            "x-forwarded-for: 198.51.100.1, 192.0.2.9, 10.0.0.1",
            "x-forwarded-host: www.shop.example",
            "x-forwarded-port: 8080",
            "x-forwarded-proto: http",
        ];
        assert_eq!(through("::ffff:10.0.0.1", &said), kept);
        let ours = |hops: &str| {
            let hops = format!("x-forwarded-for: {hops}");
            let others = OURS.iter().filter(|line| line.contains("forwarded") || line.starts_with("user-"));
            let others = others.filter(|line| !line.starts_with("x-forwarded-for")).map(ToString::to_string);
            let mut lines: Vec<String> = others.chain([hops]).collect();
            lines.sort();
            lines
        };
        assert_eq!(through("2001:db8::1", &[]), ours("2001:db8::1"));
        // What it says twice, or what cannot be, is ours instead.
        let unusable = [
            ("x-forwarded-proto", "https, http"),
            ("x-forwarded-host", "a.example"),
            ("x-forwarded-host", "b.example"),
            ("x-forwarded-port", "+80"),
        ];
        assert_eq!(through("10.0.0.1", &unusable), ours("10.0.0.1"));
        let ipv6 = through("2001:db8::1", &[("forwarded", "for=unknown")]);
        assert_eq!(
            ipv6[0],
            "forwarded: for=unknown, for=\"[2001:db8::1]\";host=\"shop.example:8443\";proto=https"
        );
    }

    #[test]
    fn framing_follows_from_the_body_alone() {
        let claimed = [("content-length", "99"), ("transfer-encoding", "chunked")];
        for (method, framing, line) in [
            ("GET", Framing::Empty, None),
            ("POST", Framing::Empty, Some("content-length: 0")),
            ("POST", Framing::Length(7), Some("content-length: 7")),
            ("GET", Framing::Chunked, Some("transfer-encoding: chunked")),
        ] {
            let head = rewritten(method, "/", &claimed, framing);
            assert_eq!(text(&head.fields), ours_and(line.as_slice()), "{method} {framing:?}");
        }
    }

    #[test]
    fn another_protocol_is_offered_to_the_upstream_only_where_a_switch_can_be_passed_on() {
        let offered = |version, fields: &[(&str, &str)], framing| {
            let mut request = http::Request::builder().version(version);
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            upgrade(&request.body(()).unwrap().into_parts().0.into(), framing)
                .map(|value| String::from_utf8(value.into()).unwrap())
        };
        let (connection, websocket) = (("connection", "keep-alive, Upgrade"), ("upgrade", "websocket"));
        let (new, empty) = (Version::HTTP_11, Framing::Empty);
        assert_eq!(offered(new, &[connection, websocket], empty).as_deref(), Some("websocket"));
        assert_eq!(
            offered(new, &[connection, ("upgrade", "a/1, b")], empty).as_deref(),
            Some("a/1, b"),
            "RFC 9110 §7.8"
        );
        for (version, fields, framing) in [
            (Version::HTTP_10, vec![connection, websocket], empty),
            (new, vec![connection, websocket], Framing::Length(1)),
            (new, vec![connection, websocket], Framing::Chunked),
            (new, vec![websocket], empty),
            (new, vec![connection], empty),
            (new, vec![connection, websocket, websocket], empty),
            (new, vec![connection, ("upgrade", "websocket, h2c")], empty),
            (new, vec![connection, ("upgrade", "HTTP/2.0")], empty),
        ] {
            assert_eq!(offered(version, &fields, framing), None, "{version:?} {fields:?} {framing:?}");
        }
    }

    #[test]
    fn trailers_are_welcome_where_the_client_keeps_them_and_harmless() {
        let fields = [("te", "gzip;q=0.5, Trailers"), ("trailer", "x-sum")];
        let head = rewritten("GET", "/", &fields, Framing::Empty);
        assert_eq!(text(&head.fields), ours_and(&["connection: te", "te: trailers", "trailer: x-sum"]));
        let fields = [
            "x-sum",
            "grpc-status",
            "Content-Length",
            "content_length",
            "host",
            "x-forwarded-for",
            "set-cookie",
            "user_custom_domain",
            "if-match",
            "transfer-encoding",
            "connection",
            "authorization",
        ];
        let all = fields
            .iter()
            .map(|name| (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("1")));
        assert_eq!(text(&Fields::from(&trailers(all.collect()).unwrap())), ["grpc-status: 1", "x-sum: 1"]);
        let one = HeaderMap::from_iter([(http::header::HOST, HeaderValue::from_static("1"))]);
        assert_eq!(trailers(one), None);
    }

    #[test]
    fn no_rule_of_an_operator_is_for_a_field_that_is_left_out_or_replaced_here() {
        for name in [
            "connection",
            "te",
            "transfer-encoding",
            "upgrade",
            "keep-alive",
            "proxy-connection",
            "http2-settings",
            "proxy-authenticate",
            "proxy-authorization",
            "expect",
            "forwarded",
            "user-custom-domain",
            "x-real-ip",
            "x-request-id",
            "x-forwarded-for",
            "X_Forwarded_Anything",
            "host",
            "content-length",
            "cdn-loop",
            "traceparent",
            "sec-websocket-key",
        ] {
            let rule = HeaderRule::try_from(format!("set {name}: a"));
            assert!(rule.unwrap_err().contains("write a rule for another field"), "{name}");
        }
    }

    #[test]
    fn messages_of_grpc_are_known_by_their_content_type() {
        let seen = [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc;x=1",
            "application/grpc-web",
            "application/grpcx",
            "text/plain",
        ]
        .map(|content_type| {
            let mut fields = Fields::default();
            fields.push(FieldName::ContentType, content_type);
            is_grpc(&fields)
        });
        assert_eq!(seen, [true, true, true, false, false, false]);
        assert!(!is_grpc(&Fields::default()));
    }

    #[test]
    fn cookie_crumbs_become_one_field() {
        let head = rewritten("GET", "/", &[("cookie", "a=1"), ("cookie", "b=2")], Framing::Empty);
        assert_eq!(text(&head.fields), ours_and(&["cookie: a=1; b=2"]));
    }

    #[test]
    fn responses_keep_what_is_meant_for_the_client() {
        let answer = http::Response::builder()
            .header("connection", "close, x-hop")
            .header("x-hop", "1")
            .header("keep-alive", "timeout=5")
            .header("content-length", "3")
            .header("date", "Tue, 24 Nov 2026 00:00:00 GMT")
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2");
        let fields = Fields::from(&answer.body(()).unwrap().into_parts().0.headers);
        let to_get = response(StatusCode::OK, fields.clone(), (&Method::GET, Version::HTTP_11));
        let kept = ["date: Tue, 24 Nov 2026 00:00:00 GMT", "set-cookie: a=1", "set-cookie: b=2"];
        assert_eq!(text(&to_get), kept.map(str::to_owned));
        assert!(
            response(StatusCode::OK, fields, (&Method::HEAD, Version::HTTP_11)).has(FieldName::ContentLength)
        );
    }

    #[test]
    fn a_length_without_its_body_is_told_once() {
        for (told, passed_on) in [
            (&["5"][..], &["content-length: 5"][..]),
            (&["5", "5"], &["content-length: 5"]),
            (&["5, 5"], &["content-length: 5"]),
            (&["5", "6"], &[]),
        ] {
            let mut fields = Fields::default();
            for length in told {
                fields.push(FieldName::ContentLength, length);
            }
            for (status, method) in [(StatusCode::OK, Method::HEAD), (StatusCode::NOT_MODIFIED, Method::GET)]
            {
                assert_eq!(text(&response(status, fields.clone(), (&method, Version::HTTP_11))), passed_on, "{told:?}");
            }
        }
    }
}
