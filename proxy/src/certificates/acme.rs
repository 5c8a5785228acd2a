//! An ACME certificate authority (RFC 8555): account and orders, over our own HTTP client.
//! Not here: when an order is placed, and by which instance.
//! Invariants: a challenge is shown before the CA is asked to validate it, and as long as the order can be gone on with
//! (`a_record_stays_as_long_as_its_order_can_be_gone_on_with`); the fleet has one account (`the_first_account_key_is_the_fleets`).

mod account;
mod chain;
mod directory;
mod error;
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
    time::Duration,
};

use arc_swap::ArcSwapOption;
pub use directory::{IssuerDirectory, IssuerDirectoryError, issuer_directory};
use error::{
    Awaited, BAD_NONCE, FORGOTTEN, MALFORMED, RATE_LIMITED, RefusalSubject, SERVER_INTERNAL, UNAUTHORIZED,
};
pub(super) use error::{OrderError, brief};
pub use external_account::ExternalAccountKeyError;
pub(super) use fault::AcmeFault;
use instant_acme::{Account, CertificateIdentifier};
pub(super) use renewal_info::{CaAdvice, CaAdviceError};
pub use revocation::RevocationError;
use tokio::sync::Mutex;

use self::external_account::ExternalAccount;
use super::challenges::Challenges;
use crate::{
    config,
    name::Pattern,
    store::{PrivateKeyPem, Store, certificate_table::IssuerKey, state_table::OpenOrder},
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
#[derive(Debug)]
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
    /// One that was placed with this CA before and has no certificate yet.
    pub(super) open: Option<OpenOrder>,
    /// The URL of what the table holds as that, whether or not it can be gone on with.
    pub(super) recorded: Option<String>,
    /// What becomes known of the order.
    pub(super) placed: PlacedUrl,
    /// Whether the CA was sent a new order, which it counts, whatever it answered.
    pub(super) is_sent: Arc<AtomicBool>,
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
