//! Placing an order under the lease, keeping what came of it.

use std::{
    error::Error as _,
    time::{Duration, Instant, SystemTime},
};

use tracing::{info, warn};

use super::{OrderFailure, Run, record_of};
use crate::{
    certificates::{
        Inner, Issuer,
        acme::{Issued, OrderError, Prefer},
        choice::Candidate,
        metrics::{Leased, Ordered},
        pair::{Pair, PairError},
        step::{Errand, Progress, Reading, retry_at},
    },
    domains::{Site, Source},
    name::{Pattern, ServerName},
    store::{
        StoreError,
        budget::{Budget, Spend},
        certificate_table::{self, Commit, Lock, Metadata, Record},
        instant::Micros,
    },
};

impl Run<'_> {
    /// The CA's limits, kept by the fleet: orders per account, certificates per registered domain.
    pub(super) async fn spend(&mut self, issuer: usize) -> Result<(), StoreError> {
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
            Errand::Renew => config.orders_per_hour - config.orders_per_hour / 4,
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
    pub(super) async fn order(&mut self, index: usize) {
        let Some(issuer) = self.inner.issuers.get(index) else { return };
        let began = Instant::now();
        let ordered = {
            let order = issue(self.inner, issuer, &self.goal.name, self.prefer());
            let keep = keep_lease(self.inner, self.lock.as_ref());
            tokio::select! { ordered = order => ordered, never = keep => match never {} }
        };
        let seconds = began.elapsed().as_secs_f64();
        self.inner.metrics.order_seconds.observe(issuer.kind(), seconds);
        match ordered {
            Ok((obtained, pair)) => {
                self.inner.metrics.orders.bump(Ordered::Issue);
                info!(server_name = %self.goal.name, issuer = issuer.name(), seconds, "certificate issued");
                self.obtained = Some((index, obtained, pair));
                self.seen.progress = Progress::Obtained;
            }
            Err(error) => {
                self.inner.metrics.orders.bump(outcome_of(&error));
                let cause = error.source().map(ToString::to_string);
                warn!(server_name = %self.goal.name, issuer = issuer.name(), seconds, %error, cause, "order failed");
                self.failure =
                    Some(OrderFailure { problem: error.to_string(), retry_after: error.retry_after() });
                self.seen.pass_on(true);
            }
        }
    }

    fn prefer(&self) -> Prefer {
        let failures = self.shelf.record.as_ref().map_or(0, |record| record.failures);
        prefer(failures, self.site.as_deref(), Micros::of(SystemTime::now()))
    }

    pub(super) async fn commit(&mut self) -> Result<(), StoreError> {
        let Some((index, obtained, pair)) = self.obtained.take() else { return Ok(()) };
        let Some(issuer) = self.inner.issuers.get(index) else { return Ok(()) };
        match self.put(issuer, &obtained, &pair).await {
            Ok(()) => {
                self.seen.reading =
                    Some(Reading { certificate: Some(pair.life), retry_at: None, under_lease: true });
                self.seen.progress = Progress::Ordering { failed: false };
                let pattern = Pattern::Exact(self.goal.name.clone());
                self.best = Some(Candidate { pair, issuer: issuer.key().clone(), pattern });
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

    /// In the place of what was read under the lease, unknown metadata kept.
    async fn put(&self, issuer: &Issuer, obtained: &Issued, pair: &Pair) -> Result<(), StoreError> {
        let (name, key) = (&self.goal.name, issuer.key());
        let exact = Pattern::Exact(name.clone());
        let place = self.shelf.stored.iter().find(|stored| stored.issuer == *key && stored.pattern == exact);
        let metadata = place.and_then(|place| place.metadata.as_ref()?.as_ref().ok());
        let metadata = metadata.map_or_else(Metadata::default, |text| Metadata::read(text));
        let record = Record {
            directory: issuer.directory().to_owned(),
            account: obtained.account.clone(),
            ..record_of(name, key.as_str(), pair)
        };
        let commit = Commit {
            issuer: key,
            chain: obtained.chain.as_bytes(),
            key: obtained.key.as_bytes(),
            metadata: &metadata.renewed(&[name.to_string()], obtained.url.as_deref()),
            replaced: place.and_then(|place| place.seen.as_ref()),
            record: &record,
        };
        commit_patiently(self.inner, &commit).await
    }

    pub(super) async fn record_failure(&mut self) -> Result<(), StoreError> {
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
        certificate_table::put_failure(&self.inner.store, &record).await
    }
}

/// A failed validation counts against the CA's limits, so the other challenge is for the next attempt, not for this one; and
/// every instance's guard must know the name to let the CA through.
fn prefer(failures: u32, site: Option<&Site>, now: Micros) -> Prefer {
    let is_known_everywhere = site.is_some_and(|site| match site.source {
        Source::Static => true,
        // An entry made by hand is in no feed.
        Source::Table => {
            site.changed_at_micros > 0 && Micros::from_epoch(site.changed_at_micros) <= now.less(FEED_DELAY)
        }
        // Other instances have not asked for it.
        Source::Ask => false,
    });
    if failures % 2 == 1 && is_known_everywhere { Prefer::TlsAlpn } else { Prefer::Http }
}

async fn issue(
    inner: &Inner,
    issuer: &Issuer,
    name: &ServerName,
    prefer: Prefer,
) -> Result<(Issued, Pair), OrderError> {
    let obtained = match issuer {
        Issuer::Acme(acme) => Box::pin(acme.issue(name, prefer, &inner.challenges)).await?,
        Issuer::Internal(internal) => internal.issue(name, SystemTime::now())?,
    };
    let pair = Pair::read(obtained.chain.as_bytes(), obtained.key.as_bytes(), &Pattern::Exact(name.clone()));
    let unusable = |error: PairError| OrderError::Refused { problem: error.to_string(), retry_after: None };
    Ok((obtained, pair.map_err(unusable)?))
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

fn outcome_of(error: &OrderError) -> Ordered {
    match error {
        OrderError::Refused { .. } | OrderError::BadNonce | OrderError::NoChallenge => Ordered::Refuse,
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

/// How long a change may take to reach every instance.
const FEED_DELAY: Duration = Duration::from_secs(15);
const COMMIT_ATTEMPTS: u32 = 5;
const COMMIT_PAUSE: Duration = Duration::from_millis(500);
const WEEK_HOURS: u64 = 7 * 24;
const MAX_PROBLEM: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ca_is_let_in_by_tls_only_where_every_guard_knows_the_name() {
        let now = Micros::from_epoch(100_000_000);
        for (source, changed_at_micros, failures, expected) in [
            (Source::Static, 0, 0, Prefer::Http),
            (Source::Static, 0, 1, Prefer::TlsAlpn),
            (Source::Static, 0, 2, Prefer::Http),
            (Source::Table, 85_000_000, 1, Prefer::TlsAlpn),
            (Source::Table, 85_000_001, 1, Prefer::Http),
            (Source::Table, 0, 1, Prefer::Http),
            (Source::Ask, 0, 1, Prefer::Http),
        ] {
            let pattern = Pattern::parse("a.example").unwrap();
            let site =
                Site { pattern, target: None, tenant: "t".into(), source, version: 1, changed_at_micros };
            assert_eq!(
                prefer(failures, Some(&site), now),
                expected,
                "{source:?} {changed_at_micros} {failures}"
            );
        }
        assert_eq!(prefer(1, None, now), Prefer::Http);
    }

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
