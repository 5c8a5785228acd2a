//! Wildcards of the settings: one certificate for every name below each, instead of one for each name.
//! Not here: how the CA is shown that the wildcard is ours (`challenges`).

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use super::{CallOutcome, CertificateRefusal, CertificatesInner, own::is_brought, step::Purpose};
use crate::{
    clock,
    config::{CertificatesConfig, DomainSettings},
    domains::{Caller, Denial, DomainEntry, Permission, PermissionSource, UnknownReason},
    name::{Pattern, ServerName},
    store::{domain_table::DEFAULT_TENANT, state_table::OwnCertificates},
};

/// What a certificate for `name` is ordered for: the wildcard above it if `config` lists it, unless the operator has brought a certificate of
/// exactly this name, as `own` tells.
#[must_use]
pub fn order_subject(
    config: &CertificatesConfig,
    own: &OwnCertificates,
    name: &Pattern,
    now: SystemTime,
) -> Pattern {
    let Pattern::Exact(exact) = name else { return name.clone() };
    let listed = exact.wildcard().filter(|wildcard| is_listed(config, wildcard));
    listed.filter(|_| !is_brought(own, name, now)).unwrap_or_else(|| name.clone())
}

impl CertificatesInner {
    /// What a certificate for `name` is ordered for.
    pub(super) fn subject(&self, name: &ServerName) -> Pattern {
        self.subject_of(&Pattern::Exact(name.clone()))
    }

    /// The same of what may be a wildcard itself.
    pub(super) fn subject_of(&self, name: &Pattern) -> Pattern {
        order_subject(&self.config, &self.own.load(), name, clock::wall())
    }

    /// Whether a certificate may be ordered for `name`: a wildcard's is the operator's own decision, in the settings. What a copy on this
    /// machine says of former times orders nothing.
    pub(super) async fn permission(&self, name: &Pattern) -> Permission {
        match name {
            Pattern::Exact(name) => {
                let permission = self.domains.permission(name, Caller::Internal).await;
                let is_by_copy = self.domains.is_by_copy(&permission);
                if is_by_copy { Permission::Unknown(UnknownReason::SourceDown) } else { permission }
            }
            Pattern::Wildcard(_) if is_listed(&self.config, name) => {
                Permission::Allow(Arc::new(of_the_settings(name)))
            }
            Pattern::Wildcard(_) => Permission::Deny(Denial::NoEntry),
        }
    }

    /// The certificate of `wildcard` for `name`, which lies below it. One that the table holds for the name itself, from before the
    /// wildcard was listed, is presented as long as it is valid; the look for it finds the wildcard's as well.
    pub(super) async fn wait_for_wildcard(
        self: &Arc<Self>,
        name: &ServerName,
        wildcard: &Pattern,
        purpose: Purpose,
        from: IpAddr,
    ) -> CallOutcome {
        let stored = self.wait(&Pattern::Exact(name.clone()), Purpose::Load, from).await;
        match stored {
            // Whoever makes up names under the wildcard spends looks for them, and the wildcard's order is not theirs.
            Err(CertificateRefusal::Unknown) if purpose == Purpose::Obtain => {
                self.wait(wildcard, purpose, from).await
            }
            stored => stored,
        }
    }
}

/// Whether `config` has one certificate ordered for all names below `wildcard`.
pub(super) fn is_listed(config: &CertificatesConfig, wildcard: &Pattern) -> bool {
    config.wildcards.iter().any(|listed| listed.name == *wildcard)
}

/// As an entry of the static list would allow it.
fn of_the_settings(wildcard: &Pattern) -> DomainEntry {
    DomainEntry {
        pattern: wildcard.clone(),
        target: None,
        settings: DomainSettings::default(),
        tenant: DEFAULT_TENANT.into(),
        source: PermissionSource::Static,
        version: 0,
        changed_at_micros: 0,
    }
}
