//! The budgets of an order, those of few names before those of many: what the name's entry, its sender, its tenant and its registered
//! domain may cause, then what the CA counts for the account. So a refusal costs others nothing, and tells until when it holds.
//! Renewals have their own, so that neither new names nor many names under one parent let certificates expire.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use tracing::warn;

use crate::{
    certificates::{
        CertificatesInner,
        issuer::Issuer,
        metrics::{Drawn, OrderBudget},
        step::{PermissionStanding, Purpose},
    },
    clock, config,
    domains::DomainEntry,
    keyed_counts::network,
    name::{Pattern, ServerName},
    store::{
        Store, StoreError,
        domain_table::DEFAULT_TENANT,
        state_table::budget::{Budget, Spend},
    },
    telemetry::{admit_line, metrics::Label as _},
};

/// An order that is to be placed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw<'a> {
    pub(super) purpose: Purpose,
    pub(super) name: &'a Pattern,
    pub(super) site: Option<&'a DomainEntry>,
    /// The client whose ClientHello asked for it.
    pub(super) from: Option<IpAddr>,
    /// As keys name it.
    pub(super) issuer: &'a str,
    /// How often in a row orders of the name have failed for what the CA has said of it.
    pub(super) failures: u32,
    /// How the CA counts it.
    pub(super) counted: Counted,
    /// Whether it was taken from the renewals' budget already.
    pub(super) is_paid: bool,
    /// Whether the CA has an order of the name that is gone on with: that is no retry.
    pub(super) goes_on: bool,
}

/// Whether a CA counts an order against the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    Yes,
    /// It names the certificate that it replaces (RFC 9773 §5), which Let's Encrypt exempts from all limits.
    Exempt,
}

/// What was taken for an order, until that is placed.
#[derive(Debug)]
pub(super) struct Charged {
    limits: Vec<Limit>,
}

/// What has become of an order that was charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChargedFor {
    /// Whether the CA was sent a new order: one that is gone on with was charged when it was placed.
    pub(super) is_sent: bool,
    /// Whether it has issued a certificate.
    pub(super) is_issued: bool,
}

impl ChargedFor {
    /// No order came of it.
    pub(super) const NOTHING: Self = Self { is_sent: false, is_issued: false };

    /// Whether the CA counts it there: new orders of the account, certificates of a registered domain.
    fn counts(self, of: Drawn) -> bool {
        match of {
            Drawn::Certificates => self.is_issued,
            Drawn::Wildcard
            | Drawn::Source
            | Drawn::Tenant
            | Drawn::Retries
            | Drawn::RetriesOfOne
            | Drawn::Orders
            | Drawn::Renewals
            | Drawn::Counted => self.is_sent,
        }
    }
}

/// A limit of orders.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Limit {
    of: Drawn,
    scope: String,
    most: u64,
    per: Duration,
    /// What is left to orders of other kinds.
    reserve: u64,
}

impl Limit {
    fn new(of: Drawn, scope: impl Into<String>, most: u64, per: Duration) -> Self {
        Self { of, scope: scope.into(), most, per, reserve: 0 }
    }

    fn budget(&self) -> Budget<'_> {
        Budget {
            kind: self.of.as_str(),
            scope: &self.scope,
            most: self.most,
            per: self.per,
            reserve: self.reserve,
        }
    }

    /// Its name in warnings and in the record of spent budgets.
    fn key(&self) -> String {
        format!("{:?} {} {}", self.of, self.scope, self.reserve)
    }
}

impl CertificatesInner {
    /// Takes what `draw` needs of all its budgets; else until when there is not enough.
    pub(super) async fn spend_all(
        &self,
        draw: &Draw<'_>,
        now: SystemTime,
    ) -> Result<Result<Charged, SystemTime>, StoreError> {
        let spent = spend_all(&self.store, &self.spent, limits(draw, &self.config), now).await?;
        Ok(spent
            .map(|limits| Charged { limits })
            .map_err(|(limit, until)| self.defer(&draw.name.to_string(), &limit, until)))
    }

    /// Gives back what was `charged` for an order of `name` and the CA does not count, now that it is known what has become of it.
    pub(super) async fn settle(
        &self,
        name: &Pattern,
        charged: &Charged,
        charged_for: ChargedFor,
        now: SystemTime,
    ) {
        for limit in charged.limits.iter().filter(|limit| !charged_for.counts(limit.of)) {
            self.give_back(name, limit, now).await;
            // It may have been found spent for lack of this one.
            self.spent.invalidate(&limit.key());
        }
    }

    async fn give_back(&self, name: &Pattern, limit: &Limit, now: SystemTime) {
        // What is not given back comes back by itself.
        if let Err(error) = limit.budget().give_back(&self.store, 1, now).await
            && let Some(left_out) = admit_line("order_not_given_back", "")
        {
            let (budget, scope) = (limit.of.as_str(), &limit.scope);
            warn!(server_name = %name, budget, scope, %error, left_out, "what was taken from the budget for an order or a certificate that there is not was not given back");
        }
    }

    /// Takes up to `count` renewals from the budget of `issuer`: how many, or until when there is none.
    pub(in crate::certificates) async fn spend_renewals(
        &self,
        issuer: &str,
        count: u64,
        now: SystemTime,
    ) -> Result<Result<u64, SystemTime>, StoreError> {
        let limit = renewals(issuer, &self.config);
        if let Some(until) = spent_until(&self.spent, &limit, now) {
            return Ok(Err(until));
        }
        let mut wanted = count;
        loop {
            match limit.budget().spend(&self.store, wanted, now).await? {
                Spend::Grant => return Ok(Ok(wanted)),
                // Near its end a budget has less than a batch.
                Spend::Until(_) if wanted > 1 => wanted /= 2,
                Spend::Until(until) => {
                    self.spent.insert(limit.key(), until);
                    return Ok(Err(self.defer("", &limit, until)));
                }
            }
        }
    }

    /// Returns renewals that were taken from the budget of the issuer with this index and are not ordered.
    pub(in crate::certificates) async fn give_back_renewals(&self, issuer: usize, count: u64) {
        let Some(issuer) = self.issuers.get(issuer).map(Issuer::name) else { return };
        let limit = renewals(issuer, &self.config);
        // What is not given back comes back by itself.
        if let Err(error) = limit.budget().give_back(&self.store, count, clock::wall()).await
            && let Some(left_out) = admit_line("renewals_not_given_back", "")
        {
            warn!(issuer, count, %error, left_out, "renewals taken from the budget and not ordered were not given back");
        }
    }

    fn defer(&self, name: &str, limit: &Limit, until: SystemTime) -> SystemTime {
        self.metrics.deferred.bump(limit.of);
        if self.warned.is_due(&limit.key(), clock::now()) {
            let (budget, scope, most, per) = (limit.of.as_str(), &limit.scope, limit.most, limit.per);
            warn!(server_name = name, budget, scope, most, ?per, "an order waits: its budget is spent");
        }
        until
    }

    /// Measures what is left of the budgets; what cannot be read stays as it was.
    pub(in crate::certificates) async fn measure_budgets(&self, now: SystemTime) {
        for (of, limit) in [
            (OrderBudget::Orders, new_orders as fn(&str, &config::CertificatesConfig) -> Limit),
            (OrderBudget::Renewals, renewals),
        ] {
            let mut least = u64::MAX;
            for issuer in &self.issuers {
                let limit = limit(issuer.name(), &self.config);
                let Ok(left) = limit.budget().left(&self.store, now).await else { return };
                least = least.min(left);
            }
            self.metrics.budget_left.set(of, i64::try_from(least).unwrap_or(i64::MAX));
        }
    }

    /// Whether what the name's entry or the client may spend is known to be spent: then no lease is taken either.
    pub(super) fn is_spent(&self, draw: &Draw<'_>, now: SystemTime) -> bool {
        let limits = limits(draw, &self.config);
        let mut narrow = limits.iter().filter(|limit| matches!(limit.of, Drawn::Wildcard | Drawn::Source));
        narrow.any(|limit| spent_until(&self.spent, limit, now).is_some())
    }
}

fn spent_until(spent: &SpentBudgets, limit: &Limit, now: SystemTime) -> Option<SystemTime> {
    spent.get(&limit.key()).filter(|until| now < *until)
}

/// Takes one from each of `limits`, or where one's part of the retries is spent, of what is left beyond it; what it has taken.
async fn spend_all(
    store: &Store,
    spent: &SpentBudgets,
    limits: Vec<Limit>,
    now: SystemTime,
) -> Result<Result<Vec<Limit>, (Limit, SystemTime)>, StoreError> {
    match spend(store, spent, &limits, now).await? {
        None => Ok(Ok(limits)),
        Some((limit, until)) if limit.of == Drawn::RetriesOfOne => {
            let limits = beyond_ones_part(limits);
            // Whichever comes back first; its own part is what it is told of.
            let spent = spend(store, spent, &limits, now).await?;
            Ok(spent.map_or(Ok(limits), |(_, of_rest)| Err((limit, until.min(of_rest)))))
        }
        Some(spent) => Ok(Err(spent)),
    }
}

/// Takes one from each, in this order, and returns the first that is spent, and until when; then nothing is taken.
async fn spend(
    store: &Store,
    spent: &SpentBudgets,
    limits: &[Limit],
    now: SystemTime,
) -> Result<Option<(Limit, SystemTime)>, StoreError> {
    let known = limits.iter().find_map(|limit| Some((limit, spent_until(spent, limit, now)?)));
    if let Some((limit, until)) = known {
        return Ok(Some((limit.clone(), until)));
    }
    for (n, limit) in limits.iter().enumerate() {
        if let Spend::Until(until) = limit.budget().spend(store, 1, now).await? {
            spent.insert(limit.key(), until);
            for taken in limits.iter().take(n) {
                taken.budget().give_back(store, 1, now).await?;
            }
            return Ok(Some((limit.clone(), until)));
        }
    }
    Ok(None)
}

/// Half of all retries stay for those who have something left of their own.
fn beyond_ones_part(limits: Vec<Limit>) -> Vec<Limit> {
    let left = limits.into_iter().filter(|limit| limit.of != Drawn::RetriesOfOne);
    let reserved = |limit: Limit| match limit.of {
        Drawn::Retries => Limit { reserve: limit.most / 2, ..limit },
        _ => limit,
    };
    left.map(reserved).collect()
}

/// The limits of an order, those of few names before those of many.
fn limits(draw: &Draw<'_>, config: &config::CertificatesConfig) -> Vec<Limit> {
    if matches!(draw.purpose, Purpose::Renew | Purpose::Replace) {
        return renewal_limits(draw, config);
    }
    let mut limits = Vec::new();
    // The sender of a ClientHello chooses the name, so the name is charged to its sender and its entry. A wildcard is the operator's choice.
    if let (Pattern::Exact(_), Some(pattern @ Pattern::Wildcard(_))) =
        (draw.name, draw.site.map(|site| &site.pattern))
    {
        let source = draw.from.map(|from| network(from).to_string());
        limits.extend(source.map(|source| Limit::new(Drawn::Source, source, config.orders_per_source, HOUR)));
        limits.push(Limit::new(Drawn::Wildcard, pattern.to_string(), config.orders_per_wildcard, HOUR));
    }
    let registered = format!("{}#{}", draw.issuer, registered_domain(draw.name.name()));
    limits.push(Limit::new(Drawn::Certificates, registered, config.orders_per_registered_domain, WEEK));
    if let Some(site) = draw.site.filter(|site| &*site.tenant != DEFAULT_TENANT) {
        let tenant = format!("{}#{}", draw.issuer, site.tenant);
        limits.push(Limit::new(Drawn::Tenant, tenant, config.orders_per_tenant, ACCOUNT));
    }
    limits.extend(retry_limits(draw, config));
    limits.push(new_orders(draw.issuer, config));
    limits
}

/// Of a name that fails: each [`owner`] has a part of what the fleet has, beyond which half is left to others; and those that have failed for a day
/// leave half of it to those that failed a moment ago, whose owner may just have mended what was wrong.
fn retry_limits(draw: &Draw<'_>, config: &config::CertificatesConfig) -> Vec<Limit> {
    if draw.failures == 0 || draw.goes_on {
        return Vec::new();
    }
    let most = config.retries_per_hour;
    let one = owner(draw.name, draw.site);
    let of_one = (most / ONES_PART).max(1);
    let reserve = if draw.failures > EARLY_FAILURES { most / 2 } else { 0 };
    vec![
        Limit::new(Drawn::RetriesOfOne, format!("{}#{one}", draw.issuer), of_one, HOUR),
        Limit { reserve, ..Limit::new(Drawn::Retries, draw.issuer, most, HOUR) },
    ]
}

fn renewal_limits(draw: &Draw<'_>, config: &config::CertificatesConfig) -> Vec<Limit> {
    let mut limits = Vec::new();
    if !draw.is_paid {
        limits.push(renewals(draw.issuer, config));
    }
    if draw.counted == Counted::Yes {
        let most = config.orders_per_three_hours;
        // New names have as much, and what these do not use.
        limits.push(Limit::new(Drawn::Counted, draw.issuer, most / 2, ACCOUNT));
        limits.push(Limit::new(Drawn::Orders, draw.issuer, most, ACCOUNT));
    }
    limits
}

fn renewals(issuer: &str, config: &config::CertificatesConfig) -> Limit {
    Limit::new(Drawn::Renewals, issuer, config.renewals_per_hour, HOUR)
}

/// What the CA counts for the account, less what renewals may need of it.
fn new_orders(issuer: &str, config: &config::CertificatesConfig) -> Limit {
    let most = config.orders_per_three_hours;
    Limit { reserve: most / 6, ..Limit::new(Drawn::Orders, issuer, most, ACCOUNT) }
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

/// Whose share the orders of `name` are part of: its tenant's, and where there is none its registered domain's.
pub(super) fn owner<'a>(name: &'a Pattern, site: Option<&'a DomainEntry>) -> &'a str {
    let tenant = site.map(|site| &*site.tenant).filter(|tenant| *tenant != DEFAULT_TENANT);
    tenant.unwrap_or_else(|| registered_domain(name.name()))
}

/// Budgets that were found spent a moment ago, and until when.
pub(in crate::certificates) type SpentBudgets = moka::sync::Cache<String, SystemTime>;

/// What the CA counts certificates by (publicsuffix.org).
pub(super) fn registered_domain(name: &ServerName) -> &str {
    psl::domain_str(name.as_str()).unwrap_or(name.as_str())
}

/// Of the retries, the part of one tenant or registered domain.
const ONES_PART: u64 = 5;
/// As many failures lie within two hours; whoever has more is tried once a day.
const EARLY_FAILURES: u32 = 3;
const HOUR: Duration = Duration::from_hours(1);
/// Within what Let's Encrypt counts the orders of an account.
const ACCOUNT: Duration = Duration::from_hours(3);
/// Within what it counts the certificates of a registered domain.
const WEEK: Duration = Duration::from_hours(7 * 24);

#[cfg(test)]
mod tests;
