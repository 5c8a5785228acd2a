//! Metrics of checks.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

use crate::{
    store::domain_table::checks::{Check, Finding, Outcome},
    telemetry::metrics::{Label as _, gauge, registered},
};

pub(super) struct VerificationMetrics {
    findings: IntCounterVec,
    pub(super) is_checker: IntGauge,
    pub(super) scheduled: IntGauge,
}

impl VerificationMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts =
            Opts::new("gatehouse_domain_checks_total", "Checks of customers' names, by what came of them.");
        let findings = registered(registry, IntCounterVec::new(opts, &["check", "outcome"])?)?;
        for check in Check::ALL {
            for outcome in Outcome::ALL {
                findings.with_label_values(&[check.as_str(), outcome.as_str()]);
            }
        }
        Ok(Self {
            findings,
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

    pub(super) fn count(&self, finding: &Finding) {
        self.findings.with_label_values(&[finding.check.as_str(), finding.outcome.as_str()]).inc();
    }
}
