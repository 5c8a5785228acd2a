//! Why an order fails, in words for the operator, and what of it the CA has said.
//! Not here: whose fault it is (`fault`).

use std::time::SystemTime;

use super::http;
use crate::{
    certificates::{challenges::DnsChallengeError, key::KeyError},
    store::StoreError,
};

/// Why an order failed.
#[derive(Debug, thiserror::Error)]
pub(in crate::certificates) enum OrderError {
    /// No valid response.
    #[error("the CA does not answer")]
    Unreachable {
        #[source]
        source: instant_acme::Error,
        /// When it may be asked again.
        retry_after: Option<SystemTime>,
    },
    /// A problem document (RFC 8555 §6.7).
    #[error("the CA refuses: {}", .0.problem)]
    Refused(AcmeProblem),
    /// An answer that ACME has no place for: no JSON, another object, a field that is missing.
    #[error("the CA's answer cannot be used{}: {problem}", of_status(*status))]
    Malformed {
        problem: String,
        /// Of the answer.
        status: Option<u16>,
        /// When it may be asked again.
        retry_after: Option<SystemTime>,
    },
    /// It refuses every nonce (RFC 8555 §6.5).
    #[error(
        "the CA refuses its own nonces; it may have lost its state, or several servers behind its name do not share theirs"
    )]
    BadNonce,
    /// The name was not validated.
    #[error("the CA could not validate the name: {problem}")]
    Invalid {
        problem: String,
        /// The type of what it found fault with, a URN.
        kind: Option<String>,
    },
    /// It offers neither http-01 nor tls-alpn-01, or for a wildcard no dns-01.
    #[error(
        "the CA offers no challenge that Gatehouse can answer (http-01, tls-alpn-01; for wildcards dns-01)"
    )]
    NoChallenge,
    /// A wildcard's challenge was not shown.
    #[error(transparent)]
    Dns(#[from] DnsChallengeError),
    /// It took longer than `certificates.order_deadline`.
    #[error("the order did not end in time{}", awaiting.remedy())]
    Slow {
        /// What the time ended with.
        awaiting: Awaited,
    },
    /// The CA's certificate cannot be presented.
    #[error("the CA's certificate cannot be used: {problem}")]
    Unusable { problem: String },
    /// The account or the challenge could not be stored.
    #[error("the table failed during the order")]
    Store(#[from] StoreError),
    /// The key.
    #[error("no key for the certificate")]
    Key(#[from] KeyError),
    /// The account's key cannot be used.
    #[error(
        "the account key in item `{item}` cannot be used: {problem}; keep a P-256 key there, or set another `email` for the issuer"
    )]
    AccountKey { item: String, problem: String },
    /// RFC 8555 §7.3.4.
    #[error(
        "the CA wants an external account; set `eab` of the issuer in `certificates.issuers` to the key identifier and HMAC key that the CA gives its customers"
    )]
    ExternalAccountMissing,
    /// It refuses the external account.
    #[error(
        "the CA refuses the external account `{key_id}`: {problem}; compare `eab` of the issuer with what the CA shows its customers, and get a new key if that one is spent"
    )]
    ExternalAccountRefused { key_id: String, problem: String },
    /// draft-ietf-acme-profiles: the directory lists what can be ordered.
    #[error("the CA offers no profile `{profile}`; {}", profile_remedy(offered))]
    UnknownProfile { profile: String, offered: Vec<String> },
    /// The directory, or the resource of nonces.
    #[error("the CA answers {status} for its {resource}")]
    Unavailable {
        resource: &'static str,
        status: hyper::StatusCode,
        /// When it may be asked again.
        retry_after: Option<SystemTime>,
    },
}

/// What an order waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::certificates) enum Awaited {
    /// An answer of the CA.
    #[default]
    Ca,
    /// The table, and for a wildcard Route 53, to show the challenge.
    Challenge,
    /// The CA, which looks for the challenge.
    Validation,
    /// The certificate, of an order that has been finalized or may have been: the CA gives it sooner or later.
    Issuance,
}

impl Awaited {
    fn remedy(self) -> &'static str {
        match self {
            Self::Challenge => {
                " to show its challenge; where Route 53 takes longer than that, raise `certificates.order_deadline`"
            }
            Self::Issuance => {
                " to give the certificate, which is fetched later; where the CA often takes so long, raise `certificates.order_deadline`"
            }
            Self::Ca | Self::Validation => "",
        }
    }
}

/// A problem document (RFC 8555 §6.7).
#[derive(Debug)]
pub(in crate::certificates) struct AcmeProblem {
    pub(in crate::certificates) problem: String,
    /// Its type, a URN.
    pub(in crate::certificates) kind: Option<String>,
    /// Of the answer that it was, else the one that it repeats (RFC 9457 §3.1.2 leaves that out as it likes).
    pub(in crate::certificates) status: Option<u16>,
    /// When the CA may be asked again.
    pub(in crate::certificates) retry_after: Option<SystemTime>,
    pub(in crate::certificates) subject: RefusalSubject,
}

/// What a CA has refused, where that is known otherwise than by the problem's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::certificates) enum RefusalSubject {
    /// The type tells.
    #[default]
    Untold,
    /// The account: what was asked for named no identifier.
    Account,
    /// The name, for an account that the CA accepts otherwise.
    Name,
}

impl AcmeProblem {
    /// Whether it is of the type `kind`, a URN.
    pub(super) fn is_of_kind(&self, kind: &str) -> bool {
        self.kind.as_deref() == Some(kind)
    }

    /// Whether what was asked for is at fault (RFC 9110 §15.5), and would be again.
    pub(super) fn is_of_the_request(&self) -> bool {
        self.status.is_some_and(|status| (400..500).contains(&status) && status != 429)
    }
}

impl OrderError {
    /// Whether going on with the order would lead to the same; one that the CA is slow to answer before its finalization may be stuck.
    pub(in crate::certificates) fn ends_order(&self) -> bool {
        match self {
            Self::Unusable { .. } | Self::Invalid { .. } | Self::Slow { awaiting: Awaited::Ca } => true,
            Self::Refused(problem) => problem.is_of_the_request(),
            _ => false,
        }
    }

    /// The same of a request about the account.
    pub(super) fn about_account(self) -> Self {
        self.about(RefusalSubject::Account)
    }

    /// The same of a request by an account that is known to be accepted.
    pub(super) fn about_name(self) -> Self {
        self.about(RefusalSubject::Name)
    }

    fn about(self, subject: RefusalSubject) -> Self {
        match self {
            Self::Refused(problem) => Self::Refused(AcmeProblem { subject, ..problem }),
            other => other,
        }
    }

    /// When the CA may be asked again, if it says so.
    pub(in crate::certificates) fn retry_after(&self) -> Option<SystemTime> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            Self::Unreachable { retry_after, .. }
            | Self::Unavailable { retry_after, .. }
            | Self::Malformed { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether it is a limit (RFC 8555 §6.6, RFC 6585 §4), whose date the CA has reckoned; a server that fails has guessed it at most.
    pub(in crate::certificates) fn is_limit(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_of_kind(RATE_LIMITED) || refusal.status == Some(429),
            Self::Unavailable { status, .. } => *status == hyper::StatusCode::TOO_MANY_REQUESTS,
            Self::Malformed { status, .. } => *status == Some(429),
            _ => false,
        }
    }

    /// Whether the CA knows nothing of what was asked for, or refuses it for what it is.
    pub(super) fn denies_the_resource(&self) -> bool {
        match self {
            Self::Refused(problem) => problem.is_of_the_request(),
            // What stands before a CA may answer 403 or 400 to anything, but says of a page that there is none.
            Self::Malformed { status, .. } => matches!(status, Some(404 | 410)),
            _ => false,
        }
    }
}

impl From<instant_acme::Error> for OrderError {
    fn from(error: instant_acme::Error) -> Self {
        match error {
            instant_acme::Error::Api(problem) if problem.r#type.as_deref() == Some(BAD_NONCE) => {
                Self::BadNonce
            }
            instant_acme::Error::Api(problem)
                if problem.r#type.as_deref() == Some(EXTERNAL_ACCOUNT_REQUIRED) =>
            {
                Self::ExternalAccountMissing
            }
            instant_acme::Error::Api(problem) => Self::Refused(AcmeProblem {
                problem: brief(&problem.to_string()),
                kind: problem.r#type,
                // An order that failed is told of with success.
                status: http::status().filter(|status| *status >= 400).or(problem.status),
                retry_after: http::retry_after(),
                subject: RefusalSubject::Untold,
            }),
            source => match (http::unexpected_status(&source), http::status()) {
                (Some((resource, status)), _) => {
                    Self::Unavailable { resource, status, retry_after: http::retry_after() }
                }
                (None, None) => Self::Unreachable { source, retry_after: http::retry_after() },
                (None, status) => Self::Malformed {
                    problem: brief(&source.to_string()),
                    status,
                    retry_after: http::retry_after(),
                },
            },
        }
    }
}

/// As much of what a CA says as a log line and an item are to hold, on one line.
pub(in crate::certificates) fn brief(text: &str) -> String {
    text.chars().take(MOST_SAID).map(|char| if char.is_control() { ' ' } else { char }).collect()
}

fn of_status(status: Option<u16>) -> String {
    status.map(|status| format!(" (status {status})")).unwrap_or_default()
}

fn profile_remedy(offered: &[String]) -> String {
    match offered {
        [] => "it has none, so leave `profile` of the issuer out".to_owned(),
        names => format!("set `profile` of the issuer to one of `{}`", names.join("`, `")),
    }
}

/// RFC 8555 §6.7.
pub(super) const BAD_NONCE: &str = "urn:ietf:params:acme:error:badNonce";
pub(super) const FORGOTTEN: &str = "urn:ietf:params:acme:error:accountDoesNotExist";
pub(super) const UNAUTHORIZED: &str = "urn:ietf:params:acme:error:unauthorized";
pub(super) const MALFORMED: &str = "urn:ietf:params:acme:error:malformed";
pub(super) const RATE_LIMITED: &str = "urn:ietf:params:acme:error:rateLimited";
pub(super) const SERVER_INTERNAL: &str = "urn:ietf:params:acme:error:serverInternal";
const EXTERNAL_ACCOUNT_REQUIRED: &str = "urn:ietf:params:acme:error:externalAccountRequired";
/// In characters. The longest that a CA needs is that of a limit, with a link to its explanation.
const MOST_SAID: usize = 500;
