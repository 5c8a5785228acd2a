//! Metrics of the certificates in memory.

use std::time::{Duration, SystemTime};

use prometheus::{IntCounter, IntGauge, Registry};

use crate::{
    label,
    telemetry::metrics::{Gauges, Label, counter, gauge},
};

label! {
    /// Whole days that a certificate in memory has left.
    pub(in crate::certificates) enum DaysLeft["left"] {
        Expired = "expired",
        UnderOne = "under_1d",
        UnderSeven = "under_7d",
        UnderThirty = "under_30d",
        More = "over_30d",
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

pub(in crate::certificates) struct HeldMetrics {
    pub(in crate::certificates) cached: IntGauge,
    pub(in crate::certificates) released: IntCounter,
    by_days_left: Gauges<DaysLeft>,
    next_expiry: IntGauge,
    next_own_expiry: IntGauge,
}

impl HeldMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            cached: gauge(registry, "gatehouse_certificates_cached", "Certificates in memory.")?,
            released: counter(
                registry,
                "gatehouse_certificates_released_total",
                "Certificates dropped from memory because memory was short.",
            )?,
            by_days_left: Gauges::register(
                registry,
                "gatehouse_certificates_left",
                "Certificates in memory by the time they have left; measured once a renewal period.",
            )?,
            next_expiry: expiry(registry, NEXT_EXPIRY)?,
            next_own_expiry: expiry(registry, NEXT_OWN_EXPIRY)?,
        })
    }

    /// Measures certificates that end at these times.
    pub(in crate::certificates) fn measure_expiry(&self, ends: &[SystemTime], now: SystemTime) {
        for days in DaysLeft::ALL {
            let count = ends.iter().filter(|end| DaysLeft::of(end.duration_since(now).ok()) == *days).count();
            self.by_days_left.set(*days, i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.next_expiry.set(first_seconds(ends, now));
    }

    /// Measures the operator's own certificates, which end at these times.
    pub(in crate::certificates) fn measure_own(&self, ends: &[SystemTime], now: SystemTime) {
        self.next_own_expiry.set(first_seconds(ends, now));
    }
}

fn first_seconds(ends: &[SystemTime], now: SystemTime) -> i64 {
    ends.iter().min().map_or(NO_EXPIRY_SECONDS, |end| match end.duration_since(now) {
        Ok(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        Err(ago) => -i64::try_from(ago.duration().as_secs()).unwrap_or(i64::MAX),
    })
}

const NEXT_EXPIRY: [&str; 2] = [
    "gatehouse_certificate_next_expiry_seconds",
    "Seconds until the first certificate in memory expires, negative afterwards; without any, ten years.",
];
const NEXT_OWN_EXPIRY: [&str; 2] = [
    "gatehouse_certificate_own_next_expiry_seconds",
    "Seconds until the first of the operator's own certificates expires, negative afterwards; without any, ten years.",
];

fn expiry(registry: &Registry, [name, help]: [&str; 2]) -> Result<IntGauge, prometheus::Error> {
    let gauge = gauge(registry, name, help)?;
    gauge.set(NO_EXPIRY_SECONDS);
    Ok(gauge)
}

const DAY_SECONDS: u64 = 24 * 60 * 60;
/// Far enough to alarm nobody: a gauge cannot be absent.
const NO_EXPIRY_SECONDS: i64 = 10 * 365 * 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_that_ends_first_and_how_many_have_how_long_are_measured() {
        let registry = Registry::new();
        let metrics = HeldMetrics::register(&registry).unwrap();
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
