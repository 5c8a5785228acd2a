//! Metrics of certificates.

use prometheus::{Histogram, IntCounter, IntGauge, Registry};

use super::CertificateRefusal;
use crate::{
    label,
    telemetry::metrics::{Counters, Histograms, counter, gauge, histogram},
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
            stopped: counter(
                registry,
                "gatehouse_certificate_names_stopped_total",
                "Names whose orders ended after 30 days of failures.",
            )?,
        })
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

const SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0];
