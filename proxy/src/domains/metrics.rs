//! What is counted of permission.

use prometheus::{IntGauge, Registry};

use super::{Denial, Doubt, Permission, Source};
use crate::{
    label,
    telemetry::metrics::{Counters, gauge},
};

label! {
    /// Answers that memory did not have at once.
    pub(super) enum Said["answer"] {
        AllowStatic = "allow_static",
        AllowTable = "allow_table",
        AllowAsk = "allow_ask",
        DenyForeign = "deny_foreign",
        DenyWithdrawn = "deny_withdrawn",
        UnknownSourceDown = "unknown_source_down",
        UnknownAskDown = "unknown_ask_down",
        UnknownBudgetSpent = "unknown_budget_spent",
    }
}

label! {
    /// What a source answered to one look-up.
    pub(super) enum Looked["result"] {
        TableFound = "table_found",
        TableWithdrawn = "table_withdrawn",
        TableNothing = "table_nothing",
        TableFailed = "table_failed",
        AskAllowed = "ask_allowed",
        AskDenied = "ask_denied",
        AskFailed = "ask_failed",
    }
}

label! {
    /// How the feed was read.
    pub(super) enum Reading["outcome"] {
        Changes = "changes",
        Full = "full",
        Failed = "failed",
    }
}

pub(super) struct Metrics {
    pub(super) said: Counters<Said>,
    pub(super) looked: Counters<Looked>,
    pub(super) readings: Counters<Reading>,
    pub(super) misshapen: prometheus::IntCounter,
    pub(super) known: IntGauge,
    pub(super) loaded: IntGauge,
    pub(super) lag_seconds: IntGauge,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            said: Counters::register(
                registry,
                "gatehouse_permission_total",
                "Answers to hellos whose name memory did not know.",
            )?,
            looked: Counters::register(
                registry,
                "gatehouse_domain_lookups_total",
                "Look-ups of names in the sources of permission.",
            )?,
            readings: Counters::register(
                registry,
                "gatehouse_domains_feed_reads_total",
                "Readings of the domains table's feed.",
            )?,
            misshapen: crate::telemetry::metrics::counter(
                registry,
                "gatehouse_domains_misshapen_total",
                "Items of the domains table that could not be understood.",
            )?,
            known: gauge(registry, "gatehouse_domains_known", "Names and wildcards that are served.")?,
            loaded: gauge(registry, "gatehouse_domains_loaded", "1 once every list was read whole.")?,
            lag_seconds: gauge(
                registry,
                "gatehouse_domains_feed_lag_seconds",
                "Seconds since the feed was last read whole.",
            )?,
        })
    }
}

impl Said {
    pub(super) fn of(permission: &Permission) -> Self {
        match permission {
            Permission::Allow(site) => match site.source {
                Source::Static => Self::AllowStatic,
                Source::Table => Self::AllowTable,
                Source::Ask => Self::AllowAsk,
            },
            Permission::Deny(Denial::Foreign) => Self::DenyForeign,
            Permission::Deny(Denial::Withdrawn) => Self::DenyWithdrawn,
            Permission::Unknown(Doubt::SourceDown) => Self::UnknownSourceDown,
            Permission::Unknown(Doubt::AskDown) => Self::UnknownAskDown,
            Permission::Unknown(Doubt::BudgetSpent) => Self::UnknownBudgetSpent,
        }
    }
}
