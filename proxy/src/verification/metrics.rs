//! Metrics of checks.

use prometheus::{IntGauge, Registry};

use crate::{
    store::domain_table::checks::{Check, Outcome},
    telemetry::metrics::{Counters2, gauge},
};

pub(super) struct VerificationMetrics {
    pub(super) findings: Counters2<Check, Outcome>,
    pub(super) is_checker: IntGauge,
    pub(super) scheduled: IntGauge,
}

impl VerificationMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            findings: Counters2::register(
                registry,
                "gatehouse_domain_checks_total",
                "Checks of customers' names, by what came of them.",
            )?,
            is_checker: gauge(
                registry,
                "gatehouse_domain_checker",
                "Whether this instance checks the names of the fleet.",
            )?,
            scheduled: gauge(
                registry,
                "gatehouse_domain_checks_scheduled",
                "Names that this instance will check within about an hour.",
            )?,
        })
    }
}
