//! Places an order under the lease, and commits its result.

use std::{
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use instant_acme::CertificateIdentifier;
use tracing::{info, warn};

use super::{
    Charge, Granted, Run,
    budgets::{ChargedFor, Counted, Draw, registered_domain, site_of},
    record_of, warn_of, watched,
};
use crate::{
    backoff::Backoff,
    certificates::{
        CertificatesInner,
        acme::{Acme, AcmeFault, Issued, OrderError, OrderRequest, PlacedUrl, Prefer, Replaced, brief},
        choice::Candidate,
        failure::{self, OrderFailure, OrderFault},
        issuer::Issuer,
        keyed_chain::{KeyedChain, KeyedChainError},
        metrics::{Leased, Ordered},
        step::{Grant, Obtained, OrderProgress, Purpose},
    },
    clock,
    domains::{DomainEntry, PermissionSource},
    name::Pattern,
    store::{
        StoreError,
        certificate_table::{self, CertificateMetadata, Commit, Lock},
        instant::Micros,
        state_table::{self, OpenOrder, OrderRecord},
    },
};

impl Run<'_> {
    /// Whether the issuer may be asked: it is not paused, and the fleet's budgets allow an order.
    pub(super) async fn spend(&mut self, issuer: usize) -> Result<(), StoreError> {
        let inner = self.inner;
        let Some(asked @ Issuer::Acme(acme)) = inner.issuers.get(issuer) else {
            self.seen.grant = Some(Grant::default());
            return Ok(());
        };
        let (now, is_paid) = (clock::wall(), self.charge.paid() == Some(issuer));
        if let Some(until) = failure::fallback_until(self.stored_certificates.record.as_ref(), issuer, now) {
            self.seen.pass_over(until);
            return Ok(());
        }
        // Who took it from the renewals' budget found no pause a moment ago.
        let pause = if is_paid { None } else { acme.find_pause().await? };
        if let Some(until) = acme.paused_until().filter(|until| failure::is_ahead(*until, now)) {
            self.seen.pass_over(until);
            return Ok(());
        }
        let counted = self.counted(asked, acme).await;
        let goes_on = self.open_order(asked).is_some();
        let draw = Draw { is_paid, goes_on, ..self.draw(acme.issuer.as_str(), counted) };
        let charged = match inner.spend_all(&draw, now).await? {
            Ok(charged) => charged,
            Err(until) => {
                self.seen.pass_over(until);
                return Ok(());
            }
        };
        let granted = Granted { issuer, charged, is_paid };
        let Some(ended) = pause else {
            if is_paid {
                self.charge = Charge::Renewals(None);
            }
            self.granted = Some(granted);
            self.seen.grant = Some(Grant::default());
            return Ok(());
        };
        match acme.try_after(&ended, now).await {
            Ok(Some(trial)) => {
                self.granted = Some(granted);
                self.seen.grant = Some(Grant { pause: Some(trial) });
            }
            // Another instance tries it now.
            Ok(None) => {
                self.settle(granted, ChargedFor::NOTHING).await;
                self.seen.pass_over(now);
            }
            Err(error) => {
                self.settle(granted, ChargedFor::NOTHING).await;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Gives back what the CA does not count.
    pub(super) async fn settle(&mut self, granted: Granted, charged_for: ChargedFor) {
        let Granted { issuer, charged, is_paid } = granted;
        self.inner.settle(&self.goal.name, &charged, charged_for, clock::wall()).await;
        // Whoever has claimed the renewal gives it back.
        if is_paid && !charged_for.is_sent {
            self.charge = Charge::Renewals(Some(issuer));
        }
    }

    /// How the CA counts the order.
    async fn counted(&self, issuer: &Issuer, acme: &Acme) -> Counted {
        let Some(replaced) = self.replaces(issuer).filter(|_| acme.exempts_replacements()) else {
            return Counted::Yes;
        };
        // Where the table does not tell, it is charged.
        counted(&replaced, acme.account_url().await.unwrap_or_default().as_deref())
    }

    pub(super) fn draw<'a>(&'a self, issuer: &'a str, counted: Counted) -> Draw<'a> {
        let site = site_of(self.seen.standing.as_ref());
        Draw {
            purpose: self.goal.purpose,
            name: &self.goal.name,
            site,
            from: self.charge.client(),
            issuer,
            failures: self.failures(),
            counted,
            is_paid: false,
            goes_on: false,
        }
    }

    /// The lease is renewed before the order and while it goes on. Losing it then does not end the order: the commit decides.
    pub(super) async fn order(&mut self, index: usize, lock: &Lock, grant: Grant) {
        let Some(issuer) = self.inner.issuers.get(index) else { return self.seen.pass_on() };
        // Since it was taken the table was asked many times, each within its own time-out, or the machine has stood still: whoever has it
        // by now orders. Who waits for a store that is slower than leases orders at last all the same.
        if !self.is_held(lock).await && clock::wall() < self.goal.give_up_at {
            return self.seen.look_again();
        }
        let open = self.open_order(issuer).cloned();
        let was_placed = open.is_some();
        let (began, placed, is_sent) = (clock::now(), PlacedUrl::default(), Arc::new(AtomicBool::new(false)));
        // From here on it may be placed.
        let granted = self.granted.take();
        let outcome = {
            let order_request = OrderRequest {
                prefer: self.prefer(),
                replaces: self.replaces(issuer),
                open,
                recorded: self.stored_certificates.open_orders.url(issuer.key().as_str()).map(str::to_owned),
                placed: placed.clone(),
                is_sent: Arc::clone(&is_sent),
            };
            let order = issue(self.inner, issuer, &self.goal.name, order_request);
            let keep = keep_lease(self.inner, lock);
            tokio::select! { ordered = order => ordered, never = keep => match never {} }
        };
        let seconds = began.elapsed().as_secs_f64();
        self.inner.metrics.order_seconds.observe(issuer.kind(), seconds);
        if let Some(granted) = granted {
            let charged_for = ChargedFor {
                is_sent: is_sent.load(Ordering::Relaxed),
                is_issued: matches!(outcome, Ok(_) | Err(OrderError::Unusable { .. })),
            };
            self.settle(granted, charged_for).await;
        }
        // Who placed it may have shown its challenge and be gone, and the order was over without another being shown here.
        let is_over = outcome.as_ref().err().is_none_or(OrderError::ends_order);
        if was_placed && is_over && placed.get().is_some() && self.is_held(lock).await {
            self.inner.challenges.clear(issuer.key(), &self.goal.name).await;
        }
        match outcome {
            Ok((given, pair)) => {
                self.inner.metrics.orders.bump(Ordered::Issue);
                info!(server_name = %self.goal.name, issuer = issuer.name(), seconds, "certificate issued");
                if let (Issuer::Acme(acme), Some(_)) = (issuer, grant.pause) {
                    acme.end_pause().await;
                }
                let pattern = self.goal.name.clone();
                let candidate = Candidate { pair, issuer: issuer.key().clone(), pattern };
                self.seen.obtain(Obtained { issuer: index, issued: given, candidate });
            }
            Err(error) => {
                self.inner.metrics.orders.bump(outcome_of(&error));
                let cause = error.source().map(|cause| brief(&cause.to_string()));
                if let Some(url) = placed.get().filter(|_| error.ends_order()) {
                    self.forget_open_order(issuer, &url).await;
                }
                warn!(server_name = %self.goal.name, issuer = issuer.name(), seconds, %error, cause, "order failed");
                let fault = self.fault(issuer, grant, &error).await;
                let is_held = self.is_held(lock).await;
                self.seen.fail(OrderFailure { fault, problem: error.to_string() }, is_held);
            }
        }
    }

    /// Nothing can be made of it.
    async fn forget_open_order(&self, issuer: &Issuer, url: &str) {
        let (store, name, issuer) = (&self.inner.store, &self.goal.name, issuer.key().as_str());
        if let Err(error) = state_table::remove_open_order(store, name, issuer, url).await {
            warn_of(&self.goal.name, &error, "the order that failed was not forgotten");
        }
    }

    async fn fault(&self, issuer: &Issuer, grant: Grant, error: &OrderError) -> OrderFault {
        let now = clock::wall();
        let fault = error.fault(registered_domain(self.goal.name.name()));
        // Whatever it says of this name, a CA that says it answers the others again.
        if let (AcmeFault::Name | AcmeFault::Limit | AcmeFault::Nobody, Issuer::Acme(acme)) = (fault, issuer)
            && grant.pause.is_some()
        {
            acme.end_pause().await;
        }
        match (fault, issuer) {
            (AcmeFault::Name, _) => OrderFault::Name,
            (AcmeFault::Limit, _) => OrderFault::Limit(failure::limited_until(now, error.retry_after())),
            (AcmeFault::Issuer, Issuer::Acme(acme)) => {
                OrderFault::Issuer(acme.begin_pause(grant.pause, error, now).await)
            }
            (AcmeFault::Ours, _) => OrderFault::Ours,
            (AcmeFault::Nobody, _) | (AcmeFault::Issuer, Issuer::Internal(_)) => OrderFault::Nobody,
        }
    }

    /// Caddy takes locks blindly, and an order that fails because it did is followed by its certificate. A store that does not
    /// answer takes no lease away.
    async fn is_held(&self, lock: &Lock) -> bool {
        let renewed = lock.renew(&self.inner.store, *self.inner.config.lease, clock::wall()).await;
        let is_held = !matches!(renewed, Ok(false));
        if !is_held {
            self.inner.metrics.leases.bump(Leased::Lost);
        }
        is_held
    }

    /// RFC 9773 §5: the certificate to replace, sent only to the directory and account that issued it.
    fn replaces(&self, issuer: &Issuer) -> Option<Replaced> {
        let held = self.seen.reading.as_ref()?.certificate.as_ref()?;
        let record = self.stored_certificates.record.as_ref()?;
        replaces(self.goal.purpose, held, record, issuer)
    }

    /// The order to go on with. Who wants another certificate than the present one wants another key, too, and the present one may be of
    /// this order: it may have been presented without ever having been written.
    fn open_order(&self, issuer: &Issuer) -> Option<&OpenOrder> {
        let open = self.stored_certificates.open_orders.of(issuer.key().as_str());
        open.filter(|_| self.goal.purpose != Purpose::Replace)
    }

    fn prefer(&self) -> Prefer {
        if matches!(self.goal.name, Pattern::Wildcard(_)) {
            return Prefer::Dns;
        }
        let site = site_of(self.seen.standing.as_ref());
        prefer(self.failures(), site, Micros::of(clock::wall()))
    }

    /// Of the name's own.
    fn failures(&self) -> u32 {
        self.stored_certificates.record.as_ref().map_or(0, OrderRecord::failures_of_any)
    }

    pub(super) async fn commit(&mut self, obtained: Arc<Obtained>) {
        match self.put(&obtained).await {
            Ok(()) => self.seen.progress = OrderProgress::Done(obtained.candidate.clone()),
            Err(StoreError::Conflict) => {
                self.inner.metrics.orders.bump(Ordered::Overtaken);
                self.seen.fail_to_commit(obtained);
            }
            Err(error) => {
                warn_of(
                    &self.goal.name,
                    &error,
                    "the certificate could not be written to the table; it is presented from memory",
                );
                self.seen.progress = OrderProgress::Done(obtained.candidate.clone());
                self.is_written = false;
                self.remember_failure(&OrderFailure::not_kept()).await;
            }
        }
    }

    /// Replaces what was read under the lease; unknown metadata stays.
    async fn put(&self, obtained: &Obtained) -> Result<(), StoreError> {
        let (name, issued) = (&self.goal.name, &obtained.issued);
        let key = &obtained.candidate.issuer;
        let place = self
            .stored_certificates
            .stored
            .iter()
            .find(|stored| stored.issuer == *key && stored.pattern == *name);
        let metadata = place.and_then(|place| place.metadata.as_ref()?.as_ref().ok());
        let metadata =
            metadata.map_or_else(CertificateMetadata::default, |text| CertificateMetadata::read(text));
        let directory = self.inner.issuers.get(obtained.issuer).and_then(Issuer::directory);
        let record = OrderRecord {
            directory: directory.map(ToOwned::to_owned),
            account: issued.account.clone(),
            ..record_of(name, key.as_str(), &obtained.candidate.pair)
        };
        let pair = &obtained.candidate.pair;
        let info = watched(name, directory, pair, clock::wall());
        let event = self.issued(&obtained.candidate)?;
        let commit = Commit {
            issuer: key,
            pattern: name,
            chain: issued.chain.as_bytes(),
            key: &issued.key,
            metadata: &metadata.renewed(&[name.to_string()], issued.url.as_deref()).write(),
            replaced: place.and_then(|place| place.seen.as_ref()),
            record: Some(&record),
            renewal_info: info.as_ref(),
            event: Some(&event),
        };
        commit_patiently(self.inner, &commit).await
    }

    /// `instead` is a certificate that is presented all the same.
    pub(super) async fn record_failure(
        &mut self,
        failure: &OrderFailure,
        instead: Option<Candidate>,
    ) -> Result<(), StoreError> {
        self.is_written = instead.is_none();
        self.seen.progress = instead.map_or(OrderProgress::Recorded, OrderProgress::Done);
        self.remember_failure(failure).await;
        Ok(())
    }

    /// In the table, else in memory: whatever the table holds or takes, the next order waits.
    async fn remember_failure(&self, failure: &OrderFailure) {
        let (name, now) = (&self.goal.name, clock::wall());
        let before = self.stored_certificates.record.clone().unwrap_or_else(|| OrderRecord::new(name));
        let record = failure::after(&before, failure, now);
        if let Some(at) = record.retry_at {
            let retry_in = at.duration_since(now).unwrap_or_default();
            warn!(server_name = %name, failures = record.failures, ?retry_in, problem = record.problem, "no issuer issued a certificate");
        } else {
            self.inner.metrics.stopped.inc();
            if let Err(error) = state_table::stop_renewal_info(&self.inner.store, name).await {
                warn_of(
                    name,
                    &error,
                    "the CA is asked further when a certificate is to be renewed whose orders have stopped",
                );
            }
            warn!(server_name = %name, failures = record.failures, problem = record.problem, "orders of the name have stopped after 30 days of failures; `gatehouse certificate retry` starts again");
        }
        if let Err(error) = state_table::put_failure(&self.inner.store, &record).await {
            warn_of(name, &error, "the failure was not recorded; only this instance backs off");
            // What others write is read again soon: a success elsewhere, or an operator who has the name tried again.
            let at = record.retry_at.unwrap_or(now + UNRECORDED).min(now + UNRECORDED);
            self.inner.unrecorded.insert(name.clone(), at);
        }
        self.tell_of_failure(&record).await;
    }
}

/// A failed validation counts against the CA's limits, so the other challenge is for the next attempt, not for this one; and
/// every instance's guard must know the name to let the CA through.
fn prefer(failures: u32, site: Option<&DomainEntry>, now: Micros) -> Prefer {
    let is_known_everywhere = site.is_some_and(|site| match site.source {
        PermissionSource::Static => true,
        // An entry made by hand is in no feed.
        PermissionSource::Table => {
            site.changed_at_micros > 0 && Micros::from_epoch(site.changed_at_micros) <= now.less(FEED_DELAY)
        }
        // Other instances have not asked for it.
        PermissionSource::Ask => false,
    });
    if failures % 2 == 1 && is_known_everywhere { Prefer::TlsAlpn } else { Prefer::Http }
}

/// RFC 9773 §5 lets a CA exempt an order that names the certificate it replaces, which the account that ordered that one may do.
fn counted(replaced: &Replaced, account: Option<&str>) -> Counted {
    if account.is_some_and(|account| replaced.is_of(account)) { Counted::Exempt } else { Counted::Yes }
}

fn replaces(purpose: Purpose, held: &Candidate, record: &OrderRecord, issuer: &Issuer) -> Option<Replaced> {
    let is_its = matches!(purpose, Purpose::Renew | Purpose::Replace)
        && held.issuer == *issuer.key()
        && record.serial.as_ref() == Some(&held.pair.serial)
        && record.directory.as_deref() == issuer.directory();
    let account = record.account.clone().filter(|_| is_its)?;
    let leaf = held.pair.certificate.key.cert.first()?;
    Some(Replaced { certificate: CertificateIdentifier::try_from(leaf).ok()?, account })
}

async fn issue(
    inner: &CertificatesInner,
    issuer: &Issuer,
    name: &Pattern,
    order_request: OrderRequest,
) -> Result<(Issued, KeyedChain), OrderError> {
    let obtained = match issuer {
        Issuer::Acme(acme) => Box::pin(acme.issue(name, &order_request, &inner.challenges)).await?,
        Issuer::Internal(internal) => internal.issue(name, clock::wall())?,
    };
    let pair = KeyedChain::read(obtained.chain.as_bytes(), obtained.key.as_bytes(), name);
    let unusable = |error: KeyedChainError| OrderError::Unusable { problem: error.to_string() };
    let pair = pair.map_err(unusable)?;
    // Otherwise each ClientHello would find it expired, and order the next.
    if !pair.is_valid(clock::wall()) {
        let problem = "it has expired by this machine's clock; check the clock".to_owned();
        return Err(OrderError::Unusable { problem });
    }
    Ok((obtained, pair))
}

/// Never ends: it is dropped with the order.
async fn keep_lease(inner: &CertificatesInner, lock: &Lock) -> std::convert::Infallible {
    let life = *inner.config.lease;
    let mut is_held = true;
    loop {
        tokio::time::sleep(life / 3).await;
        if !is_held {
            continue;
        }
        // A store that does not answer now may answer before the lease ends.
        if let Ok(false) = lock.renew(&inner.store, life, clock::wall()).await {
            is_held = false;
            inner.metrics.leases.bump(Leased::Lost);
        }
    }
}

/// An issued certificate is not given up at the first failure of the table.
async fn commit_patiently(inner: &CertificatesInner, commit: &Commit<'_>) -> Result<(), StoreError> {
    for attempt in 1..COMMIT_ATTEMPTS {
        match certificate_table::commit(&inner.store, commit, clock::wall()).await {
            Err(StoreError::Unavailable(_)) => tokio::time::sleep(COMMIT_PAUSES.after(attempt)).await,
            ended => return ended,
        }
    }
    certificate_table::commit(&inner.store, commit, clock::wall()).await
}

fn outcome_of(error: &OrderError) -> Ordered {
    match error {
        OrderError::Refused(_)
        | OrderError::BadNonce
        | OrderError::NoChallenge
        | OrderError::ExternalAccountMissing
        | OrderError::UnknownProfile { .. }
        | OrderError::ExternalAccountRefused { .. } => Ordered::Refuse,
        OrderError::Invalid { .. } => Ordered::Invalid,
        OrderError::Unreachable { .. } | OrderError::Unavailable { .. } | OrderError::Malformed { .. } => {
            Ordered::Unreachable
        }
        OrderError::Slow { .. } => Ordered::Slow,
        OrderError::Dns(_) => Ordered::Dns,
        OrderError::Store(_)
        | OrderError::Key(_)
        | OrderError::AccountKey { .. }
        | OrderError::Unusable { .. } => Ordered::Internal,
    }
}

/// How long a change may take to reach every instance.
const FEED_DELAY: Duration = Duration::from_secs(15);
const COMMIT_ATTEMPTS: u32 = 5;
const COMMIT_PAUSES: Backoff = Backoff::doubling(Duration::from_millis(500), Duration::from_secs(4));
/// How long this instance alone remembers a back-off at most: even so, no more than four orders of a name fail in an hour.
const UNRECORDED: Duration = Duration::from_mins(15);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        certificates::{
            step::{Goal, LeaseState, OrderFacts},
            tests::{Fleet, Instance, nobody},
        },
        store::certificate_table::StoredCertificates,
    };

    #[test]
    fn the_ca_is_let_in_by_tls_only_where_every_guard_knows_the_name() {
        let now = Micros::from_epoch(100_000_000);
        for (source, changed_at_micros, failures, expected) in [
            (PermissionSource::Static, 0, 0, Prefer::Http),
            (PermissionSource::Static, 0, 1, Prefer::TlsAlpn),
            (PermissionSource::Static, 0, 2, Prefer::Http),
            (PermissionSource::Table, 85_000_000, 1, Prefer::TlsAlpn),
            (PermissionSource::Table, 85_000_001, 1, Prefer::Http),
            (PermissionSource::Table, 0, 1, Prefer::Http),
            (PermissionSource::Ask, 0, 1, Prefer::Http),
        ] {
            let pattern = Pattern::parse("a.example").unwrap();
            let site =
                DomainEntry { source, version: 1, changed_at_micros, ..DomainEntry::for_tests(pattern) };
            assert_eq!(
                prefer(failures, Some(&site), now),
                expected,
                "{source:?} {changed_at_micros} {failures}"
            );
        }
        assert_eq!(prefer(1, None, now), Prefer::Http);
    }

    #[tokio::test]
    async fn who_has_lost_the_lease_before_the_order_places_none() {
        let fleet = Fleet::new(None).await;
        let instance = fleet.instance();
        let mut run = run(&instance);
        let lost = Lock::untaken(&run.goal.name);
        run.seen.lease = LeaseState::Held(lost.clone());
        run.order(0, &lost, Grant::default()).await;
        assert!(matches!(run.seen.lease, LeaseState::Unasked), "{:?}", run.seen.lease);
        assert_eq!(instance.orders(), 0);
        // Leases that are lost faster than they are renewed keep nobody waiting for ever.
        run.goal.give_up_at = clock::wall();
        run.order(0, &lost, Grant::default()).await;
        assert_eq!(instance.orders(), 1);
    }

    /// Before, one order was placed in each time that an order may take.
    #[tokio::test]
    async fn what_a_ca_says_of_a_name_ends_its_pause() {
        let mut fleet = Fleet::new(None).await;
        fleet.config.certificates.issuers = vec![nobody()];
        let instance = fleet.instance();
        let run = run(&instance);
        let issuer @ Issuer::Acme(acme) = &run.inner.issuers[0] else { panic!("the internal issuer") };
        let invalid = || OrderError::Invalid { problem: "no such host".to_owned(), kind: None };
        for (error, is_ended) in
            [(invalid(), true), (OrderError::NoChallenge, true), (OrderError::BadNonce, false)]
        {
            acme.begin_pause(None, &OrderError::BadNonce, clock::wall()).await;
            let pause = acme.find_pause().await.unwrap();
            assert!(pause.is_some());
            run.fault(issuer, Grant { pause }, &error).await;
            assert_eq!(acme.find_pause().await.unwrap().is_none(), is_ended, "{error}");
        }
        let other = acme.find_pause().await.unwrap().unwrap();
        run.fault(issuer, Grant::default(), &invalid()).await;
        assert_eq!(acme.find_pause().await.unwrap(), Some(other), "an order from before it");
    }

    /// An order that is under way.
    fn run(instance: &Instance) -> Run<'_> {
        Run {
            inner: &instance.certificates.inner,
            goal: Goal {
                name: Pattern::parse("a.served.example").unwrap(),
                purpose: Purpose::Obtain,
                superseded: None,
                issuers: 1,
                give_up_at: clock::wall() + Duration::from_mins(1),
                give_up_permit_at: clock::wall() + Duration::from_mins(1),
            },
            seen: OrderFacts::nothing(),
            stored_certificates: StoredCertificates::default(),
            is_written: true,
            charge: Charge::Client(None),
            awaited: None,
            is_ordered_elsewhere: false,
            granted: None,
            is_charged: false,
        }
    }

    #[test]
    fn a_renewal_is_exempt_only_for_the_account_that_ordered_what_it_replaces() {
        let certificate =
            CertificateIdentifier { authority_key_identifier: "AQE".into(), serial: "AQ".into() };
        let replaced = Replaced { certificate, account: "https://ca.example/account/old".to_owned() };
        for (account, expected) in [
            (Some("https://ca.example/account/old"), Counted::Exempt),
            (Some("https://ca.example/account/new"), Counted::Yes),
            (None, Counted::Yes),
        ] {
            assert_eq!(counted(&replaced, account), expected, "{account:?}");
        }
    }
}
