//! What goes wrong on the way to an upstream: whose fault, whether to try again, and what the client is told.

use hyper::StatusCode;

use super::Outcome;

/// Why a request got no answer from its upstream.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the target's name has no address")]
    Unresolved,
    #[error(
        "the target's addresses are loopback, link-local or our own; `upstream.permitted_networks` can permit them"
    )]
    Forbidden,
    #[error("no connection to the target")]
    Unreachable(#[source] std::io::Error),
    #[error("the target did not accept a connection in time")]
    ConnectTimeout,
    #[error("the target closed the connection before it answered")]
    Closed(#[source] hyper::Error),
    #[error("the target did not begin its answer in time")]
    ResponseTimeout,
    #[error("the client stopped sending its request")]
    RequestBody,
    #[error("the request cannot be written for the target")]
    Unwritable,
}

/// Whose fault a failure is; the access log says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    Client,
    Upstream,
    Operator,
}

impl Failure {
    pub(super) fn blame(&self) -> Blame {
        match self {
            Self::RequestBody | Self::Unwritable => Blame::Client,
            Self::Forbidden => Blame::Operator,
            Self::Unresolved
            | Self::Unreachable(_)
            | Self::ConnectTimeout
            | Self::Closed(_)
            | Self::ResponseTimeout => Blame::Upstream,
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Unresolved | Self::Forbidden | Self::Unreachable(_) | Self::Closed(_) => {
                StatusCode::BAD_GATEWAY
            }
            Self::ConnectTimeout | Self::ResponseTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::RequestBody => StatusCode::REQUEST_TIMEOUT,
            Self::Unwritable => StatusCode::BAD_REQUEST,
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Unresolved => Outcome::FailUnresolved,
            Self::Forbidden => Outcome::FailForbidden,
            Self::Unreachable(_) => Outcome::FailUnreachable,
            Self::ConnectTimeout => Outcome::FailConnectTimeout,
            Self::Closed(_) => Outcome::FailClosed,
            Self::ResponseTimeout => Outcome::FailResponseTimeout,
            Self::RequestBody => Outcome::FailRequestBody,
            Self::Unwritable => Outcome::RefuseOffence,
        }
    }
}
