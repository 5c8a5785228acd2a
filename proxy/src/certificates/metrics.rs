//! Metrics of certificates: what is waited for, what is held, and how orders and renewals end.

mod calls;
mod held;
mod renewals;

use prometheus::{IntCounter, IntGauge, Registry};

pub(super) use calls::{CallMetrics, WaitEnd};
pub(super) use held::HeldMetrics;
pub(super) use renewals::{Advised, Claimed, RenewalMetrics, Renewed};

use crate::{
    label,
    telemetry::metrics::{Counters, Gauges, Histograms, counter, gauge},
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
        Dns = "dns_error",
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
        Tenant = "tenant",
        Retries = "retries",
        RetriesOfOne = "retries_of_one",
        Orders = "orders",
        Certificates = "certificates",
        Renewals = "renewals",
        Counted = "counted_renewals",
    }
}

label! {
    /// What a table read was for.
    pub(super) enum Sought["for"] {
        Certificate = "certificate",
        Challenge = "challenge",
        OpenChallenges = "open_challenges",
        Renewal = "renewal",
        Follow = "follow",
    }
}

label! {
    /// Whose budget of orders.
    pub(super) enum OrderBudget["budget"] {
        Orders = "orders",
        Renewals = "renewals",
    }
}

pub(super) struct CertificateMetrics {
    pub(super) calls: CallMetrics,
    pub(super) held: HeldMetrics,
    pub(super) orders: Counters<Ordered>,
    pub(super) order_seconds: Histograms<IssuerKind>,
    pub(super) leases: Counters<Leased>,
    pub(super) renewals: RenewalMetrics,
    pub(super) reads: Counters<Sought>,
    pub(super) stopped: IntCounter,
    pub(super) deferred: Counters<Drawn>,
    pub(super) paused: IntGauge,
    pub(super) budget_left: Gauges<OrderBudget>,
}

impl CertificateMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            calls: CallMetrics::register(registry)?,
            held: HeldMetrics::register(registry)?,
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
            leases: Counters::register(
                registry,
                "gatehouse_certificate_leases_total",
                "Attempts to take the lease on a name's order, by outcome.",
            )?,
            renewals: RenewalMetrics::register(registry)?,
            reads: Counters::register(
                registry,
                "gatehouse_certificate_reads_total",
                "Reads of the certificate table, by purpose; `open_challenges` are of the state table, for all names together.",
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
            budget_left: Gauges::register(
                registry,
                "gatehouse_certificate_budget_left",
                "Orders that the fleet may still place at once, at the issuer with the fewest.",
            )?,
            stopped: counter(
                registry,
                "gatehouse_certificate_names_stopped_total",
                "Names whose orders ended after 30 days of failures.",
            )?,
        })
    }
}

/// Bounds of histograms of orders and of waits for them.
const SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0];
