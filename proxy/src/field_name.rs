//! Names of header fields: those that this proxy looks at, however they are punctuated.
//! Invariant: a name that some server reads as one of them is known (`punctuation_makes_no_difference`): gateways of the CGI kind (RFC 3875
//! §4.1.18) take `_` and `-` for the same, others drop what they do not know.

/// A field's name, if this proxy looks at fields of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldName {
    CdnLoop,
    Connection,
    ContentLength,
    ContentType,
    Cookie,
    Date,
    Expect,
    Forwarded,
    Host,
    Http2Settings,
    KeepAlive,
    Location,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyConnection,
    /// All of `Sec-WebSocket-*` (RFC 6455 §11.3).
    SecWebSocket,
    Te,
    Traceparent,
    Tracestate,
    Trailer,
    TransferEncoding,
    Upgrade,
    UserAgent,
    UserCustomDomain,
    XForwardedFor,
    XForwardedHost,
    XForwardedPort,
    XForwardedProto,
    /// Any other of `X-Forwarded-*`.
    XForwarded,
    XRealIp,
    XRequestId,
    /// All else.
    Other,
}

impl FieldName {
    /// Which name `name` is, by its letters and digits alone.
    pub(crate) fn of(name: &[u8]) -> Self {
        Self::read(name).0
    }

    /// The same, and whether `name` is written as that name is, but for its case.
    pub(crate) fn read(name: &[u8]) -> (Self, bool) {
        if !may_be_known(name) {
            return (Self::Other, false);
        }
        // Nearly all that are known are.
        match Self::written(name) {
            Some(known) => (known, true),
            None => (Self::by_letters(name), false),
        }
    }

    fn written(name: &[u8]) -> Option<Self> {
        let is_written = |known: &&Self| name.eq_ignore_ascii_case(known.as_str().as_bytes());
        BY_LENGTH.get(name.len())?.iter().find(is_written).copied()
    }

    fn by_letters(name: &[u8]) -> Self {
        let letters = Letters::of(name);
        // By the number first: one comparison or two for each name.
        match letters.as_bytes() {
            b"te" => Self::Te,
            b"host" => Self::Host,
            b"date" => Self::Date,
            letters if letters.len() < 6 => Self::Other,
            letters if letters.len() < 9 => Self::of_six_to_eight(letters),
            b"useragent" => Self::UserAgent,
            b"forwarded" => Self::Forwarded,
            b"keepalive" => Self::KeepAlive,
            letters if letters.starts_with(b"xforwarded") => Self::of_forwarded(letters),
            letters if letters.starts_with(b"secwebsocket") => Self::SecWebSocket,
            letters if letters.len() < 12 => Self::of_nine_to_eleven(letters),
            _ => Self::of_many(letters.as_bytes()),
        }
    }

    fn of_six_to_eight(letters: &[u8]) -> Self {
        match letters {
            b"cookie" => Self::Cookie,
            b"expect" => Self::Expect,
            b"cdnloop" => Self::CdnLoop,
            b"trailer" => Self::Trailer,
            b"upgrade" => Self::Upgrade,
            b"location" => Self::Location,
            b"xrealip" => Self::XRealIp,
            _ => Self::Other,
        }
    }

    fn of_nine_to_eleven(letters: &[u8]) -> Self {
        match letters {
            b"connection" => Self::Connection,
            b"tracestate" => Self::Tracestate,
            b"xrequestid" => Self::XRequestId,
            b"contenttype" => Self::ContentType,
            b"traceparent" => Self::Traceparent,
            _ => Self::Other,
        }
    }

    fn of_many(letters: &[u8]) -> Self {
        match letters {
            b"contentlength" => Self::ContentLength,
            b"http2settings" => Self::Http2Settings,
            b"proxyconnection" => Self::ProxyConnection,
            b"transferencoding" => Self::TransferEncoding,
            b"usercustomdomain" => Self::UserCustomDomain,
            b"proxyauthenticate" => Self::ProxyAuthenticate,
            b"proxyauthorization" => Self::ProxyAuthorization,
            _ => Self::Other,
        }
    }

    fn of_forwarded(letters: &[u8]) -> Self {
        match letters {
            b"xforwardedfor" => Self::XForwardedFor,
            b"xforwardedhost" => Self::XForwardedHost,
            b"xforwardedport" => Self::XForwardedPort,
            b"xforwardedproto" => Self::XForwardedProto,
            _ => Self::XForwarded,
        }
    }

    /// A bit of its own.
    pub(crate) fn bit(self) -> u64 {
        1 << self as u32
    }

    /// As it is written; empty where it stands for several names.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::CdnLoop => "cdn-loop",
            Self::Connection => "connection",
            Self::ContentLength => "content-length",
            Self::ContentType => "content-type",
            Self::Cookie => "cookie",
            Self::Date => "date",
            Self::Expect => "expect",
            Self::Forwarded => "forwarded",
            Self::Host => "host",
            Self::Http2Settings => "http2-settings",
            Self::KeepAlive => "keep-alive",
            Self::Location => "location",
            Self::ProxyAuthenticate => "proxy-authenticate",
            Self::ProxyAuthorization => "proxy-authorization",
            Self::ProxyConnection => "proxy-connection",
            Self::Te => "te",
            Self::Traceparent => "traceparent",
            Self::Tracestate => "tracestate",
            Self::Trailer => "trailer",
            Self::TransferEncoding => "transfer-encoding",
            Self::Upgrade => "upgrade",
            Self::UserAgent => "user-agent",
            Self::UserCustomDomain => "user-custom-domain",
            Self::XForwardedFor => "x-forwarded-for",
            Self::XForwardedHost => "x-forwarded-host",
            Self::XForwardedPort => "x-forwarded-port",
            Self::XForwardedProto => "x-forwarded-proto",
            Self::XRealIp => "x-real-ip",
            Self::XRequestId => "x-request-id",
            Self::SecWebSocket | Self::XForwarded | Self::Other => "",
        }
    }

    /// Whether it is for one connection alone (RFC 9110 §7.6.1).
    pub(crate) fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                // RFC 9110 §10.1.4: what the next recipient may send; said anew where trailers are welcome.
                | Self::Te
                | Self::TransferEncoding
                // RFC 9110 §7.8: for one connection; said anew where a switch is passed on.
                | Self::Upgrade
                | Self::KeepAlive
                | Self::ProxyConnection
                // RFC 7540 §3.2.1: belongs to an upgrade to HTTP/2.
                | Self::Http2Settings
                // RFC 9110 §11.7: between a client and a proxy it chose.
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
                // RFC 9110 §10.1.1: said anew where the client waits.
                | Self::Expect
        )
    }

    /// Whether it decides where a message ends, which site it is for, or how its connection goes on.
    pub(crate) fn is_guarded(self) -> bool {
        matches!(
            self,
            Self::ContentLength
                | Self::TransferEncoding
                | Self::Host
                | Self::Connection
                | Self::Upgrade
                | Self::Expect
                | Self::Te
                | Self::Trailer
        )
    }

    /// Whether it says which way a request came, which only a proxy may say (RFC 7239 §8.1: what a client wrote there cannot be trusted).
    pub(crate) fn claims_passage(self) -> bool {
        matches!(
            self,
            Self::Forwarded
                | Self::UserCustomDomain
                | Self::XRealIp
                | Self::XRequestId
                | Self::XForwardedFor
                | Self::XForwardedHost
                | Self::XForwardedPort
                | Self::XForwardedProto
                | Self::XForwarded
        )
    }

    /// Whether nobody but this proxy decides what becomes of it.
    pub(crate) fn is_ours(self) -> bool {
        self.is_hop_by_hop()
            || self.is_guarded()
            || self.claims_passage()
            || matches!(self, Self::CdnLoop | Self::Traceparent | Self::Tracestate | Self::SecWebSocket)
    }
}

/// Whether it begins as a name does that is known. Most do not, and there is one to judge for each field of each message.
fn may_be_known(name: &[u8]) -> bool {
    // Letters in lower case; digits as they are.
    let lower = |letter: u8| letter | 0x20;
    let beginning = match name.first_chunk::<4>() {
        Some(letters) if letters.iter().all(u8::is_ascii_alphanumeric) => letters.map(lower),
        _ => {
            let mut beginning = [0; 4];
            let letters = name.iter().filter(|byte| byte.is_ascii_alphanumeric());
            beginning.iter_mut().zip(letters).for_each(|(place, letter)| *place = lower(*letter));
            beginning
        }
    };
    matches!(
        &beginning,
        b"cdnl"
            | b"conn"
            | b"cont"
            | b"cook"
            | b"date"
            | b"expe"
            | b"forw"
            | b"host"
            | b"http"
            | b"keep"
            | b"loca"
            | b"prox"
            | b"secw"
            | b"te\0\0"
            | b"trac"
            | b"trai"
            | b"tran"
            | b"upgr"
            | b"user"
            | b"xfor"
            | b"xrea"
            | b"xreq"
    )
}

/// The letters and digits of a field's name, in lower case, as far as they can be those of a name that is known.
#[derive(Clone, Copy)]
pub(crate) struct Letters {
    bytes: [u8; LONGEST],
    count: usize,
}

impl Letters {
    pub(crate) fn of(name: &[u8]) -> Self {
        let mut letters = Self { bytes: [0; LONGEST], count: 0 };
        let all = name.iter().filter(|byte| byte.is_ascii_alphanumeric());
        for (place, letter) in letters.bytes.iter_mut().zip(all) {
            *place = letter.to_ascii_lowercase();
            letters.count += 1;
        }
        letters
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.count).unwrap_or_default()
    }
}

/// One more than the longest name that is looked for has.
const LONGEST: usize = 24;

/// Names by how many bytes they are written with.
const BY_LENGTH: [&[FieldName]; 20] = [
    &[],
    &[],
    &[FieldName::Te],
    &[],
    &[FieldName::Host, FieldName::Date],
    &[],
    &[FieldName::Cookie, FieldName::Expect],
    &[FieldName::Trailer, FieldName::Upgrade],
    &[FieldName::CdnLoop, FieldName::Location],
    &[FieldName::Forwarded, FieldName::XRealIp],
    &[FieldName::Connection, FieldName::KeepAlive, FieldName::Tracestate, FieldName::UserAgent],
    &[FieldName::Traceparent],
    &[FieldName::ContentType, FieldName::XRequestId],
    &[],
    &[FieldName::ContentLength, FieldName::Http2Settings],
    &[FieldName::XForwardedFor],
    &[FieldName::XForwardedHost, FieldName::XForwardedPort, FieldName::ProxyConnection],
    &[FieldName::TransferEncoding, FieldName::XForwardedProto],
    &[FieldName::UserCustomDomain, FieldName::ProxyAuthenticate],
    &[FieldName::ProxyAuthorization],
];

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [FieldName; 29] = [
        FieldName::CdnLoop,
        FieldName::Connection,
        FieldName::ContentLength,
        FieldName::ContentType,
        FieldName::Cookie,
        FieldName::Date,
        FieldName::Expect,
        FieldName::Forwarded,
        FieldName::Host,
        FieldName::Http2Settings,
        FieldName::KeepAlive,
        FieldName::Location,
        FieldName::ProxyAuthenticate,
        FieldName::ProxyAuthorization,
        FieldName::ProxyConnection,
        FieldName::Te,
        FieldName::Traceparent,
        FieldName::Tracestate,
        FieldName::Trailer,
        FieldName::TransferEncoding,
        FieldName::Upgrade,
        FieldName::UserAgent,
        FieldName::UserCustomDomain,
        FieldName::XForwardedFor,
        FieldName::XForwardedHost,
        FieldName::XForwardedPort,
        FieldName::XForwardedProto,
        FieldName::XRealIp,
        FieldName::XRequestId,
    ];

    #[test]
    fn punctuation_makes_no_difference() {
        for name in ALL {
            let written = name.as_str();
            assert!(!written.is_empty() && written.len() < LONGEST, "{name:?}");
            for alike in [
                written.to_owned(),
                written.to_uppercase(),
                written.replace('-', "_"),
                written.replace('-', ""),
                format!("-{written}."),
            ] {
                let is_written = alike.eq_ignore_ascii_case(written);
                assert_eq!(FieldName::read(alike.as_bytes()), (name, is_written), "{alike}");
                assert_eq!(FieldName::written(alike.as_bytes()).is_some(), is_written, "{alike}");
            }
            for other in [format!("{written}s"), format!("a{written}"), written[1..].to_owned()] {
                assert_ne!(FieldName::of(other.as_bytes()), name, "{other}");
            }
        }
        for (name, several) in [
            ("x-forwarded-server", FieldName::XForwarded),
            ("X_Forwarded", FieldName::XForwarded),
            ("x-forwarded-a-very-long-name-of-somebody", FieldName::XForwarded),
            ("Sec-WebSocket-Protocol", FieldName::SecWebSocket),
            ("x_forward", FieldName::Other),
            ("proxy-authentication-info-and-more", FieldName::Other),
            ("", FieldName::Other),
            ("---", FieldName::Other),
        ] {
            assert_eq!(FieldName::of(name.as_bytes()), several, "{name}");
        }
    }
}
