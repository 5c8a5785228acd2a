//! Changes of the table's entries that a running instance is asked for: by commands, and by the checks of their names.
//! Not here: whether a change is to be made (`admin`), and its write (`change`).

use std::sync::Arc;

use super::{ChangeError, Domains, DomainsInner, Revision, admin, ask::Reply, change};
use crate::{
    config,
    name::Pattern,
    store::{Store, StoreError, domain_table::DomainRecord},
};

impl Domains {
    /// Does what `request` asks for; returns what was done, and the revision whose [`NameSet`] holds it.
    ///
    /// # Cancel safety
    /// The change goes on.
    pub async fn administer(
        &self,
        request: admin::Request,
        rules: admin::Rules,
    ) -> Result<(admin::Decision, Revision), ChangeError> {
        let inner = Arc::clone(&self.inner);
        let changed = self.inner.control.spawn(async move {
            let listed = inner.listed.load_full();
            let (store, sources) = inner.table_of(&request.pattern, &listed)?;
            let sources = admin::Sources { asked: inner.asked_for(&request).await, ..sources };
            let decision = change::administer(store, &request, sources, &rules, &inner.registry).await?;
            let revision = inner.registry.apply(std::slice::from_ref(&decision.record));
            Ok((decision, revision))
        });
        changed.await.unwrap_or_else(|ended| Err(StoreError::Unavailable(ended.into()).into()))
    }

    /// What [`Domains::administer`] would do; nothing is written.
    pub async fn preview(
        &self,
        request: &admin::Request,
        rules: &admin::Rules,
    ) -> Result<admin::Decision, ChangeError> {
        let listed = self.inner.listed.load_full();
        let (store, sources) = self.inner.table_of(&request.pattern, &listed)?;
        let sources = admin::Sources { asked: self.inner.asked_for(request).await, ..sources };
        change::preview(store, request, sources, rules, &self.inner.registry).await
    }

    /// Has the entry of `pattern` stand as `standing` says, if it is of version `seen` still, since `why` was found; returns what was done, and
    /// the entry.
    ///
    /// # Cancel safety
    /// The change goes on.
    pub async fn follow_checks(
        &self,
        pattern: &Pattern,
        seen: u64,
        standing: admin::Standing,
        why: &str,
    ) -> Result<(admin::Report, DomainRecord), ChangeError> {
        let (inner, pattern, why) = (Arc::clone(&self.inner), pattern.clone(), why.to_owned());
        let changed = self.inner.control.spawn(async move {
            let store = inner.table.as_ref().ok_or(admin::Refusal::TableOff)?;
            let kept = *inner.config.audit_kept;
            let decision = change::follow_checks(store, &pattern, seen, standing, &why, kept).await?;
            inner.registry.apply(std::slice::from_ref(&decision.record));
            Ok((decision.report, decision.record))
        });
        changed.await.unwrap_or_else(|ended| Err(StoreError::Unavailable(ended.into()).into()))
    }
}

impl DomainsInner {
    /// What the ask endpoint says of the name that a tenant `request`s. An operator's entry may take its place.
    async fn asked_for(&self, request: &admin::Request) -> admin::Asked {
        let is_addition = matches!(request.wanted, admin::Wanted::Present { .. });
        let ask = self.ask.load_full().filter(|_| is_addition && request.by.tenant().is_some());
        match (ask, &request.pattern) {
            (None, _) => admin::Asked::No,
            // Nobody can be asked for all the names it covers.
            (Some(_), Pattern::Wildcard(_)) => admin::Asked::Allowed,
            (Some(ask), Pattern::Exact(name)) => match ask.ask(name).await {
                Reply::Deny => admin::Asked::Denied,
                Reply::Allow | Reply::Silence(_) => admin::Asked::Allowed,
            },
        }
    }

    /// The table, if it decides on `pattern` and not the list of the settings.
    fn table_of<'a>(
        &self,
        pattern: &Pattern,
        listed: &'a [config::StaticDomain],
    ) -> Result<(&Store, admin::Sources<'a>), admin::Refusal> {
        let table = if self.table.is_some() { admin::Table::Read } else { admin::Table::Unread };
        let sources = admin::Sources { listed, table, asked: admin::Asked::No };
        sources.leave_to_the_table(pattern)?;
        Ok((self.table.as_ref().ok_or(admin::Refusal::TableOff)?, sources))
    }
}
