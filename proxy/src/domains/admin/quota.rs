//! How many entries a tenant may have.

use std::collections::HashMap;

use crate::{
    config::DomainsConfig,
    store::domain_table::{DomainRecord, DomainStatus},
};

/// Bounds of the entries of tenants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quotas {
    of_each: Option<u32>,
    of: HashMap<String, u32>,
}

/// Whose entries become more or fewer by a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerChange<'a> {
    /// Who has one fewer.
    pub from: Option<&'a str>,
    /// Who has one more.
    pub to: Option<&'a str>,
}

impl Quotas {
    /// As `config` has them.
    #[must_use]
    pub fn of(config: &DomainsConfig) -> Self {
        let of = config.quotas.iter().map(|quota| (quota.tenant.clone(), quota.entries)).collect();
        Self { of_each: config.entries_per_tenant, of }
    }

    /// How many entries `tenant` may have; absent, as many as it likes.
    #[must_use]
    pub fn limit(&self, tenant: &str) -> Option<u64> {
        self.of.get(tenant).copied().or(self.of_each).map(u64::from)
    }
}

impl<'a> OwnerChange<'a> {
    /// By a change from `old` to `new`. A tombstone is nobody's; a suspended entry is its tenant's.
    #[must_use]
    pub fn of(old: Option<&'a DomainRecord>, new: &'a DomainRecord) -> Self {
        let owner = |record: &'a DomainRecord| {
            (record.status != DomainStatus::Removed).then_some(record.tenant.as_str())
        };
        match (old.and_then(owner), owner(new)) {
            (from, to) if from == to => Self { from: None, to: None },
            (from, to) => Self { from, to },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::TenantQuota, domains::change::tests::record};

    #[test]
    fn a_tenants_own_bound_comes_before_that_of_each() {
        let config = |of_each, own: &[(&str, u32)]| DomainsConfig {
            entries_per_tenant: of_each,
            quotas: own
                .iter()
                .map(|(tenant, entries)| TenantQuota { tenant: (*tenant).into(), entries: *entries })
                .collect(),
            ..DomainsConfig::default()
        };
        for (quotas, acme, zeta) in [
            (config(None, &[]), None, None),
            (config(Some(5), &[]), Some(5), Some(5)),
            (config(Some(5), &[("acme", 9)]), Some(9), Some(5)),
            (config(None, &[("acme", 9)]), Some(9), None),
        ] {
            let quotas = Quotas::of(&quotas);
            assert_eq!((quotas.limit("acme"), quotas.limit("zeta")), (acme, zeta), "{quotas:?}");
        }
    }

    #[test]
    fn entries_count_for_whom_they_are_until_they_are_removed() {
        let of = |tenant: &str, status| DomainRecord { tenant: tenant.into(), status, ..record("a.example") };
        let (active, suspended) = (of("acme", DomainStatus::Active), of("acme", DomainStatus::Suspended));
        let (removed, others) = (of("acme", DomainStatus::Removed), of("zeta", DomainStatus::Pending));
        let change = |from, to| OwnerChange { from, to };
        for (old, new, expected) in [
            (None, &active, change(None, Some("acme"))),
            (Some(&removed), &others, change(None, Some("zeta"))),
            (Some(&active), &removed, change(Some("acme"), None)),
            (Some(&active), &suspended, change(None, None)),
            (Some(&suspended), &others, change(Some("acme"), Some("zeta"))),
            (Some(&removed), &removed, change(None, None)),
        ] {
            assert_eq!(OwnerChange::of(old, new), expected, "{old:?} to {new:?}");
        }
    }
}
