//! The budgets of an order. First those that an untrusted client can use up, the wildcard entry's and the client address's, then the
//! fleet's. Renewals have their own, so that neither new names nor many names under one parent let certificates expire.

use std::{net::IpAddr, time::SystemTime};

use tracing::warn;

use crate::{
    certificates::{
        CertificatesInner,
        metrics::{Drawn, OrderBudget},
        step::{PermissionStanding, Purpose},
    },
    clock, config,
    domains::DomainEntry,
    keyed_counts::network,
    name::{Pattern, ServerName},
    store::{
        Store, StoreError,
        state_table::budget::{Budget, Spend},
    },
};

/// An order that is to be placed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw<'a> {
    pub(super) purpose: Purpose,
    pub(super) name: &'a ServerName,
    pub(super) site: Option<&'a DomainEntry>,
    /// The client whose ClientHello asked for it.
    pub(super) from: Option<IpAddr>,
    /// As keys name it.
    pub(super) issuer: &'a str,
}

/// A limit of orders.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Limit {
    of: Drawn,
    scope: String,
    most: u64,
    hours: u64,
}

impl Limit {
    fn budget(&self) -> Budget<'_> {
        let kind = match self.of {
            Drawn::Wildcard => "wildcard",
            Drawn::Source => "source",
            Drawn::Orders => "orders",
            Drawn::Certificates => "certificates",
            Drawn::Renewals => "renewals",
        };
        Budget { kind, scope: &self.scope, per_hour: self.most }
    }

    /// Its name in warnings and in the record of spent budgets.
    fn key(&self) -> String {
        format!("{:?} {}", self.of, self.scope)
    }
}

impl CertificatesInner {
    /// Takes what `draw` needs of all its budgets; whether there was enough.
    pub(super) async fn grants(&self, draw: &Draw<'_>, now: SystemTime) -> Result<bool, StoreError> {
        let limits = limits(draw, &self.config);
        let spent = match limits.iter().find(|limit| self.spent.contains_key(&limit.key())) {
            Some(spent) => Some(spent),
            None => spend(&self.store, &limits, now).await?,
        };
        if let Some(spent) = spent {
            self.metrics.deferred.bump(spent.of);
            self.spent.insert(spent.key(), ());
            if self.warned.is_due(&spent.key(), clock::now()) {
                let (budget, scope, most, hours) =
                    (spent.budget().kind, &spent.scope, spent.most, spent.hours);
                warn!(server_name = %draw.name, budget, scope, most, hours, "an order waits: its budget is spent");
            }
        }
        Ok(spent.is_none())
    }

    /// Measures what is left of the hour's budgets; what cannot be read stays as it was.
    pub(in crate::certificates) async fn measure_budgets(&self, now: SystemTime) {
        for (of, kind, most) in [
            (OrderBudget::Orders, Drawn::Orders, self.config.orders_per_hour),
            (OrderBudget::Renewals, Drawn::Renewals, self.config.renewals_per_hour),
        ] {
            let mut least = most;
            for issuer in &self.issuers {
                let limit = Limit { of: kind, scope: issuer.name().to_owned(), most, hours: 1 };
                let Ok(spent) = limit.budget().spent_within(&self.store, 1, now).await else { return };
                least = least.min(most.saturating_sub(spent));
            }
            self.metrics.budget_left.set(of, i64::try_from(least).unwrap_or(i64::MAX));
        }
    }

    /// Whether what the name's entry or the client may spend is known to be spent: then no lease is taken either.
    pub(super) fn is_spent(&self, draw: &Draw<'_>) -> bool {
        let narrow = limits(draw, &self.config)
            .into_iter()
            .filter(|limit| matches!(limit.of, Drawn::Wildcard | Drawn::Source));
        narrow.into_iter().any(|limit| self.spent.contains_key(&limit.key()))
    }
}

/// Takes one from each, in this order, and returns the first that is spent. Longer limits are checked before anything is taken.
async fn spend<'a>(
    store: &Store,
    limits: &'a [Limit],
    now: SystemTime,
) -> Result<Option<&'a Limit>, StoreError> {
    for limit in limits.iter().filter(|limit| limit.hours > 1) {
        if limit.budget().spent_within(store, limit.hours, now).await? >= limit.most {
            return Ok(Some(limit));
        }
    }
    for limit in limits {
        if limit.budget().spend(store, now).await? == Spend::Exhausted {
            return Ok(Some(limit));
        }
    }
    Ok(None)
}

/// The limits of an order, those of few names before those of many.
fn limits(draw: &Draw<'_>, config: &config::CertificatesConfig) -> Vec<Limit> {
    let limit = |of, scope: String, most| Limit { of, scope, most, hours: 1 };
    if matches!(draw.purpose, Purpose::Renew | Purpose::Replace) {
        return vec![limit(Drawn::Renewals, draw.issuer.to_owned(), config.renewals_per_hour)];
    }
    let mut limits = Vec::new();
    // The sender of a ClientHello chooses the name, so the name is charged to its sender and its entry.
    if let Some(pattern @ Pattern::Wildcard(_)) = draw.site.map(|site| &site.pattern) {
        let source = draw.from.map(|from| network(from).to_string());
        limits.extend(source.map(|source| limit(Drawn::Source, source, config.orders_per_source)));
        limits.push(limit(Drawn::Wildcard, pattern.to_string(), config.orders_per_wildcard));
    }
    limits.push(limit(Drawn::Orders, draw.issuer.to_owned(), config.orders_per_hour));
    let registered = format!("{}#{}", draw.issuer, registered_domain(draw.name));
    let most = config.orders_per_registered_domain;
    limits.push(Limit { hours: WEEK_HOURS, ..limit(Drawn::Certificates, registered, most) });
    limits
}

/// The entry of a name for which orders are allowed.
pub(super) fn site_of(standing: Option<&PermissionStanding>) -> Option<&DomainEntry> {
    match standing {
        Some(PermissionStanding::Allow(site)) => Some(&**site),
        None | Some(PermissionStanding::Deny | PermissionStanding::Unknown | PermissionStanding::Spent) => {
            None
        }
    }
}

/// What the CA counts certificates by (publicsuffix.org).
pub(super) fn registered_domain(name: &ServerName) -> &str {
    psl::domain_str(name.as_str()).unwrap_or(name.as_str())
}

const WEEK_HOURS: u64 = 7 * 24;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        domains::PermissionSource,
        store::{Engine, tables},
    };

    fn site(pattern: &str) -> Arc<DomainEntry> {
        Arc::new(DomainEntry {
            pattern: Pattern::parse(pattern).unwrap(),
            target: None,
            settings: config::DomainSettings::default(),
            tenant: "t".into(),
            source: PermissionSource::Table,
            version: 1,
            changed_at_micros: 1,
        })
    }

    fn limits_of(purpose: Purpose, pattern: &str, from: Option<&str>) -> Vec<String> {
        let (name, site) = (ServerName::parse("a.b.customer.co.uk").unwrap(), site(pattern));
        let from = from.map(|from| from.parse().unwrap());
        let draw = Draw { purpose, name: &name, site: Some(&site), from, issuer: "ca" };
        let limits = limits(&draw, &config::CertificatesConfig::default());
        limits.iter().map(|limit| format!("{} of {} in {} h", limit.most, limit.key(), limit.hours)).collect()
    }

    #[test]
    fn labels_under_a_wildcard_cost_their_sender_and_their_entry_before_the_fleet() {
        let fleet = ["100 of Orders ca in 1 h", "50 of Certificates ca#customer.co.uk in 168 h"];
        let exact = limits_of(Purpose::Obtain, "a.b.customer.co.uk", Some("192.0.2.1"));
        assert_eq!(exact, fleet);
        for (from, source) in [("192.0.2.1", "192.0.2.1"), ("2001:db8::1:2:3", "2001:db8::")] {
            let wildcard = limits_of(Purpose::Obtain, "*.b.customer.co.uk", Some(from));
            let narrow = [
                format!("10 of Source {source} in 1 h"),
                "20 of Wildcard *.b.customer.co.uk in 1 h".to_owned(),
            ];
            assert_eq!(wildcard[..2], narrow);
            assert_eq!(wildcard[2..], fleet);
        }
    }

    #[test]
    fn renewals_draw_on_their_own_budget_alone() {
        for pattern in ["a.b.customer.co.uk", "*.b.customer.co.uk"] {
            assert_eq!(limits_of(Purpose::Renew, pattern, None), ["1000 of Renewals ca in 1 h"], "{pattern}");
        }
    }

    #[tokio::test]
    async fn more_renewals_under_one_parent_than_it_may_have_new_names_are_granted() {
        let store = Store::on(Engine::in_memory().unwrap(), &config::StoreConfig::default());
        tables::create(&store).await.unwrap();
        let (now, settings) = (SystemTime::now(), config::CertificatesConfig::default());
        let grant = async |purpose: Purpose, n: u32| {
            let name = ServerName::parse(&format!("n{n}.customer.com")).unwrap();
            let site = site(name.as_str());
            let draw = Draw { purpose, name: &name, site: Some(&site), from: None, issuer: "ca" };
            spend(&store, &limits(&draw, &settings), now).await.unwrap().is_none()
        };
        let mut granted = (0, 0);
        for n in 0..120 {
            granted.0 += u32::from(grant(Purpose::Obtain, n).await);
            granted.1 += u32::from(grant(Purpose::Renew, n).await);
        }
        assert_eq!(granted, (50, 120));
    }

    #[tokio::test]
    async fn one_stranger_under_a_wildcard_leaves_the_fleets_budget_to_others() {
        let store = Store::on(Engine::in_memory().unwrap(), &config::StoreConfig::default());
        tables::create(&store).await.unwrap();
        let (now, settings) = (SystemTime::now(), config::CertificatesConfig::default());
        let grant = async |pattern: &str, label: String, from: &str| {
            let (name, site) = (ServerName::parse(&label).unwrap(), site(pattern));
            let from = Some(from.parse().unwrap());
            let draw = Draw { purpose: Purpose::Obtain, name: &name, site: Some(&site), from, issuer: "ca" };
            spend(&store, &limits(&draw, &settings), now).await.unwrap().is_none()
        };
        let mut granted = 0;
        for n in 0..96 {
            granted += u32::from(grant("*.open.example", format!("r{n}.open.example"), "192.0.2.1").await);
        }
        assert_eq!(granted, 10, "one source");
        for n in 0..96 {
            let from = format!("198.51.100.{n}");
            granted += u32::from(grant("*.open.example", format!("s{n}.open.example"), &from).await);
        }
        assert_eq!(granted, 20, "many sources, one entry");
        assert!(grant("fresh.customer.com", "fresh.customer.com".to_owned(), "192.0.2.1").await);
    }

    #[test]
    fn names_are_counted_under_what_is_registered() {
        for (name, domain) in [
            ("a.b.example.com", "example.com"),
            ("shop.example.co.uk", "example.co.uk"),
            ("me.github.io", "me.github.io"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(registered_domain(&ServerName::parse(name).unwrap()), domain);
        }
    }
}
