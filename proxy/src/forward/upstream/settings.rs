//! The settings for upstreams, prepared once per process.

use std::{
    hash::{BuildHasher, RandomState},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig,
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer,
        pem::{self, PemObject},
    },
};
use rustls_platform_verifier::Verifier;

use super::{
    address_policy::AddressPolicy,
    checks::Checks,
    permits::{PermitLimits, UpstreamPermits},
};
use crate::{
    config::{self, UpstreamHost},
    forward::cdn_loop::CdnLoop,
};

/// Settings for connections to targets: limits, roots, and permitted addresses.
pub struct UpstreamSettings {
    pub(super) limits: config::UpstreamConfig,
    pub(super) address_policy: Arc<AddressPolicy>,
    pub(super) places: UpstreamPermits,
    pub(super) checks: Checks,
    /// The name by which repeated requests are recognised.
    pub(in crate::forward) cdn_loop: CdnLoop,
    /// Absent where the system has no roots and none are configured: then `https://` targets fail, each saying so.
    pub(super) tls: Option<ClientConfig>,
}

/// Why upstream settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The file of roots.
    #[error("upstream.roots: `{}` cannot be read as PEM certificates; name a file that can", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: pem::Error,
    },
    /// A root rustls does not accept, or a provider without usable protocol versions.
    #[error("upstream.roots: a certificate cannot be used as a root; leave it out")]
    Tls(#[source] rustls::Error),
}

impl UpstreamSettings {
    /// Whose authority targets read in Host, for domains that say nothing of it.
    pub(in crate::forward) fn host(&self) -> UpstreamHost {
        self.limits.host
    }

    /// Reads the roots and this host's own addresses; at most `connections` requests are with targets at once.
    pub fn new(limits: &config::UpstreamConfig, connections: usize) -> Result<Self, UpstreamError> {
        let places = UpstreamPermits::new(PermitLimits {
            total: limits.connections.min(connections),
            per_target: limits.connections_per_target,
            per_client: limits.connections_per_source,
        });
        let address_policy = Arc::new(AddressPolicy::of(limits));
        let cdn_loop = CdnLoop::new(limits.loop_id.as_ref(), RandomState::new().hash_one(0));
        let checks = Checks::default();
        Ok(Self {
            cdn_loop,
            address_policy,
            places,
            checks,
            tls: client_config(limits)?,
            limits: limits.clone(),
        })
    }

    /// Where targets may lie.
    #[must_use]
    pub fn address_policy(&self) -> Arc<AddressPolicy> {
        Arc::clone(&self.address_policy)
    }

    /// Follows this host's addresses, which can change while it runs. Does not end.
    pub async fn follow_own_addresses(&self) {
        let mut ticks = tokio::time::interval(OWN_ADDRESSES_PERIOD);
        loop {
            ticks.tick().await;
            self.address_policy.refresh();
        }
    }
}

fn client_config(limits: &config::UpstreamConfig) -> Result<Option<ClientConfig>, UpstreamError> {
    let roots = extra_roots(limits)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let without_extra = roots.is_empty();
    let verifier = match Verifier::new_with_extra_roots(roots, Arc::clone(&provider)) {
        Ok(verifier) => verifier,
        Err(error) if without_extra => {
            tracing::warn!(%error, "no root certificates; https:// targets cannot be verified");
            return Ok(None);
        }
        Err(error) => return Err(UpstreamError::Tls(error)),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(UpstreamError::Tls)?;
    let verifying = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(Some(verifying.with_no_client_auth()))
}

fn extra_roots(limits: &config::UpstreamConfig) -> Result<Vec<CertificateDer<'static>>, UpstreamError> {
    let Some(path) = &limits.roots else { return Ok(Vec::new()) };
    let roots: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    // A file without any would be as good as none, and each target that needs it refused.
    let roots =
        roots.and_then(|roots| if roots.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(roots) });
    roots.map_err(|cause| UpstreamError::Roots { path: path.clone(), cause })
}

const OWN_ADDRESSES_PERIOD: Duration = Duration::from_secs(30);
