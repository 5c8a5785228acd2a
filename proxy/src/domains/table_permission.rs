//! What the domains table alone says of a name, each time by a read of its own: for programs that are asked now and then and remember nothing.

use super::{
    Denial, Permission,
    snapshot::{Snapshot, SnapshotMatch},
};
use crate::{
    name::ServerName,
    store::{
        Store, StoreError,
        domain_table::{self, DomainRecord},
    },
};

/// Whether `name` may be served by the table's entries, as an instance without other sources decides. An error where the table does not
/// answer, or what it holds under this very name cannot be understood: then nothing can be said.
pub async fn permission_by_table(store: &Store, name: &ServerName) -> Result<Permission, StoreError> {
    let patterns: Vec<_> = name.entries().collect();
    let domain_table::Found { records, faults } = domain_table::find(store, &patterns).await?;
    if let Some(own) = faults.into_iter().find(|fault| is_of(fault, name)) {
        return Err(own);
    }
    Ok(match found_in(records.iter(), name) {
        SnapshotMatch::Served(entry) => Permission::Allow(entry),
        SnapshotMatch::Withdrawn => Permission::Deny(Denial::Withdrawn),
        SnapshotMatch::Nothing => Permission::Deny(Denial::NoEntry),
    })
}

/// Whether it is the item of `name` itself that is at fault. Another one is no entry, and stands in nobody's way.
pub(super) fn is_of(fault: &StoreError, name: &ServerName) -> bool {
    matches!(fault, StoreError::Misshapen { key, .. } if key == name.as_str())
}

pub(super) fn found_in<'a>(
    records: impl Iterator<Item = &'a DomainRecord>,
    name: &ServerName,
) -> SnapshotMatch {
    let mut snapshot = Snapshot::default();
    for record in records {
        snapshot.apply(record);
    }
    snapshot.find(name)
}
