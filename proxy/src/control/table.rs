//! Answers that need the tables only: the same whether an instance gives them or the command line itself.

use super::wire::{
    Bookmark, CertificatePage, Domain, EntryPage, ReindexPart, ReindexReport, Retried, Tenant,
};
use crate::{
    certificates::{listing, own},
    clock,
    config::{DomainSettings, StaticDomain},
    name::Pattern,
    store::{
        Store, StoreError,
        domain_table::{self, DEFAULT_TENANT, DomainRecord, DomainStatus, Whose, checks::get_checked},
        instant::Micros,
    },
};

/// No such entry.
#[derive(Debug, thiserror::Error)]
#[error("domain `{0}` does not exist; `gatehouse domain list` shows those that do")]
pub struct NoDomain(pub Pattern);

/// No such certificate.
#[derive(Debug, thiserror::Error)]
#[error("there is no certificate for `{0}`; an allowed name gets one in its first handshake")]
pub struct NoCertificate(pub Pattern);

/// Part of the list of names, of all tenants or one: those of the configuration with the first part, then the table's behind
/// `after`.
pub async fn domains(
    store: &Store,
    listed: &[StaticDomain],
    tenant: Option<&Tenant>,
    after: Option<&Pattern>,
    limit: u16,
) -> Result<EntryPage<Domain>, StoreError> {
    let whose = tenant.map_or(Whose::Everybody, |tenant| Whose::Tenant(tenant.as_str()));
    let part = domain_table::list(store, whose, after, limit).await?;
    // What stands in the configuration is the operator's own.
    let is_meant = after.is_none() && tenant.is_none_or(|tenant| tenant.as_str() == DEFAULT_TENANT);
    let listed = listed.iter().filter(|_| is_meant).map(Domain::from);
    Ok(EntryPage {
        items: listed.chain(part.records.iter().map(Domain::from)).collect(),
        next: part.next.map(|next| next.to_string()),
        malformed: part.malformed.iter().map(ToString::to_string).collect(),
    })
}

/// The entry of `pattern`, or that of its pair, or of the wildcard that covers it.
pub async fn domain(
    store: &Store,
    listed: &[StaticDomain],
    pattern: &Pattern,
) -> Result<Option<Domain>, StoreError> {
    let candidates: Vec<_> = match pattern {
        Pattern::Exact(name) => name.entries().collect(),
        Pattern::Wildcard(_) => vec![pattern.clone()],
    };
    for candidate in &candidates {
        let speaks = |settings: DomainSettings| match pattern {
            Pattern::Exact(name) => settings.speaks_for(candidate, name),
            Pattern::Wildcard(_) => true,
        };
        let listed = listed.iter().find(|entry| entry.name == *candidate);
        if let Some(entry) = listed.filter(|entry| speaks(entry.settings)) {
            return Ok(Some(entry.into()));
        }
        let found = get_checked(store, candidate).await?;
        let is_living = |record: &DomainRecord| record.status != DomainStatus::Removed;
        if let Some((record, checks)) =
            found.filter(|(record, _)| is_living(record) && speaks(record.settings))
        {
            return Ok(Some(Domain { checks, ..(&record).into() }));
        }
    }
    Ok(None)
}

/// Part of the list of certificates, by when they are to be renewed; the operator's own with the first part.
pub async fn certificates(
    store: &Store,
    after: Option<&Bookmark>,
    limit: u16,
) -> Result<CertificatePage, StoreError> {
    let own = if after.is_none() { own::list(store).await? } else { Vec::new() };
    let items = listing::list(store, after.map(|after| &after.0), limit).await?;
    let next = items.last().filter(|_| items.len() >= usize::from(limit)).cloned();
    let next = next.map(|last| Bookmark(last.listed).to_string());
    Ok(CertificatePage { own, ordered: EntryPage { next, items, malformed: Vec::new() } })
}

/// Ends the back-off of a name whose orders have failed; `subject` is what its certificate is ordered for.
pub async fn retry(store: &Store, name: &Pattern, subject: &Pattern) -> Result<Retried, StoreError> {
    let mut had_failed = listing::retry(store, name).await?;
    if subject != name {
        had_failed |= listing::retry(store, subject).await?;
    }
    Ok(Retried { server_name: name.clone(), had_failed })
}

/// What has become of the back-offs of the names that an entry speaks for.
#[derive(Debug)]
pub struct RetriedEntry {
    /// These.
    pub names: Vec<Pattern>,
    /// Whether one of them had failed.
    pub had_failed: bool,
}

/// The names that `entry` speaks for. Who has an entry has the other name of its pair, and no other means to have it ordered again.
pub async fn names_of(store: &Store, entry: &DomainRecord) -> Result<Vec<Pattern>, StoreError> {
    let mut names = vec![entry.pattern.clone()];
    if let Some(other) = entry.settings.counterpart(&entry.pattern).map(Pattern::Exact) {
        // An entry of its own comes before the pair, and may be another tenant's.
        if domain_table::living(store, &other).await?.is_none() {
            names.push(other);
        }
    }
    Ok(names)
}

/// Ends the back-off of each name that `entry` speaks for, and of nothing else: a wildcard above it that the settings list is the operator's, who
/// has mended nothing of it by an entry.
pub async fn retry_entry(store: &Store, entry: &DomainRecord) -> Result<RetriedEntry, StoreError> {
    let (names, mut had_failed) = (names_of(store, entry).await?, false);
    for name in &names {
        had_failed |= listing::retry(store, name).await?;
    }
    Ok(RetriedEntry { names, had_failed })
}

/// The back-off of an entry that was added goes on: who adds a name has often just corrected what its orders failed of, but the addition does
/// not fail with it.
pub fn warn_not_retried(entry: &DomainRecord, error: &StoreError) {
    let error: &dyn std::error::Error = error;
    tracing::warn!(server_name = %entry.pattern, error, "the back-off of the added name was not ended; `gatehouse certificate retry` does it");
}

/// Repairs a part of the items made by hand.
pub async fn reindex(store: &Store, part: ReindexPart) -> Result<ReindexReport, StoreError> {
    let done = domain_table::reindex(store, Micros::of(clock::wall()), part.after).await?;
    let malformed = done.malformed.iter().map(ToString::to_string).collect();
    Ok(ReindexReport { repaired: done.repaired, malformed, next: done.next })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use aws_sdk_dynamodb::types::AttributeValue;

    use super::*;
    use crate::{
        config::WwwPair,
        domains::admin::added_for_tests,
        store::{Engine, certificate_table, state_table, tables},
    };

    #[tokio::test]
    async fn who_is_added_is_ordered_at_once_whatever_failed_before() {
        let store = Store::on(Engine::in_memory().unwrap(), &crate::config::StoreConfig::default());
        tables::create(&store).await.unwrap();
        let name = Pattern::parse("a.example.com").unwrap();
        let mut record = state_table::OrderRecord::new(&name);
        (record.failures, record.retry_at) = (4, Some(clock::wall() + std::time::Duration::from_hours(24)));
        let failures =
            async || certificate_table::read(&store, &[], &name).await.unwrap().record.unwrap().failures;
        state_table::put_failure(&store, &record).await.unwrap();
        for (added, expected) in [("*.example.com", 4), ("b.example.com", 4), ("a.example.com", 0)] {
            retry_entry(&store, &added_for_tests(&Pattern::parse(added).unwrap())).await.unwrap();
            assert_eq!(failures().await, expected, "{added}");
        }
    }

    #[tokio::test]
    async fn a_large_table_is_reindexed_part_after_part() {
        let store = Store::on(Engine::in_memory().unwrap(), &crate::config::StoreConfig::default());
        tables::create(&store).await.unwrap();
        for name in (0..230).map(|n| format!("hand{n}.example")).chain(["UPPER.example".to_owned()]) {
            let put = store.client().put_item().table_name(&store.tables().domains);
            put.item("domain", AttributeValue::S(name)).send().await.unwrap();
        }
        let parts = Cell::new(0);
        let repaired = async |part| {
            parts.set(parts.get() + 1);
            reindex(&store, part).await
        };
        for left in [230, 0] {
            let whole = ReindexReport::of_all_parts(repaired).await.unwrap();
            assert_eq!((whole.repaired, whole.malformed.len(), whole.next), (left, 1, None));
        }
        assert!(parts.get() >= 6, "{} parts", parts.get());
    }

    #[tokio::test]
    async fn an_entry_has_the_other_name_of_its_pair_ordered_again_unless_that_has_one_of_its_own() {
        let store = Store::on(Engine::in_memory().unwrap(), &crate::config::StoreConfig::default());
        tables::create(&store).await.unwrap();
        let [apex, www] = ["a.example.com", "www.a.example.com"].map(|name| Pattern::parse(name).unwrap());
        let fail = async || {
            let record = state_table::OrderRecord { failures: 4, ..state_table::OrderRecord::new(&www) };
            state_table::put_failure(&store, &record).await.unwrap();
        };
        let failures =
            async || certificate_table::read(&store, &[], &www).await.unwrap().record.unwrap().failures;
        let entry = |www| {
            let settings = DomainSettings { www, ..DomainSettings::default() };
            DomainRecord { settings, ..added_for_tests(&apex) }
        };
        let pair = entry(Some(WwwPair::Redirect));
        for (entry, had_failed) in
            [(entry(None), false), (entry(Some(WwwPair::Off)), false), (pair.clone(), true)]
        {
            fail().await;
            let retried = retry_entry(&store, &entry).await.unwrap();
            assert_eq!(retried.had_failed, had_failed, "{entry:?}");
            assert_eq!(failures().await, if had_failed { 0 } else { 4 }, "{entry:?}");
        }
        let own = added_for_tests(&www);
        let gone =
            DomainRecord { status: DomainStatus::Removed, version: 2, expires_at: Some(9), ..own.clone() };
        for (own, replaced, had_failed) in [(own, 0, false), (gone, 1, true)] {
            domain_table::put(&store, &own, replaced).await.unwrap();
            fail().await;
            let retried = retry_entry(&store, &pair).await.unwrap();
            assert_eq!(retried.had_failed, had_failed, "{own:?}");
        }
    }

    /// The wildcard of the settings fails, and its names have no orders of their own.
    #[tokio::test]
    async fn a_name_below_a_listed_wildcard_has_the_wildcards_orders_tried_again() {
        let store = Store::on(Engine::in_memory().unwrap(), &crate::config::StoreConfig::default());
        tables::create(&store).await.unwrap();
        let [name, wildcard] =
            ["shop.app.example", "*.app.example"].map(|name| Pattern::parse(name).unwrap());
        let failed = state_table::OrderRecord {
            failures: 4,
            problem: Some("no such zone".to_owned()),
            retry_at: Some(clock::wall()),
            ..state_table::OrderRecord::new(&wildcard)
        };
        state_table::put_failure(&store, &failed).await.unwrap();
        assert!(!retry(&store, &name, &name).await.unwrap().had_failed, "it has none of its own");
        let shown = listing::show(&store, &[], &name, &wildcard).await.unwrap().unwrap();
        assert_eq!((shown.ordered_for, shown.failures), (Some(wildcard.clone()), 4));
        let added = retry_entry(&store, &added_for_tests(&name)).await.unwrap();
        assert!(!added.had_failed && added.names == [name.clone()], "the wildcard is the operator's");
        assert!(retry(&store, &name, &wildcard).await.unwrap().had_failed);
        assert_eq!(listing::show(&store, &[], &name, &wildcard).await.unwrap().unwrap().failures, 0);
    }
}
