//! Entries as `verification` sees them: told as they are read, and changed by what was found out about their names.

use std::sync::{Arc, atomic::Ordering};

use super::{ChangeError, Domains, RecordObserver, admin, change};
use crate::{
    name::Pattern,
    store::{StoreError, domain_table::DomainRecord},
};

impl Domains {
    /// Has the entry of `pattern` stand as `standing` says, if it is of version `seen` still; returns what was done, and the entry's version.
    ///
    /// # Cancel safety
    /// The change goes on.
    pub async fn follow_checks(
        &self,
        pattern: &Pattern,
        seen: u64,
        standing: admin::Standing,
    ) -> Result<(admin::Report, DomainRecord), ChangeError> {
        let (inner, pattern) = (Arc::clone(&self.inner), pattern.clone());
        let changed = self.inner.control.spawn(async move {
            let store = inner.table.as_ref().ok_or(admin::Refusal::TableOff)?;
            let decision =
                change::follow_checks(store, &pattern, seen, standing, *inner.config.audit_kept).await?;
            inner.registry.apply(std::slice::from_ref(&decision.record));
            Ok((decision.report, decision.record))
        });
        changed.await.unwrap_or_else(|ended| Err(StoreError::Unavailable(ended.into()).into()))
    }

    /// Calls `observer` with the table's entries as they are read: with all of them every hour, and with each change, once or more. It must
    /// not block.
    pub fn observe(&self, observer: RecordObserver) {
        self.inner.registry.observe(observer);
    }

    /// Has the whole table read soon, whatever the hour.
    pub fn read_anew(&self) {
        self.inner.relisted.store(true, Ordering::Release);
    }
}
