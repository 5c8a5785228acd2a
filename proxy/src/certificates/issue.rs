//! The shell around [`Goal::next`]: takes its steps, and tells it what was seen.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tracing::{info, warn};

use super::{
    Inner, Issuer, Refusal, Slot,
    acme::{Issued, OrderError, Prefer},
    choice::{Candidate, Choice, choose},
    metrics::{IssuerKind, Leased, Ordered, Sought},
    pair::{Pair, PairError},
    step::{Errand, Goal, Lease, Progress, Reading, Seen, Standing, Step, retry_at},
};
use crate::{
    domains::{Permission, Site},
    name::{Pattern, ServerName},
    store::{
        StoreError,
        budget::{Budget, Spend},
        certificate_table::{self, Commit, Lock, Metadata, Record, Shelf, Taking},
        instant::Micros,
    },
};

/// Obtains, loads or renews the certificate of `name`.
pub(super) async fn run(inner: &Inner, name: &ServerName, errand: Errand) -> Result<Arc<Slot>, Refusal> {
    let goal = Goal {
        name: name.clone(),
        errand,
        issuers: inner.issuers.len(),
        give_up_at: SystemTime::now() + *inner.config.order_deadline,
    };
    let mut run = Run {
        inner,
        goal,
        seen: Seen::nothing(),
        lock: None,
        shelf: Shelf::default(),
        best: None,
        site: None,
        failure: None,
        issued: None,
    };
    let ended = run.drive().await;
    if let Some(lock) = run.lock.take()
        && let Err(error) = lock.release(&inner.store).await
    {
        warn!(server_name = %name, %error, "lease was not given up; it ends by itself");
    }
    ended
}

/// What is at hand between two steps.
struct Run<'a> {
    inner: &'a Inner,
    goal: Goal,
    seen: Seen,
    lock: Option<Lock>,
    shelf: Shelf,
    best: Option<Candidate>,
    site: Option<Arc<Site>>,
    failure: Option<OrderFailure>,
    issued: Option<(usize, Issued, Pair)>,
}

struct OrderFailure {
    problem: String,
    retry_after: Option<SystemTime>,
}

impl Run<'_> {
    async fn drive(&mut self) -> Result<Arc<Slot>, Refusal> {
        loop {
            match self.goal.next(SystemTime::now(), &self.seen) {
                Step::Serve => return self.serve(),
                Step::Refuse(refusal) => return Err(refusal),
                step => {
                    let name = &self.goal.name.clone();
                    self.take(step).await.map_err(|error| {
                        let error = &error as &dyn std::error::Error;
                        warn!(server_name = %name, error, "the table failed while a certificate was obtained");
                        Refusal::Failed
                    })?;
                }
            }
        }
    }

    async fn take(&mut self, step: Step) -> Result<(), StoreError> {
        match step {
            Step::Read => self.read().await,
            Step::AskPermission => {
                self.ask_permission().await;
                Ok(())
            }
            Step::TakeLease => self.take_lease().await,
            Step::AwaitHolder => {
                tokio::time::sleep(poll_pause(&self.goal.name)).await;
                (self.seen.lease, self.seen.reading) = (Lease::Unasked, None);
                Ok(())
            }
            Step::Spend { issuer } => self.spend(issuer).await,
            Step::Order { issuer } => self.order(issuer).await,
            Step::Commit => self.commit().await,
            Step::RecordFailure => self.record_failure().await,
            Step::Serve | Step::Refuse(_) => Ok(()),
        }
    }

    async fn read(&mut self) -> Result<(), StoreError> {
        let now = SystemTime::now();
        for attempt in 1..=TORN_READS {
            self.inner.metrics.reads.bump(self.sought());
            self.shelf =
                certificate_table::read(&self.inner.store, &self.inner.issuer_keys, &self.goal.name).await?;
            match choose(&self.shelf, now) {
                Choice::Take(best) => {
                    self.best = Some(best);
                    break;
                }
                Choice::Nothing => {
                    self.best = None;
                    break;
                }
                Choice::Torn if attempt < TORN_READS => tokio::time::sleep(TORN_PAUSE).await,
                Choice::Torn => self.best = None,
            }
        }
        self.seen.reading = Some(Reading {
            certificate: self.best.as_ref().map(|best| best.pair.life),
            retry_at: self.shelf.record.as_ref().and_then(|record| record.retry_at),
            under_lease: self.lock.is_some(),
        });
        Ok(())
    }

    fn sought(&self) -> Sought {
        match self.goal.errand {
            Errand::Obtain | Errand::Load => Sought::Certificate,
            Errand::Renew => Sought::Renewal,
        }
    }

    async fn ask_permission(&mut self) {
        let asked = self.inner.domains.permission(&self.goal.name, OURSELVES).await;
        self.seen.standing = Some(match asked {
            Permission::Allow(site) => {
                self.site = Some(site);
                Standing::Allow
            }
            Permission::Deny(_) => Standing::Deny,
            Permission::Unknown(_) => Standing::Unknown,
        });
    }

    async fn take_lease(&mut self) -> Result<(), StoreError> {
        let (inner, now) = (self.inner, SystemTime::now());
        match Lock::take(&inner.store, &self.goal.name, &inner.holder, *inner.config.lease, now).await? {
            Taking::Hold(lock) => {
                inner.metrics.leases.bump(Leased::Hold);
                (self.lock, self.seen.lease) = (Some(lock), Lease::Held);
            }
            Taking::Busy => {
                inner.metrics.leases.bump(Leased::Busy);
                self.seen.lease = Lease::Elsewhere;
            }
        }
        Ok(())
    }

    /// The CA's limits, kept by the fleet: orders per account, certificates per registered domain.
    async fn spend(&mut self, issuer: usize) -> Result<(), StoreError> {
        let Some(Issuer::Acme(acme)) = self.inner.issuers.get(issuer) else {
            self.seen.granted = true;
            return Ok(());
        };
        let (store, config, now) = (&self.inner.store, &self.inner.config, SystemTime::now());
        let domain = registered_domain(&self.goal.name);
        let scope = format!("{}#{domain}", acme.issuer.as_str());
        let certificates =
            Budget { kind: "certificates", scope: &scope, per_hour: config.orders_per_registered_domain };
        // A quarter is left to new names: renewals can wait, a hello cannot.
        let per_hour = match self.goal.errand {
            Errand::Renew => config.orders_per_hour / 4 * 3,
            Errand::Obtain | Errand::Load => config.orders_per_hour,
        };
        let orders = Budget { kind: "orders", scope: acme.issuer.as_str(), per_hour };
        let week = certificates.spent_within(store, WEEK_HOURS, now).await?;
        self.seen.granted = week < config.orders_per_registered_domain
            && orders.spend(store, now).await? == Spend::Grant
            && certificates.spend(store, now).await? == Spend::Grant;
        if !self.seen.granted {
            warn!(server_name = %self.goal.name, registered_domain = domain, issuer = acme.issuer.as_str(), "the CA's limits leave no order now");
            self.seen.pass_on(false);
        }
        Ok(())
    }

    /// The lease is renewed while the order goes on. One that was lost does not end it: the commit tells.
    async fn order(&mut self, index: usize) -> Result<(), StoreError> {
        let Some(issuer) = self.inner.issuers.get(index) else { return Ok(()) };
        let began = Instant::now();
        let ordered = {
            let order = issue(self.inner, issuer, &self.goal.name, self.prefer());
            let keep = keep_lease(self.inner, self.lock.as_ref());
            tokio::select! { ordered = order => ordered, never = keep => match never {} }
        };
        let seconds = began.elapsed().as_secs_f64();
        self.inner.metrics.order_seconds.observe(issuer.kind(), seconds);
        self.inner.metrics.orders.bump(match &ordered {
            Ok(_) => Ordered::Issue,
            Err(error) => outcome_of(error),
        });
        match ordered {
            Ok((issued, pair)) => {
                info!(server_name = %self.goal.name, issuer = issuer.name(), seconds, "certificate issued");
                self.issued = Some((index, issued, pair));
                self.seen.progress = Progress::Obtained;
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                warn!(server_name = %self.goal.name, issuer = issuer.name(), seconds, %error, cause, "order failed");
                self.failure =
                    Some(OrderFailure { problem: error.to_string(), retry_after: error.retry_after() });
                self.seen.pass_on(true);
            }
        }
        Ok(())
    }

    /// A failed validation counts against the CA's limits, so the other challenge is for the next attempt, not for this one; and the
    /// name must be old enough for every instance's guard to let the CA through.
    fn prefer(&self) -> Prefer {
        let failures = self.shelf.record.as_ref().map_or(0, |record| record.failures);
        let changed_at = self.site.as_ref().map_or(0, |site| site.changed_at_micros);
        let is_known_everywhere =
            Micros::of(SystemTime::now()).less(FEED_DELAY) >= Micros::from_epoch(changed_at);
        if failures % 2 == 1 && is_known_everywhere { Prefer::TlsAlpn } else { Prefer::Http }
    }

    async fn commit(&mut self) -> Result<(), StoreError> {
        let Some((index, issued, pair)) = self.issued.take() else { return Ok(()) };
        let Some(issuer) = self.inner.issuers.get(index) else { return Ok(()) };
        let (name, key) = (&self.goal.name, issuer.key());
        let exact = Pattern::Exact(name.clone());
        let place = self.shelf.stored.iter().find(|stored| stored.issuer == *key && stored.pattern == exact);
        let metadata = place
            .and_then(|place| place.metadata.as_ref())
            .map_or_else(Metadata::default, |text| Metadata::read(text));
        let metadata = metadata.renewed(&[name.to_string()], issued.url.as_deref());
        let record = Record {
            directory: issuer.directory().to_owned(),
            account: issued.account,
            ..record_of(name, key.as_str(), &pair)
        };
        let commit = Commit {
            issuer: key,
            chain: issued.chain.as_bytes(),
            key: issued.key.as_bytes(),
            metadata: &metadata,
            replaced: place.and_then(|place| place.seen.as_deref()),
            record: &record,
        };
        match commit_patiently(self.inner, &commit).await {
            Ok(()) => {
                self.seen.reading =
                    Some(Reading { certificate: Some(pair.life), retry_at: None, under_lease: true });
                self.seen.progress = Progress::Ordering { failed: false };
                self.best = Some(Candidate { pair, issuer: key.clone(), pattern: exact });
                Ok(())
            }
            Err(StoreError::Conflict) => {
                self.inner.metrics.orders.bump(Ordered::Overtaken);
                (self.seen.progress, self.seen.reading) = (Progress::Overtaken, None);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn record_failure(&mut self) -> Result<(), StoreError> {
        let now = SystemTime::now();
        let mut record = self.shelf.record.clone().unwrap_or_else(|| Record::new(&self.goal.name));
        let failure = self.failure.take();
        record.failures = record.failures.saturating_add(1);
        let at = retry_at(now, record.failures, failure.as_ref().and_then(|failure| failure.retry_after));
        record.retry_at = Some(at);
        record.problem =
            failure.map(|failure| failure.problem.chars().take(MAX_PROBLEM).collect()).unwrap_or_default();
        self.seen.progress = Progress::Recorded;
        let retry_in = at.duration_since(now).unwrap_or_default();
        warn!(server_name = %self.goal.name, failures = record.failures, ?retry_in, "no issuer gave a certificate");
        certificate_table::put_record(&self.inner.store, &record).await
    }

    fn serve(&mut self) -> Result<Arc<Slot>, Refusal> {
        let best = self.best.take().ok_or(Refusal::Failed)?;
        let renew_at = best.pair.life.renew_at(&self.goal.name);
        let is_exact = best.pattern == Pattern::Exact(self.goal.name.clone());
        let is_recorded = self.shelf.record.as_ref().is_some_and(|record| record.serial == best.pair.serial)
            || self.lock.is_some();
        if is_exact && !is_recorded {
            self.adopt(&best);
        }
        Ok(self.inner.cache.keep(&best, renew_at))
    }

    /// A certificate without a fresh record of ours, Caddy's for instance, gets one, so that its renewal is found.
    fn adopt(&self, best: &Candidate) {
        let issuer = self.inner.issuers.iter().find(|issuer| *issuer.key() == best.issuer);
        let record = Record {
            directory: issuer.map(Issuer::directory).unwrap_or_default().to_owned(),
            ..record_of(&self.goal.name, best.issuer.as_str(), &best.pair)
        };
        let store = self.inner.store.clone();
        self.inner.control.spawn(async move {
            if let Err(error) = certificate_table::put_record(&store, &record).await {
                warn!(server_name = %record.name, %error, "certificate's renewal was not recorded; its next loading tries again");
            }
        });
    }
}

async fn issue(
    inner: &Inner,
    issuer: &Issuer,
    name: &ServerName,
    prefer: Prefer,
) -> Result<(Issued, Pair), OrderError> {
    let issued = match issuer {
        Issuer::Acme(acme) => acme.issue(name, prefer, &inner.challenges).await?,
        Issuer::Internal(internal) => internal.issue(name, SystemTime::now())?,
    };
    let pair = Pair::read(issued.chain.as_bytes(), issued.key.as_bytes(), &Pattern::Exact(name.clone()));
    let unusable = |error: PairError| OrderError::Refused { problem: error.to_string(), retry_after: None };
    Ok((issued, pair.map_err(unusable)?))
}

/// Never ends: it goes with the order.
async fn keep_lease(inner: &Inner, lock: Option<&Lock>) -> std::convert::Infallible {
    let life = *inner.config.lease;
    let mut is_held = true;
    loop {
        tokio::time::sleep(life / 3).await;
        let Some(lock) = lock.filter(|_| is_held) else { continue };
        // A store that does not answer now may answer before the lease ends.
        if let Ok(false) = lock.renew(&inner.store, life, SystemTime::now()).await {
            is_held = false;
            inner.metrics.leases.bump(Leased::Lost);
        }
    }
}

/// A certificate that was paid for is not given up at the first failure of the table.
async fn commit_patiently(inner: &Inner, commit: &Commit<'_>) -> Result<(), StoreError> {
    let mut pause = COMMIT_PAUSE;
    for _ in 1..COMMIT_ATTEMPTS {
        match certificate_table::commit(&inner.store, commit, SystemTime::now()).await {
            Err(StoreError::Unavailable(_)) => tokio::time::sleep(pause).await,
            ended => return ended,
        }
        pause *= 2;
    }
    certificate_table::commit(&inner.store, commit, SystemTime::now()).await
}

fn record_of(name: &ServerName, issuer: &str, pair: &Pair) -> Record {
    Record {
        issuer: issuer.to_owned(),
        serial: pair.serial.clone(),
        not_after: Some(pair.life.not_after),
        renew_at: Some(pair.life.renew_at(name)),
        ..Record::new(name)
    }
}

fn outcome_of(error: &OrderError) -> Ordered {
    match error {
        OrderError::Refused { .. } | OrderError::NoChallenge => Ordered::Refuse,
        OrderError::Invalid { .. } => Ordered::Invalid,
        OrderError::Unreachable(_) => Ordered::Unreachable,
        OrderError::Slow => Ordered::Slow,
        OrderError::Store(_) | OrderError::Key(_) => Ordered::Internal,
    }
}

/// What the CA counts certificates by (publicsuffix.org).
fn registered_domain(name: &ServerName) -> &str {
    psl::domain_str(name.as_str()).unwrap_or(name.as_str())
}

/// Short, so that a handshake that waits for another instance's order waits little longer; spread by name.
fn poll_pause(name: &ServerName) -> Duration {
    let spread = name.as_str().bytes().fold(0_u64, |sum, byte| sum + u64::from(byte)) % 100;
    Duration::from_millis(200 + spread)
}

impl Issuer {
    fn kind(&self) -> IssuerKind {
        match self {
            Self::Acme(_) => IssuerKind::Acme,
            Self::Internal(_) => IssuerKind::Internal,
        }
    }

    fn name(&self) -> &str {
        self.key().as_str()
    }

    fn directory(&self) -> &str {
        match self {
            Self::Acme(acme) => &acme.directory,
            Self::Internal(_) => "",
        }
    }
}

/// Whose look-ups these are, to the budgets of `domains`.
const OURSELVES: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// How long a change may take to reach every instance.
const FEED_DELAY: Duration = Duration::from_secs(15);
/// Caddy writes chain and key one after the other.
const TORN_READS: u32 = 3;
const TORN_PAUSE: Duration = Duration::from_millis(100);
const COMMIT_ATTEMPTS: u32 = 5;
const COMMIT_PAUSE: Duration = Duration::from_millis(500);
const WEEK_HOURS: u64 = 7 * 24;
const MAX_PROBLEM: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_under_what_is_registered() {
        for (name, domain) in [
            ("a.b.example.com", "example.com"),
            ("shop.example.co.uk", "example.co.uk"),
            ("me.github.io", "me.github.io"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(registered_domain(&ServerName::parse(name).unwrap()), domain);
        }
    }
}
