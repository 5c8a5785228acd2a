//! Why a request gets a response of our own instead of the upstream's.

use std::time::Duration;

use http::{StatusCode, Version};

use super::{
    Then,
    admit::RequestViolation,
    error_pages::Notice,
    metrics::RequestOutcome,
    request_rates::RateExceeded,
    upstream::{UpstreamFailure, UpstreamFault},
};

/// Why a request is not forwarded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestRefusal {
    #[error("request refused at admission")]
    Violation(RequestViolation),
    #[error("the connection's name is no longer served")]
    Withdrawn,
    #[error("the name is not served here")]
    UnknownName,
    #[error("the name's entry cannot be read now, and no earlier one is known")]
    EntryUnknown,
    #[error("more requests than the rate that is set")]
    Rate(RateExceeded),
    #[error("the domain is in maintenance")]
    Maintenance,
    #[error("the request has passed this fleet before: its target leads back here")]
    Loop,
    #[error(transparent)]
    Failure(#[from] UpstreamFailure),
}

impl From<RequestViolation> for RequestRefusal {
    fn from(violation: RequestViolation) -> Self {
        Self::Violation(violation)
    }
}

impl RequestRefusal {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Violation(violation) => violation.status(),
            // RFC 9110 §15.5.20: this connection cannot answer for this name.
            Self::Withdrawn => StatusCode::MISDIRECTED_REQUEST,
            Self::UnknownName => StatusCode::NOT_FOUND,
            Self::EntryUnknown | Self::Maintenance => StatusCode::SERVICE_UNAVAILABLE,
            // RFC 6585 §4.
            Self::Rate(_) => StatusCode::TOO_MANY_REQUESTS,
            // RFC 5842 §7.2: what RFC 8586 is there to find.
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::Failure(failure) => failure.status(),
        }
    }

    pub(super) fn outcome(&self) -> RequestOutcome {
        match self {
            Self::Violation(_) => RequestOutcome::RefuseViolation,
            Self::Withdrawn | Self::UnknownName => RequestOutcome::RefuseName,
            Self::EntryUnknown => RequestOutcome::EntryUnknown,
            Self::Rate(RateExceeded::Domain) => RequestOutcome::RateExceeded,
            Self::Rate(RateExceeded::Client) => RequestOutcome::ClientRateExceeded,
            Self::Maintenance => RequestOutcome::Maintenance,
            Self::Loop => RequestOutcome::Loop,
            Self::Failure(failure) => failure.outcome(),
        }
    }

    /// What becomes of the connection. It ends with the response where its name is no longer served, and over HTTP/1.1 where the beginning
    /// of the next request may be ambiguous: over HTTP/2 a request's fault is its stream's alone (RFC 9113 §5.4.2).
    pub(super) fn then(&self, version: Version) -> Then {
        match self {
            Self::Violation(_) | Self::Failure(_) if version == Version::HTTP_2 => Then::KeepAlive,
            Self::Violation(RequestViolation::HostUnlikeServerName | RequestViolation::Trace)
            | Self::EntryUnknown
            | Self::Rate(_)
            | Self::Maintenance
            | Self::Loop => Then::KeepAlive,
            Self::Violation(_) | Self::Withdrawn | Self::UnknownName => Then::Close,
            Self::Failure(failure) => match failure.fault() {
                UpstreamFault::Client => Then::Close,
                UpstreamFault::Upstream | UpstreamFault::Operator => Then::KeepAlive,
            },
        }
    }

    /// After how long the same request may succeed.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::EntryUnknown => Some(SOURCE_RETRY),
            Self::Rate(_) => Some(RATE_RETRY),
            Self::Maintenance => Some(MAINTENANCE_RETRY),
            Self::Failure(UpstreamFailure::Full(_)) => Some(PLACE_RETRY),
            Self::Violation(_) | Self::Withdrawn | Self::UnknownName | Self::Loop | Self::Failure(_) => None,
        }
    }

    /// What the error page says: what happened, and who can do something about it.
    pub(super) fn notice(&self) -> Notice {
        match self {
            Self::Violation(RequestViolation::HostUnlikeServerName) => Notice {
                what: "This connection belongs to another site",
                advice: "Please open the address again, in a new window if needed.",
            },
            Self::Violation(_) => Notice {
                what: "The request was not valid",
                advice: "Your browser or program sent a request that breaks the rules of HTTP. It was not passed on to the site.",
            },
            Self::Withdrawn | Self::UnknownName => Notice {
                what: "There is no site under this name",
                advice: "Please check the address. If the site is yours, add its name where you manage it.",
            },
            Self::EntryUnknown => Notice {
                what: "The site cannot be reached now",
                advice: "Your request is fine. Please try again in a moment; if this goes on, the operator of this service has to act.",
            },
            Self::Rate(_) => Notice {
                what: "The site has too many requests at once",
                advice: "Your request is fine. Please try again in a moment.",
            },
            Self::Maintenance => Notice {
                what: "The site is being worked on",
                advice: "Your request is fine. Please try again in a few minutes; the owner of the site has switched it off for maintenance.",
            },
            Self::Loop => Notice {
                what: "The site leads back to itself",
                advice: "The owner of the site has to act: its domain must point to the server that has its content.",
            },
            Self::Failure(failure) => of(failure),
        }
    }
}

fn of(failure: &UpstreamFailure) -> Notice {
    if let UpstreamFailure::Full(_) = failure {
        return Notice { what: "The site has too many requests at once", advice: TRY_AGAIN };
    }
    match (failure.fault(), failure.status()) {
        (UpstreamFault::Client, _) => Notice {
            what: "The request did not arrive completely",
            advice: "Please send it again, over a better connection if possible.",
        },
        (UpstreamFault::Upstream, StatusCode::GATEWAY_TIMEOUT) => {
            Notice { what: "The site did not answer in time", advice: TRY_AGAIN }
        }
        (UpstreamFault::Upstream, _) => {
            Notice { what: "The site did not answer correctly", advice: TRY_AGAIN }
        }
        (UpstreamFault::Operator, _) => Notice {
            what: "The site is not set up completely",
            advice: "Your request is fine. The operator of this service has to act; please try again later.",
        },
    }
}

const TRY_AGAIN: &str =
    "Your request is fine. Please try again in a moment; if this goes on, the owner of the site has to act.";
/// A permit becomes free with each request that ends.
const PLACE_RETRY: Duration = Duration::from_secs(1);
/// Every rate permits a request a second.
const RATE_RETRY: Duration = Duration::from_secs(1);
/// Sources that did not answer are asked again within a second, and a spent budget is full again within two.
const SOURCE_RETRY: Duration = Duration::from_secs(5);
/// Nobody says how long it takes; a crawler that comes every few minutes costs little.
const MAINTENANCE_RETRY: Duration = Duration::from_mins(5);

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::forward::upstream::permits::NoPermit;

    #[test]
    fn every_page_says_who_can_act() {
        for (refusal, who) in [
            (RequestRefusal::Violation(RequestViolation::HostUnlikeServerName), "Please open"),
            (RequestRefusal::Violation(RequestViolation::ShadowField), "Your browser or program"),
            (RequestRefusal::Withdrawn, "Please check the address"),
            (RequestRefusal::UnknownName, "Please check the address"),
            (RequestRefusal::EntryUnknown, "the operator of this service has to act"),
            (RequestRefusal::Maintenance, "the owner of the site"),
            (RequestRefusal::Loop, "The owner of the site has to act"),
            (UpstreamFailure::ClientSlow.into(), "Please send it again"),
            (UpstreamFailure::ResponseTimeout.into(), "the owner of the site has to act"),
            (UpstreamFailure::Full(NoPermit::Total).into(), "Please try again"),
            (
                UpstreamFailure::Unreachable(io::ErrorKind::ConnectionRefused.into()).into(),
                "the owner of the site has to act",
            ),
            (UpstreamFailure::NoTarget.into(), "The operator of this service has to act"),
        ] {
            let notice = refusal.notice();
            assert!(notice.advice.contains(who), "{refusal:?}: {notice:?}");
            assert!(
                notice.advice.ends_with('.') && !notice.what.ends_with('.'),
                "sentence and heading: {notice:?}"
            );
        }
    }
}
