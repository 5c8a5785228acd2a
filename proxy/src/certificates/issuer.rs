//! Who issues certificates: CAs by ACME, or without any the internal issuer.

use std::{path::Path, sync::Arc, time::SystemTime};

use super::{
    CertificatesStartError,
    acme::Acme,
    internal::{Internal, Root},
    metrics::IssuerKind,
};
use crate::{
    clock, config,
    store::{Store, certificate_table::IssuerKey},
};

/// Who issues certificates, in order of preference.
pub(super) enum Issuer {
    Acme(Arc<Acme>),
    Internal(Box<Internal>),
}

/// Those of `config`, and the internal issuer's root if it issues.
pub(super) fn issuers(
    config: &config::CertificatesConfig,
    store: &Store,
    state_directory: &Path,
) -> Result<(Vec<Issuer>, Option<Root>), CertificatesStartError> {
    if config.issuers.is_empty() {
        let (internal, root) = Internal::open(state_directory, *config.internal_life, clock::wall())?;
        return Ok((vec![Issuer::Internal(Box::new(internal))], Some(root)));
    }
    let issuers = config.issuers.iter().map(|issuer| Acme::new(issuer, config, store).map(Issuer::Acme));
    Ok((issuers.collect::<Result<_, _>>()?, None))
}

impl Issuer {
    pub(super) fn acme(&self) -> Option<&Arc<Acme>> {
        match self {
            Self::Acme(acme) => Some(acme),
            Self::Internal(_) => None,
        }
    }

    pub(super) fn key(&self) -> &IssuerKey {
        match self {
            Self::Acme(acme) => &acme.issuer,
            Self::Internal(internal) => &internal.key,
        }
    }

    pub(super) fn kind(&self) -> IssuerKind {
        match self {
            Self::Acme(_) => IssuerKind::Acme,
            Self::Internal(_) => IssuerKind::Internal,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.key().as_str()
    }

    pub(super) fn paused_until(&self) -> Option<SystemTime> {
        match self {
            Self::Acme(acme) => acme.paused_until(),
            Self::Internal(_) => None,
        }
    }

    /// The CA's directory; the internal issuer has none.
    pub(super) fn directory(&self) -> Option<&str> {
        match self {
            Self::Acme(acme) => Some(&acme.directory),
            Self::Internal(_) => None,
        }
    }
}
