//! The call for a name's certificate: joined, or begun on the control runtime, and waited for within bounds.
//! Not here: what a call does (`issue`).

use std::{convert::Infallible, net::IpAddr, sync::Arc};

use super::{
    CallOutcome, CertificateCall, CertificateRefusal, CertificatesInner, Slot, failure, issue,
    issuer::Issuer, step::Purpose,
};
use crate::{
    clock,
    domains::Caller,
    name::Pattern,
    single_flight::{Completion, Waiter},
};

impl CertificatesInner {
    pub(super) async fn wait(
        self: &Arc<Self>,
        name: &Pattern,
        purpose: Purpose,
        from: IpAddr,
    ) -> Result<Arc<Slot>, CertificateRefusal> {
        if let Some(refusal) = self.refusals.get(&(name.clone(), purpose)) {
            return Err(refusal);
        }
        // For an unknown name only the table has an answer, and untrusted clients must not choose how often it is asked.
        if purpose == Purpose::Load && !self.domains.admits_lookup(Caller::Client(from)) {
            return Err(CertificateRefusal::Unknown);
        }
        let waiter = self.join_or_start(name, purpose, Some(from))?;
        self.measure_waiters();
        let outcome = tokio::time::timeout(*self.config.wait, waiter.outcome()).await;
        self.measure_waiters();
        // A call is lost when its task panics or the runtime ends.
        outcome.map_or(Err(CertificateRefusal::Slow), |outcome| {
            outcome.unwrap_or(Err(CertificateRefusal::Failed))
        })
    }

    /// Waits for the call that is in flight for `name`, or for one that begins on the control runtime.
    pub(super) fn join_or_start(
        self: &Arc<Self>,
        name: &Pattern,
        purpose: Purpose,
        from: Option<IpAddr>,
    ) -> Result<Waiter<CertificateCall, CallOutcome>, CertificateRefusal> {
        let call = (name.clone(), purpose);
        let begin = |completion: Completion<CertificateCall, CallOutcome>| {
            let (inner, call) = (Arc::clone(self), call.clone());
            self.control.spawn(async move {
                let in_flight = inner.metrics.calls.begin();
                let outcome = issue::run(&inner, &call.0, purpose, from).await;
                drop(in_flight);
                inner.remember(&call, outcome.as_ref().err().copied());
                inner.measure();
                completion.complete(outcome);
            });
        };
        let admit = || Ok::<(), Infallible>(());
        self.in_flight.join(&call, admit, begin).map_err(|_| CertificateRefusal::Busy)
    }

    /// What may have changed meanwhile (permission, lease) is asked again.
    fn remember(&self, call: &CertificateCall, refusal: Option<CertificateRefusal>) {
        match refusal {
            Some(
                refusal @ (CertificateRefusal::BackingOff
                | CertificateRefusal::Failed
                | CertificateRefusal::Unknown),
            ) => {
                self.refusals.insert(call.clone(), refusal);
            }
            None | Some(CertificateRefusal::Denied | CertificateRefusal::Busy | CertificateRefusal::Slow) => {
            }
        }
    }

    pub(super) fn measure(&self) {
        let now = clock::wall();
        let is_paused =
            |issuer: &&Issuer| issuer.paused_until().is_some_and(|until| failure::is_ahead(until, now));
        let paused = self.issuers.iter().filter(is_paused).count();
        self.metrics.paused.set(i64::try_from(paused).unwrap_or(i64::MAX));
        self.metrics.held.cached.set(i64::try_from(self.cache.len()).unwrap_or(i64::MAX));
        self.measure_waiters();
    }

    fn measure_waiters(&self) {
        self.metrics.calls.waiters.set(i64::try_from(self.in_flight.waiters()).unwrap_or(i64::MAX));
    }
}
