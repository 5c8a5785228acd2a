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
            let sources = inner.asked_for(&request, sources).await;
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
        let sources = self.inner.asked_for(request, sources).await;
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
    /// `sources` with what the ask endpoint says of the names that a tenant `request`s. An operator's entry may take their place.
    async fn asked_for<'a>(
        &self,
        request: &admin::Request,
        sources: admin::Sources<'a>,
    ) -> admin::Sources<'a> {
        if request.by.tenant().is_none() {
            return sources;
        }
        let (own, other) = request.new_names();
        let other = other.map(Pattern::Exact);
        let (own, counterpart) =
            tokio::join!(self.may_serve_by_ask(own), self.may_serve_by_ask(other.as_ref()));
        admin::Sources { asked: admin::ServedByAsk { own, counterpart }, ..sources }
    }

    async fn may_serve_by_ask(&self, pattern: Option<&Pattern>) -> bool {
        let Some((ask, pattern)) = self.ask.load_full().zip(pattern) else { return false };
        match pattern {
            Pattern::Exact(name) => ask.ask(name).await != Reply::Deny,
            // Nobody can be asked for all the names that it covers.
            Pattern::Wildcard(_) => true,
        }
    }

    /// The table, if it decides on `pattern` and not the list of the settings.
    fn table_of<'a>(
        &self,
        pattern: &Pattern,
        listed: &'a [config::StaticDomain],
    ) -> Result<(&Store, admin::Sources<'a>), admin::Refusal> {
        let table = if self.table.is_some() { admin::Table::Read } else { admin::Table::Unread };
        let sources = admin::Sources::new(listed, table);
        sources.leave_to_the_table(pattern)?;
        Ok((self.table.as_ref().ok_or(admin::Refusal::TableOff)?, sources))
    }
}
