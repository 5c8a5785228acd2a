//! The running instance as the control socket sees it.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::StatusCode;

use super::{
    reload::Reload,
    route::problem,
    server::SocketPeer,
    setup_links::{self, IssuedLink, LinkError, LinkSettings, NewLink},
    table::{self, RetriedEntry},
    tokens::{self, IssuedToken, NewToken},
    upgrade::Upgrade,
    wire::{
        Bookmark, CertificatePage, ChangeReach, Domain, EntryPage, GuardAnswer, InstanceStatus, NameAnswer,
        NewOwnCertificate, ReindexPart, ReindexReport, Retried, Tenant, WireProblem,
    },
};
use crate::{
    api_token::TokenId,
    certificates::{
        Certificates, OnRequest, Ordered, RevocationReason, Revoked,
        listing::{self, Summary},
        own::{Imported, Removed},
        spread::{Spread, SpreadPart, spread},
    },
    clock,
    config::{EventsConfig, LimitsConfig, Reloadable, RequiredProof, StaticDomain},
    domains::{
        Caller, ChangeError, Domains, Revision,
        admin::{self, Action, Authority, Issuance, Requester},
    },
    ec2,
    forward::AddressPolicy,
    guard::{
        GuardHandle, GuardStatus,
        explain::{GuardFacts, GuardQuestion},
    },
    name::{Pattern, ServerName},
    phase::PhaseWatch,
    store::{
        Store, StoreError, certificate_table::IssuerKey, domain_table::DomainRecord, instant::Micros,
        state_table::TokenRecord,
    },
    target::Target,
    telemetry::{admit_line, metrics::Label},
    tls::tickets::TicketKeys,
    transport::Backend,
    worker::Connections,
};

/// Handles on what runs.
pub struct ControlContext {
    /// What does not change while it runs.
    pub identity: RunFacts,
    /// Permission.
    pub domains: Domains,
    /// The tables.
    pub store: Store,
    /// Certificates in memory.
    pub certificates: Certificates,
    /// Under which issuers' keys certificates lie in them.
    pub issuer_keys: Vec<IssuerKey>,
    /// The guard.
    pub guard: GuardHandle,
    /// Whether it serves.
    pub phase: PhaseWatch,
    /// Open connections.
    pub connections: Connections,
    /// How its settings are reloaded.
    pub reload: Reload,
    /// How a successor takes over from it.
    pub upgrade: Upgrade,
    /// Where requests go whose entry names no target.
    pub default_target: Reloadable<Option<Target>>,
    /// What bounds clients and requests.
    pub limits: Reloadable<LimitsConfig>,
    /// Where entries may lead.
    pub address_policy: Arc<AddressPolicy>,
    /// Who issues certificates.
    pub issuance: Issuance,
    /// Names that no entry may have.
    pub reserved: Vec<Pattern>,
    /// How long it is kept who changed which entry.
    pub audit_kept: Duration,
    /// Which webhooks there are.
    pub events: Reloadable<EventsConfig>,
    /// How many entries tenants may have.
    pub quotas: admin::Quotas,
    /// What a new entry waits for.
    pub required: RequiredProof,
    /// The keys of session tickets.
    pub tickets: TicketKeys,
    /// Where setup links lead.
    pub links: LinkSettings,
}

/// What does not change while an instance runs.
#[derive(Debug, Clone)]
pub struct RunFacts {
    /// When it started.
    pub started: Instant,
    /// How workers reach the kernel.
    pub backend: Backend,
    /// How many workers.
    pub workers: usize,
    /// Addresses that speak TLS.
    pub https: Vec<SocketAddr>,
    /// Addresses that speak cleartext.
    pub http: Vec<SocketAddr>,
    /// Where metrics are.
    pub metrics: Option<SocketAddr>,
    /// Where other servers ask which names are served.
    pub ask_server: Option<SocketAddr>,
    /// Where the API is.
    pub api: Option<SocketAddr>,
    /// Who it is among the instances of EC2.
    pub instance: Option<ec2::InstanceIdentity>,
    /// Where the tables are.
    pub store: String,
    /// Who issues certificates.
    pub issuers: Vec<String>,
}

impl ControlContext {
    /// What there is to say of the instance now.
    pub(crate) fn status(&self) -> InstanceStatus {
        let names = self.domains.names();
        let names = names.borrow();
        let identity = &self.identity;
        InstanceStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            phase: (*self.phase.borrow()).into(),
            uptime_seconds: identity.started.elapsed().as_secs(),
            io: identity.backend.as_str().to_owned(),
            workers: identity.workers,
            https: identity.https.clone(),
            http: identity.http.clone(),
            metrics: identity.metrics,
            ask_server: identity.ask_server,
            api: identity.api,
            instance: identity.instance.clone(),
            store: identity.store.clone(),
            issuers: identity.issuers.clone(),
            names: names.patterns.len(),
            revision: names.revision,
            ask: self.domains.ask_state(),
            connections: self.connections.open(),
            tickets: Some(self.tickets.source()),
            webhooks: Vec::new(),
            guard: self.guard.status(),
        }
    }

    pub(super) async fn domains(
        &self,
        tenant: Option<&Tenant>,
        after: Option<&Pattern>,
        limit: u16,
    ) -> Result<EntryPage<Domain>, WireProblem> {
        Ok(table::domains(&self.store, &self.listed(), tenant, after, limit).await?)
    }

    pub(super) async fn domain(&self, name: &Pattern) -> Result<Domain, WireProblem> {
        let found = table::domain(&self.store, &self.listed(), name).await?;
        found.ok_or_else(|| problem(StatusCode::NOT_FOUND, table::NoDomain(name.clone()).to_string()))
    }

    /// What this instance makes of `name`.
    pub(super) async fn name(&self, name: &ServerName) -> NameAnswer {
        let permission = self.domains.permission(name, Caller::Internal).await;
        let names = self.domains.names().borrow().clone();
        let guard = match self.guard.status() {
            GuardStatus::Off => GuardAnswer::Off,
            GuardStatus::On(report) if report.revision != names.revision => GuardAnswer::Behind,
            GuardStatus::On(_) if name.patterns().any(|pattern| names.patterns.contains(&pattern)) => {
                GuardAnswer::Listed
            }
            GuardStatus::On(_) => GuardAnswer::Unlisted,
        };
        NameAnswer::new(name.clone(), &permission, guard)
    }

    /// What the guard makes of names and sources.
    pub(super) async fn guard_facts(&self, question: GuardQuestion) -> Result<GuardFacts, WireProblem> {
        if question.names.len().max(question.sources.len()) > GuardQuestion::MOST {
            let detail = format!("write at most {} names and sources", GuardQuestion::MOST);
            return Err(problem(StatusCode::BAD_REQUEST, detail));
        }
        let known = self.domains.names().borrow().clone();
        Ok(self.guard.facts(question, known).await?)
    }

    /// Does what `request` asks for; the log tells who asked.
    pub(crate) async fn administer(
        &self,
        request: admin::Request,
    ) -> Result<(admin::Decision, ChangeReach), ChangeError> {
        let pattern = request.pattern.clone();
        let Requester { name: caller, authority } = request.by.clone();
        let (decision, revision) = self.domains.administer(request, self.rules()).await?;
        let report = &decision.report;
        if report.action != Action::Keep {
            let (action, from, to) = (report.action.as_str(), report.from(), report.to());
            tracing::info!(name = %pattern, action, from, to, tenant = report.tenant, %caller, "domain changed");
        }
        if ends_back_off(report.action, &authority)
            && let Err(error) = self.retry_entry(&decision.record).await
        {
            table::warn_not_retried(&decision.record, &error);
        }
        Ok((decision, self.reach(revision).await))
    }

    /// What [`ControlContext::administer`] would do.
    pub(crate) async fn preview(&self, request: &admin::Request) -> Result<admin::Decision, ChangeError> {
        self.domains.preview(request, &self.rules()).await
    }

    /// The settings in force, as far as they decide on entries.
    pub(crate) fn rules(&self) -> admin::Rules {
        let identity = &self.identity;
        admin::Rules {
            default_target: self.default_target.load_full().as_ref().clone(),
            listeners: identity.https.iter().chain(&identity.http).copied().collect(),
            issuance: self.issuance,
            required: self.required,
            entry_tls: self.address_policy.entry_tls().clone(),
            permits: self.address_policy.entry_permits(),
            reserved: self.reserved.clone(),
            audit_kept: self.audit_kept,
            quotas: self.quotas.clone(),
        }
    }

    pub(super) async fn reindex(&self, part: ReindexPart) -> Result<ReindexReport, WireProblem> {
        Ok(table::reindex(&self.store, part).await?)
    }

    pub(super) async fn certificates(
        &self,
        after: Option<&Bookmark>,
        limit: u16,
    ) -> Result<CertificatePage, WireProblem> {
        Ok(table::certificates(&self.store, after, limit).await?)
    }

    pub(super) async fn certificate(&self, name: &Pattern) -> Result<Summary, WireProblem> {
        let found = self.find_certificate(name).await?;
        found.ok_or_else(|| problem(StatusCode::NOT_FOUND, table::NoCertificate(name.clone()).to_string()))
    }

    /// What the table holds for `name`, if anything.
    pub(crate) async fn find_certificate(&self, name: &Pattern) -> Result<Option<Summary>, StoreError> {
        let subject = self.certificates.order_subject(name);
        let found = listing::show(&self.store, &self.issuer_keys, name, &subject).await?;
        let presented = self.certificates.presented_serial(name);
        Ok(found.map(|summary| Summary { presented, ..summary }))
    }

    /// Ends the back-off of each name that `entry` speaks for.
    pub(crate) async fn retry_entry(&self, entry: &DomainRecord) -> Result<RetriedEntry, StoreError> {
        let retried = table::retry_entry(&self.store, entry).await?;
        // What the table did not take, this instance remembers alone.
        for name in &retried.names {
            self.certificates.forget_failures(name);
        }
        Ok(retried)
    }

    /// Ends the back-off of `name`.
    pub(super) async fn retry(&self, name: &Pattern) -> Result<Retried, StoreError> {
        let subject = self.certificates.order_subject(name);
        let retried = table::retry(&self.store, name, &subject).await?;
        for name in [name, &subject] {
            self.certificates.forget_failures(name);
        }
        Ok(retried)
    }

    /// Gives part of the renewals earlier dates; the log tells who asked.
    pub(super) async fn spread_renewals(
        &self,
        part: &SpreadPart,
        caller: SocketPeer,
    ) -> Result<Spread, WireProblem> {
        let done = spread(&self.store, part).await?;
        if !part.dry_run {
            tracing::info!(moved = done.moved, kept = done.kept, first = %part.first, %caller, "renewals have earlier dates");
        }
        Ok(done)
    }

    /// Orders a certificate; the log tells who asked.
    pub(super) async fn order(
        &self,
        name: &Pattern,
        wanted: OnRequest,
        caller: SocketPeer,
    ) -> Result<Ordered, WireProblem> {
        let ordered = self.certificates.order_now(name, wanted).await?;
        if ordered.is_new {
            tracing::info!(server_name = %name, serial = ordered.serial, replaced = ordered.replaced, %caller, "certificate ordered on request");
        }
        Ok(ordered)
    }

    /// Revokes a certificate; the log tells who asked.
    pub(super) async fn revoke(
        &self,
        name: &Pattern,
        reason: RevocationReason,
        caller: SocketPeer,
    ) -> Result<Revoked, WireProblem> {
        let revoked = self.certificates.revoke(name, reason).await?;
        tracing::info!(server_name = %name, serial = revoked.serial, %reason, was_revoked = revoked.was_revoked, %caller, "certificate revoked");
        Ok(revoked)
    }

    /// Stores a certificate of the operator's own; the log tells who brought it.
    pub(super) async fn import_own(
        &self,
        new: &NewOwnCertificate,
        caller: SocketPeer,
    ) -> Result<Imported, WireProblem> {
        let imported = self.certificates.import_own(new.chain.as_bytes(), new.key.as_bytes()).await?;
        let names: Vec<_> = imported.names.iter().map(ToString::to_string).collect();
        tracing::info!(?names, serial = imported.serial, not_after = %imported.not_after, replaced = ?imported.replaced, %caller, "own certificate imported");
        Ok(imported)
    }

    /// Removes one; the log tells who asked.
    pub(super) async fn remove_own(
        &self,
        name: &Pattern,
        caller: SocketPeer,
    ) -> Result<Removed, WireProblem> {
        let removed = self.certificates.remove_own(name).await?;
        tracing::info!(%name, serial = removed.serial, %caller, "own certificate removed");
        Ok(removed)
    }

    /// Makes a token of the API; the log tells who asked.
    pub(super) async fn create_token(
        &self,
        new: NewToken,
        caller: SocketPeer,
    ) -> Result<IssuedToken, WireProblem> {
        let issued = tokens::create_token(&self.store, new, Micros::of(clock::wall())).await?;
        let TokenRecord { id, name, scopes, reach, .. } = &issued.record;
        tracing::info!(token = %id, %name, ?scopes, ?reach, %caller, "token created");
        Ok(issued)
    }

    /// Makes a setup link; the log tells who asked, and not what it is.
    pub(super) async fn make_link(
        &self,
        name: &Pattern,
        new: NewLink,
        caller: SocketPeer,
    ) -> Result<IssuedLink, WireProblem> {
        let now = Micros::of(clock::wall());
        let made = setup_links::make_link(&self.store, &self.links, name, new, now).await?;
        told_link(&made, &caller.to_string());
        Ok(made)
    }

    /// Makes a setup link for the entry `record`, which is there and which `caller` may work with.
    pub(crate) async fn link_to(
        &self,
        record: &DomainRecord,
        new: NewLink,
        caller: &str,
    ) -> Result<IssuedLink, LinkError> {
        let now = Micros::of(clock::wall());
        let made = setup_links::link_to(&self.store, &self.links, record, new, now).await?;
        told_link(&made, caller);
        Ok(made)
    }

    /// Ends one; the log tells who asked.
    pub(super) async fn revoke_token(
        &self,
        id: &TokenId,
        caller: SocketPeer,
    ) -> Result<TokenRecord, WireProblem> {
        let revoked = tokens::revoke_token(&self.store, id, Micros::of(clock::wall())).await?;
        tracing::info!(token = %id, name = %revoked.name, %caller, "token revoked");
        Ok(revoked)
    }

    fn listed(&self) -> Arc<Vec<StaticDomain>> {
        self.domains.static_entries()
    }

    /// Waits for the guard, which bounds the wait itself.
    async fn reach(&self, revision: Revision) -> ChangeReach {
        match (&self.guard, self.guard.holds(revision).await) {
            (GuardHandle::Off, _) => ChangeReach::Snapshot,
            (GuardHandle::On(_), Ok(())) => ChangeReach::Guard,
            (GuardHandle::On(_), Err(late)) => {
                if let Some(left_out) = admit_line("guard_late", "") {
                    tracing::warn!(error = %late, left_out, "a change of the domains has not reached the guard in time");
                }
                ChangeReach::GuardLate
            }
        }
    }
}

fn told_link(made: &IssuedLink, caller: &str) {
    tracing::info!(name = %made.domain, ends_at = %made.ends_at, caller, "setup link made");
}

/// Whether a change ends the back-off of its name: who adds or changes it has often just corrected what its orders failed of. Repeating an
/// addition changes nothing, and a tenant that did so would have every order at once: it asks for a retry instead.
fn ends_back_off(action: Action, authority: &Authority) -> bool {
    match action {
        Action::Add | Action::Replace | Action::Resume => true,
        Action::Keep => *authority == Authority::Operator,
        Action::Remove | Action::Suspend => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_ends_no_back_off_by_repeating_an_addition() {
        let tenant = Authority::Tenant("acme".parse().unwrap());
        for (action, by_operator, by_tenant) in [
            (Action::Add, true, true),
            (Action::Replace, true, true),
            (Action::Resume, true, true),
            (Action::Keep, true, false),
            (Action::Remove, false, false),
            (Action::Suspend, false, false),
        ] {
            let ends = [&Authority::Operator, &tenant].map(|authority| ends_back_off(action, authority));
            assert_eq!(ends, [by_operator, by_tenant], "{action:?}");
        }
    }
}
