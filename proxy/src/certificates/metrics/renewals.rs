//! Metrics of due names: who claims them, and how their renewals end.

use prometheus::{IntGauge, Registry};

use crate::{
    label,
    telemetry::metrics::{Counters, gauge},
};

label! {
    /// The outcome of claiming a name that is due.
    pub(in crate::certificates) enum Claimed["outcome"] {
        Take = "claimed",
        Lose = "lost",
    }
}

label! {
    /// The outcome of a due renewal.
    pub(in crate::certificates) enum Renewed["outcome"] {
        Renew = "renewed",
        Forget = "forgotten",
        Deny = "denied",
        Fail = "failed",
        Postpone = "postponed",
    }
}

label! {
    /// The outcome of asking a CA when to renew a certificate.
    pub(in crate::certificates) enum Advised["outcome"] {
        Keep = "unchanged",
        Move = "moved",
        Fail = "failed",
        Postpone = "postponed",
        End = "ended",
    }
}

pub(in crate::certificates) struct RenewalMetrics {
    pub(in crate::certificates) advised: Counters<Advised>,
    pub(in crate::certificates) claims: Counters<Claimed>,
    pub(in crate::certificates) ended: Counters<Renewed>,
    pub(in crate::certificates) searched_at: IntGauge,
}

impl RenewalMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            advised: Counters::register(
                registry,
                "gatehouse_certificate_renewal_info_total",
                "Questions to CAs when a certificate is to be renewed (ARI, RFC 9773), by outcome; `ended` are not asked again.",
            )?,
            claims: Counters::register(
                registry,
                "gatehouse_certificate_claims_total",
                "Claims of names that are due for renewal, by outcome; lost ones went to another instance.",
            )?,
            ended: Counters::register(
                registry,
                "gatehouse_certificate_renewals_total",
                "Due renewals, by outcome.",
            )?,
            searched_at: gauge(
                registry,
                "gatehouse_certificate_renewal_timestamp_seconds",
                "When the last search for due renewals was completed, in seconds since the epoch.",
            )?,
        })
    }
}
