//! Header and navigation of each page: who is signed in, and which pages there are for them.

use std::collections::BTreeSet;

use super::visitor::Visitor;
use crate::{api_token::Scope, store::state_table::TokenReach};

/// See the module.
pub(super) struct Layout {
    /// What each form sends back.
    pub(super) csrf_token: String,
    /// What the token is called, and its id.
    pub(super) token: String,
    /// With whose entries it works.
    pub(super) reach: String,
    scopes: BTreeSet<Scope>,
    /// Whether it works with everybody's entries.
    pub(super) is_operator: bool,
    pub(super) section: Section,
}

/// Which part of the console a page is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// Entries.
    Domains,
    /// Who changed what.
    Audit,
    /// The instance that answers.
    Overview,
    /// All instances.
    Fleet,
}

/// One of the values that a field may have.
pub(super) struct Choice {
    pub(super) value: &'static str,
    pub(super) text: &'static str,
    pub(super) is_chosen: bool,
}

impl Layout {
    pub(super) fn of(visitor: &Visitor, section: Section) -> Self {
        let record = visitor.admitted.record();
        let reach = match &record.reach {
            TokenReach::Tenant(tenant) => format!("tenant {tenant}"),
            TokenReach::AllTenants => "all tenants".to_owned(),
        };
        Self {
            csrf_token: visitor.csrf_token.clone(),
            token: format!("{} ({})", String::from(record.name.clone()), record.id),
            reach,
            scopes: record.scopes.clone(),
            is_operator: record.reach == TokenReach::AllTenants,
            section,
        }
    }

    pub(super) fn can_read(&self) -> bool {
        self.scopes.contains(&Scope::DomainsRead)
    }

    pub(super) fn can_write(&self) -> bool {
        self.scopes.contains(&Scope::DomainsWrite)
    }

    pub(super) fn can_audit(&self) -> bool {
        self.scopes.contains(&Scope::AuditRead)
    }
}

/// `values` with their texts, and which of them is `chosen`.
pub(super) fn choices(values: &[(&'static str, &'static str)], chosen: &str) -> Vec<Choice> {
    let choice =
        |(value, text): &(&'static str, &'static str)| Choice { value, text, is_chosen: *value == chosen };
    values.iter().map(choice).collect()
}

pub(super) const STATUS: &[(&str, &str)] = &[
    ("", "any"),
    ("pending", "pending"),
    ("active", "active"),
    ("failing", "failing"),
    ("suspended", "suspended"),
];
pub(super) const MINIMUM_TLS: &[(&str, &str)] =
    &[("", "as the settings have it"), ("1.2", "TLS 1.2"), ("1.3", "TLS 1.3")];
pub(super) const HOST: &[(&str, &str)] =
    &[("", "as the settings have it"), ("target", "the target's name"), ("client", "the client's")];
pub(super) const REDIRECT: &[(&str, &str)] = &[
    ("", "as the settings have it"),
    ("off", "none"),
    ("www", "to the name with www."),
    ("apex", "to the name without www."),
];
pub(super) const WWW: &[(&str, &str)] = &[
    ("", "as the settings have it"),
    ("off", "not part of this entry"),
    ("redirect", "led to this name"),
    ("serve", "served as this name"),
];

/// An instant to the second, for people; all are of UTC.
pub(super) fn to_the_second(instant: impl AsRef<str>) -> String {
    let text = instant.as_ref();
    let shown = text.get(..SECONDS).unwrap_or(text);
    format!("{} UTC", shown.replace('T', " "))
}

/// `2026-11-29T03:20:00`.
const SECONDS: usize = 19;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    impl Layout {
        /// One around pages where everything of others is `text`.
        pub(in crate::console) fn sample(text: &str) -> Self {
            let said = || text.to_owned();
            let scopes = Scope::ALL.into_iter().collect();
            Self {
                csrf_token: said(),
                token: said(),
                reach: said(),
                scopes,
                is_operator: true,
                section: Section::Domains,
            }
        }
    }
}
