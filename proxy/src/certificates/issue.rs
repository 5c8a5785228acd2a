//! The shell around [`Goal::next`]: takes its steps, and reports what was seen.

mod adoption;
mod budgets;
mod event;
mod order;

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use tracing::warn;

pub(super) use adoption::watched;
pub(super) use budgets::SpentBudgets;
use budgets::{Charged, ChargedFor, Counted};

use super::{
    CertificateRefusal, CertificatesInner, Slot,
    choice::{Candidate, CertificateChoice, choose},
    failure,
    issuer::Issuer,
    keyed_chain::KeyedChain,
    metrics::{Leased, Sought},
    order_permits::AwaitedPermit,
    step::{
        BackOff, Goal, LeaseState, OrderFacts, OrderProgress, PermissionStanding, PermitState, Purpose, Step,
        TableReading,
    },
};
use crate::{
    clock,
    domains::{Caller, Permission},
    name::Pattern,
    store::{
        StoreError,
        certificate_table::{self, IssuerKey, Lock, LockOutcome, StoredCertificates},
        state_table::OrderRecord,
    },
    telemetry::admit_line,
};

/// Obtains, loads or replaces the certificate of `name`; `from` is the client whose ClientHello asked for it.
pub(super) async fn run(
    inner: &CertificatesInner,
    name: &Pattern,
    purpose: Purpose,
    from: Option<IpAddr>,
) -> Result<Arc<Slot>, CertificateRefusal> {
    let (ended, _) = carry_out(inner, name, purpose, Charge::Client(from)).await;
    ended.map_err(|unmet| unmet.refusal)
}

/// Renews the certificate of `name`, which this instance has claimed; `paid` is the issuer from whose budget of renewals it was taken, which gets it
/// back where it was asked for no order: a certificate of the operator's own or a wildcard's covers the name, or somebody has ordered it meanwhile.
pub(super) async fn renew(
    inner: &CertificatesInner,
    name: &Pattern,
    paid: Option<usize>,
) -> Result<Arc<Slot>, Unmet> {
    let (ended, charge) = carry_out(inner, name, Purpose::Renew, Charge::Renewals(paid)).await;
    if let Some(unused) = charge.paid() {
        inner.give_back_renewals(unused, 1).await;
    }
    ended
}

/// Why a call ended without a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unmet {
    pub(super) refusal: CertificateRefusal,
    /// Before this, the budgets and the issuers' pauses let nothing be ordered.
    pub(super) until: Option<SystemTime>,
}

/// Who is charged for an order.
#[derive(Debug, Clone, Copy)]
enum Charge {
    Client(Option<IpAddr>),
    /// The renewals' budget of this issuer was charged before, and no order has used that yet.
    Renewals(Option<usize>),
}

impl Charge {
    fn client(self) -> Option<IpAddr> {
        match self {
            Self::Client(from) => from,
            Self::Renewals(_) => None,
        }
    }

    fn paid(self) -> Option<usize> {
        match self {
            Self::Client(_) => None,
            Self::Renewals(paid) => paid,
        }
    }
}

/// How it ended, and the charge as it is then.
async fn carry_out(
    inner: &CertificatesInner,
    name: &Pattern,
    purpose: Purpose,
    charge: Charge,
) -> (Result<Arc<Slot>, Unmet>, Charge) {
    let mut closing = inner.closing.subscribe();
    let superseded = match purpose {
        Purpose::Obtain | Purpose::Load | Purpose::Renew => None,
        Purpose::Replace => match inner.held(name).await {
            Ok(held) => held.map(|held| held.pair.serial),
            Err(error) => {
                warn_of_table(name, &error);
                return (Err(Unmet { refusal: CertificateRefusal::Failed, until: None }), charge);
            }
        },
    };
    let goal = Goal {
        name: name.clone(),
        purpose,
        superseded,
        issuers: inner.issuers.len(),
        give_up_at: clock::wall() + *inner.config.order_deadline,
        give_up_permit_at: clock::wall() + PERMIT_WAIT,
    };
    let mut run = Run {
        inner,
        goal,
        seen: OrderFacts::nothing(),
        stored_certificates: StoredCertificates::default(),
        is_written: true,
        charge,
        awaited: None,
        is_ordered_elsewhere: false,
        granted: None,
        is_charged: false,
    };
    let ended = tokio::select! {
        ended = run.drive() => ended,
        // The process ends; who waits is told what it is told when there is no room.
        _ = closing.wait_for(|is_closing| *is_closing) => Err(CertificateRefusal::Busy),
    };
    if let LeaseState::Held(lock) = run.seen.lease.clone()
        && let Err(error) = lock.release(&inner.store).await
        && let Some(left_out) = admit_line("lease_kept", "")
    {
        warn!(server_name = %name, %error, left_out, "lease was not released; it expires");
    }
    // It was granted, and a certificate was found before it was placed.
    if let Some(granted) = run.granted.take() {
        run.settle(granted, ChargedFor::NOTHING).await;
    }
    (ended.map_err(|refusal| Unmet { refusal, until: run.seen.passed_over_until }), run.charge)
}

/// The state between two steps.
struct Run<'a> {
    inner: &'a CertificatesInner,
    goal: Goal,
    seen: OrderFacts,
    /// The result of the last complete read.
    stored_certificates: StoredCertificates,
    /// Whether the table holds what is presented.
    is_written: bool,
    charge: Charge,
    /// The place among those who wait for a permit.
    awaited: Option<AwaitedPermit>,
    /// Whether another instance had the lease when it was asked for last.
    is_ordered_elsewhere: bool,
    /// What was taken for the order that is to be placed next.
    granted: Option<Granted>,
    /// Whether the client was charged for a label that has no certificate.
    is_charged: bool,
}

/// What was taken for an order with an issuer.
#[derive(Debug)]
struct Granted {
    /// Which.
    issuer: usize,
    charged: Charged,
    /// Whether it was taken from the renewals' budget before.
    is_paid: bool,
}

impl Run<'_> {
    async fn drive(&mut self) -> Result<Arc<Slot>, CertificateRefusal> {
        loop {
            let taken = match self.goal.next(clock::wall(), &self.seen) {
                Step::Serve(candidate) => return Ok(self.serve(&candidate)),
                Step::Refuse(refusal) => return Err(refusal),
                step => self.take(step).await,
            };
            if let Err(error) = taken {
                warn_of_table(&self.goal.name, &error);
                return Err(CertificateRefusal::Failed);
            }
        }
    }

    async fn take(&mut self, step: Step) -> Result<(), StoreError> {
        match step {
            Step::Read => self.read().await?,
            Step::AskPermission => self.ask_permission().await,
            Step::AwaitPermit => self.await_permit().await,
            Step::TakeLease => self.take_lease().await?,
            Step::AwaitHolder => {
                tokio::time::sleep(poll_pause(&self.goal.name)).await;
                self.seen.look_again();
            }
            Step::Spend { issuer } => self.spend(issuer).await?,
            Step::Order { issuer, lock, grant } => self.order(issuer, &lock, grant).await,
            Step::Commit(obtained) => self.commit(obtained).await,
            Step::RecordFailure(failure, instead) => self.record_failure(&failure, instead).await?,
            Step::Serve(_) | Step::Refuse(_) => {}
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(), StoreError> {
        let now = clock::wall();
        for acme in self.inner.issuers.iter().filter_map(Issuer::acme) {
            acme.look_at_pause(now).await;
        }
        let mut certificate = None;
        for attempt in 1..=TORN_READS {
            self.inner.metrics.reads.bump(self.sought());
            self.stored_certificates =
                certificate_table::read(&self.inner.store, &self.inner.issuer_keys, &self.goal.name).await?;
            match choose(&self.stored_certificates, now) {
                CertificateChoice::Torn if attempt < TORN_READS => tokio::time::sleep(TORN_PAUSE).await,
                CertificateChoice::Take(best) => {
                    certificate = Some(best);
                    break;
                }
                CertificateChoice::Nothing | CertificateChoice::Torn => break,
            }
        }
        self.inner.warned.warn_of_unusable(&self.stored_certificates, clock::now());
        let record = self.stored_certificates.record.as_ref();
        let of_it = |record: &&OrderRecord| {
            record.serial.as_ref() == certificate.as_ref().map(|held| &held.pair.serial)
        };
        self.seen.reading = Some(TableReading {
            scheduled: record.filter(of_it).and_then(|record| record.renew_at),
            back_off: self.inner.back_off(&self.goal.name, record, now),
            certificate,
            under_lease: matches!(self.seen.lease, LeaseState::Held(_)),
        });
        Ok(())
    }

    fn sought(&self) -> Sought {
        match self.goal.purpose {
            Purpose::Obtain | Purpose::Load => Sought::Certificate,
            Purpose::Renew | Purpose::Replace => Sought::Renewal,
        }
    }

    async fn ask_permission(&mut self) {
        let asked = self.inner.permission(&self.goal.name).await;
        self.seen.standing = Some(match asked {
            Permission::Allow(site) => PermissionStanding::Allow(site),
            Permission::Deny(_) => PermissionStanding::Deny,
            Permission::Unknown(_) => PermissionStanding::Unknown,
        });
        if self.is_beyond_budget() {
            self.seen.standing = Some(PermissionStanding::Spent);
        }
    }

    /// Names under a wildcard are made up as easily as unknown ones: one without a certificate is charged as a look-up,
    /// and goes no further while its entry's or its sender's orders are spent.
    fn is_beyond_budget(&mut self) -> bool {
        let site = budgets::site_of(self.seen.standing.as_ref());
        let is_made_up = matches!(self.goal.name, Pattern::Exact(_))
            && site.is_some_and(|site| matches!(site.pattern, Pattern::Wildcard(_)));
        let Some(from) = self.charge.client().filter(|_| is_made_up && self.goal.purpose == Purpose::Obtain)
        else {
            return false;
        };
        let is_admitted = self.is_charged || self.inner.domains.admits_lookup(Caller::Client(from));
        self.is_charged = true;
        !is_admitted || self.inner.is_spent(&self.draw("", Counted::Yes), clock::wall())
    }

    /// Who has to wait looks again behind that, and now and then while it lasts: another instance may have ordered it meanwhile.
    async fn await_permit(&mut self) {
        let owner = budgets::owner(&self.goal.name, budgets::site_of(self.seen.standing.as_ref()));
        let awaited = self.awaited.take().map_or_else(|| self.inner.order_permits.ask(owner), Ok);
        let Ok(mut awaited) = awaited else {
            self.seen.permit = PermitState::Refused;
            return;
        };
        if let Some(permit) = awaited.granted() {
            self.seen.permit = PermitState::Held { _permit: permit };
            return;
        }
        let pause = if self.is_ordered_elsewhere { poll_pause(&self.goal.name) } else { LOOK_AGAIN };
        match tokio::time::timeout(pause, &mut awaited).await {
            Ok(permit) => {
                self.seen.permit = PermitState::Held { _permit: permit };
                self.goal.give_up_at = clock::wall() + *self.inner.config.order_deadline;
            }
            Err(_) => self.awaited = Some(awaited),
        }
        self.seen.look_again();
    }

    async fn take_lease(&mut self) -> Result<(), StoreError> {
        let (inner, now) = (self.inner, clock::wall());
        match Lock::take(&inner.store, &self.goal.name, *inner.config.lease, now).await? {
            LockOutcome::Hold(lock) => {
                inner.metrics.leases.bump(Leased::Hold);
                self.is_ordered_elsewhere = false;
                self.seen.lease = LeaseState::Held(lock);
            }
            LockOutcome::Busy => {
                inner.metrics.leases.bump(Leased::Busy);
                self.is_ordered_elsewhere = true;
                self.seen.lose_lease();
            }
        }
        Ok(())
    }

    fn serve(&self, best: &Candidate) -> Arc<Slot> {
        let is_its_own = best.pattern == self.goal.name;
        let is_read = !matches!(self.seen.lease, LeaseState::Held(_));
        if best.issuer == IssuerKey::own() {
            self.end_renewals();
        } else if is_its_own
            && is_read
            && self.inner.subject_of(&self.goal.name) == self.goal.name
            && !is_recorded(self.stored_certificates.record.as_ref(), &best.pair.serial)
        {
            self.adopt(best);
        } else if !is_its_own && self.goal.purpose == Purpose::Renew {
            self.follow_wildcard(best);
        }
        let (cache, now) = (&self.inner.cache, clock::wall());
        let slot = match self.seen.progress {
            // Two that were ordered within a second begin at the same time: the second one is presented.
            OrderProgress::Done(_) => cache.replace(best, now),
            OrderProgress::Ordering(_) | OrderProgress::Obtained(..) | OrderProgress::Recorded => {
                cache.keep(best, now)
            }
        };
        slot.is_unwritten.store(!self.is_written, Ordering::Relaxed);
        slot
    }
}

impl CertificatesInner {
    /// Until when nothing is ordered for `name`: what its record says, what could not be recorded, and while no issuer is asked for it.
    fn back_off(&self, name: &Pattern, record: Option<&OrderRecord>, now: SystemTime) -> BackOff {
        if record.is_some_and(|record| record.stopped_at.is_some()) {
            return BackOff::Stopped;
        }
        let recorded = record.and_then(|record| record.retry_at);
        let most = self.config.failures_per_hour;
        let failed = record.and_then(|record| failure::failed_enough_until(&record.failed_at, most, now));
        // None as soon as one of them is not paused.
        let issuers = self.issuers.iter().enumerate();
        let paused = issuers
            .map(|(index, issuer)| issuer.paused_until().max(failure::fallback_until(record, index, now)));
        let paused = paused.min().flatten();
        let dates = [recorded, failed, self.unrecorded.get(name), paused].into_iter().flatten();
        let latest = dates.filter(|until| failure::is_ahead(*until, now)).max();
        latest.map_or(BackOff::None, BackOff::Until)
    }
}

/// A table that is down fails every handshake that needs it.
fn warn_of_table(name: &Pattern, error: &StoreError) {
    warn_of(name, error, "the table failed while a certificate was obtained");
}

/// Says `what` has become of `name` since the table failed; of the same, no more than the log is to hold.
pub(super) fn warn_of(name: &Pattern, error: &StoreError, what: &'static str) {
    if let Some(left_out) = admit_line(what, "") {
        warn!(server_name = %name, error = error as &dyn std::error::Error, left_out, "{what}");
    }
}

/// Whether the renewal of the certificate with `serial` is found.
fn is_recorded(record: Option<&OrderRecord>, serial: &str) -> bool {
    record.is_some_and(|record| record.serial.as_deref() == Some(serial) && record.renew_at.is_some())
}

/// Short, so that a handshake that waits for another instance's order waits little longer; spread by name.
fn poll_pause(name: &Pattern) -> Duration {
    let spread = name.to_string().bytes().fold(0_u64, |sum, byte| sum + u64::from(byte)) % 100;
    Duration::from_millis(200 + spread)
}

pub(super) fn record_of(name: &Pattern, issuer: &str, pair: &KeyedChain) -> OrderRecord {
    OrderRecord {
        issuer: Some(issuer.to_owned()),
        serial: Some(pair.serial.clone()),
        not_after: Some(pair.life.not_after),
        renew_at: Some(pair.life.renew_at(name)),
        ..OrderRecord::new(name)
    }
}

/// A thousand names that wait read the table as often as 200 handshakes a second; these wait longer than that.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Clients that still come begin anew behind it.
const PERMIT_WAIT: Duration = Duration::from_mins(10);
/// Caddy writes chain and key one after the other.
const TORN_READS: u32 = 3;
const TORN_PAUSE: Duration = Duration::from_millis(100);
