use std::sync::Arc;

use super::*;
use crate::{
    domains::PermissionSource,
    store::{Engine, tables},
};

fn site_of_tenant(pattern: &str, tenant: &str) -> Arc<DomainEntry> {
    Arc::new(DomainEntry {
        pattern: Pattern::parse(pattern).unwrap(),
        target: None,
        settings: config::DomainSettings::default(),
        tenant: tenant.into(),
        source: PermissionSource::Table,
        version: 1,
        changed_at_micros: 1,
    })
}

fn site(pattern: &str) -> Arc<DomainEntry> {
    site_of_tenant(pattern, DEFAULT_TENANT)
}

/// A first order of `name`, by an operator.
fn draw<'a>(purpose: Purpose, name: &'a Pattern, site: &'a DomainEntry) -> Draw<'a> {
    Draw {
        purpose,
        name,
        site: Some(site),
        from: None,
        issuer: "ca",
        failures: 0,
        counted: Counted::Yes,
        is_paid: false,
        goes_on: false,
    }
}

fn texts(draw: &Draw<'_>) -> Vec<String> {
    let limits = limits(draw, &config::CertificatesConfig::default());
    let text = |limit: &Limit| {
        let (of, hours) = (limit.of, limit.per.as_secs() / 3600);
        format!("{} of {of:?} {} in {hours} h less {}", limit.most, limit.scope, limit.reserve)
    };
    limits.iter().map(text).collect()
}

/// An empty table, and a way to draw from it.
#[derive(Clone)]
struct Fleet {
    store: Store,
    spent: SpentBudgets,
    now: SystemTime,
}

impl Fleet {
    async fn new() -> Self {
        let store = Store::on(Engine::in_memory().unwrap(), &config::StoreConfig::default());
        tables::create(&store).await.unwrap();
        Self { store, spent: SpentBudgets::new(100), now: SystemTime::now() }
    }

    async fn grants(&self, draw: &Draw<'_>) -> bool {
        let limits = limits(draw, &config::CertificatesConfig::default());
        spend_all(&self.store, &self.spent, limits, self.now).await.unwrap().is_ok()
    }
}

#[test]
fn labels_under_a_wildcard_cost_their_sender_and_their_entry_before_the_fleet() {
    let name = Pattern::parse("a.b.customer.co.uk").unwrap();
    let fleet = ["50 of Certificates ca#customer.co.uk in 168 h less 0", "300 of Orders ca in 3 h less 50"];
    let exact = site(&name.to_string());
    let of_client =
        |site, from: &str| Draw { from: Some(from.parse().unwrap()), ..draw(Purpose::Obtain, &name, site) };
    assert_eq!(texts(&of_client(&exact, "192.0.2.1")), fleet);
    let wildcard = site("*.b.customer.co.uk");
    for (from, source) in [("192.0.2.1", "192.0.2.1"), ("2001:db8::1:2:3", "2001:db8::")] {
        let found = texts(&of_client(&wildcard, from));
        let narrow = [
            format!("10 of Source {source} in 1 h less 0"),
            "20 of Wildcard *.b.customer.co.uk in 1 h less 0".to_owned(),
        ];
        assert_eq!(found[..2], narrow);
        assert_eq!(found[2..], fleet);
    }
    let listed = Pattern::parse("*.b.customer.co.uk").unwrap();
    let of_client = Draw { name: &listed, ..of_client(&wildcard, "192.0.2.1") };
    assert_eq!(texts(&of_client), fleet, "a wildcard's own order is nobody's doing but the operator's");
}

#[test]
fn names_that_fail_and_tenants_have_a_part_of_the_fleets_orders() {
    let name = Pattern::parse("a.customer.com").unwrap();
    let (ours, theirs) = (site(&name.to_string()), site_of_tenant(&name.to_string(), "acme"));
    let (tenant, early, daily) = (
        "100 of Tenant ca#acme in 3 h less 0",
        "25 of Retries ca in 1 h less 0",
        "25 of Retries ca in 1 h less 12",
    );
    for (site, failures, narrow) in [
        (&ours, 0, &[][..]),
        (&ours, 1, &["5 of RetriesOfOne ca#customer.com in 1 h less 0", early]),
        (&theirs, 0, &[tenant]),
        (&theirs, 3, &[tenant, "5 of RetriesOfOne ca#acme in 1 h less 0", early]),
        (&theirs, 4, &[tenant, "5 of RetriesOfOne ca#acme in 1 h less 0", daily]),
    ] {
        let order = Draw { failures, ..draw(Purpose::Obtain, &name, site) };
        let found = texts(&order);
        assert_eq!(found[1..found.len() - 1], *narrow, "{failures}");
        let gone_on_with = texts(&Draw { goes_on: true, ..order });
        assert!(!gone_on_with.iter().any(|text| text.contains("Retries")), "{gone_on_with:?}");
    }
}

#[test]
fn renewals_draw_on_the_accounts_orders_only_where_the_ca_counts_them() {
    let name = Pattern::parse("a.customer.com").unwrap();
    let own = "1000 of Renewals ca in 1 h less 0";
    let account = ["150 of Counted ca in 3 h less 0", "300 of Orders ca in 3 h less 0"];
    for pattern in ["a.customer.com", "*.customer.com"] {
        let site = site_of_tenant(pattern, "acme");
        for (counted, is_paid, expected) in [
            (Counted::Exempt, true, vec![]),
            (Counted::Exempt, false, vec![own]),
            (Counted::Yes, true, account.to_vec()),
            (Counted::Yes, false, vec![own, account[0], account[1]]),
        ] {
            let draw = Draw { counted, is_paid, failures: 9, ..draw(Purpose::Renew, &name, &site) };
            assert_eq!(texts(&draw), expected, "{pattern} {counted:?}");
        }
    }
}

#[tokio::test]
async fn more_renewals_under_one_parent_than_it_may_have_new_names_are_granted() {
    let fleet = Fleet::new().await;
    let mut granted = (0, 0);
    for n in 0..120 {
        let name = Pattern::parse(&format!("n{n}.customer.com")).unwrap();
        let site = site(&name.to_string());
        granted.0 += u32::from(fleet.grants(&draw(Purpose::Obtain, &name, &site)).await);
        granted.1 += u32::from(fleet.grants(&draw(Purpose::Renew, &name, &site)).await);
    }
    assert_eq!(granted, (50, 120));
}

#[tokio::test]
async fn one_stranger_under_a_wildcard_leaves_the_fleets_budget_to_others() {
    let fleet = Fleet::new().await;
    let open = site("*.open.example");
    let mut granted = 0;
    for (label, from) in (0..96).map(|n| (format!("r{n}"), "192.0.2.1".to_owned())) {
        let name = Pattern::parse(&format!("{label}.open.example")).unwrap();
        let draw = Draw { from: Some(from.parse().unwrap()), ..draw(Purpose::Obtain, &name, &open) };
        granted += u32::from(fleet.grants(&draw).await);
    }
    assert_eq!(granted, 10, "one source");
    for n in 0..96 {
        let name = Pattern::parse(&format!("s{n}.open.example")).unwrap();
        let from = Some(format!("198.51.100.{n}").parse().unwrap());
        granted += u32::from(fleet.grants(&Draw { from, ..draw(Purpose::Obtain, &name, &open) }).await);
    }
    assert_eq!(granted, 20, "many sources, one entry");
    let (fresh, entry) = (Pattern::parse("fresh.customer.com").unwrap(), site("fresh.customer.com"));
    assert!(fleet.grants(&draw(Purpose::Obtain, &fresh, &entry)).await);
}

/// A customer with a thousand domains that do not lead here.
#[tokio::test]
async fn a_customer_whose_names_fail_costs_nobody_an_order() {
    let fleet = Fleet::new().await;
    let mut granted = 0;
    for n in 0..400 {
        let name = Pattern::parse(&format!("www.wrong{n}.com")).unwrap();
        let site = site_of_tenant(&name.to_string(), "careless");
        for failures in [0, 1] {
            let order = Draw { failures, ..draw(Purpose::Obtain, &name, &site) };
            granted += u32::from(fleet.grants(&order).await);
        }
    }
    assert_eq!(granted, 100, "the tenant's");
    let mut others = 0;
    for n in 0..400 {
        let name = Pattern::parse(&format!("www.right{n}.com")).unwrap();
        let site = site(&name.to_string());
        others += u32::from(fleet.grants(&draw(Purpose::Obtain, &name, &site)).await);
    }
    assert_eq!(others, 150, "all that is not kept for renewals");
    let name = Pattern::parse("www.renewed.com").unwrap();
    let (entry, mut renewed) = (site(&name.to_string()), 0);
    for _ in 0..100 {
        renewed += u32::from(fleet.grants(&draw(Purpose::Renew, &name, &entry)).await);
    }
    assert_eq!(renewed, 50, "what is kept for them");
}

/// A customer who has a hundred names imported before their DNS leads here.
#[tokio::test]
async fn names_of_one_tenant_or_domain_that_fail_leave_retries_to_the_others() {
    let fleet = Fleet::new().await;
    let (mut theirs, mut of_one_domain, mut daily) = (0, 0, 0);
    for n in 0..100 {
        let name = Pattern::parse(&format!("www.wrong{n}.com")).unwrap();
        let site = site_of_tenant(&name.to_string(), "careless");
        let order = Draw { failures: 1, ..draw(Purpose::Obtain, &name, &site) };
        theirs += u32::from(fleet.grants(&order).await);
        let name = Pattern::parse(&format!("n{n}.broken.com")).unwrap();
        let entry = self::site(&name.to_string());
        let order = Draw { failures: 1, ..draw(Purpose::Obtain, &name, &entry) };
        of_one_domain += u32::from(fleet.grants(&order).await);
        let name = Pattern::parse(&format!("www.given-up{n}.com")).unwrap();
        let entry = self::site(&name.to_string());
        let order = Draw { failures: 9, ..draw(Purpose::Obtain, &name, &entry) };
        daily += u32::from(fleet.grants(&order).await);
    }
    assert_eq!(
        (theirs, of_one_domain, daily),
        (5, 5, 4),
        "parts of their own, and together not the half of others"
    );
    let (name, entry) =
        (Pattern::parse("www.wrong0.com").unwrap(), site_of_tenant("www.wrong0.com", "careless"));
    let order = Draw { failures: 1, ..draw(Purpose::Obtain, &name, &entry) };
    let order = limits(&order, &config::CertificatesConfig::default());
    let refused = spend_all(&fleet.store, &fleet.spent, order, fleet.now).await.unwrap();
    assert_eq!(refused.unwrap_err().0.of, Drawn::RetriesOfOne, "that is what is told and counted");
    for n in 0..5 {
        let (name, entry) = (Pattern::parse("www.zeta.com").unwrap(), site_of_tenant("www.zeta.com", "zeta"));
        assert!(fleet.grants(&Draw { failures: 1, ..draw(Purpose::Obtain, &name, &entry) }).await, "{n}");
    }
}

/// Whoever writes the table calls all its names one tenant's.
#[tokio::test]
async fn who_fails_alone_has_what_is_not_kept_for_others() {
    let fleet = Fleet::new().await;
    let mut granted = Vec::new();
    for minute in 0..240 {
        let fleet = Fleet { now: fleet.now + Duration::from_mins(minute), ..fleet.clone() };
        let name = Pattern::parse(&format!("www.wrong{minute}.com")).unwrap();
        let site = site_of_tenant(&name.to_string(), "only");
        if fleet.grants(&Draw { failures: 2, ..draw(Purpose::Obtain, &name, &site) }).await {
            granted.push(minute);
        }
    }
    let of_last_hour = granted.iter().filter(|minute| **minute >= 180).count();
    assert!((23..=27).contains(&of_last_hour), "{of_last_hour} of 25 an hour: {granted:?}");
}

/// What was not issued is not counted there; the orders are, by the account, where they were placed.
#[tokio::test]
async fn what_the_ca_does_not_count_is_given_back() {
    let inner = crate::certificates::tests::Fleet::new(None).await.instance().certificates.inner;
    let now = SystemTime::now();
    let certificates = Limit::new(Drawn::Certificates, "ca#customer.com", 50, WEEK);
    let retries = Limit::new(Drawn::RetriesOfOne, "ca#customer.com", 5, HOUR);
    let mut expected = (50, 250, 5);
    for (is_sent, is_issued, counted) in [
        // Its lease was lost, or the key service was silent.
        (false, false, (0, 0, 0)),
        // One that was placed before is gone on with, and ends with a certificate.
        (false, true, (1, 0, 0)),
        (true, false, (0, 1, 1)),
        (true, true, (1, 1, 1)),
    ] {
        let name = Pattern::parse("a.customer.com").unwrap();
        let site = site(&name.to_string());
        let draw = Draw { failures: 1, ..draw(Purpose::Obtain, &name, &site) };
        let charged = inner.spend_all(&draw, now).await.unwrap().unwrap();
        inner.settle(&name, &charged, ChargedFor { is_sent, is_issued }, now).await;
        expected = (expected.0 - counted.0, expected.1 - counted.1, expected.2 - counted.2);
        let left = async |limit: &Limit| limit.budget().left(&inner.store, now).await.unwrap();
        let found =
            (left(&certificates).await, left(&new_orders("ca", &inner.config)).await, left(&retries).await);
        assert_eq!(found, expected, "sent: {is_sent}, issued: {is_issued}");
    }
}

#[tokio::test]
async fn what_one_budget_refuses_costs_no_other() {
    let fleet = Fleet::new().await;
    for n in 0..60 {
        let name = Pattern::parse(&format!("n{n}.customer.com")).unwrap();
        let site = site_of_tenant(&name.to_string(), "acme");
        fleet.grants(&draw(Purpose::Obtain, &name, &site)).await;
    }
    let settings = config::CertificatesConfig::default();
    let left = async |limit: Limit| limit.budget().left(&fleet.store, fleet.now).await.unwrap();
    assert_eq!(left(new_orders("ca", &settings)).await, 200);
    assert_eq!(left(Limit::new(Drawn::Tenant, "ca#acme", 100, ACCOUNT)).await, 50);
}

#[test]
fn names_are_counted_under_what_is_registered() {
    for (name, domain) in [
        ("a.b.example.com", "example.com"),
        ("shop.example.co.uk", "example.co.uk"),
        ("me.github.io", "me.github.io"),
        ("localhost", "localhost"),
    ] {
        assert_eq!(registered_domain(Pattern::parse(name).unwrap().name()), domain);
    }
}
