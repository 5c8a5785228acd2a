//! Why a text is not a target.

/// Why a text is not a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{value}` is not a target: {reason}; write it like `https://origin.example.com` or `http://10.0.0.5:8080, http://10.0.0.6:8080;weight=3`"
)]
pub struct TargetError {
    pub(super) value: String,
    pub(super) reason: TargetReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TargetReason {
    #[error("it is not a URL with a host")]
    Uri,
    #[error("the scheme must be http or https, or `unix:` and the path of a socket")]
    Scheme,
    #[error("user information is not supported")]
    UserInfo,
    #[error("a fragment never leaves the client")]
    Fragment,
    #[error("a query is not supported, requests have their own")]
    Query,
    #[error(
        "a base path has at most {} bytes of ASCII, without `%`, `,`, `;`, `//`, `.` and `..`",
        super::base_path::LONGEST
    )]
    BasePath,
    #[error("the host is neither a domain name nor an IP address")]
    Host,
    #[error("the port must be 1 to 65535")]
    Port,
    #[error(
        "behind `unix:` there must be the absolute path of a socket, at most {} bytes of ASCII without spaces, `,`, `;`, `//`, `.` and `..`",
        super::socket_path::LONGEST
    )]
    Socket,
    #[error(
        "behind `;` there may only be `weight=`, `protocol=`, `tls=`, `proxy_protocol=`, `health=`, `max_connections=`, `max_requests=` and `max_pending=`, each once"
    )]
    Parameter,
    #[error("`weight=` must be a number from 1 to 256")]
    Weight,
    #[error("`protocol=` must be `h2`, `http/1.1` or `auto`")]
    Protocol,
    #[error(
        "`protocol=auto` is for `https://` alone, since a server chooses during the TLS handshake; write `protocol=h2` if it speaks HTTP/2 in cleartext, or leave it out"
    )]
    AutoInCleartext,
    #[error("`tls=` must be a name of `[upstream.tls.NAME]`: 1 to 63 letters, digits, `-` and `_`")]
    Tls,
    #[error("`tls=` is for `https://` alone")]
    TlsInCleartext,
    #[error("`proxy_protocol=` must be `v1` or `v2`")]
    ProxyProtocol,
    #[error(
        "`proxy_protocol=` says whom a connection is for, and with `protocol=h2` or `protocol=auto` several clients share one; leave one of the two out"
    )]
    ProxyProtocolOverHttp2,
    #[error(
        "`health=` must be a path, with a query or without, that begins with `/` and has neither `,` nor `;`"
    )]
    Health,
    #[error("`max_connections=` and `max_requests=` must be numbers from 1 to {}", super::limits::MOST)]
    Bound,
    #[error("`max_pending=` must be a number from 0 to {}", super::limits::MOST)]
    Pending,
    #[error(
        "`max_connections=` is for HTTP/1.1 alone, since requests share connections over HTTP/2; with `protocol=h2` write `max_requests=`"
    )]
    ConnectionsOverHttp2,
    #[error("it has more than {MAX_ENDPOINTS} endpoints")]
    Endpoints,
    #[error("it names an endpoint twice")]
    Repeated,
}

/// Endpoints that a target may have.
pub(super) const MAX_ENDPOINTS: usize = 16;
