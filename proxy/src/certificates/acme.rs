//! An ACME certificate authority (RFC 8555): account and orders, over our own HTTP client.
//! Not here: when an order is placed, and by which instance.
//! Invariants: a challenge is shown before the CA is asked to validate it, and as long as the order can be gone on with
//! (`a_record_stays_as_long_as_its_order_can_be_gone_on_with`); the fleet has one account (`the_first_account_key_is_the_fleets`).

mod account;
mod chain;
mod directory;
mod external_account;
mod fault;
mod http;
mod order;
mod pause;
mod renewal_info;
mod revocation;
#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
pub use directory::{IssuerDirectory, IssuerDirectoryError, issuer_directory};
pub use external_account::ExternalAccountKeyError;
pub(super) use fault::AcmeFault;
use instant_acme::{Account, CertificateIdentifier};
pub(super) use renewal_info::{CaAdvice, CaAdviceError};
pub use revocation::RevocationError;
use tokio::sync::Mutex;

use self::external_account::ExternalAccount;
use super::{
    challenges::{Challenges, DnsChallengeError},
    key::KeyError,
};
use crate::{
    config,
    name::Pattern,
    store::{PrivateKeyPem, Store, StoreError, certificate_table::IssuerKey, state_table::OpenOrder},
};

/// A CA.
pub(super) struct Acme {
    pub(super) issuer: IssuerKey,
    pub(super) directory: String,
    email: String,
    external: Option<ExternalAccount>,
    profile: Option<String>,
    /// Common name of a root.
    preferred_chain: Option<String>,
    store: Store,
    http: http::Http,
    deadline: Duration,
    /// The account once it was loaded; one task at a time loads or registers it.
    account: Mutex<Option<Account>>,
    /// Until when the fleet does not ask it, in milliseconds since the epoch.
    paused_until_millis: AtomicU64,
    /// When that was last read from the table, in the same.
    pause_read_at_millis: AtomicU64,
    /// Whether it has said that it does not know orders that replace a certificate.
    lacks_replacement: AtomicBool,
    /// Where it says when to renew, once its directory was read for that.
    renewal_info_url: Mutex<Option<renewal_info::RenewalInfoUrl>>,
}

/// What an issuer returned.
pub(super) struct Issued {
    /// PEM, the leaf first.
    pub(super) chain: String,
    /// The chain's, in SEC1.
    pub(super) key: PrivateKeyPem,
    /// Where the CA offers the chain.
    pub(super) url: Option<String>,
    /// The account's URL; the internal issuer has no accounts.
    pub(super) account: Option<String>,
}

/// Which challenge to answer, where the CA offers a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prefer {
    /// Port 80 is not filtered by name: it is answered by instances that do not know the name yet.
    Http,
    /// For a name whose http-01 failed before, and which every instance knows by now.
    TlsAlpn,
    /// For wildcards, which CAs validate by nothing else.
    Dns,
}

/// The parameters of an order.
#[derive(Debug, Clone)]
pub(super) struct OrderRequest {
    pub(super) prefer: Prefer,
    pub(super) replaces: Option<Replaced>,
    /// One that was placed before and has no certificate yet.
    pub(super) open: Option<OpenOrder>,
    /// What becomes known of the order.
    pub(super) placed: PlacedUrl,
}

/// The URL of the order that is under way, as soon as the CA or the table has told it.
#[derive(Debug, Clone, Default)]
pub(super) struct PlacedUrl(Arc<ArcSwapOption<String>>);

impl PlacedUrl {
    pub(super) fn get(&self) -> Option<Arc<String>> {
        self.0.load_full()
    }

    fn set(&self, url: &str) {
        self.0.store(Some(Arc::new(url.to_owned())));
    }
}

/// A certificate that a new one replaces (RFC 9773 §5). CAs exempt such orders from their limits.
#[derive(Debug, Clone)]
pub(super) struct Replaced {
    pub(super) certificate: CertificateIdentifier<'static>,
    /// The account that ordered it.
    pub(super) account: String,
}

impl Replaced {
    /// Whether the account with this URL may name it: the CA asks who replaces a certificate.
    pub(super) fn is_of(&self, account: &str) -> bool {
        self.account == account
    }
}

/// Why an order failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
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
    Invalid { problem: String },
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
pub(super) enum Awaited {
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
pub(super) struct AcmeProblem {
    pub(super) problem: String,
    /// Its type, a URN.
    pub(super) kind: Option<String>,
    /// Of the answer that it was, else the one that it repeats (RFC 9457 §3.1.2 leaves that out as it likes).
    pub(super) status: Option<u16>,
    /// When the CA may be asked again.
    pub(super) retry_after: Option<SystemTime>,
}

impl AcmeProblem {
    /// Whether it is of the type `kind`, a URN.
    fn is_of_kind(&self, kind: &str) -> bool {
        self.kind.as_deref() == Some(kind)
    }

    /// Whether what was asked for is at fault (RFC 9110 §15.5), and would be again.
    fn is_of_the_request(&self) -> bool {
        self.status.is_some_and(|status| (400..500).contains(&status) && status != 429)
    }
}

/// Why a CA cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The file of roots.
    #[error("certificates.issuers.roots: `{}` contains no certificates in PEM form", file.display())]
    Roots {
        /// Which.
        file: PathBuf,
        /// How it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The key of an external account.
    #[error("certificates.issuers.eab: {place}: {source}; write the HMAC key there as the CA gave it")]
    ExternalAccountKey {
        /// Where it was looked for.
        place: String,
        /// Why there is none.
        source: ExternalAccountKeyError,
    },
    /// The system's roots.
    #[error("the system's root certificates cannot be used; set `certificates.issuers.roots`")]
    Verifier(#[source] rustls::Error),
}

/// Whether every issuer of `config` could be spoken to, as far as its roots and the key of its external account decide. Makes
/// nothing.
pub fn probe(config: &config::CertificatesConfig) -> Result<(), AcmeError> {
    config.issuers.iter().try_for_each(|issuer| {
        http::Http::new(issuer.roots.as_deref())?;
        issuer.eab.as_ref().map_or(Ok(()), |external| ExternalAccount::read(external).map(drop))
    })
}

impl Acme {
    pub(super) fn new(
        issuer: &config::IssuerConfig,
        certificates: &config::CertificatesConfig,
        store: &Store,
    ) -> Result<Arc<Self>, AcmeError> {
        Ok(Arc::new(Self {
            issuer: IssuerKey::of_directory(&issuer.directory),
            directory: issuer.directory.clone(),
            email: issuer.email.clone(),
            external: issuer.eab.as_ref().map(ExternalAccount::read).transpose()?,
            profile: issuer.profile.clone(),
            preferred_chain: issuer.preferred_chain.clone(),
            store: store.clone(),
            http: http::Http::new(issuer.roots.as_deref())?,
            deadline: *certificates.order_deadline,
            account: Mutex::default(),
            paused_until_millis: AtomicU64::new(0),
            pause_read_at_millis: AtomicU64::new(0),
            lacks_replacement: AtomicBool::new(false),
            renewal_info_url: Mutex::default(),
        }))
    }

    /// Whether orders that name the certificate they replace are exempt from its limits, as far as is known: Let's Encrypt does so, and
    /// a CA without the extension (RFC 9773) cannot.
    pub(super) fn exempts_replacements(&self) -> bool {
        !self.lacks_replacement.load(Ordering::Relaxed)
    }

    /// Orders a certificate for `name` within the deadline.
    ///
    /// # Cancel safety
    /// When dropped, order and challenge stay in the tables, and the next order of the name goes on with them.
    pub(super) async fn issue(
        &self,
        name: &Pattern,
        order_request: &OrderRequest,
        challenges: &Challenges,
    ) -> Result<Issued, OrderError> {
        let issued = Box::pin(within(self.deadline, self.place(name, order_request, challenges))).await;
        self.end_challenge(name, &issued, challenges).await;
        issued
    }

    /// Removes the challenge of an order that is over. Otherwise the CA may validate yet, or be asked to.
    async fn end_challenge<T>(
        &self,
        name: &Pattern,
        issued: &Result<T, OrderError>,
        challenges: &Challenges,
    ) {
        let is_over = issued.as_ref().err().is_none_or(OrderError::ends_order);
        match name {
            Pattern::Exact(name) if is_over => challenges.close(&self.issuer, name).await,
            Pattern::Exact(name) => challenges.leave(name),
            Pattern::Wildcard(_) if is_over => challenges.close_dns(&self.issuer, name).await,
            // The record stays, and stays ours: it is removed with the order, which is gone on with.
            Pattern::Wildcard(_) => {}
        }
    }
}

/// What `order` has come to, at the latest after `deadline`.
async fn within<T>(
    deadline: Duration,
    order: impl Future<Output = Result<T, OrderError>>,
) -> Result<T, OrderError> {
    let ended = async {
        let ended = tokio::time::timeout(deadline, order).await;
        ended.unwrap_or_else(|_| Err(OrderError::Slow { awaiting: http::awaited() }))
    };
    http::within_order(ended).await
}

impl OrderError {
    /// Whether going on with the order would lead to the same; one that the CA is slow to answer before its finalization may be stuck.
    pub(super) fn ends_order(&self) -> bool {
        match self {
            Self::Unusable { .. } | Self::Invalid { .. } | Self::Slow { awaiting: Awaited::Ca } => true,
            Self::Refused(problem) => problem.is_of_the_request(),
            _ => false,
        }
    }

    /// When the CA may be asked again, if it says so.
    pub(super) fn retry_after(&self) -> Option<SystemTime> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            Self::Unreachable { retry_after, .. }
            | Self::Unavailable { retry_after, .. }
            | Self::Malformed { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether it is a limit (RFC 8555 §6.6, RFC 6585 §4), whose date the CA has reckoned; a server that fails has guessed it at most.
    pub(super) fn is_limit(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_of_kind(RATE_LIMITED) || refusal.status == Some(429),
            Self::Unavailable { status, .. } => *status == hyper::StatusCode::TOO_MANY_REQUESTS,
            Self::Malformed { status, .. } => *status == Some(429),
            _ => false,
        }
    }

    /// Whether the CA knows nothing of what was asked for, or refuses it for what it is.
    fn denies_the_resource(&self) -> bool {
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
const BAD_NONCE: &str = "urn:ietf:params:acme:error:badNonce";
const FORGOTTEN: &str = "urn:ietf:params:acme:error:accountDoesNotExist";
const UNAUTHORIZED: &str = "urn:ietf:params:acme:error:unauthorized";
const MALFORMED: &str = "urn:ietf:params:acme:error:malformed";
const RATE_LIMITED: &str = "urn:ietf:params:acme:error:rateLimited";
const SERVER_INTERNAL: &str = "urn:ietf:params:acme:error:serverInternal";
const EXTERNAL_ACCOUNT_REQUIRED: &str = "urn:ietf:params:acme:error:externalAccountRequired";
/// In characters. The longest that a CA needs is that of a limit, with a link to its explanation.
const MOST_SAID: usize = 500;
