//! What to do next for a name's certificate: computed from what was seen, without waiting for anything.
//!
//! An order is placed only when the table was read under the name's lease and held nothing better, permission was given again, no
//! back-off is running, and the issuer's budget granted it. Whatever is unknown is the next step. Each state holds what its step needs,
//! so that no step can be taken without it (`whatever_happens_a_flight_ends_and_orders_once_an_issuer`).

use std::{sync::Arc, time::SystemTime};

use super::{
    CertificateRefusal,
    acme::Issued,
    choice::Candidate,
    failure::{OrderFailure, OrderFault},
    order_permits::OrderPermit,
};
use crate::{
    domains::DomainEntry,
    name::Pattern,
    store::{
        certificate_table::{IssuerKey, Lock},
        state_table::pause::Pause,
    },
};

/// What a certificate is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// To be presented: any valid one will do.
    Obtain,
    /// The same, but nothing may be ordered: permission is unknown.
    Load,
    /// To replace one before it ends.
    Renew,
    /// To replace one on request, whatever its date.
    Replace,
}

impl Purpose {
    pub(super) const ALL: [Self; 4] = [Self::Obtain, Self::Load, Self::Renew, Self::Replace];
}

/// What stays the same while a certificate is obtained.
#[derive(Debug, Clone)]
pub(super) struct Goal {
    pub(super) name: Pattern,
    pub(super) purpose: Purpose,
    /// Serial number of the certificate that another is to replace on request, if there is one.
    pub(super) superseded: Option<String>,
    pub(super) issuers: usize,
    /// When waiting for another instance's order ends.
    pub(super) give_up_at: SystemTime,
    /// When waiting for a permit to order ends.
    pub(super) give_up_permit_at: SystemTime,
}

/// What was seen so far.
#[derive(Debug, Clone)]
pub(super) struct OrderFacts {
    pub(super) reading: Option<TableReading>,
    pub(super) standing: Option<PermissionStanding>,
    pub(super) permit: PermitState,
    pub(super) lease: LeaseState,
    /// The issuer to ask now; none when whatever failed would fail with all others, too.
    pub(super) issuer: Option<usize>,
    /// When the first of the issuers before it may be asked that were passed over.
    pub(super) passed_over_until: Option<SystemTime>,
    /// That it may be asked.
    pub(super) grant: Option<Grant>,
    pub(super) progress: OrderProgress,
}

/// What the table held.
#[derive(Debug, Clone)]
pub(super) struct TableReading {
    pub(super) certificate: Option<Candidate>,
    /// When the certificate's record wants it renewed, which may be before its last third.
    pub(super) scheduled: Option<SystemTime>,
    pub(super) back_off: BackOff,
    pub(super) under_lease: bool,
}

/// Whether the back-off after earlier failures allows an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BackOff {
    None,
    Until(SystemTime),
    /// Until somebody asks for it.
    Stopped,
}

/// Permission, asked again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PermissionStanding {
    Allow(Arc<DomainEntry>),
    Deny,
    Unknown,
    /// It is allowed, and what its entry or the client may spend is spent.
    Spent,
}

/// The right to have an order under way on this instance, which those need that clients cause.
#[derive(Debug, Clone)]
pub(super) enum PermitState {
    /// Not asked for yet, or waited for.
    Wanted,
    Held {
        _permit: OrderPermit,
    },
    /// Too many wait for one.
    Refused,
}

/// The fleet's lease on the name's order.
#[derive(Debug, Clone)]
pub(super) enum LeaseState {
    Unasked,
    Held(Lock),
    Elsewhere,
}

/// Proof that an issuer may be asked: its budget has granted an order, and no other instance is the first to try it after a pause.
#[derive(Debug, Clone, Default)]
pub(super) struct Grant {
    /// The pause that this order ends if it succeeds.
    pub(super) pause: Option<Pause>,
}

/// How far the order has come.
#[derive(Debug, Clone)]
pub(super) enum OrderProgress {
    /// No issuer has given a certificate; what those asked so far have failed of.
    Ordering(Option<OrderFailure>),
    /// There is a certificate that is not in the table, and how often it may be tried to write it.
    Obtained(Arc<Obtained>, u8),
    /// There is a certificate, and nothing left to do but to present it.
    Done(Candidate),
    /// The failure is in the table.
    Recorded,
}

/// A certificate that an issuer returned.
#[derive(Debug)]
pub(super) struct Obtained {
    /// Which of the issuers.
    pub(super) issuer: usize,
    pub(super) issued: Issued,
    pub(super) candidate: Candidate,
}

/// What to do.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Read,
    Serve(Candidate),
    AskPermission,
    AwaitPermit,
    TakeLease,
    AwaitHolder,
    Spend { issuer: usize },
    Order { issuer: usize, lock: Lock, grant: Grant },
    Commit(Arc<Obtained>),
    RecordFailure(OrderFailure, Option<Candidate>),
    Refuse(CertificateRefusal),
}

impl OrderFacts {
    pub(super) fn nothing() -> Self {
        Self {
            reading: None,
            standing: None,
            permit: PermitState::Wanted,
            lease: LeaseState::Unasked,
            issuer: Some(0),
            passed_over_until: None,
            grant: None,
            progress: OrderProgress::Ordering(None),
        }
    }

    /// The issuer may not be asked before `until`: the next one is tried.
    pub(super) fn pass_over(&mut self, until: SystemTime) {
        self.passed_over_until = Some(self.passed_over_until.map_or(until, |earlier| earlier.min(until)));
        self.pass_on();
    }

    pub(super) fn pass_on(&mut self) {
        (self.issuer, self.grant) = (self.issuer.and_then(|issuer| issuer.checked_add(1)), None);
    }

    /// The issuer failed: the table is read once more before anything else, since somebody else may have succeeded.
    pub(super) fn fail(&mut self, failure: OrderFailure, is_lease_held: bool) {
        let before = match std::mem::replace(&mut self.progress, OrderProgress::Recorded) {
            OrderProgress::Ordering(before) => before,
            OrderProgress::Obtained(..) | OrderProgress::Done(_) | OrderProgress::Recorded => None,
        };
        let failure = match self.passed_over_until {
            Some(until) => failure.behind(until),
            None => failure,
        };
        // What fails here would fail at the next issuer, too, and leave an order with it.
        if failure.fault == OrderFault::Ours {
            self.issuer = None;
        }
        self.progress = OrderProgress::Ordering(Some(OrderFailure::of_both(before, failure)));
        self.reading = None;
        if !is_lease_held {
            self.lease = LeaseState::Unasked;
        }
        self.pass_on();
    }

    pub(super) fn obtain(&mut self, obtained: Obtained) {
        self.progress = OrderProgress::Obtained(Arc::new(obtained), COMMITS);
    }

    /// The item is not what was read: somebody else wrote first.
    pub(super) fn fail_to_commit(&mut self, obtained: Arc<Obtained>) {
        let left = match &self.progress {
            OrderProgress::Obtained(_, left) => left.saturating_sub(1),
            OrderProgress::Ordering(_) | OrderProgress::Done(_) | OrderProgress::Recorded => 0,
        };
        self.progress = OrderProgress::Obtained(obtained, left);
        self.reading = None;
    }

    /// The lease is another's, and so is the order: no permit is needed.
    pub(super) fn lose_lease(&mut self) {
        (self.lease, self.permit) = (LeaseState::Elsewhere, PermitState::Wanted);
    }

    /// Much may happen while another instance orders, or many others are to be ordered here: all of it is looked at again.
    pub(super) fn look_again(&mut self) {
        (self.lease, self.reading, self.standing) = (LeaseState::Unasked, None, None);
    }
}

impl Goal {
    pub(super) fn next(&self, now: SystemTime, seen: &OrderFacts) -> Step {
        if let OrderProgress::Done(candidate) = &seen.progress {
            return Step::Serve(candidate.clone());
        }
        if let OrderProgress::Obtained(obtained, COMMITS) = &seen.progress {
            return Step::Commit(Arc::clone(obtained));
        }
        let Some(reading) = &seen.reading else { return Step::Read };
        if let Some(candidate) = reading.certificate.as_ref().filter(|held| self.is_met(held, reading, now)) {
            return Step::Serve(candidate.clone());
        }
        match &seen.progress {
            OrderProgress::Obtained(obtained, 1..) => Step::Commit(Arc::clone(obtained)),
            // It is valid, and was issued: if it could not be written, it is presented from memory.
            OrderProgress::Obtained(obtained, 0) => {
                Step::RecordFailure(OrderFailure::not_kept(), Some(obtained.candidate.clone()))
            }
            OrderProgress::Done(candidate) => Step::Serve(candidate.clone()),
            OrderProgress::Recorded => Step::Refuse(CertificateRefusal::Failed),
            OrderProgress::Ordering(failure) => self.order(now, seen, reading, failure.as_ref()),
        }
    }

    fn order(
        &self,
        now: SystemTime,
        seen: &OrderFacts,
        reading: &TableReading,
        failure: Option<&OrderFailure>,
    ) -> Step {
        match seen.standing {
            _ if self.purpose == Purpose::Load => return Step::Refuse(CertificateRefusal::Unknown),
            None => return Step::AskPermission,
            Some(PermissionStanding::Deny) => return Step::Refuse(CertificateRefusal::Denied),
            Some(PermissionStanding::Unknown) => return Step::Refuse(CertificateRefusal::Unknown),
            Some(PermissionStanding::Spent) => return Step::Refuse(CertificateRefusal::BackingOff),
            Some(PermissionStanding::Allow(_)) => {}
        }
        match reading.back_off {
            // The failure of this call itself is not recorded yet.
            BackOff::Until(_) if failure.is_some() => {}
            BackOff::Until(retry_at) if now < retry_at => {
                return Step::Refuse(CertificateRefusal::BackingOff);
            }
            BackOff::Stopped => return Step::Refuse(CertificateRefusal::BackingOff),
            BackOff::None | BackOff::Until(_) => {}
        }
        let lock = match &seen.lease {
            LeaseState::Unasked => return self.begin(now, seen, failure),
            // Somebody else orders it; others are due meanwhile.
            LeaseState::Elsewhere if self.purpose == Purpose::Renew && failure.is_none() => {
                return Step::Refuse(CertificateRefusal::Busy);
            }
            LeaseState::Elsewhere if now >= self.give_up_at => {
                // Otherwise the next ClientHello would order again at once.
                let failed = failure.map(|failure| Step::RecordFailure(failure.clone(), None));
                return failed.unwrap_or(Step::Refuse(CertificateRefusal::Slow));
            }
            LeaseState::Elsewhere => return Step::AwaitHolder,
            LeaseState::Held(_) if !reading.under_lease => return Step::Read,
            LeaseState::Held(lock) => lock.clone(),
        };
        match (seen.issuer.filter(|issuer| *issuer < self.issuers), &seen.grant, failure) {
            (Some(issuer), Some(grant), _) => Step::Order { issuer, lock, grant: grant.clone() },
            (Some(issuer), None, _) => Step::Spend { issuer },
            (None, _, Some(failure)) => Step::RecordFailure(failure.clone(), None),
            (None, _, None) => Step::Refuse(CertificateRefusal::BackingOff),
        }
    }

    /// Nobody who waits for a permit holds the lease meanwhile, which another instance can use.
    fn begin(&self, now: SystemTime, seen: &OrderFacts, failure: Option<&OrderFailure>) -> Step {
        match seen.permit {
            PermitState::Held { .. } => Step::TakeLease,
            // One whose order has failed here has had one; and renewals are bounded by those who claim them.
            PermitState::Wanted | PermitState::Refused
                if self.purpose != Purpose::Obtain || failure.is_some() =>
            {
                Step::TakeLease
            }
            PermitState::Wanted if now < self.give_up_permit_at => Step::AwaitPermit,
            PermitState::Wanted => Step::Refuse(CertificateRefusal::Slow),
            PermitState::Refused => Step::Refuse(CertificateRefusal::Busy),
        }
    }

    fn is_met(&self, held: &Candidate, reading: &TableReading, now: SystemTime) -> bool {
        match self.purpose {
            Purpose::Obtain | Purpose::Load => held.pair.is_valid(now),
            // What the operator brought is the operator's to replace.
            Purpose::Renew if held.issuer == IssuerKey::own() => held.pair.is_valid(now),
            Purpose::Renew => {
                let renew_at = held.pair.life.renew_at(&self.name);
                now < reading.scheduled.map_or(renew_at, |scheduled| scheduled.min(renew_at))
            }
            Purpose::Replace => {
                held.pair.is_valid(now) && self.superseded.as_ref() != Some(&held.pair.serial)
            }
        }
    }
}

/// How often a certificate is written at most: once more after somebody else has changed the item to something unusable.
const COMMITS: u8 = 2;

#[cfg(test)]
mod tests;
