//! Metrics of certificates.

use std::time::{Duration, SystemTime};

use prometheus::{Histogram, IntCounter, IntGauge, Registry};

use super::CertificateRefusal;
use crate::{
    label,
    telemetry::metrics::{Counters, Gauges, Histograms, Label, counter, gauge, histogram},
};

label! {
    /// The outcome of an order.
    pub(super) enum Ordered["outcome"] {
        Issue = "issued",
        Overtaken = "overtaken",
        Refuse = "refused",
        Invalid = "invalid",
        Unreachable = "unreachable",
        Slow = "slow",
        Internal = "internal_error",
    }
}

label! {
    /// Kinds of issuers.
    pub(super) enum IssuerKind["issuer"] {
        Acme = "acme",
        Internal = "internal",
    }
}

label! {
    /// The outcome of a wait for a certificate.
    pub(super) enum WaitEnd["outcome"] {
        Serve = "served",
        Deny = "denied",
        Unknown = "unknown",
        Busy = "busy",
        Slow = "slow",
        BackOff = "backing_off",
        Fail = "failed",
    }
}

label! {
    /// The outcome of taking a name's lease.
    pub(super) enum Leased["outcome"] {
        Hold = "held",
        Busy = "busy",
        Lost = "lost",
    }
}

label! {
    /// Budgets that an order draws on.
    pub(super) enum Drawn["budget"] {
        Wildcard = "wildcard",
        Source = "source",
        Orders = "orders",
        Certificates = "certificates",
        Renewals = "renewals",
    }
}

label! {
    /// The outcome of a due renewal.
    pub(super) enum Renewed["outcome"] {
        Renew = "renewed",
        Forget = "forgotten",
        Fail = "failed",
        Postpone = "postponed",
    }
}

label! {
    /// What a table read was for.
    pub(super) enum Sought["for"] {
        Certificate = "certificate",
        Challenge = "challenge",
        Renewal = "renewal",
        Follow = "follow",
    }
}

label! {
    /// Whole days that a certificate in memory has left.
    pub(super) enum DaysLeft["left"] {
        Expired = "expired",
        UnderOne = "under_1d",
        UnderSeven = "under_7d",
        UnderThirty = "under_30d",
        More = "over_30d",
    }
}

label! {
    /// Whose budget of orders.
    pub(super) enum OrderBudget["budget"] {
        Orders = "orders",
        Renewals = "renewals",
    }
}

impl DaysLeft {
    fn of(left: Option<Duration>) -> Self {
        let Some(left) = left else { return Self::Expired };
        match left.as_secs() / DAY_SECONDS {
            0 => Self::UnderOne,
            1..7 => Self::UnderSeven,
            7..30 => Self::UnderThirty,
            _ => Self::More,
        }
    }
}

pub(super) struct CertificateMetrics {
    pub(super) orders: Counters<Ordered>,
    pub(super) order_seconds: Histograms<IssuerKind>,
    pub(super) obtained: Counters<WaitEnd>,
    pub(super) obtain_seconds: Histogram,
    pub(super) in_flight: IntGauge,
    pub(super) waiters: IntGauge,
    pub(super) cached: IntGauge,
    pub(super) leases: Counters<Leased>,
    pub(super) renewals: Counters<Renewed>,
    pub(super) renewed_at: IntGauge,
    pub(super) reads: Counters<Sought>,
    pub(super) stopped: IntCounter,
    pub(super) deferred: Counters<Drawn>,
    pub(super) paused: IntGauge,
    by_days_left: Gauges<DaysLeft>,
    next_expiry: IntGauge,
    pub(super) budget_left: Gauges<OrderBudget>,
}

impl CertificateMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            orders: Counters::register(
                registry,
                "gatehouse_certificate_orders_total",
                "Orders placed with issuers, by outcome.",
            )?,
            order_seconds: Histograms::register(
                registry,
                "gatehouse_certificate_order_seconds",
                "Duration of orders, from the first request to the chain.",
                SECONDS,
            )?,
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
            cached: gauge(registry, "gatehouse_certificates_cached", "Certificates in memory.")?,
            leases: Counters::register(
                registry,
                "gatehouse_certificate_leases_total",
                "Attempts to take the lease on a name's order, by outcome.",
            )?,
            renewals: Counters::register(
                registry,
                "gatehouse_certificate_renewals_total",
                "Due renewals, by outcome.",
            )?,
            renewed_at: gauge(
                registry,
                "gatehouse_certificate_renewal_timestamp_seconds",
                "When the last search for due renewals was completed, in seconds since the epoch.",
            )?,
            reads: Counters::register(
                registry,
                "gatehouse_certificate_reads_total",
                "Reads of the certificate table, by purpose.",
            )?,
            deferred: Counters::register(
                registry,
                "gatehouse_certificate_orders_deferred_total",
                "Orders that were not placed because a budget was spent, by budget.",
            )?,
            paused: gauge(
                registry,
                "gatehouse_certificate_issuers_paused",
                "Issuers that are paused after a failure of their own.",
            )?,
            by_days_left: Gauges::register(
                registry,
                "gatehouse_certificates_left",
                "Certificates in memory by the time they have left; measured once a renewal period.",
            )?,
            next_expiry: next_expiry(registry)?,
            budget_left: Gauges::register(
                registry,
                "gatehouse_certificate_budget_left",
                "Orders that the fleet may still place within the hour, at the issuer with the fewest.",
            )?,
            stopped: counter(
                registry,
                "gatehouse_certificate_names_stopped_total",
                "Names whose orders ended after 30 days of failures.",
            )?,
        })
    }
}

fn next_expiry(registry: &Registry) -> Result<IntGauge, prometheus::Error> {
    let help =
        "Seconds until the first certificate in memory expires, negative afterwards; without any, ten years.";
    let gauge = gauge(registry, "gatehouse_certificate_next_expiry_seconds", help)?;
    gauge.set(NO_EXPIRY_SECONDS);
    Ok(gauge)
}

impl CertificateMetrics {
    /// Measures certificates that end at these times.
    pub(super) fn measure_expiry(&self, ends: &[SystemTime], now: SystemTime) {
        for days in DaysLeft::ALL {
            let count = ends.iter().filter(|end| DaysLeft::of(end.duration_since(now).ok()) == *days).count();
            self.by_days_left.set(*days, i64::try_from(count).unwrap_or(i64::MAX));
        }
        let seconds = ends.iter().min().map_or(NO_EXPIRY_SECONDS, |end| match end.duration_since(now) {
            Ok(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            Err(ago) => -i64::try_from(ago.duration().as_secs()).unwrap_or(i64::MAX),
        });
        self.next_expiry.set(seconds);
    }
}

impl WaitEnd {
    pub(super) fn of<T>(outcome: &Result<T, CertificateRefusal>) -> Self {
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

const DAY_SECONDS: u64 = 24 * 60 * 60;
/// Far enough to alarm nobody: a gauge cannot be absent.
const NO_EXPIRY_SECONDS: i64 = 10 * 365 * 24 * 60 * 60;
const SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_that_ends_first_and_how_many_have_how_long_are_measured() {
        let registry = Registry::new();
        let metrics = CertificateMetrics::register(&registry).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        let day = Duration::from_secs(DAY_SECONDS);
        let told = || prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(told().contains("gatehouse_certificate_next_expiry_seconds 315360000"));
        let ends = [now + day / 2, now + 2 * day, now + 6 * day, now + 20 * day, now + 60 * day];
        metrics.measure_expiry(&ends, now);
        for line in [
            "gatehouse_certificate_next_expiry_seconds 43200",
            "gatehouse_certificates_left{left=\"under_1d\"} 1",
            "gatehouse_certificates_left{left=\"under_7d\"} 2",
            "gatehouse_certificates_left{left=\"under_30d\"} 1",
            "gatehouse_certificates_left{left=\"over_30d\"} 1",
            "gatehouse_certificates_left{left=\"expired\"} 0",
        ] {
            assert!(told().contains(line), "{line} in {}", told());
        }
        metrics.measure_expiry(&[now - day], now);
        assert!(told().contains("gatehouse_certificate_next_expiry_seconds -86400"));
        assert!(told().contains("gatehouse_certificates_left{left=\"expired\"} 1"));
    }
}
