//! What can fail between a request and its upstream's response.

use std::{io, net::IpAddr};

use http::StatusCode;

use super::permits::NoPermit;
use crate::{
    forward::{metrics::RequestOutcome, upload::UploadEnd},
    http1::MessageViolation,
    name::ServerName,
    target::{SocketPath, Target, TlsName},
};

/// Why there is no response from the upstream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamFailure {
    #[error("the domain has no target; give it one, or set `domains.default_target`")]
    NoTarget,
    #[error(transparent)]
    Full(#[from] NoPermit),
    #[error("target `{name}` cannot be resolved")]
    Unresolved {
        name: ServerName,
        #[source]
        cause: io::Error,
    },
    #[error(
        "target address {address} is forbidden; if it is meant, list its network in `upstream.permitted_networks`"
    )]
    Forbidden { address: IpAddr },
    #[error(
        "target socket `{path}` is forbidden; if it is meant, list it or its directory in `upstream.permitted_sockets`"
    )]
    ForbiddenSocket { path: SocketPath },
    #[error(
        "target {target} is this fleet itself (`upstream.edge_names`, `upstream.edge_addresses`); set the domain's target to its origin"
    )]
    Edge { target: Target },
    #[error(
        "the target's endpoint names `tls={name}`, and there is no `[upstream.tls.{name}]`; write one, or correct the name"
    )]
    UnknownTls { name: TlsName },
    #[error(
        "targets of domain entries may not use `tls={name}`; if it is meant, set `upstream.tls.{name}.entries = true`"
    )]
    ForbiddenTls { name: TlsName },
    #[error("no connection to the target")]
    Unreachable(#[source] io::Error),
    #[error("no connection to the target within `upstream.connect_timeout`")]
    ConnectTimeout,
    #[error("the system has no root certificates; install them, or name some in `upstream.roots`")]
    NoRoots,
    #[error("TLS with the target failed")]
    Untrusted(#[source] io::Error),
    #[error("the target closed the connection before it answered")]
    Closed(#[source] io::Error),
    #[error(
        "the target speaks no HTTP/2 over TLS; write `protocol=auto` behind its endpoint, or leave `protocol=h2` out"
    )]
    NoHttp2,
    #[error("the target's connection took no further request")]
    Unsent(#[source] io::Error),
    #[error("the target ended the request over HTTP/2 before it answered")]
    Http2(#[source] hyper::Error),
    #[error("no response from the target within `upstream.response_timeout`")]
    ResponseTimeout,
    #[error("the target's response is not valid HTTP")]
    Invalid(#[from] MessageViolation),
    #[error("the target's answer about another protocol does not fit the request")]
    ProtocolSwitch,
    #[error(
        "the target's endpoint takes no WebSocket over HTTP/2, and others may; leave `protocol=h2` out, or have its server permit extended CONNECT"
    )]
    NoWebSocket,
    #[error("the client sent its body more slowly than `limits.minimum_rate`")]
    ClientSlow,
    #[error("the client went away before its request was complete")]
    ClientGone,
}

impl From<UploadEnd> for UpstreamFailure {
    fn from(end: UploadEnd) -> Self {
        match end {
            UploadEnd::Slow => Self::ClientSlow,
            UploadEnd::Gone => Self::ClientGone,
        }
    }
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::forward) enum UpstreamFault {
    Client,
    Upstream,
    Operator,
}

/// Whether the same request may be sent to another destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::forward) enum Retry {
    /// Nothing of it was sent.
    Anywhere,
    /// If repeating it does no harm.
    IfRepeatable,
    Never,
}

impl Retry {
    /// Whether a request that `is_repeatable`, or is not, may be sent again.
    pub(super) fn permits(self, is_repeatable: bool) -> bool {
        match self {
            Self::Anywhere => true,
            Self::IfRepeatable => is_repeatable,
            Self::Never => false,
        }
    }
}

impl UpstreamFailure {
    /// Whether it says that an endpoint does not do its work: one that has as many requests as it may does, and one that takes no WebSocket.
    pub(super) fn speaks_against_endpoint(&self) -> bool {
        self.fault() == UpstreamFault::Upstream && !matches!(self, Self::Full(_) | Self::NoWebSocket)
    }

    /// Whether more time would have helped.
    pub(super) fn is_late(&self) -> bool {
        matches!(self, Self::ConnectTimeout)
    }

    pub(in crate::forward) fn fault(&self) -> UpstreamFault {
        match self {
            Self::NoTarget
            | Self::Full(NoPermit::Total | NoPermit::Client)
            | Self::Forbidden { .. }
            | Self::ForbiddenSocket { .. }
            | Self::UnknownTls { .. }
            | Self::ForbiddenTls { .. }
            | Self::Edge { .. }
            | Self::NoRoots => UpstreamFault::Operator,
            Self::ClientSlow | Self::ClientGone => UpstreamFault::Client,
            Self::Full(NoPermit::Target | NoPermit::Endpoint | NoPermit::EndpointInTime)
            | Self::Unresolved { .. }
            | Self::Unreachable(_)
            | Self::ConnectTimeout
            | Self::Untrusted(_)
            | Self::Closed(_)
            | Self::NoHttp2
            | Self::Unsent(_)
            | Self::Http2(_)
            | Self::ResponseTimeout
            | Self::Invalid(_)
            | Self::NoWebSocket
            | Self::ProtocolSwitch => UpstreamFault::Upstream,
        }
    }

    pub(super) fn retry(&self) -> Retry {
        match self {
            Self::Unreachable(_)
            | Self::ConnectTimeout
            | Self::Untrusted(_)
            | Self::NoHttp2
            | Self::Unsent(_)
            | Self::NoWebSocket
            | Self::Full(NoPermit::EndpointInTime) => Retry::Anywhere,
            Self::Closed(_) | Self::Http2(_) => Retry::IfRepeatable,
            Self::NoTarget
            | Self::Full(NoPermit::Total | NoPermit::Target | NoPermit::Client | NoPermit::Endpoint)
            | Self::Unresolved { .. }
            | Self::Forbidden { .. }
            | Self::ForbiddenSocket { .. }
            | Self::UnknownTls { .. }
            | Self::ForbiddenTls { .. }
            | Self::Edge { .. }
            | Self::NoRoots
            | Self::ResponseTimeout
            | Self::Invalid(_)
            | Self::ProtocolSwitch
            | Self::ClientSlow
            | Self::ClientGone => Retry::Never,
        }
    }

    pub(in crate::forward) fn status(&self) -> StatusCode {
        match self {
            // RFC 9110 §15.6.4: nothing is wrong with the request, and it may succeed later.
            Self::NoTarget | Self::Full(_) => StatusCode::SERVICE_UNAVAILABLE,
            // RFC 9110 §15.6.5.
            Self::ConnectTimeout | Self::ResponseTimeout => StatusCode::GATEWAY_TIMEOUT,
            // RFC 9110 §15.5.9: no complete request within the time that the server waits.
            Self::ClientSlow => StatusCode::REQUEST_TIMEOUT,
            Self::ClientGone => StatusCode::BAD_REQUEST,
            // RFC 5842 §7.2, the status of a loop.
            Self::Edge { .. } => StatusCode::LOOP_DETECTED,
            // RFC 9110 §15.6.3: an invalid response, or none, from the server behind a gateway.
            Self::Unresolved { .. }
            | Self::Forbidden { .. }
            | Self::ForbiddenSocket { .. }
            | Self::UnknownTls { .. }
            | Self::ForbiddenTls { .. }
            | Self::Unreachable(_)
            | Self::NoRoots
            | Self::Untrusted(_)
            | Self::Closed(_)
            | Self::NoHttp2
            | Self::Unsent(_)
            | Self::Http2(_)
            | Self::Invalid(_)
            | Self::NoWebSocket
            | Self::ProtocolSwitch => StatusCode::BAD_GATEWAY,
        }
    }

    pub(in crate::forward) fn outcome(&self) -> RequestOutcome {
        match self {
            Self::NoTarget => RequestOutcome::NoTarget,
            Self::Full(NoPermit::Total) => RequestOutcome::Full,
            Self::Full(NoPermit::Target) => RequestOutcome::TargetFull,
            Self::Full(NoPermit::Client) => RequestOutcome::ClientFull,
            Self::Full(NoPermit::Endpoint) => RequestOutcome::EndpointFull,
            Self::Full(NoPermit::EndpointInTime) => RequestOutcome::PendingTimeout,
            Self::Unresolved { .. } => RequestOutcome::Unresolved,
            Self::Forbidden { .. } | Self::ForbiddenSocket { .. } | Self::ForbiddenTls { .. } => {
                RequestOutcome::Forbidden
            }
            Self::Edge { .. } => RequestOutcome::Loop,
            Self::Unreachable(_) => RequestOutcome::Unreachable,
            Self::ConnectTimeout => RequestOutcome::ConnectTimeout,
            Self::NoRoots | Self::UnknownTls { .. } | Self::Untrusted(_) => RequestOutcome::Untrusted,
            Self::Closed(_) | Self::Unsent(_) | Self::Http2(_) => RequestOutcome::Closed,
            Self::ResponseTimeout => RequestOutcome::ResponseTimeout,
            Self::Invalid(_) | Self::NoHttp2 | Self::NoWebSocket | Self::ProtocolSwitch => {
                RequestOutcome::Invalid
            }
            Self::ClientSlow => RequestOutcome::ClientSlow,
            Self::ClientGone => RequestOutcome::ClientGone,
        }
    }
}
