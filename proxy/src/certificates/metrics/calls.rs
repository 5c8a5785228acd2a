//! Metrics of calls for certificates, and of the handshakes that wait for them.

use prometheus::{Histogram, IntGauge, Registry};

use super::SECONDS;
use crate::{
    certificates::CertificateRefusal,
    label,
    telemetry::metrics::{Counters, gauge, histogram},
};

label! {
    /// The outcome of a wait for a certificate.
    pub(in crate::certificates) enum WaitEnd["outcome"] {
        Serve = "served",
        Deny = "denied",
        Unknown = "unknown",
        Busy = "busy",
        Slow = "slow",
        BackOff = "backing_off",
        Fail = "failed",
    }
}

pub(in crate::certificates) struct CallMetrics {
    pub(in crate::certificates) obtained: Counters<WaitEnd>,
    pub(in crate::certificates) obtain_seconds: Histogram,
    in_flight: IntGauge,
    pub(in crate::certificates) waiters: IntGauge,
    pub(in crate::certificates) orders_waiting: IntGauge,
}

impl CallMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            obtained: Counters::register(
                registry,
                "gatehouse_certificates_obtained_total",
                "Handshakes that had to wait for a certificate, by outcome.",
            )?,
            obtain_seconds: histogram(
                registry,
                "gatehouse_certificate_obtain_seconds",
                "How long handshakes waited for a certificate that was not in memory.",
                SECONDS,
            )?,
            in_flight: gauge(
                registry,
                "gatehouse_certificate_flights",
                "Names whose certificates are being obtained.",
            )?,
            waiters: gauge(
                registry,
                "gatehouse_certificate_waiters",
                "Handshakes that wait for a certificate.",
            )?,
            orders_waiting: gauge(
                registry,
                "gatehouse_certificate_orders_waiting",
                "Orders for new names that wait until others have ended (`certificates.concurrent_orders`).",
            )?,
        })
    }

    /// Counts a call as in flight until what it returns is dropped.
    pub(in crate::certificates) fn begin(&self) -> CallInFlight {
        self.in_flight.inc();
        CallInFlight(self.in_flight.clone())
    }
}

/// A call that is counted as in flight: dropped it no longer is, also by a panic or the end of its runtime.
pub(in crate::certificates) struct CallInFlight(IntGauge);

impl Drop for CallInFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl WaitEnd {
    pub(in crate::certificates) fn of<T>(outcome: &Result<T, CertificateRefusal>) -> Self {
        match outcome {
            Ok(_) => Self::Serve,
            Err(CertificateRefusal::Denied) => Self::Deny,
            Err(CertificateRefusal::Unknown) => Self::Unknown,
            Err(CertificateRefusal::Busy) => Self::Busy,
            Err(CertificateRefusal::Slow) => Self::Slow,
            Err(CertificateRefusal::BackingOff) => Self::BackOff,
            Err(CertificateRefusal::Failed) => Self::Fail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_that_panics_or_is_cancelled_is_in_flight_no_more() {
        let metrics = CallMetrics::register(&Registry::new()).unwrap();
        let (ended, panicked, cancelled) = (metrics.begin(), metrics.begin(), metrics.begin());
        assert_eq!(metrics.in_flight.get(), 3);
        drop(ended);
        let panicked = tokio::spawn(async move {
            let _in_flight = panicked;
            panic!("as the test asks");
        });
        assert!(panicked.await.unwrap_err().is_panic());
        let cancelled = tokio::spawn(async move {
            let _in_flight = cancelled;
            std::future::pending::<()>().await;
        });
        cancelled.abort();
        assert!(cancelled.await.unwrap_err().is_cancelled());
        assert_eq!(metrics.in_flight.get(), 0);
    }
}
