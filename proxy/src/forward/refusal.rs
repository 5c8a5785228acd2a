//! Why a request gets a response of our own instead of the upstream's.

use std::time::Duration;

use http::StatusCode;

use super::{
    admit::RequestViolation,
    metrics::RequestOutcome,
    page::Notice,
    upstream::{UpstreamFailure, UpstreamFault},
};

/// Why a request is not forwarded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestRefusal {
    #[error("request refused at admission")]
    Offence(RequestViolation),
    #[error("the name of the connection is not served any more")]
    Withdrawn,
    #[error("the name is not served here")]
    Foreign,
    #[error("the name's entry cannot be read now, and none is known from before")]
    EntryUnknown,
    #[error("the request has come through this fleet before: its target leads back here")]
    Loop,
    #[error(transparent)]
    Failure(#[from] UpstreamFailure),
}

impl From<RequestViolation> for RequestRefusal {
    fn from(violation: RequestViolation) -> Self {
        Self::Offence(violation)
    }
}

impl RequestRefusal {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Offence(violation) => violation.status(),
            // RFC 9110 §15.5.20: no answer in this name's stead can be had over this connection.
            Self::Withdrawn => StatusCode::MISDIRECTED_REQUEST,
            Self::Foreign => StatusCode::NOT_FOUND,
            Self::EntryUnknown => StatusCode::SERVICE_UNAVAILABLE,
            // RFC 5842 §7.2: what RFC 8586 is there to find.
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::Failure(failure) => failure.status(),
        }
    }

    pub(super) fn outcome(&self) -> RequestOutcome {
        match self {
            Self::Offence(_) => RequestOutcome::RefuseOffence,
            Self::Withdrawn | Self::Foreign => RequestOutcome::RefuseName,
            Self::EntryUnknown => RequestOutcome::EntryUnknown,
            Self::Loop => RequestOutcome::Loop,
            Self::Failure(failure) => failure.outcome(),
        }
    }

    /// Whether the connection has to end with the answer: where the next request begins may be in doubt, and a name that is not
    /// served any more has no use for it.
    pub(super) fn closes(&self) -> bool {
        match self {
            Self::Offence(violation) => *violation != RequestViolation::HostUnlikeServerName,
            Self::Withdrawn | Self::Foreign => true,
            Self::EntryUnknown | Self::Loop => false,
            Self::Failure(failure) => failure.blame() == UpstreamFault::Client,
        }
    }

    /// After how long the same request may be answered otherwise.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::EntryUnknown => Some(SOURCE_RETRY),
            Self::Failure(UpstreamFailure::Full(_)) => Some(PLACE_RETRY),
            Self::Offence(_) | Self::Withdrawn | Self::Foreign | Self::Loop | Self::Failure(_) => None,
        }
    }

    /// What a person is told: what happened, and whose turn it is.
    pub(super) fn notice(&self) -> Notice {
        match self {
            Self::Offence(RequestViolation::HostUnlikeServerName) => Notice {
                what: "This connection belongs to another site",
                turn: "It is your turn: open the address again, in a new window if need be.",
            },
            Self::Offence(_) => Notice {
                what: "The request could not be understood",
                turn: "It is your browser's or program's turn: what it sent was refused, and not passed on to the site.",
            },
            Self::Withdrawn | Self::Foreign => Notice {
                what: "There is no site under this name",
                turn: "It is your turn: check the address; if the site is yours, add its name where you manage it.",
            },
            Self::EntryUnknown => Notice {
                what: "It cannot be told now where this site is served from",
                turn: "It is the operator's turn: your side is in order, so please try again in a moment.",
            },
            Self::Loop => Notice {
                what: "The site leads back to itself",
                turn: "The operator of the site has to act: its domain must point to the server that has its content.",
            },
            Self::Failure(failure) => of(failure),
        }
    }
}

fn of(failure: &UpstreamFailure) -> Notice {
    if let UpstreamFailure::Full(_) = failure {
        return Notice {
            what: "The site is asked for too much at once",
            turn: "It is the site's turn: your side is in order, so please try again in a moment.",
        };
    }
    match (failure.blame(), failure.status()) {
        (UpstreamFault::Client, _) => Notice {
            what: "The request did not arrive completely",
            turn: "It is your turn: send it once more, over a better connection if there is one.",
        },
        (UpstreamFault::Upstream, StatusCode::GATEWAY_TIMEOUT) => Notice {
            what: "The site did not answer in time",
            turn: "It is the site's turn: your side is in order, so please try again in a moment.",
        },
        (UpstreamFault::Upstream, _) => Notice {
            what: "The site did not answer properly",
            turn: "It is the site's turn: your side is in order, so please try again in a moment.",
        },
        (UpstreamFault::Operator, _) => Notice {
            what: "The site is not set up completely",
            turn: "It is the operator's turn: your side is in order, so please try again later.",
        },
    }
}

/// A permit becomes free with each request that ends.
const PLACE_RETRY: Duration = Duration::from_secs(1);
/// Sources that did not answer are asked again within a second, and a spent budget is full again within two.
const SOURCE_RETRY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::forward::upstream::permits::NoPermit;

    #[test]
    fn every_page_says_whose_turn_it_is() {
        for (refusal, turn) in [
            (RequestRefusal::Offence(RequestViolation::HostUnlikeServerName), "your turn"),
            (RequestRefusal::Offence(RequestViolation::ShadowField), "your browser's or program's turn"),
            (RequestRefusal::Withdrawn, "your turn"),
            (RequestRefusal::Foreign, "your turn"),
            (RequestRefusal::EntryUnknown, "the operator's turn"),
            (UpstreamFailure::ClientSlow.into(), "your turn"),
            (UpstreamFailure::ResponseTimeout.into(), "the site's turn"),
            (UpstreamFailure::Full(NoPermit::Total).into(), "the site's turn"),
            (UpstreamFailure::Unreachable(io::ErrorKind::ConnectionRefused.into()).into(), "the site's turn"),
            (UpstreamFailure::NoTarget.into(), "the operator's turn"),
        ] {
            let notice = refusal.notice();
            assert!(notice.turn.starts_with(&format!("It is {turn}: ")), "{refusal:?}: {notice:?}");
            assert_eq!(notice.turn.matches(". ").count(), 0, "one sentence: {notice:?}");
        }
    }
}
