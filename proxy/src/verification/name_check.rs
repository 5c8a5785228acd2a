//! One entry: what is found of its name is written beside it, and says how the entry is to stand.
//! Not here: when a name is looked at (`schedule`, `pass`), and the change of the entry itself (`domains`).

use std::time::Duration;

use tracing::info;

use super::{
    course::{Course, CourseRules},
    look::{LookedAt, Looker, leave_out_caa_of_own},
};
use crate::{
    clock,
    domains::admin::{Action, Report, Standing},
    name::Pattern,
    store::{
        Store, StoreError,
        domain_table::{
            DomainRecord, DomainStatus,
            checks::{Checks, get_checked, put_checks},
        },
        instant::Micros,
        state_table::find_own,
    },
};

/// Looks at names of entries.
#[derive(Clone)]
pub(super) struct NameCheck {
    pub(super) looker: Looker,
    pub(super) rules: CourseRules,
    pub(super) store: Store,
}

/// An entry before its name is looked at.
pub(super) struct Unchecked {
    pub(super) record: DomainRecord,
    /// What was found the last time.
    pub(super) old: Option<Checks>,
}

impl NameCheck {
    /// The entry of `pattern`; none where it is gone, or in a state that no look changes.
    pub(super) async fn read(&self, pattern: &Pattern) -> Result<Option<Unchecked>, StoreError> {
        let found = get_checked(&self.store, pattern).await?;
        let looked_at = found.filter(|(record, _)| is_looked_at(record.status));
        Ok(looked_at.map(|(record, old)| Unchecked { record, old }))
    }

    /// Looks at the name and writes what is found, unless the entry was changed meanwhile. `identities` are those of our CAs, if known.
    pub(super) async fn look(
        &self,
        entry: &Unchecked,
        identities: Option<&[String]>,
    ) -> Result<(Checks, Option<Standing>), StoreError> {
        let DomainRecord { pattern, settings, tenant, status, version, .. } = &entry.record;
        let looked_at = LookedAt { pattern, settings: *settings, tenant, status: *status };
        let mut findings = self.looker.look(looked_at, identities).await;
        leave_out_caa_of_own(&mut findings, pattern, find_own(&self.store)).await?;
        let now = Micros::of(clock::wall());
        let Course { checks, standing } = self.rules.follow(&entry.record, entry.old.as_ref(), findings, now);
        // Before the status, so that who sees the new one sees why.
        match put_checks(&self.store, pattern, *version, &checks).await {
            Ok(()) | Err(StoreError::Conflict) => Ok((checks, standing)),
            Err(error) => Err(error),
        }
    }
}

pub(super) fn is_looked_at(status: DomainStatus) -> bool {
    match status {
        DomainStatus::Pending | DomainStatus::Active | DomainStatus::Failing => true,
        DomainStatus::Suspended | DomainStatus::Removed => false,
    }
}

/// Says in the log what checks have changed, if they have, and `why`; returns whether.
pub(super) fn say_changed(pattern: &Pattern, report: &Report, why: &str) -> bool {
    let is_changed = report.action != Action::Keep;
    if is_changed {
        let (from, to) = (report.from(), report.to());
        info!(name = %pattern, from, to, tenant = report.tenant, why, "domain changed by its checks");
    }
    is_changed
}

/// The lease for it, of which the fleet has one.
pub(super) const JOB: &str = "domain-checks";
/// How long the fleet is without checks when their instance dies.
pub(super) const LEASE: Duration = Duration::from_secs(90);
pub(super) const RENEW: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aws_sdk_dynamodb::types::AttributeValue;

    use super::*;
    use crate::{
        config::{Config, StoreConfig},
        domains::admin::added_for_tests,
        name::ServerName,
        store::{
            Engine,
            domain_table::{
                checks::{Check, Outcome},
                put,
            },
            state_table::{OwnCertificate, change_own},
            tables,
        },
        verification::fixture::{caa, dns_server},
    };

    async fn name_check() -> NameCheck {
        let mut config = Config::default();
        config.verification.edge_names = vec![ServerName::parse("edge.example.net").unwrap()];
        config.verification.edge_addresses = vec!["192.0.2.10".parse().unwrap()];
        config.verification.resolvers =
            vec![dns_server(vec![caa("a.example.", "issue", "digicert.com")]).await];
        let store = Store::on(Engine::in_memory().unwrap(), &StoreConfig::default());
        tables::create(&store).await.unwrap();
        let looker = Looker::new(&config, 443, Arc::new(|_| true)).unwrap().unwrap();
        NameCheck { looker, rules: CourseRules::of(&config.verification), store }
    }

    #[tokio::test]
    async fn caa_records_say_nothing_of_a_name_for_which_the_operator_has_brought_a_certificate() {
        let names = name_check().await;
        let day = Duration::from_hours(24);
        for (own, left, expected) in [
            ("www.a.example", day, None),
            ("*.a.example", day, None),
            ("*.a.example", Duration::ZERO, Some(Outcome::Failed)),
            ("b.example", day, Some(Outcome::Failed)),
        ] {
            let own = Pattern::parse(own).unwrap();
            let certificate = OwnCertificate { serial: "01".to_owned(), not_after: clock::wall() + left };
            change_own(&names.store, |list| {
                list.clear();
                list.insert(own.clone(), certificate.clone());
            })
            .await
            .unwrap();
            let record = added_for_tests(&Pattern::parse("www.a.example").unwrap());
            let identities = ["letsencrypt.org".to_owned()];
            let entry = Unchecked { record, old: None };
            let (checks, _) = names.look(&entry, Some(&identities)).await.unwrap();
            assert_eq!(checks.of(Check::Dns).unwrap().outcome, Outcome::Failed);
            assert_eq!(checks.of(Check::Caa).map(|caa| caa.outcome), expected, "{own} {left:?}");
        }
    }

    /// The update that the page shows behind `heading`, of the entry of `pattern` at `now`.
    async fn written_as_documented(store: &Store, pattern: &Pattern, heading: &str, now: Micros) {
        let page = include_str!("../../../docs/domains-table.md");
        let (_, block) = page.split_once(heading).unwrap();
        let (block, _) = block.split_once("```sh").unwrap().1.split_once("```").unwrap();
        let block = block.replace("'$now'", &now.to_string());
        let option = |name: &str| {
            let (_, value) = block.split_once(&format!("--{name} '")).unwrap();
            value.split_once('\'').unwrap().0
        };
        let map = |name: &str| {
            let map: serde_json::Value = serde_json::from_str(option(name)).unwrap();
            map.as_object().unwrap().clone()
        };
        let mut update = store.client().update_item().table_name(&store.tables().domains);
        update = update.key("domain", AttributeValue::S(pattern.to_string()));
        update = update.condition_expression(option("condition-expression"));
        update = update.update_expression(option("update-expression"));
        for (name, attribute) in map("expression-attribute-names") {
            update = update.expression_attribute_names(name, attribute.as_str().unwrap());
        }
        for (name, value) in map("expression-attribute-values") {
            let text = |kind: &str| value[kind].as_str().map(str::to_owned);
            let value = text("S").map_or_else(|| AttributeValue::N(text("N").unwrap()), AttributeValue::S);
            update = update.expression_attribute_values(name, value);
        }
        update.send().await.unwrap();
    }

    #[tokio::test]
    async fn who_writes_the_table_as_its_page_says_has_what_was_found_before_forgotten() {
        use DomainStatus::{Active, Removed, Suspended};
        let (names, pattern) = (name_check().await, Pattern::parse("www.a.example").unwrap());
        let now = Micros::of(clock::wall());
        let long_ago = now.less(Duration::from_hours(24 * 9));
        let found = Checks {
            checked_at: now.less(Duration::from_hours(1)),
            failures: 2,
            away_since: Some(long_ago),
            unresolved: Vec::new(),
            findings: Vec::new(),
        };
        let expires_at = Some(now.more(Duration::from_hours(24)).seconds());
        let removed = DomainRecord {
            status: Removed,
            version: 3,
            expires_at,
            created_at: Some(long_ago),
            ..added_for_tests(&pattern)
        };
        put(&names.store, &removed, 0).await.unwrap();
        put_checks(&names.store, &pattern, 3, &found).await.unwrap();
        written_as_documented(&names.store, &pattern, "Add again after a removal", now).await;
        let entry = names.read(&pattern).await.unwrap().unwrap();
        let DomainRecord { status, version, tenant, expires_at, created_at, .. } = &entry.record;
        assert_eq!((*status, *version, tenant.as_str()), (Active, 4, "customer-17"));
        assert_eq!((*expires_at, *created_at, &entry.old), (None, Some(now), &None));

        let suspended = DomainRecord { status: Suspended, ..entry.record };
        put(&names.store, &suspended, 4).await.unwrap();
        put_checks(&names.store, &pattern, 4, &found).await.unwrap();
        written_as_documented(&names.store, &pattern, "so resume without what was found", now).await;
        for looks in 1..=2 {
            let entry = names.read(&pattern).await.unwrap().unwrap();
            assert_eq!((entry.record.status, entry.record.version), (Active, 5));
            let (checks, standing) = names.look(&entry, Some(&[])).await.unwrap();
            assert_eq!((checks.failures, standing), (looks, None));
        }
    }
}
