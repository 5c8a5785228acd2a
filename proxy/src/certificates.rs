//! From a server name to a certificate and key that rustls can present: cache, single flight, issuance, renewal, challenges.
//! Not here: whether a name may be served (`domains`), how items are stored (`store`).
//! Invariants: an order is placed only under the name's lease (`order_without_lease_is_refused`), and only once among all instances
//! (`fifty_hellos_on_two_instances_make_one_certificate`); serving never waits for a renewal, since a handshake has its own call; waiters
//! are bounded (`waiters_are_bounded_per_key_and_in_total`); an order goes on when its handshake ends
//! (`the_order_outlives_the_handshake`); no certificate is presented for more than a minute after it left the table
//! (`a_certificate_replaced_in_the_table_is_presented_within_a_minute`); no state of the table leads to a second order within the
//! back-off (`a_table_that_takes_no_commit_costs_no_third_order`).
//!
//! ```text
//! obtain -> wait for the name's call -> [ Goal::next -> one step -> what was seen ]* -> slot
//! ```
//! The call is a task of the control runtime (`issue`); its decisions are pure (`step`, `choice`, `failure`).

mod acme;
mod cache;
pub mod caddy;
mod call;
mod challenges;
mod choice;
mod failure;
mod follow;
mod hourly;
mod internal;
mod issue;
mod issuer;
mod key;
mod keyed_chain;
pub mod listing;
mod local_copy;
mod metrics;
mod on_request;
mod order_permits;
pub mod own;
mod renewal;
mod revocation_reason;
mod slot;
pub mod spread;
mod step;
mod wildcard;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use prometheus::Registry;
use rustls::sign::CertifiedKey;
use tokio::{runtime::Handle, sync::watch, task::JoinHandle};

pub use acme::{
    AcmeError, ExternalAccountKeyError, IssuerDirectory, IssuerDirectoryError, RevocationError,
    issuer_directory, probe,
};
pub use challenges::ChallengeToken;
pub(crate) use challenges::probe_challenge_record;
pub use internal::{InternalError, Root};
pub use keyed_chain::{Presented, presented};
pub use local_copy::HeldCertificate;
pub use on_request::{OnRequest, OnRequestError, Ordered, Remaining, Revoked};
pub use revocation_reason::{NoRevocationReason, RevocationReason};
pub use slot::{Certificate, Slot};
pub use wildcard::order_subject;

use crate::{
    clock, config,
    domains::{Caller, Domains, Permission},
    name::{Pattern, ServerName},
    single_flight::SingleFlight,
    store::{Store, certificate_table::IssuerKey, state_table::OwnCertificates},
};
use cache::{Cache, KeyRetention};
use challenges::{Challenges, DnsChallenges};
use hourly::Hourly;
use issue::SpentBudgets;
use issuer::{Issuer, issuers};
use metrics::{CertificateMetrics, OrderBudget, WaitEnd};
use order_permits::OrderPermits;
use step::Purpose;

/// Why there is no certificate for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateRefusal {
    /// Permission was denied.
    #[error("the name is not allowed")]
    Denied,
    /// Permission is unknown and the table holds no valid certificate.
    #[error("it is not known now whether the name is allowed")]
    Unknown,
    /// Too many handshakes wait already.
    #[error("too many handshakes wait for certificates")]
    Busy,
    /// The order did not end within the wait.
    #[error("the certificate was not ready in time")]
    Slow,
    /// The last order failed, and its back-off lasts.
    #[error("the last order failed; the next is tried later")]
    BackingOff,
    /// The order failed.
    #[error("no certificate could be obtained")]
    Failed,
}

/// Why the process cannot obtain certificates at all.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesStartError {
    /// A CA.
    #[error(transparent)]
    Acme(#[from] AcmeError),
    /// The internal issuer.
    #[error(transparent)]
    Internal(#[from] InternalError),
    /// A metric is registered already.
    #[error("metrics of `certificates` cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

/// Certificates of the process; cheap to clone, callable from any runtime.
#[derive(Clone)]
pub struct Certificates {
    inner: Arc<CertificatesInner>,
    _tasks: Arc<Tasks>,
}

/// The name whose certificate is wanted, and the purpose.
type CertificateCall = (Pattern, Purpose);
/// The outcome of a call for a certificate.
type CallOutcome = Result<Arc<Slot>, CertificateRefusal>;

struct CertificatesInner {
    config: config::CertificatesConfig,
    store: Store,
    domains: Domains,
    control: Handle,
    issuers: Vec<Issuer>,
    issuer_keys: Vec<IssuerKey>,
    /// The operator's own certificates, as the list was last read.
    own: ArcSwap<OwnCertificates>,
    root: Option<Root>,
    cache: Cache,
    /// Orders and table reads in progress.
    in_flight: Arc<SingleFlight<CertificateCall, CallOutcome>>,
    order_permits: OrderPermits,
    challenges: Challenges,
    /// Recent refusals, so that clients that come again at once cost nothing.
    refusals: moka::sync::Cache<CertificateCall, CertificateRefusal>,
    /// Back-offs that could not be written: until when nothing is ordered for a name.
    unrecorded: moka::sync::Cache<Pattern, SystemTime>,
    warned: Hourly,
    /// Budgets of orders that were found spent a moment ago, and until when.
    spent: SpentBudgets,
    metrics: CertificateMetrics,
    /// Whether the process ends; each call holds a receiver until its lease is released.
    closing: watch::Sender<bool>,
}

/// Tasks that run until the last clone is dropped.
struct Tasks(Vec<JoinHandle<()>>);

/// Registers this room's metrics for a list of all.
pub(crate) fn declare_metrics(registry: &Registry) -> Result<(), prometheus::Error> {
    CertificateMetrics::register(registry).map(drop)
}

impl Certificates {
    /// Prepares the issuers and begins to renew, on `control`. Loads no certificate.
    pub fn start(
        config: &config::Config,
        store: &Store,
        domains: &Domains,
        control: &Handle,
        registry: &Registry,
    ) -> Result<Self, CertificatesStartError> {
        let certificates = &config.certificates;
        let (issuers, root) = issuers(certificates, store, &config.state_directory)?;
        let issuer_keys = listing::issuer_keys(certificates);
        let metrics = CertificateMetrics::register(registry)?;
        let keys = if config.store.local_copy.is_some() { KeyRetention::On } else { KeyRetention::Off };
        for (budget, most) in [
            (OrderBudget::Orders, certificates.orders_per_three_hours),
            (OrderBudget::Renewals, certificates.renewals_per_hour),
        ] {
            metrics.budget_left.set(budget, i64::try_from(most).unwrap_or(i64::MAX));
        }
        let is_asked = |issuer: &&IssuerKey| **issuer != IssuerKey::own();
        let inner = Arc::new(CertificatesInner {
            store: store.clone(),
            domains: domains.clone(),
            control: control.clone(),
            cache: Cache::new(certificates.cached, keys),
            in_flight: Arc::new(SingleFlight::new(certificates.waiters_per_name, certificates.waiters)),
            order_permits: OrderPermits::new(
                certificates.concurrent_orders,
                certificates.waiters,
                metrics.calls.orders_waiting.clone(),
            ),
            challenges: Challenges::new(
                store,
                issuer_keys.iter().filter(is_asked).cloned(),
                metrics.reads.clone(),
                DnsChallenges::new(certificates),
            ),
            own: ArcSwap::default(),
            refusals: remembering(REFUSED_FOR),
            unrecorded: remembering(FORGOTTEN_AFTER),
            warned: Hourly::default(),
            spent: remembering(SPENT_FOR),
            closing: watch::Sender::new(false),
            metrics,
            config: certificates.clone(),
            issuers,
            issuer_keys,
            root,
        });
        let tasks = Arc::new(Tasks::spawn(&inner));
        Ok(Self { inner, _tasks: tasks })
    }

    /// The internal issuer's root, if it issues.
    #[must_use]
    pub fn internal_root(&self) -> Option<&Root> {
        self.inner.root.as_ref()
    }

    /// What the process cache holds for `name`: exact, else the wildcard that covers it unless the operator has brought one of the
    /// exact name; only what is valid. Never waits.
    #[must_use]
    pub fn cached(&self, name: &ServerName) -> Option<Arc<Slot>> {
        let now = clock::wall();
        if self.inner.has_own(name, now) {
            return self.inner.cache.find_exact(&Pattern::Exact(name.clone()), now);
        }
        self.inner.cache.find(name, now)
    }

    /// Drops certificates that nobody has asked for lately from memory, until some `bytes` are free. They are read again when somebody does.
    pub fn release(&self, bytes: u64) {
        let released = self.inner.cache.release(bytes, clock::wall());
        self.inner.metrics.held.released.inc_by(u64::try_from(released).unwrap_or_default());
    }

    /// Cache, then table, then an order, as far as `permission` allows. A certificate in memory that is to be confirmed is waited for a second,
    /// an order for `certificates.wait`, and before that, below a listed wildcard, one of the name itself for as long. `from` is the client
    /// on whose budget the table is read while permission is unknown.
    ///
    /// # Cancel safety
    /// The order continues when the handshake that started it has ended.
    pub async fn obtain(
        &self,
        name: &ServerName,
        permission: &Permission,
        from: IpAddr,
    ) -> Result<Arc<Slot>, CertificateRefusal> {
        let purpose = match permission {
            Permission::Allow(_) => Purpose::Obtain,
            Permission::Unknown(_) => Purpose::Load,
            Permission::Deny(_) => return Err(CertificateRefusal::Denied),
        };
        if let Some(slot) = self.cached(name) {
            return Ok(slot);
        }
        if let Some(slot) = self.confirmed(name).await {
            return Ok(slot);
        }
        if !permission.allows_reads() {
            return Err(CertificateRefusal::Unknown);
        }
        let subject = self.inner.subject(name);
        // Under a wildcard, clients can make up names, each a read of the table: not beyond the budget of look-ups.
        if matches!(subject, Pattern::Exact(_))
            && permission.is_of_wildcard()
            && !self.inner.domains.has_lookup_left(Caller::Client(from))
        {
            return Err(CertificateRefusal::Unknown);
        }
        let began = clock::now();
        let outcome = match &subject {
            Pattern::Exact(_) => self.inner.wait(&subject, purpose, from).await,
            Pattern::Wildcard(_) => self.inner.wait_for_wildcard(name, &subject, purpose, from).await,
        };
        // A call for another purpose may have obtained one meanwhile; then it is presented.
        let outcome = match outcome {
            Err(refusal) if refusal != CertificateRefusal::Denied => self.cached(name).ok_or(refusal),
            outcome => outcome,
        };
        self.inner.metrics.calls.obtain_seconds.observe(began.elapsed().as_secs_f64());
        self.inner.metrics.calls.obtained.bump(WaitEnd::of(&outcome));
        outcome
    }

    /// Serial number, hexadecimal, of what is presented for `name` from memory.
    #[must_use]
    pub fn presented_serial(&self, name: &Pattern) -> Option<String> {
        let now = clock::wall();
        let slot = match name {
            Pattern::Exact(name) => self.cached(name),
            Pattern::Wildcard(_) => self.inner.cache.find_exact(name, now),
        };
        let certificate = slot?.current(now)?;
        keyed_chain::serial(certificate.key.cert.first()?)
    }

    /// For a certificate that nobody has asked for recently: the table is asked whether it still holds it, for a limited time.
    async fn confirmed(&self, name: &ServerName) -> Option<Arc<Slot>> {
        let now = clock::wall();
        let held = self.inner.cache.unconfirmed_of(name, now)?;
        // Other handshakes present it meanwhile, and all do if the table does not answer.
        held.slot.confirm(now);
        let inner = Arc::clone(&self.inner);
        let asked = self.inner.control.spawn(async move { follow::confirm(&inner, &[held], now).await });
        let _ = tokio::time::timeout(CONFIRM_WAIT, asked).await;
        self.cached(name)
    }

    /// What a certificate for `name` is ordered for: itself, or the wildcard above it that the settings list.
    #[must_use]
    pub fn order_subject(&self, name: &Pattern) -> Pattern {
        self.inner.subject_of(name)
    }

    /// Forgets what this instance alone remembers of failed orders for `name`, so that the next handshake orders.
    pub fn forget_failures(&self, name: &Pattern) {
        self.inner.unrecorded.invalidate(name);
        for purpose in Purpose::ALL {
            self.inner.refusals.invalidate(&(name.clone(), purpose));
        }
    }

    /// Ends the calls in flight, since the process ends: they may go on for `grace`; then they are given up and release their leases,
    /// so that another instance orders at once.
    pub async fn close(&self, grace: Duration) {
        if tokio::time::timeout(grace, self.inner.closing.closed()).await.is_err() {
            self.inner.closing.send_replace(true);
            let _ = tokio::time::timeout(RELEASE_WAIT, self.inner.closing.closed()).await;
        }
    }

    /// Stops presenting the certificate of `pattern`: permission was withdrawn.
    pub fn withdraw(&self, pattern: &Pattern) {
        let _ = self.inner.cache.withdraw(pattern);
    }

    /// The certificate that answers a tls-alpn-01 validation of `name` (RFC 8737 §3), from memory or the table.
    ///
    /// `permission` is the name's; `from` is who validates, on whose budget a table is read for what the fleet does not show.
    pub async fn tls_alpn_answer(
        &self,
        name: &ServerName,
        permission: &Permission,
        from: IpAddr,
    ) -> Option<Arc<CertifiedKey>> {
        if let Permission::Deny(_) = permission {
            return None;
        }
        let (inner, name, permission) = (Arc::clone(&self.inner), name.clone(), permission.clone());
        let answer = self.inner.control.spawn(async move {
            let admit = || inner.domains.admits_challenge(&permission, from);
            inner.challenges.tls_alpn_answer(&name, admit).await
        });
        answer.await.ok().flatten()
    }

    /// The key authorization that answers an http-01 validation (RFC 8555 §8.3), from memory or the table.
    ///
    /// `permission` is the name's; `from` is who validates, on whose budget a table is read for what the fleet does not show.
    pub async fn http_answer(
        &self,
        name: &ServerName,
        permission: &Permission,
        token: &ChallengeToken,
        from: IpAddr,
    ) -> Option<String> {
        if let Permission::Deny(_) = permission {
            return None;
        }
        let (inner, name, permission, token) =
            (Arc::clone(&self.inner), name.clone(), permission.clone(), token.clone());
        let answer = self.inner.control.spawn(async move {
            let admit = || inner.domains.admits_challenge(&permission, from);
            inner.challenges.http_answer(&name, token.as_str(), admit).await
        });
        answer.await.ok().flatten()
    }
}

impl Tasks {
    fn spawn(inner: &Arc<CertificatesInner>) -> Self {
        let issuers = inner.issuers.iter().filter_map(Issuer::acme).cloned();
        let checks = issuers.map(|acme| inner.control.spawn(async move { acme.check_account_key().await }));
        let lasting = [
            inner.control.spawn(renewal::renew(Arc::clone(inner))),
            inner.control.spawn(renewal::ask(Arc::clone(inner))),
            inner.control.spawn(renewal::measure(Arc::clone(inner))),
            inner.control.spawn(renewal::withdraw(Arc::clone(inner))),
            inner.control.spawn(follow::follow(Arc::clone(inner))),
        ];
        Self(checks.chain(lasting).collect())
    }
}

/// Something remembered for a while, for a bounded number of subjects, since untrusted clients can cause them.
fn remembering<K, V>(life: Duration) -> moka::sync::Cache<K, V>
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    moka::sync::Cache::builder().max_capacity(REMEMBERED).time_to_live(life).build()
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// How long the release of leases may take at the end of the process.
const RELEASE_WAIT: Duration = Duration::from_secs(2);
/// How long a handshake waits for the table to confirm what is in memory.
const CONFIRM_WAIT: Duration = Duration::from_secs(1);
const REMEMBERED: u64 = 10_000;
const FORGOTTEN_AFTER: Duration = Duration::from_hours(1);
/// Settings may grow meanwhile.
const SPENT_FOR: Duration = Duration::from_mins(1);
const REFUSED_FOR: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
