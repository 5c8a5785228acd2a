//! Answers that need the tables only: the same whether an instance gives them or the command line itself.

use std::time::SystemTime;

use super::wire::{Domain, Page, Reindexed};
use crate::{
    config::StaticDomain,
    name::Pattern,
    store::{
        Store, StoreError,
        domain_table::{self, DEFAULT_TENANT, Status},
        instant::Micros,
    },
};

/// Part of the list of names: those of the configuration with the first part, then the table's behind `after`.
pub async fn domains(
    store: &Store,
    listed: &[StaticDomain],
    after: Option<&Pattern>,
    limit: u16,
) -> Result<Page<Domain>, StoreError> {
    let records = domain_table::list(store, DEFAULT_TENANT, after, limit).await?;
    let next =
        records.last().filter(|_| records.len() >= usize::from(limit)).map(|last| last.pattern.to_string());
    let listed = listed.iter().filter(|_| after.is_none()).map(Domain::from);
    let kept = records.iter().filter(|record| record.status != Status::Removed).map(Domain::from);
    Ok(Page { items: listed.chain(kept).collect(), next })
}

/// The entry of `pattern`.
pub async fn domain(
    store: &Store,
    listed: &[StaticDomain],
    pattern: &Pattern,
) -> Result<Option<Domain>, StoreError> {
    if let Some(entry) = listed.iter().find(|entry| entry.name == *pattern) {
        return Ok(Some(entry.into()));
    }
    let record = domain_table::get(store, pattern).await?;
    Ok(record.as_ref().filter(|record| record.status != Status::Removed).map(Domain::from))
}

/// Repairs items made by hand.
pub async fn reindex(store: &Store) -> Result<Reindexed, StoreError> {
    let done = domain_table::reindex(store, Micros::of(SystemTime::now())).await?;
    let misshapen = done.misshapen.iter().map(ToString::to_string).collect();
    Ok(Reindexed { repaired: done.repaired, misshapen })
}
