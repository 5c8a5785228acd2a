//! How upstreams are spoken to over TLS, as the settings say it: read once per process.
//! Not here: what each worker makes of it (`tls_configs`), which endpoints may use what (`address_policy`).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_platform_verifier::Verifier;

use crate::{config, name::ServerName, target::TlsName};

/// The configurations of the process.
pub(super) struct TlsSettings {
    /// For endpoints that name none. Absent where the system has no roots and none are configured: then `https://` targets fail, each
    /// saying so.
    pub(super) usual: Option<ClientConfig>,
    pub(super) named: BTreeMap<TlsName, NamedTls>,
}

/// The configuration for endpoints with `;tls=NAME`.
pub(super) struct NamedTls {
    /// Absent where neither it nor the system has roots.
    pub(super) config: Option<ClientConfig>,
    /// Whose certificate is expected, in place of the endpoint's host.
    pub(super) server_name: Option<ServerName>,
}

/// Why settings for TLS with upstreams cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// A file of certificates.
    #[error("{field}: `{}` cannot be read as PEM certificates; name a file that can", path.display())]
    Certificates {
        /// The setting.
        field: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: pem::Error,
    },
    /// A file of a private key.
    #[error("{field}: `{}` cannot be read as a PEM private key without a passphrase; name a file that can", path.display())]
    Key {
        /// The setting.
        field: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: pem::Error,
    },
    /// Certificate and key are not of each other, or of a kind that rustls does not know.
    #[error("{field}: `{}` is not the key of the `certificate` beside it; name the key that it was issued for", path.display())]
    Pair {
        /// The setting.
        field: String,
        /// The file.
        path: PathBuf,
        /// What rustls says.
        #[source]
        cause: rustls::Error,
    },
    /// A root rustls does not accept, or a provider without usable protocol versions.
    #[error("{field}: a certificate cannot be used as a root; leave it out")]
    Root {
        /// The setting.
        field: String,
        /// What rustls says.
        #[source]
        cause: rustls::Error,
    },
}

impl TlsSettings {
    /// Reads the files that `upstream` names.
    pub(super) fn read(upstream: &config::UpstreamConfig) -> Result<Self, UpstreamError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let usual = usual_verifier(upstream.roots.as_deref(), &provider)?;
        let mut named = BTreeMap::new();
        for (name, tls) in &upstream.tls {
            let field = |key: &str| format!("upstream.tls.{name}.{key}");
            let verifier = match &tls.roots {
                Some(path) => Some(own_verifier(path, &field("roots"), &provider)?),
                None => usual.clone(),
            };
            let config = verifier.map(|verifier| client_config(verifier, &provider)).transpose()?;
            let config = config.map(|config| present(config, tls, field)).transpose()?;
            named.insert(name.clone(), NamedTls { config, server_name: tls.server_name.clone() });
        }
        let usual = usual.map(|verifier| client_config(verifier, &provider)).transpose()?;
        Ok(Self { usual, named })
    }
}

/// The system's roots and those of the file `extra`; none if there are neither.
fn usual_verifier(
    extra: Option<&Path>,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ServerCertVerifier>>, UpstreamError> {
    let roots = extra.map_or(Ok(Vec::new()), |path| certificates(path, "upstream.roots"))?;
    match Verifier::new_with_extra_roots(roots, Arc::clone(provider)) {
        Ok(verifier) => Ok(Some(Arc::new(verifier))),
        Err(error) if extra.is_none() => {
            tracing::warn!(%error, "no root certificates; https:// targets cannot be verified");
            Ok(None)
        }
        Err(cause) => Err(UpstreamError::Root { field: "upstream.roots".to_owned(), cause }),
    }
}

/// The roots of the file at `path` and no others.
fn own_verifier(
    path: &Path,
    field: &str,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, UpstreamError> {
    let unusable = |cause| UpstreamError::Root { field: field.to_owned(), cause };
    let mut roots = RootCertStore::empty();
    for root in certificates(path, field)? {
        roots.add(root).map_err(unusable)?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    Ok(verifier.map_err(|error| unusable(rustls::Error::General(error.to_string())))?)
}

fn client_config(
    verifier: Arc<dyn ServerCertVerifier>,
    provider: &Arc<CryptoProvider>,
) -> Result<ClientConfig, UpstreamError> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider));
    let builder = builder
        .with_safe_default_protocol_versions()
        .map_err(|cause| UpstreamError::Root { field: "upstream.roots".to_owned(), cause })?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// `config` with the certificate that `tls` names, if it names one.
fn present(
    mut config: ClientConfig,
    tls: &config::UpstreamTls,
    field: impl Fn(&str) -> String,
) -> Result<ClientConfig, UpstreamError> {
    let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) else { return Ok(config) };
    let chain = certificates(certificate, &field("certificate"))?;
    let unreadable = |cause| UpstreamError::Key { field: field("key"), path: key.clone(), cause };
    let private = PrivateKeyDer::from_pem_file(key).map_err(unreadable)?;
    let certified = CertifiedKey::from_der(chain, private, config.crypto_provider());
    let certified =
        certified.map_err(|cause| UpstreamError::Pair { field: field("key"), path: key.clone(), cause })?;
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
    Ok(config)
}

fn certificates(path: &Path, field: &str) -> Result<Vec<CertificateDer<'static>>, UpstreamError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    // A file without any would be as good as none, and each target that needs it refused.
    let found =
        found.and_then(|found| if found.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(found) });
    found.map_err(|cause| UpstreamError::Certificates {
        field: field.to_owned(),
        path: path.to_path_buf(),
        cause,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{config::UpstreamTls, telemetry::error_chain};

    #[test]
    fn what_cannot_be_used_is_named_with_its_setting_its_file_and_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let pair = || rcgen::generate_simple_self_signed(["proxy.example".to_owned()]).unwrap();
        let (one, other) = (pair(), pair());
        let certificate = file("one.crt", &one.cert.pem());
        let (key, foreign) = (
            file("one.key", &one.signing_key.serialize_pem()),
            file("other.key", &other.signing_key.serialize_pem()),
        );
        let (empty, gone) = (file("empty", ""), folder.path().join("gone"));
        let read = |tls: UpstreamTls| {
            let tls = [(TlsName::parse("inside").unwrap(), tls)].into();
            TlsSettings::read(&config::UpstreamConfig { tls, ..config::UpstreamConfig::default() })
        };
        let with = |certificate: &PathBuf, key: &PathBuf| UpstreamTls {
            certificate: Some(certificate.clone()),
            key: Some(key.clone()),
            ..UpstreamTls::default()
        };
        for (tls, told) in [
            (
                with(&certificate, &foreign),
                "upstream.tls.inside.key: `|other.key` is not the key of the `certificate` beside it; name the key",
            ),
            (
                with(&empty, &key),
                "upstream.tls.inside.certificate: `|empty` cannot be read as PEM certificates; name a file",
            ),
            (
                with(&certificate, &gone),
                "upstream.tls.inside.key: `|gone` cannot be read as a PEM private key|No such file",
            ),
            (
                with(&certificate, &certificate),
                "upstream.tls.inside.key: `|cannot be read as a PEM private key",
            ),
            (
                UpstreamTls { roots: Some(key.clone()), ..UpstreamTls::default() },
                "upstream.tls.inside.roots: `|one.key` cannot be read as PEM certificates",
            ),
        ] {
            let error = error_chain(&read(tls).err().unwrap());
            assert!(told.split('|').all(|part| error.contains(part)), "{told}: {error}");
        }
        let read =
            read(UpstreamTls { roots: Some(certificate.clone()), ..with(&certificate, &key) }).unwrap();
        let inside = &read.named[&TlsName::parse("inside").unwrap()];
        assert!(inside.config.as_ref().unwrap().client_auth_cert_resolver.has_certs());
    }
}
