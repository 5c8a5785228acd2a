//! Why a request gets an answer of our own instead of its site's.

use http::StatusCode;

use super::{
    admit::Offence,
    metrics::Outcome,
    upstream::{Blame, Failure},
};

/// What stands in the way of a request.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("request refused at admission")]
    Offence(Offence),
    #[error("the name of the connection is not served any more")]
    Withdrawn,
    #[error("the name is not served here")]
    Foreign,
    #[error(transparent)]
    Failure(#[from] Failure),
}

impl From<Offence> for Refusal {
    fn from(offence: Offence) -> Self {
        Self::Offence(offence)
    }
}

impl Refusal {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Offence(offence) => offence.status(),
            // RFC 9110 §15.5.20: no answer in this name's stead can be had over this connection.
            Self::Withdrawn => StatusCode::MISDIRECTED_REQUEST,
            Self::Foreign => StatusCode::NOT_FOUND,
            Self::Failure(failure) => failure.status(),
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Offence(_) => Outcome::RefuseOffence,
            Self::Withdrawn | Self::Foreign => Outcome::RefuseName,
            Self::Failure(failure) => failure.outcome(),
        }
    }

    /// Whether the connection has to end with the answer: where the next request begins may be in doubt, and a name that is not
    /// served any more has no use for it.
    pub(super) fn closes(&self) -> bool {
        match self {
            Self::Offence(offence) => *offence != Offence::HostUnlikeServerName,
            Self::Withdrawn | Self::Foreign => true,
            Self::Failure(failure) => failure.blame() == Blame::Client,
        }
    }

    /// One sentence for whoever reads the page.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Offence(Offence::HostUnlikeServerName) => {
                "This connection was opened for another site. Opening the address again usually helps."
            }
            Self::Offence(_) => "The request could not be understood, and was not passed on.",
            Self::Withdrawn | Self::Foreign => "No site is served here under this name.",
            Self::Failure(failure) => match failure.blame() {
                Blame::Client => "The request did not arrive completely.",
                Blame::Upstream => "The site did not answer properly. Please try again in a moment.",
                Blame::Operator => "The site is not set up completely yet. Please try again later.",
            },
        }
    }
}
