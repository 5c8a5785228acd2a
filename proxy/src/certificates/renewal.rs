//! Renewal: certificates that the index `due` shows, each by the instance that claims it, never in the way of serving.
//! The same way the CA is asked when to renew (`advice`).
//! Not here: how due names are claimed (`round`) and which is next (`queue`), what becomes of it (`turn`), how an order goes (`issue`).
//! Invariants: instances claim a due name once, whatever their number (`a_backlog_costs_little_more_than_a_claim_a_name`); handshakes that
//! wait keep no renewal waiting, and names that fail no other (`waiting_handshakes_stop_no_renewal`,
//! `names_that_fail_leave_room_to_others`).

mod advice;
mod queue;
mod round;
mod turn;
mod withdrawal;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use super::{
    CertificateRefusal, CertificatesInner,
    choice::candidate,
    failure,
    issue::{self, Unmet, warn_of},
    issuer::Issuer,
    metrics::{Claimed, Renewed},
};
use crate::{
    clock,
    domains::Permission,
    name::Pattern,
    store::{
        StoreError, certificate_table,
        instant::epoch_millis,
        state_table::{self, Claim, Due, DuePage, DueStart},
    },
    telemetry::admit_line,
};
use round::{Allowance, DueWork, Round};
use turn::{Turn, turn};

pub(super) use advice::ask;
pub(super) use withdrawal::withdraw;

/// Looks for due renewals each period.
pub(super) async fn renew(inner: Arc<CertificatesInner>) {
    let mut ticks = tokio::time::interval(*inner.config.renewal_period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut round = Round::new(Arc::clone(&inner));
    loop {
        ticks.tick().await;
        match round.work_off().await {
            Ok(()) => {
                let seconds = epoch_millis(clock::wall()) / 1000;
                inner.metrics.renewals.searched_at.set(i64::try_from(seconds).unwrap_or(i64::MAX));
            }
            Err(error) => {
                if let Some(left_out) = admit_line("renewals_unread", "") {
                    let error = &error as &dyn std::error::Error;
                    warn!(error, left_out, "due renewals could not be read; they are tried again");
                }
            }
        }
    }
}

/// Measures, each period, what is held and what is left to be spent.
pub(super) async fn measure(inner: Arc<CertificatesInner>) {
    let mut ticks = tokio::time::interval(*inner.config.renewal_period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        inner.measure();
        inner.metrics.held.measure_expiry(&inner.cache.ends(), clock::wall());
        inner.warn_of_own(clock::wall());
        inner.measure_budgets(clock::wall()).await;
    }
}

impl DueWork for CertificatesInner {
    type Claim = Claim;

    async fn due(&self, shard: u8, now: SystemTime, start: Option<&DueStart>) -> Result<DuePage, StoreError> {
        state_table::due(&self.store, shard, now, start, PAGE).await
    }

    async fn claim(&self, due: &Due, until: SystemTime) -> Result<Option<(Claim, u32)>, StoreError> {
        let claim = state_table::claim(&self.store, due, until).await?;
        Ok(claim.map(|claim| {
            let failures = claim.record.failures_of_any();
            (claim, failures)
        }))
    }

    /// Longer than the orders with all issuers may take, so that a name is claimed anew only if its instance has ended.
    fn claim_life(&self) -> Duration {
        let issuers = u32::try_from(self.issuers.len()).unwrap_or(u32::MAX);
        self.config.order_deadline.saturating_mul(issuers.saturating_add(1))
    }

    /// Asks the first issuer that is not paused and has something left.
    async fn allow(&self, count: u64, now: SystemTime) -> Result<Allowance, StoreError> {
        if *self.closing.borrow() {
            return Ok(Allowance::Until(now));
        }
        let mut resume_at: Option<SystemTime> = None;
        for (index, issuer) in self.issuers.iter().enumerate() {
            let Issuer::Acme(acme) = issuer else { return Ok(Allowance::Unpaid { count }) };
            let until = match acme.find_pause().await? {
                Some(pause) if failure::is_ahead(pause.until, now) => pause.until,
                // After a pause one order tries the issuer, for the whole fleet.
                Some(_) => return Ok(Allowance::Unpaid { count: 1 }),
                None => match self.spend_renewals(acme.issuer.as_str(), count, now).await? {
                    Ok(count) => return Ok(Allowance::Paid { issuer: index, count }),
                    Err(until) => until,
                },
            };
            resume_at = Some(resume_at.map_or(until, |earlier| earlier.min(until)));
        }
        Ok(Allowance::Until(resume_at.unwrap_or(now)))
    }

    async fn give_back(&self, issuer: usize, count: u64) {
        self.give_back_renewals(issuer, count).await;
    }

    fn count(&self, claimed: Claimed) {
        self.metrics.renewals.claims.bump(claimed);
    }

    async fn carry_out(self: Arc<Self>, claim: Claim, paid: Option<usize>) {
        let renewed = self.renew_claimed(&claim, paid).await;
        self.metrics.renewals.ended.bump(renewed);
    }
}

impl CertificatesInner {
    async fn renew_claimed(&self, claim: &Claim, paid: Option<usize>) -> Renewed {
        let (name, now) = (&claim.record.name, clock::wall());
        let permission = self.permission(name).await;
        let turn = turn(&claim.record, &permission, now);
        if let Some(issuer) = paid.filter(|_| turn != Turn::Renew) {
            // A tenant that is suspended with all its names must not cost others their renewals.
            self.give_back_renewals(issuer, 1).await;
        }
        match turn {
            Turn::Renew => self.order_renewal(claim, paid).await,
            Turn::Leave => Renewed::Postpone,
            Turn::Postpone { at, denied_since } => {
                self.postpone(claim, at, denied_since).await;
                if matches!(permission, Permission::Deny(_)) { Renewed::Deny } else { Renewed::Postpone }
            }
            Turn::Remove => match self.remove(claim, now).await {
                Ok(()) => {
                    info!(server_name = %name, "the certificate of a name that is no longer allowed has ended, and is removed");
                    Renewed::Forget
                }
                Err(error) => {
                    warn_of(
                        name,
                        &error,
                        "the certificate of a name that is no longer allowed could not be removed",
                    );
                    Renewed::Postpone
                }
            },
        }
    }

    async fn order_renewal(&self, claim: &Claim, paid: Option<usize>) -> Renewed {
        // A name's certificate from before the wildcard above it was listed is followed by the wildcard's.
        let subject = self.subject_of(&claim.record.name);
        let in_flight = self.metrics.calls.begin();
        let outcome = issue::renew(self, &subject, paid).await;
        drop(in_flight);
        match outcome {
            Ok(_) if subject != claim.record.name => self.give_way(claim, &subject).await,
            Ok(_) => Renewed::Renew,
            Err(Unmet { refusal: CertificateRefusal::Denied | CertificateRefusal::Failed, .. }) => {
                Renewed::Fail
            }
            // A budget that is spent is not asked again for this name before it has something.
            Err(Unmet { until: Some(until), .. }) => {
                self.postpone(claim, until.max(claim.until.at()), claim.record.denied_since).await;
                Renewed::Postpone
            }
            Err(Unmet {
                refusal:
                    CertificateRefusal::Busy
                    | CertificateRefusal::Slow
                    | CertificateRefusal::BackingOff
                    | CertificateRefusal::Unknown,
                until: None,
            }) => Renewed::Postpone,
        }
    }

    /// Takes a name out of the renewals whose certificate is the one of `wildcard` from now on.
    async fn give_way(&self, claim: &Claim, wildcard: &Pattern) -> Renewed {
        let name = &claim.record.name;
        match state_table::forget(&self.store, name).await {
            Ok(()) => {
                info!(server_name = %name, %wildcard, "the certificate of a name is not renewed: the wildcard's takes its place");
                Renewed::Forget
            }
            Err(error) => {
                warn_of(
                    name,
                    &error,
                    "a name with a wildcard's certificate was not taken out of the renewals",
                );
                Renewed::Postpone
            }
        }
    }

    async fn postpone(&self, claim: &Claim, at: SystemTime, denied_since: Option<SystemTime>) {
        if let Err(error) = state_table::postpone(&self.store, claim, at, denied_since).await {
            warn_of(
                &claim.record.name,
                &error,
                "a renewal was not postponed; it is due again when its claim ends",
            );
        }
    }

    /// Removes the certificate, unless it is valid after all, and takes the name out of the renewals.
    async fn remove(&self, claim: &Claim, now: SystemTime) -> Result<(), StoreError> {
        let name = &claim.record.name;
        let found = certificate_table::read(&self.store, &self.issuer_keys, name).await?;
        for stored in found.stored.iter().filter(|stored| stored.pattern == *name) {
            let is_its = claim.record.issuer.as_deref() == Some(stored.issuer.as_str());
            let has_ended = matches!(candidate(stored), Ok(Some(held)) if !held.pair.is_valid(now));
            if let Some(seen) = stored.seen.as_ref().filter(|_| is_its && has_ended) {
                certificate_table::remove(&self.store, &stored.issuer, name, Some(seen)).await?;
            }
        }
        state_table::forget(&self.store, name).await
    }
}

const PAGE: u16 = 100;

#[cfg(test)]
mod tests;
