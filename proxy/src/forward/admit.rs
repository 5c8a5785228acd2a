//! Whether a request may be looked at any further: one pure decision before everything else.
//!
//! hyper has parsed the head; what is refused here is what hyper lets through and an upstream could read differently
//! (request smuggling, RFC 9112 §11.2), and requests for another host than the one the handshake was for.

use hyper::{
    HeaderMap, Method, Request, Uri, Version,
    header::{CONTENT_LENGTH, HOST, HeaderName, TRANSFER_ENCODING},
    http::{StatusCode, uri::Authority},
};

use crate::{label, name::ServerName};

/// The parts of a request that are judged.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its target.
    pub uri: &'a Uri,
    /// Its version.
    pub version: Version,
    /// Its fields.
    pub fields: &'a HeaderMap,
}

impl<'a> Head<'a> {
    /// Of `request`.
    pub fn of<B>(request: &'a Request<B>) -> Self {
        let (method, uri, version, fields) =
            (request.method(), request.uri(), request.version(), request.headers());
        Self { method, uri, version, fields }
    }
}

label! {
    /// Why a request is refused.
    pub enum Offence["offence"] {
        /// CONNECT asks for a tunnel; this is no forward proxy (RFC 9110 §9.3.6).
        Connect = "connect",
        /// Neither a path nor `OPTIONS *` (RFC 9112 §3.2).
        Target = "request_target",
        /// No host (RFC 9112 §3.2).
        NoHost = "no_host",
        /// More than one `Host` field (RFC 9112 §3.2).
        ManyHosts = "many_hosts",
        /// A host that is no name, or has user information before it.
        BadHost = "bad_host",
        /// `Host` and the request target name different hosts (RFC 9112 §3.2.2, RFC 9113 §8.3.1).
        HostDiffers = "host_differs",
        /// A host the handshake was not for (RFC 9110 §15.5.20).
        Misdirected = "misdirected",
        /// `Transfer-Encoding` other than one `chunked` (RFC 9112 §6.1).
        TransferEncoding = "transfer_encoding",
        /// `Transfer-Encoding` before HTTP/1.1 (RFC 9112 §6.1).
        TransferEncodingVersion = "transfer_encoding_version",
        /// `Transfer-Encoding` and `Content-Length` (RFC 9112 §6.3).
        TwoFramings = "two_framings",
        /// `Content-Length` that is not one number (RFC 9110 §8.6).
        ContentLength = "content_length",
        /// A field whose name an upstream may take for a framing field, like `Content_Length`.
        ShadowField = "shadow_field",
        /// A value with white space around it, which HTTP/2 lets through (RFC 9113 §8.2.1).
        FieldValue = "field_value",
    }
}

impl Offence {
    /// The status it is answered with.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Target
            | Self::NoHost
            | Self::ManyHosts
            | Self::BadHost
            | Self::HostDiffers
            | Self::TransferEncoding
            | Self::TransferEncodingVersion
            | Self::TwoFramings
            | Self::ContentLength
            | Self::ShadowField
            | Self::FieldValue => StatusCode::BAD_REQUEST,
        }
    }
}

/// The one host a request is for, or why it is refused. `server_name` is what the handshake was for; without one, in
/// cleartext, any name may be asked for.
pub fn admit(head: &Head<'_>, server_name: Option<&ServerName>) -> Result<ServerName, Offence> {
    target(head)?;
    framing(head)?;
    fields(head.fields)?;
    let host = host(head)?;
    match server_name {
        Some(name) if *name != host => Err(Offence::Misdirected),
        Some(_) | None => Ok(host),
    }
}

fn target(head: &Head<'_>) -> Result<(), Offence> {
    if head.method == Method::CONNECT {
        return Err(Offence::Connect);
    }
    let path = head.uri.path();
    if path.starts_with('/') || (path == "*" && head.method == Method::OPTIONS) {
        Ok(())
    } else {
        Err(Offence::Target)
    }
}

fn framing(head: &Head<'_>) -> Result<(), Offence> {
    let encodings = head.fields.get_all(TRANSFER_ENCODING).iter().count();
    let lengths = head.fields.get_all(CONTENT_LENGTH).iter().count();
    if encodings > 0 {
        let one_chunked = encodings == 1
            && head
                .fields
                .get(TRANSFER_ENCODING)
                .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"));
        match () {
            () if head.version != Version::HTTP_11 => return Err(Offence::TransferEncodingVersion),
            () if lengths > 0 => return Err(Offence::TwoFramings),
            () if !one_chunked => return Err(Offence::TransferEncoding),
            () => {}
        }
    }
    let digits = |value: &[u8]| !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    match head.fields.get(CONTENT_LENGTH) {
        Some(value) if lengths > 1 || !digits(value.as_bytes()) => Err(Offence::ContentLength),
        Some(_) | None => Ok(()),
    }
}

fn fields(fields: &HeaderMap) -> Result<(), Offence> {
    for (name, value) in fields {
        if shadows(name, FRAMING) {
            return Err(Offence::ShadowField);
        }
        let white = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        if white(value.as_bytes().first()) || white(value.as_bytes().last()) {
            return Err(Offence::FieldValue);
        }
    }
    Ok(())
}

fn host(head: &Head<'_>) -> Result<ServerName, Offence> {
    let mut fields = head.fields.get_all(HOST).iter();
    let field = match (fields.next(), fields.next()) {
        (_, Some(_)) => return Err(Offence::ManyHosts),
        (Some(value), None) => Some(authority(value.to_str().ok())?),
        (None, None) => None,
    };
    let target = head.uri.authority().map(|target| authority(Some(target.as_str()))).transpose()?;
    match (target, field) {
        (Some(target), Some(field)) if target != field => Err(Offence::HostDiffers),
        // RFC 9112 §3.2.2: in absolute form, and as `:authority`, the target's host is the host.
        (Some(host), _) | (None, Some(host)) => Ok(host),
        (None, None) => Err(Offence::NoHost),
    }
}

fn authority(text: Option<&str>) -> Result<ServerName, Offence> {
    let text = text.filter(|text| !text.contains('@')).ok_or(Offence::BadHost)?;
    let authority: Authority = text.parse().map_err(|_| Offence::BadHost)?;
    ServerName::parse(authority.host()).map_err(|_| Offence::BadHost)
}

/// Whether an upstream that folds punctuation (CGI's `_`, for one) would read `name` as one of `genuine`.
pub(super) fn shadows(name: &HeaderName, genuine: &[&str]) -> bool {
    let letters = |text: &str| text.bytes().filter(u8::is_ascii_alphanumeric).collect::<Vec<_>>();
    !genuine.contains(&name.as_str())
        && name.as_str().bytes().any(|byte| !byte.is_ascii_alphanumeric())
        && genuine.iter().any(|genuine| letters(genuine) == letters(name.as_str()))
}

const FRAMING: &[&str] = &["transfer-encoding", "content-length", "host", "connection", "upgrade"];

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, uri: &str, version: Version, fields: &[(&str, &str)]) -> Request<()> {
        let mut builder = Request::builder().method(method).uri(uri).version(version);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap()
    }

    fn check(
        method: &str,
        uri: &str,
        version: Version,
        fields: &[(&str, &str)],
        expected: Result<(), Offence>,
    ) {
        let name = ServerName::parse("a.example").unwrap();
        let request = request(method, uri, version, fields);
        let got = admit(&Head::of(&request), Some(&name)).map(|host| assert_eq!(host, name));
        assert_eq!(got, expected, "{method} {uri} {version:?} {fields:?}");
    }

    const V11: Version = Version::HTTP_11;
    const HOST_A: (&str, &str) = ("host", "a.example");

    #[test]
    fn a_request_for_the_name_of_the_handshake_is_admitted() {
        check("GET", "/", V11, &[HOST_A], Ok(()));
        check("GET", "/", V11, &[("host", "A.Example.:443")], Ok(()));
        check("GET", "https://a.example/x", V11, &[HOST_A], Ok(()));
        check("GET", "https://a.example/x", Version::HTTP_2, &[], Ok(()));
        check("OPTIONS", "*", V11, &[HOST_A], Ok(()));
        check("POST", "/", V11, &[HOST_A, ("transfer-encoding", "Chunked")], Ok(()));
        check("POST", "/", V11, &[HOST_A, ("content-length", "10")], Ok(()));
        check("GET", "/", Version::HTTP_10, &[HOST_A], Ok(()));
    }

    #[test]
    fn each_offence_is_told_from_the_others() {
        for (method, uri, fields, offence) in [
            ("CONNECT", "a.example:443", &[HOST_A][..], Offence::Connect),
            ("GET", "*", &[HOST_A], Offence::Target),
            ("GET", "/", &[], Offence::NoHost),
            ("GET", "/", &[HOST_A, HOST_A], Offence::ManyHosts),
            ("GET", "/", &[("host", "user@a.example")], Offence::BadHost),
            ("GET", "/", &[("host", "192.0.2.1")], Offence::BadHost),
            ("GET", "/", &[("host", "a.example, b.example")], Offence::BadHost),
            ("GET", "https://a.example/", &[("host", "b.example")], Offence::HostDiffers),
            ("GET", "/", &[("host", "b.example")], Offence::Misdirected),
            ("POST", "/", &[HOST_A, ("transfer-encoding", "gzip, chunked")], Offence::TransferEncoding),
            ("POST", "/", &[HOST_A, ("transfer-encoding", "chunked,chunked")], Offence::TransferEncoding),
            (
                "POST",
                "/",
                &[HOST_A, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
                Offence::TransferEncoding,
            ),
            (
                "POST",
                "/",
                &[HOST_A, ("transfer-encoding", "chunked"), ("content-length", "3")],
                Offence::TwoFramings,
            ),
            (
                "POST",
                "/",
                &[HOST_A, ("content-length", "3"), ("content-length", "3")],
                Offence::ContentLength,
            ),
            ("POST", "/", &[HOST_A, ("content-length", "3, 3")], Offence::ContentLength),
            ("POST", "/", &[HOST_A, ("content-length", "+3")], Offence::ContentLength),
            ("POST", "/", &[HOST_A, ("transfer_encoding", "chunked")], Offence::ShadowField),
            ("POST", "/", &[HOST_A, ("content--length", "3")], Offence::ShadowField),
            ("POST", "/", &[HOST_A, ("-host", "b.example")], Offence::ShadowField),
            ("GET", "/", &[HOST_A, ("x", " leading")], Offence::FieldValue),
            ("GET", "/", &[HOST_A, ("x", "trailing\t")], Offence::FieldValue),
        ] {
            check(method, uri, V11, fields, Err(offence));
        }
        let chunked = &[HOST_A, ("transfer-encoding", "chunked")];
        check("POST", "/", Version::HTTP_10, chunked, Err(Offence::TransferEncodingVersion));
    }

    #[test]
    fn in_cleartext_any_name_may_be_asked_for_and_no_address() {
        let ask = |host: &str| admit(&Head::of(&request("GET", "/", V11, &[("host", host)])), None);
        assert_eq!(ask("b.example:80").unwrap().as_str(), "b.example");
        assert_eq!(ask("[::1]"), Err(Offence::BadHost));
    }
}
