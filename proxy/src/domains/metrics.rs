//! Metrics of permissions.

use prometheus::{IntGauge, Registry};

use super::{
    Denial, Permission, PermissionSource, UnknownReason,
    ask::{Reply, Silence},
};
use crate::{
    label,
    telemetry::metrics::{Counters, gauge},
};

label! {
    /// Answers that were not in memory.
    pub(super) enum PermissionResult["answer"] {
        AllowStatic = "allow_static",
        AllowTable = "allow_table",
        AllowAsk = "allow_ask",
        DenyNoEntry = "deny_foreign",
        DenyWithdrawn = "deny_withdrawn",
        UnknownSourceDown = "unknown_source_down",
        UnknownAskDown = "unknown_ask_down",
        UnknownBudgetSpent = "unknown_budget_spent",
    }
}

label! {
    /// What a source answered to one look-up.
    pub(super) enum LookupResult["result"] {
        TableFound = "table_found",
        TableWithdrawn = "table_withdrawn",
        TableNothing = "table_nothing",
        TableFailed = "table_failed",
        AskAllowed = "ask_allowed",
        AskDenied = "ask_denied",
        AskRedirected = "ask_redirected",
        AskUnavailable = "ask_unavailable",
        AskTimedOut = "ask_timed_out",
        AskUnreachable = "ask_unreachable",
    }
}

label! {
    /// How the feed was read.
    pub(super) enum FeedReading["outcome"] {
        Changes = "changes",
        Full = "full",
        Failed = "failed",
    }
}

pub(super) struct DomainMetrics {
    pub(super) said: Counters<PermissionResult>,
    pub(super) looked: Counters<LookupResult>,
    pub(super) readings: Counters<FeedReading>,
    pub(super) malformed: prometheus::IntCounter,
    pub(super) known: IntGauge,
    pub(super) loaded: IntGauge,
    pub(super) ask_up: IntGauge,
    pub(super) readable: IntGauge,
    pub(super) lag_seconds: IntGauge,
}

impl DomainMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            said: Counters::register(
                registry,
                "gatehouse_permission_total",
                "Answers to ClientHellos whose name was not in memory.",
            )?,
            looked: Counters::register(
                registry,
                "gatehouse_domain_lookups_total",
                "Look-ups of names in the sources of permission.",
            )?,
            readings: Counters::register(
                registry,
                "gatehouse_domains_feed_reads_total",
                "Reads of the domains table's feed.",
            )?,
            malformed: crate::telemetry::metrics::counter(
                registry,
                "gatehouse_domains_misshapen_total",
                "Malformed items of the domains table.",
            )?,
            known: gauge(registry, "gatehouse_domains_known", "Names and wildcards that are served.")?,
            ask_up: ask_up(registry)?,
            readable: readable(registry)?,
            loaded: gauge(registry, "gatehouse_domains_loaded", "1 once every list was read completely.")?,
            lag_seconds: gauge(
                registry,
                "gatehouse_domains_feed_lag_seconds",
                "Seconds since the feed was last read completely.",
            )?,
        })
    }
}

fn readable(registry: &Registry) -> Result<IntGauge, prometheus::Error> {
    let help = "0 while the domains table has not answered for ten seconds: names that memory does not hold are unknown.";
    let readable = gauge(registry, "gatehouse_domains_readable", help)?;
    readable.set(1);
    Ok(readable)
}

/// It is up until it fails to answer, so that nobody is alarmed before the first question.
fn ask_up(registry: &Registry) -> Result<IntGauge, prometheus::Error> {
    let help = "1 unless the ask endpoint failed to answer the last question.";
    let up = gauge(registry, "gatehouse_domains_ask_up", help)?;
    up.set(1);
    Ok(up)
}

impl LookupResult {
    pub(super) fn of(reply: Reply) -> Self {
        match reply {
            Reply::Allow => Self::AskAllowed,
            Reply::Deny => Self::AskDenied,
            Reply::Silence(Silence::Redirected) => Self::AskRedirected,
            Reply::Silence(Silence::Unavailable) => Self::AskUnavailable,
            Reply::Silence(Silence::TimedOut) => Self::AskTimedOut,
            Reply::Silence(Silence::Unreachable) => Self::AskUnreachable,
        }
    }
}

impl PermissionResult {
    pub(super) fn of(permission: &Permission) -> Self {
        match permission {
            Permission::Allow(domain_entry) => match domain_entry.source {
                PermissionSource::Static => Self::AllowStatic,
                PermissionSource::Table => Self::AllowTable,
                PermissionSource::Ask => Self::AllowAsk,
            },
            Permission::Deny(Denial::NoEntry) => Self::DenyNoEntry,
            Permission::Deny(Denial::Withdrawn) => Self::DenyWithdrawn,
            Permission::Unknown(UnknownReason::SourceDown) => Self::UnknownSourceDown,
            Permission::Unknown(UnknownReason::AskDown) => Self::UnknownAskDown,
            Permission::Unknown(UnknownReason::BudgetSpent) => Self::UnknownBudgetSpent,
        }
    }
}
