//! What programs are told of orders: of each that led to a certificate, in one transaction with it, and of each time that no issuer issued one.
//! How often that is, the name's back-off bounds: after a minute, ten, a hundred, and then once a day for 30 days.

use serde::Serialize;

use super::{Run, budgets::site_of, warn_of};
use crate::{
    certificates::choice::Candidate,
    clock,
    config::EventKind,
    domains::PermissionSource,
    store::{
        StoreError,
        instant::Micros,
        state_table::{Event, OrderRecord, put_event},
    },
};

/// What an event says of a new certificate.
#[derive(Debug, Serialize)]
struct IssuedDetail<'a> {
    /// Under whose key it lies in the table.
    issuer: &'a str,
    serial: &'a str,
    not_after: Micros,
    renew_at: Micros,
}

/// What an event says of orders that failed.
#[derive(Debug, Serialize)]
struct FailedDetail<'a> {
    problem: Option<&'a str>,
    /// In a row.
    failures: u32,
    /// Nothing is ordered before; absent, nothing is until somebody asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<Micros>,
}

impl Run<'_> {
    /// The event of a certificate that is about to be written.
    pub(super) fn issued(&self, candidate: &Candidate) -> Result<Event, StoreError> {
        let (pair, name) = (&candidate.pair, &self.goal.name);
        let detail = IssuedDetail {
            issuer: candidate.issuer.as_str(),
            serial: &pair.serial,
            not_after: Micros::of(pair.life.not_after),
            renew_at: Micros::of(pair.life.renew_at(name)),
        };
        let kind =
            if self.is_renewal() { EventKind::CertificateRenewed } else { EventKind::CertificateObtained };
        Event::new(kind, name, self.tenant(), &detail, Micros::of(clock::wall()))
    }

    /// Tells of orders that failed as `record` says. What cannot be told is told after the next failure.
    pub(super) async fn tell_of_failure(&self, record: &OrderRecord) {
        let detail = FailedDetail {
            problem: record.problem.as_deref(),
            failures: record.failures,
            retry_at: record.retry_at.map(Micros::of),
        };
        let kind = if self.is_renewal() {
            EventKind::CertificateRenewalFailed
        } else {
            EventKind::CertificateObtainFailed
        };
        let at = Micros::of(clock::wall());
        let told = match Event::new(kind, &self.goal.name, self.tenant(), &detail, at) {
            Ok(event) => put_event(&self.inner.store, &event).await,
            Err(error) => Err(error),
        };
        if let Err(error) = told {
            warn_of(&self.goal.name, &error, "webhooks are not told of a failed order");
        }
    }

    /// Whether the name has a valid certificate of its own, which another is to replace.
    fn is_renewal(&self) -> bool {
        let held = self.seen.reading.as_ref().and_then(|reading| reading.certificate.as_ref());
        held.is_some_and(|held| held.pattern == self.goal.name)
    }

    /// Whose the name is, by its entry of the table.
    fn tenant(&self) -> Option<&str> {
        let site = site_of(self.seen.standing.as_ref())?;
        match site.source {
            PermissionSource::Table => Some(&site.tenant),
            PermissionSource::Static | PermissionSource::Ask => None,
        }
    }
}
