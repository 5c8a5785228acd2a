//! The answer to whether a name may be served, and the entry that it is served by.

use std::{fmt, sync::Arc};

use crate::{
    config::{DomainSettings, SiteRedirect, WwwPair},
    name::{Pattern, ServerName},
    target::Target,
};

/// Whether a name may be served.
#[derive(Debug, Clone)]
pub enum Permission {
    /// It may be served.
    Allow(Arc<DomainEntry>),
    /// It must not be served.
    Deny(Denial),
    /// Its source is down or the budget of look-ups is spent: a valid certificate may be served, nothing ordered.
    Unknown(UnknownReason),
}

impl Permission {
    /// Whether tables may be read for the name. The budget of look-ups is one for all of them: a flood of made-up names
    /// that has spent it must not begin to spend another at the next table. Challenges apart, which have budgets of their own
    /// (`Domains::admits_challenge`).
    #[must_use]
    pub fn allows_reads(&self) -> bool {
        !matches!(self, Self::Deny(_) | Self::Unknown(UnknownReason::BudgetSpent))
    }

    /// Whether a wildcard allows the name, and so any label beside it.
    #[must_use]
    pub fn is_of_wildcard(&self) -> bool {
        matches!(self, Self::Allow(domain_entry) if matches!(domain_entry.pattern, Pattern::Wildcard(_)))
    }
}

/// A domain entry as the data plane needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainEntry {
    /// What it covers.
    pub pattern: Pattern,
    /// Its own target; absent, the default.
    pub target: Option<Target>,
    /// What it sets for its name.
    pub settings: DomainSettings,
    /// The tenant.
    pub tenant: Arc<str>,
    /// Where it is from.
    pub source: PermissionSource,
    /// The table's optimistic lock; 0 for other sources.
    pub version: u64,
    /// `changed_at` of its item, microseconds since the epoch, which distinguishes a name new to the fleet from an old one; 0 for
    /// other sources.
    pub changed_at_micros: u64,
}

impl DomainEntry {
    /// Its own name, where `name`, which it speaks for, is the other one of its pair and only leads there.
    #[must_use]
    pub fn leads_pair(&self, name: &ServerName) -> Option<&ServerName> {
        match (&self.pattern, self.settings.www) {
            (Pattern::Exact(own), Some(WwwPair::Redirect)) if own != name => Some(own),
            (Pattern::Exact(_) | Pattern::Wildcard(_), _) => None,
        }
    }

    /// The name that requests for `name`, which it speaks for, are led to, if it is another.
    #[must_use]
    pub fn leads(&self, name: &ServerName) -> Option<ServerName> {
        if self.settings.www == Some(WwwPair::Redirect) {
            // An item that a hand has written may lead its own name away as well, to where it would be led back from.
            return self.leads_pair(name).cloned();
        }
        self.settings.redirect.unwrap_or(SiteRedirect::Off).leads(name)
    }

    /// [`DomainSettings::speaks_for`].
    #[must_use]
    pub fn speaks_for(&self, name: &ServerName) -> bool {
        self.settings.speaks_for(&self.pattern, name)
    }

    /// The pattern by which lists of names have `name`, which it speaks for: that of the entry, or the other name of its pair.
    #[must_use]
    pub(super) fn pattern_for(&self, name: &ServerName) -> Pattern {
        if self.pattern.covers(name) { self.pattern.clone() } else { Pattern::Exact(name.clone()) }
    }
}

#[cfg(test)]
impl DomainEntry {
    /// One of the configuration that sets nothing.
    pub(crate) fn for_tests(pattern: Pattern) -> Self {
        Self {
            pattern,
            target: None,
            settings: DomainSettings::default(),
            tenant: "t".into(),
            source: PermissionSource::Static,
            version: 0,
            changed_at_micros: 0,
        }
    }
}

/// Sources of permission in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PermissionSource {
    /// The configuration.
    Static,
    /// The domains table.
    Table,
    /// The ask endpoint.
    Ask,
}

/// Why a name is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// No source knows it.
    NoEntry,
    /// Its entry is pending, suspended or removed.
    Withdrawn,
}

/// Why nothing can be said of a name now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownReason {
    /// The table did not answer, or its item cannot be understood.
    SourceDown,
    /// No list holds the name, and the ask endpoint did not answer.
    AskDown,
    /// Too many unknown names at once.
    BudgetSpent,
}

/// For people.
impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoEntry => "no source knows it",
            Self::Withdrawn => "its entry is pending, suspended or removed",
        })
    }
}

/// For people.
impl fmt::Display for UnknownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SourceDown => "the domains table does not answer",
            Self::AskDown => "the ask endpoint does not answer",
            Self::BudgetSpent => "too many unknown names are asked for at once",
        })
    }
}
