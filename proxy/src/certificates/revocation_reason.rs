//! Why a certificate is revoked (RFC 5280 §5.3.1): the reasons that CAs take from subscribers.

use std::{fmt, str::FromStr};

/// A reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RevocationReason {
    /// None is given.
    #[default]
    Unspecified,
    /// Somebody else may know its private key.
    KeyCompromise,
    /// The subscriber's name or organization has changed.
    AffiliationChanged,
    /// Another takes its place.
    Superseded,
    /// The name is no longer the subscriber's, or serves nothing.
    CessationOfOperation,
    /// The subscriber has broken the CA's agreement.
    PrivilegeWithdrawn,
}

/// A text is no reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "reason: write `unspecified`, `key-compromise`, `affiliation-changed`, `superseded`, `cessation-of-operation` or `privilege-withdrawn`"
)]
pub struct NoRevocationReason;

impl RevocationReason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::PrivilegeWithdrawn,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "key-compromise",
            Self::AffiliationChanged => "affiliation-changed",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessation-of-operation",
            Self::PrivilegeWithdrawn => "privilege-withdrawn",
        }
    }
}

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RevocationReason {
    type Err = NoRevocationReason;
    fn from_str(text: &str) -> Result<Self, NoRevocationReason> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text).ok_or(NoRevocationReason)
    }
}
