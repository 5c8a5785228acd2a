//! The shell around [`Goal::next`]: takes its steps, and tells it what was seen.

mod order;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tracing::warn;

use super::{
    Inner, Issuer, Refusal, Slot,
    acme::Issued,
    choice::{Candidate, Choice, choose},
    metrics::{IssuerKind, Leased, Sought},
    pair::Pair,
    step::{Errand, Goal, Lease, Reading, Seen, Standing, Step},
};
use crate::{
    domains::{Permission, Site},
    name::{Pattern, ServerName},
    store::{
        StoreError,
        certificate_table::{self, Lock, Record, Shelf, Taking},
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
        obtained: None,
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
    obtained: Option<(usize, Issued, Pair)>,
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
                // Much may happen while another instance orders: all of it is looked at again.
                (self.seen.lease, self.seen.reading, self.seen.standing) = (Lease::Unasked, None, None);
                Ok(())
            }
            Step::Spend { issuer } => self.spend(issuer).await,
            Step::Order { issuer } => {
                self.order(issuer).await;
                Ok(())
            }
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
        match Lock::take(&inner.store, &self.goal.name, *inner.config.lease, now).await? {
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

    fn serve(&mut self) -> Result<Arc<Slot>, Refusal> {
        let best = self.best.take().ok_or(Refusal::Failed)?;
        let renew_at = best.pair.life.renew_at(&self.goal.name);
        let is_exact = best.pattern == Pattern::Exact(self.goal.name.clone());
        if is_exact && self.lock.is_none() && !is_recorded(self.shelf.record.as_ref(), &best.pair.serial) {
            self.adopt(&best);
        }
        Ok(self.inner.cache.keep(&best, renew_at))
    }

    /// A certificate without a fresh record of ours, Caddy's for instance, gets one, so that its renewal is found; so does one whose
    /// name was taken out of the renewals and is allowed again.
    fn adopt(&self, best: &Candidate) {
        let issuer = self.inner.issuers.iter().find(|issuer| *issuer.key() == best.issuer);
        let made = Record {
            directory: issuer.map(Issuer::directory).unwrap_or_default().to_owned(),
            ..record_of(&self.goal.name, best.issuer.as_str(), &best.pair)
        };
        let record = match &self.shelf.record {
            Some(old) if old.serial == made.serial => Record { renew_at: made.renew_at, ..old.clone() },
            _ => made,
        };
        let store = self.inner.store.clone();
        self.inner.control.spawn(async move {
            if let Err(error) = certificate_table::put_record(&store, &record).await {
                warn!(server_name = %record.name, %error, "certificate's renewal was not recorded; its next loading tries again");
            }
        });
    }
}

/// Whether the renewal of the certificate with `serial` is found.
fn is_recorded(record: Option<&Record>, serial: &str) -> bool {
    record.is_some_and(|record| record.serial == serial && record.renew_at.is_some())
}

/// Short, so that a handshake that waits for another instance's order waits little longer; spread by name.
fn poll_pause(name: &ServerName) -> Duration {
    let spread = name.as_str().bytes().fold(0_u64, |sum, byte| sum + u64::from(byte)) % 100;
    Duration::from_millis(200 + spread)
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
/// Caddy writes chain and key one after the other.
const TORN_READS: u32 = 3;
const TORN_PAUSE: Duration = Duration::from_millis(100);
