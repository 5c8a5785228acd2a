//! Admission: the rules that a request's header section must meet before anything else looks at it.

use http::{Method, Version, status::StatusCode, uri::Scheme};

use super::{HandshakeName, NamedBy, authority::Authority};
use crate::{
    field_name::FieldName,
    fields::{Field, Fields},
    http1::RequestParts,
    label,
};

label! {
    /// Which rule a request broke.
    pub enum RequestViolation["offence"] {
        /// CONNECT: there are no tunnels here.
        Connect = "connect",
        /// TRACE: it would show a client what is added to its requests.
        Trace = "trace",
        /// A request target that is no path, or `*` without OPTIONS.
        TargetForm = "request_target",
        /// An absolute target of another scheme than the connection's.
        TargetScheme = "request_scheme",
        /// No Host.
        HostMissing = "no_host",
        /// More than one Host.
        HostRepeated = "many_hosts",
        /// A Host that is no name with at most a port.
        HostMalformed = "bad_host",
        /// Host and the target's authority differ.
        HostUnlikeAuthority = "host_differs",
        /// Host and the name of the handshake differ.
        HostUnlikeServerName = "misdirected",
        /// Transfer-Encoding in a version that has none.
        TransferVersion = "transfer_encoding_version",
        /// More than one Transfer-Encoding.
        TransferRepeated = "transfer_encoding_repeated",
        /// A Transfer-Encoding other than one `chunked`.
        TransferCoding = "transfer_encoding",
        /// Transfer-Encoding and Content-Length.
        TransferAndLength = "two_framings",
        /// More than one Content-Length.
        LengthRepeated = "content_length_repeated",
        /// A Content-Length that is no number.
        LengthMalformed = "content_length",
        /// A field some upstream would take for a framing field.
        ShadowField = "shadow_field",
        /// A value that begins or ends with white space.
        FieldWhitespace = "field_value",
        /// More fields than `limits.header_fields`.
        FieldsMany = "many_fields",
        /// A path that may lead out of the target's base path.
        StepUp = "path_steps_up",
    }
}

impl RequestViolation {
    /// The status of the response.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            // RFC 9110 §7.4, §15.5.20: a client that reuses a connection for another name may try again on its own.
            Self::HostUnlikeServerName => StatusCode::MISDIRECTED_REQUEST,
            Self::Trace => StatusCode::METHOD_NOT_ALLOWED,
            // RFC 6585 §5.
            Self::FieldsMany => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Connect
            | Self::TargetForm
            | Self::TargetScheme
            | Self::HostMissing
            | Self::HostRepeated
            | Self::HostMalformed
            | Self::HostUnlikeAuthority
            | Self::TransferVersion
            | Self::TransferRepeated
            | Self::TransferCoding
            | Self::TransferAndLength
            | Self::LengthRepeated
            | Self::LengthMalformed
            | Self::ShadowField
            | Self::FieldWhitespace
            | Self::StepUp => StatusCode::BAD_REQUEST,
        }
    }
}

/// Checks a header section of at most `fields` fields that came over TLS for `server_name`, and returns the host it names.
pub(super) fn admit(
    head: &RequestParts,
    server_name: &HandshakeName,
    fields: usize,
) -> Result<Authority, RequestViolation> {
    // In HTTP/1.1 they were counted as they were read; in HTTP/2 hyper bounds their bytes alone.
    if head.fields.len() > fields && count_with_one_cookie(&head.fields) > fields {
        return Err(RequestViolation::FieldsMany);
    }
    message(head)?;
    let host = host(head, &Scheme::HTTPS, Some(server_name))?;
    // RFC 6066 §3: a client should not ask for another name than that of the handshake.
    if host.name == server_name.name { Ok(host) } else { Err(RequestViolation::HostUnlikeServerName) }
}

/// How many fields there are where a Cookie in crumbs is one (RFC 9113 §8.2.3).
fn count_with_one_cookie(fields: &Fields) -> usize {
    fields.len() - fields.values(FieldName::Cookie).count().saturating_sub(1)
}

/// The rules for any host: one target, one framing, no field that could be taken for another.
pub(crate) fn message(head: &RequestParts) -> Result<(), RequestViolation> {
    target(head)?;
    transfer_encoding(head)?;
    content_length(&head.fields)?;
    fields(&head.fields)
}

/// The one host that a header section names over `scheme`, which is likely the one `expected`. Where the client has chosen no name, an address
/// stands for that.
pub(crate) fn host(
    head: &RequestParts,
    scheme: &Scheme,
    expected: Option<&HandshakeName>,
) -> Result<Authority, RequestViolation> {
    if head.uri.scheme().is_some_and(|named| named != scheme) {
        return Err(RequestViolation::TargetScheme);
    }
    let default_port = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    let parse = |bytes| {
        let authority = match expected {
            None => Authority::parse(bytes, default_port),
            Some(HandshakeName { name, by: NamedBy::Client }) => {
                Authority::parse_expected(bytes, default_port, name)
            }
            Some(HandshakeName { name, by: NamedBy::Settings }) => {
                Authority::parse_expected(bytes, default_port, name)
                    .or_else(|| Authority::parse_address(bytes, default_port, name))
            }
        };
        authority.ok_or(RequestViolation::HostMalformed)
    };
    let mut fields = head.fields.values(FieldName::Host);
    let field = fields.next().map(parse).transpose()?;
    // RFC 9112 §3.2: more than one Host is answered 400.
    if fields.next().is_some() {
        return Err(RequestViolation::HostRepeated);
    }
    let authority = head.uri.authority().map(|value| parse(value.as_str().as_bytes())).transpose()?;
    match (field, authority) {
        // RFC 9113 §8.3.1: Host must not name another than `:authority`. RFC 9112 §3.2.2 lets a server ignore Host
        // beside an absolute target; one that differs is refused instead, since an upstream might prefer it.
        (Some(field), Some(authority)) if field != authority => Err(RequestViolation::HostUnlikeAuthority),
        (Some(field), _) => Ok(field),
        // RFC 9113 §8.3.1: in HTTP/2 `:authority` stands for Host.
        (None, Some(authority)) if head.version == Version::HTTP_2 => Ok(authority),
        // RFC 9112 §3.2: HTTP/1.1 without Host is answered 400; in HTTP/1.0 there would be nothing to go by.
        (None, _) => Err(RequestViolation::HostMissing),
    }
}

fn target(head: &RequestParts) -> Result<(), RequestViolation> {
    // RFC 9110 §9.3.6: CONNECT is for proxies that the client chose.
    if head.method == Method::CONNECT {
        return Err(RequestViolation::Connect);
    }
    // RFC 9110 §9.3.8 knows the client's own fields: those that rules and we add may be secrets of the operator's.
    if head.method == Method::TRACE {
        return Err(RequestViolation::Trace);
    }
    match head.uri.path() {
        path if path.starts_with('/') => Ok(()),
        // RFC 9112 §3.2.4: the asterisk is for OPTIONS of the whole server.
        "*" if head.method == Method::OPTIONS => Ok(()),
        _ => Err(RequestViolation::TargetForm),
    }
}

fn transfer_encoding(head: &RequestParts) -> Result<(), RequestViolation> {
    let mut codings = head.fields.values(FieldName::TransferEncoding);
    let Some(coding) = codings.next() else { return Ok(()) };
    // RFC 9112 §6.1: HTTP/1.0 does not know it, framing would be anyone's guess; RFC 9113 §8.2.2: nor does HTTP/2.
    if head.version != Version::HTTP_11 {
        return Err(RequestViolation::TransferVersion);
    }
    // RFC 9110 §5.3: several lines are one list, and no list of codings but `chunked` alone is implemented here.
    if codings.next().is_some() {
        return Err(RequestViolation::TransferRepeated);
    }
    // RFC 9112 §7: `chunked` must be applied once and last; other codings are not implemented here.
    if !coding.eq_ignore_ascii_case(b"chunked") {
        return Err(RequestViolation::TransferCoding);
    }
    // RFC 9112 §6.3: both together ought to be handled as an error.
    if head.fields.has(FieldName::ContentLength) {
        return Err(RequestViolation::TransferAndLength);
    }
    Ok(())
}

fn content_length(fields: &Fields) -> Result<(), RequestViolation> {
    let mut lengths = fields.values(FieldName::ContentLength);
    let Some(length) = lengths.next() else { return Ok(()) };
    // RFC 9110 §8.6: one value repeated may be rejected, or merged; an upstream might do otherwise than we.
    if lengths.next().is_some() {
        return Err(RequestViolation::LengthRepeated);
    }
    // RFC 9110 §8.6: digits only, so neither a list nor a sign.
    if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
        return Err(RequestViolation::LengthMalformed);
    }
    Ok(())
}

fn fields(fields: &Fields) -> Result<(), RequestViolation> {
    for field in fields.iter() {
        if shadows(field) {
            return Err(RequestViolation::ShadowField);
        }
        // RFC 9113 §8.2.1: neither at the start nor at the end; in HTTP/1.1 white space there is not part of the value.
        let ends = [field.value.first(), field.value.last()];
        if ends.into_iter().flatten().any(|byte| matches!(byte, b' ' | b'\t')) {
            return Err(RequestViolation::FieldWhitespace);
        }
    }
    Ok(())
}

/// Whether some upstream would read it as a field that decides where a message ends or which site it is for, though it is written
/// otherwise.
fn shadows(field: Field<'_>) -> bool {
    field.known.is_guarded() && field.exact().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{name::ServerName, telemetry::metrics::Label};

    fn head(version: Version, method: &str, target: &str, fields: &[(&str, &str)]) -> RequestParts {
        let mut request = http::Request::builder().version(version).method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0.into()
    }

    fn judged(
        version: Version,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
    ) -> Option<RequestViolation> {
        let server_name = named_by_client("shop.example");
        admit(&head(version, method, target, fields), &server_name, MOST_FIELDS).err()
    }

    fn named_by_client(name: &str) -> HandshakeName {
        HandshakeName { name: ServerName::parse(name).unwrap(), by: NamedBy::Client }
    }

    const MOST_FIELDS: usize = 4;

    #[test]
    fn who_names_no_site_may_name_the_address_it_connects_to() {
        let name = ServerName::parse("shop.example").unwrap();
        for (host, by, read) in [
            ("192.0.2.7", NamedBy::Settings, Ok("shop.example")),
            ("192.0.2.7:8443", NamedBy::Settings, Ok("shop.example:8443")),
            ("[2001:db8::7]", NamedBy::Settings, Ok("shop.example")),
            ("[2001:db8::7]:443", NamedBy::Settings, Ok("shop.example")),
            ("shop.example", NamedBy::Settings, Ok("shop.example")),
            ("2001:db8::7", NamedBy::Settings, Err(RequestViolation::HostMalformed)),
            ("192.0.2.7:0", NamedBy::Settings, Err(RequestViolation::HostMalformed)),
            ("[192.0.2.7]", NamedBy::Settings, Err(RequestViolation::HostMalformed)),
            ("other.example", NamedBy::Settings, Err(RequestViolation::HostUnlikeServerName)),
            ("192.0.2.7", NamedBy::Client, Err(RequestViolation::HostMalformed)),
        ] {
            let head = head(Version::HTTP_11, "GET", "/", &[("host", host)]);
            let admitted = admit(&head, &HandshakeName { name: name.clone(), by }, MOST_FIELDS)
                .map(|host| host.to_string());
            assert_eq!(admitted.as_deref().map_err(|violation| *violation), read, "{host} {by:?}");
        }
    }

    #[test]
    fn every_offence_has_its_own_name() {
        use RequestViolation::*;
        const HOST: (&str, &str) = ("host", "shop.example");
        type Case =
            (&'static str, &'static str, &'static [(&'static str, &'static str)], Option<RequestViolation>);
        let http1: &[Case] = &[
            ("GET", "/", &[HOST], None),
            ("GET", "/", &[("host", "SHOP.example.:443")], None),
            ("GET", "https://shop.example/x", &[HOST], None),
            ("OPTIONS", "*", &[HOST], None),
            ("GET", "/", &[HOST, ("a", "1"), ("b", "2"), ("b", "3")], None),
            ("GET", "/", &[HOST, ("a", "1"), ("b", "2"), ("b", "3"), ("b", "4")], Some(FieldsMany)),
            ("POST", "/", &[HOST, ("transfer-encoding", "Chunked")], None),
            ("POST", "/", &[HOST, ("content-length", "12")], None),
            ("GET", "/", &[], Some(HostMissing)),
            ("GET", "https://shop.example/", &[], Some(HostMissing)),
            ("GET", "/", &[HOST, HOST], Some(HostRepeated)),
            ("GET", "/", &[("host", "")], Some(HostMalformed)),
            ("GET", "/", &[("host", "192.0.2.7")], Some(HostMalformed)),
            ("GET", "/", &[("host", "a@shop.example")], Some(HostMalformed)),
            ("GET", "/", &[("host", "other.example")], Some(HostUnlikeServerName)),
            ("GET", "https://other.example/", &[HOST], Some(HostUnlikeAuthority)),
            ("GET", "https://shop.example:8443/", &[HOST], Some(HostUnlikeAuthority)),
            ("GET", "http://shop.example/", &[HOST], Some(TargetScheme)),
            ("CONNECT", "shop.example:443", &[HOST], Some(Connect)),
            ("TRACE", "/", &[HOST], Some(Trace)),
            ("GET", "shop.example:443", &[HOST], Some(TargetForm)),
            ("GET", "*", &[HOST], Some(TargetForm)),
            ("POST", "/", &[HOST, ("transfer-encoding", "gzip, chunked")], Some(TransferCoding)),
            ("POST", "/", &[HOST, ("transfer-encoding", "chunked,chunked")], Some(TransferCoding)),
            ("POST", "/", &[HOST, ("transfer-encoding", "identity")], Some(TransferCoding)),
            (
                "POST",
                "/",
                &[HOST, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
                Some(TransferRepeated),
            ),
            (
                "POST",
                "/",
                &[HOST, ("transfer-encoding", "chunked"), ("content-length", "3")],
                Some(TransferAndLength),
            ),
            ("POST", "/", &[HOST, ("content-length", "3"), ("content-length", "3")], Some(LengthRepeated)),
            ("POST", "/", &[HOST, ("content-length", "")], Some(LengthMalformed)),
            ("POST", "/", &[HOST, ("content-length", "3, 3")], Some(LengthMalformed)),
            ("POST", "/", &[HOST, ("content-length", "+3")], Some(LengthMalformed)),
            ("POST", "/", &[HOST, ("transfer_encoding", "chunked")], Some(ShadowField)),
            ("POST", "/", &[HOST, ("content_length", "3")], Some(ShadowField)),
            ("POST", "/", &[HOST, ("contentlength", "3")], Some(ShadowField)),
            ("GET", "/", &[HOST, ("host_", "other.example")], Some(ShadowField)),
            ("GET", "/", &[HOST, ("x-note", "a\t")], Some(FieldWhitespace)),
        ];
        for (method, target, fields, expected) in http1 {
            let violation = judged(Version::HTTP_11, method, target, fields);
            assert_eq!(violation, *expected, "{method} {target} {fields:?}");
        }
        let http10 = judged(Version::HTTP_10, "POST", "/", &[HOST, ("transfer-encoding", "chunked")]);
        assert_eq!(http10, Some(TransferVersion));
    }

    #[test]
    fn only_the_schemes_own_port_is_no_part_of_a_host() {
        for (scheme, text, port) in [
            (Scheme::HTTPS, "shop.example:443", None),
            (Scheme::HTTPS, "shop.example:80", Some(80)),
            (Scheme::HTTP, "shop.example:80", None),
            (Scheme::HTTP, "shop.example:443", Some(443)),
        ] {
            let head = head(Version::HTTP_11, "GET", "/", &[("host", text)]);
            assert_eq!(host(&head, &scheme, None).unwrap().port, port, "{scheme} {text}");
        }
    }

    #[test]
    fn http2_is_held_to_its_own_rules() {
        use RequestViolation::*;
        for (target, fields, expected) in [
            ("https://shop.example/", &[][..], None),
            ("https://shop.example/", &[("host", "shop.example:443")], None),
            ("https://shop.example/", &[("host", "other.example")], Some(HostUnlikeAuthority)),
            ("/", &[], Some(HostMissing)),
            ("https://shop.example/", &[("x-note", " a")], Some(FieldWhitespace)),
            ("https://shop.example/", &[("transfer-encoding", "chunked")], Some(TransferVersion)),
            ("http://shop.example/", &[], Some(TargetScheme)),
            // RFC 9113 §8.2.3: crumbs of one Cookie.
            ("https://shop.example/", &[("cookie", "a=1"); 9], None),
            ("https://shop.example/", &[("accept", "a"); 9], Some(FieldsMany)),
        ] {
            assert_eq!(judged(Version::HTTP_2, "GET", target, fields), expected, "{target} {fields:?}");
        }
    }

    #[test]
    fn each_offence_has_the_status_of_its_rfc() {
        for violation in RequestViolation::ALL {
            let status = match violation {
                RequestViolation::HostUnlikeServerName => 421,
                RequestViolation::Trace => 405,
                RequestViolation::FieldsMany => 431,
                _ => 400,
            };
            assert_eq!(violation.status().as_u16(), status, "{violation:?}");
        }
    }

    /// A method, target and version, then a field a line.
    fn read(input: &[u8]) -> Option<RequestParts> {
        let mut lines = input.split(|byte| *byte == b'\n');
        let first = std::str::from_utf8(lines.next()?).ok()?;
        let mut words = first.split(' ');
        let request = http::Request::builder().method(words.next()?).uri(words.next()?);
        let version = match words.next()? {
            "1.0" => Version::HTTP_10,
            "2" => Version::HTTP_2,
            _ => Version::HTTP_11,
        };
        let fields = lines.filter_map(|line| {
            let at = line.iter().position(|byte| *byte == b':')?;
            let name = http::HeaderName::from_bytes(&line[..at]).ok()?;
            Some((name, http::HeaderValue::from_bytes(&line[at + 1..]).ok()?))
        });
        let request =
            fields.fold(request.version(version), |request, (name, value)| request.header(name, value));
        Some(request.body(()).ok()?.into_parts().0.into())
    }

    #[test]
    fn a_mutated_corpus_is_admitted_with_one_host_and_one_framing_or_refused_as_the_clients_fault() {
        let server_name = named_by_client("shop.example");
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/request_head");
        proxy_common::fixture::fuzz::Corpus::read(corpus).run(|input| {
            let Some(head) = read(input) else { return };
            let host = match admit(&head, &server_name, MOST_FIELDS) {
                Ok(host) => host,
                Err(violation) => return assert!(violation.status().is_client_error(), "{violation:?}"),
            };
            assert_eq!(host.name, server_name.name);
            assert_eq!(Authority::parse(host.to_string().as_bytes(), 443), Some(host));
            let count = |name: &str| {
                // As a gateway that takes `_` for `-`, or drops both, would count it.
                let letters = |name: &[u8]| {
                    name.iter()
                        .filter(|byte| byte.is_ascii_alphanumeric())
                        .map(u8::to_ascii_lowercase)
                        .collect::<Vec<_>>()
                };
                head.fields.iter().filter(|field| letters(field.name) == letters(name.as_bytes())).count()
            };
            assert!(count_with_one_cookie(&head.fields) <= MOST_FIELDS && count("host") <= 1);
            assert!(count("content-length") + count("transfer-encoding") <= 1, "{:?}", head.fields);
            assert!(head.version == Version::HTTP_11 || count("transfer-encoding") == 0);
            assert!(head.method != Method::CONNECT);
            assert!(head.uri.path().starts_with('/') || head.method == Method::OPTIONS, "{}", head.uri);
        });
    }
}
