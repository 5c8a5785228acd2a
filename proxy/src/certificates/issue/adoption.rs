//! What is recorded of a certificate that was found and not ordered here: when it is renewed, if it is; and what is kept of any to ask its CA.

use std::time::{Duration, SystemTime};

use instant_acme::CertificateIdentifier;
use tracing::warn;

use super::{Run, record_of};
use crate::{
    certificates::{choice::Candidate, issuer::Issuer, keyed_chain::KeyedChain},
    clock,
    name::Pattern,
    store::state_table::{self, OrderRecord, RenewalInfo},
    telemetry::admit_line,
};

impl Run<'_> {
    /// The name of an own certificate is not due: its certificate is the operator's to replace. Once it is ordered again, it is
    /// adopted again.
    pub(super) fn end_renewals(&self) {
        let is_due = self.stored_certificates.record.as_ref().is_some_and(|record| record.renew_at.is_some());
        if !is_due {
            return;
        }
        let (store, name) = (self.inner.store.clone(), self.goal.name.clone());
        self.inner.control.spawn(async move {
            if let Err(error) = state_table::forget(&store, &name).await
                && let Some(left_out) = admit_line("renewal_not_ended", "")
            {
                warn!(server_name = %name, %error, left_out, "the renewal of a name with an own certificate was not ended; tried again when it is next due");
            }
        });
    }

    /// A certificate without a fresh record of ours, Caddy's for instance, gets one, so that its renewal is found; so does one whose
    /// name was taken out of the renewals and is allowed again.
    pub(super) fn adopt(&self, best: &Candidate) {
        let issuer = self.inner.issuers.iter().find(|issuer| *issuer.key() == best.issuer);
        let made = OrderRecord {
            directory: issuer.and_then(Issuer::directory).map(ToOwned::to_owned),
            ..record_of(&self.goal.name, best.issuer.as_str(), &best.pair)
        };
        let record = match &self.stored_certificates.record {
            Some(old) if old.serial == made.serial => OrderRecord { renew_at: made.renew_at, ..old.clone() },
            _ => made,
        };
        let (directory, begun) = (record.directory.as_deref(), best.pair.life.not_before);
        let info = watched(&self.goal.name, directory, &best.pair, begun);
        self.record(record, info);
    }

    /// While a wildcard's certificate is presented instead of the name's own, nothing is ordered for the name; it is looked at again when
    /// the wildcard's is to be renewed.
    pub(super) fn follow_wildcard(&self, best: &Candidate) {
        let Some(old) = self.stored_certificates.record.as_ref().filter(|old| old.renew_at.is_some()) else {
            return;
        };
        let renew_at = best.pair.life.renew_at(&self.goal.name);
        self.record(OrderRecord { renew_at: Some(renew_at), ..old.clone() }, None);
    }

    /// Writes `record`, unless somebody else has recorded another certificate since, and what is kept to ask its CA.
    fn record(&self, record: OrderRecord, info: Option<RenewalInfo>) {
        let before = self.stored_certificates.record.as_ref().and_then(|old| old.serial.clone());
        let store = self.inner.store.clone();
        self.inner.control.spawn(async move {
            let written = async {
                state_table::put_record(&store, &record, before.as_deref()).await?;
                match &info {
                    Some(info) => {
                        let now = clock::wall();
                        state_table::put_renewal_info(&store, info, now, before.as_deref()).await
                    }
                    None => Ok(()),
                }
            };
            if let Err(error) = written.await
                && let Some(left_out) = admit_line("renewal_unrecorded", "")
            {
                warn!(server_name = %record.name, %error, left_out, "certificate's renewal date was not recorded; tried again when it is next loaded");
            }
        });
    }
}

/// What is kept of a certificate to ask its CA, which has that directory; it may be renewed from `from` on. None for one without an
/// authority key identifier (RFC 9773 §4.1).
pub(in crate::certificates) fn watched(
    name: &Pattern,
    directory: Option<&str>,
    pair: &KeyedChain,
    from: SystemTime,
) -> Option<RenewalInfo> {
    let certificate = CertificateIdentifier::try_from(pair.certificate.key.cert.first()?).ok()?.to_string();
    let life = pair.life.not_after.duration_since(pair.life.not_before).unwrap_or_default();
    Some(RenewalInfo {
        name: name.clone(),
        directory: directory?.to_owned(),
        certificate,
        serial: pair.serial.clone(),
        not_after: pair.life.not_after,
        renew_from: from + SHORTEST_USE,
        // Half of the last third is left for orders that fail.
        renew_until: pair.life.not_before + life * 5 / 6,
        window: None,
    })
}

/// A CA that moves its windows again and again would otherwise have each certificate renewed at once.
const SHORTEST_USE: Duration = Duration::from_hours(1);
