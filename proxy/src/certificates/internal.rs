//! The internal issuer: a root of our own, for trials without a CA.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::{
    acme::{Issued, OrderError},
    key::{self, KeyError},
};
use crate::{name::Pattern, store::certificate_table::IssuerKey, whole_file};

/// Signs leaves with a root in the state directory.
pub(super) struct Internal {
    issuer: rcgen::Issuer<'static, KeyPair>,
    root: String,
    life: Duration,
    pub(super) key: IssuerKey,
}

/// The internal issuer's root, for clients that trust it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Its PEM file.
    pub file: PathBuf,
    /// SHA-256 of its DER, in colon-separated hexadecimal.
    pub fingerprint: String,
}

/// Why there is no internal issuer.
#[derive(Debug, thiserror::Error)]
pub enum InternalError {
    /// A file of the state directory.
    #[error("state_directory: `{}` cannot be {what}; make it writable, or name another directory", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// What was tried.
        what: &'static str,
        /// How it failed.
        #[source]
        source: io::Error,
    },
    /// A file is not what was written.
    #[error("`{}` is damaged; remove it together with `{ROOT}`, and a new root is created", file.display())]
    Damaged {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        #[source]
        source: KeyError,
    },
    /// The root is another key's.
    #[error(
        "`{}` is not the root of the key in `{KEY}` beside it; put the one that belongs to it there, or remove it, and one is made for the key",
        file.display()
    )]
    Foreign {
        /// The root.
        file: PathBuf,
    },
    /// No key, or no root.
    #[error("the root of the internal issuer could not be created")]
    Making(#[from] KeyError),
}

impl Internal {
    /// Loads the root, or makes it once.
    pub(super) fn open(
        directory: &Path,
        life: Duration,
        now: SystemTime,
    ) -> Result<(Self, Root), InternalError> {
        let (root_file, key_file) = (directory.join(ROOT), directory.join(KEY));
        let found = read(&root_file)?;
        let (key, found) = if let Some(pem) = read(&key_file)? {
            (load(pem.as_bytes()).map_err(|source| InternalError::Damaged { file: key_file, source })?, found)
        } else {
            let key = key::generate()?;
            fs::create_dir_all(directory).map_err(|source| fault(directory, "created", source))?;
            write(&key_file, key::sec1_pem(key.serialized_der())?.as_bytes(), 0o600)?;
            if found.is_some() {
                warn!(file = %root_file.display(), "the key of the internal issuer's root is gone: another root is made, which clients must trust instead");
            }
            (key, None)
        };
        let root = match found {
            // Leaves would name it as their issuer, and nobody could verify them.
            Some(root) if !is_of_key(&root, &key) => {
                return Err(InternalError::Foreign { file: root_file });
            }
            Some(root) => root,
            None => {
                let root = params(now).self_signed(&key).map_err(KeyError::from)?.pem();
                write(&root_file, root.as_bytes(), 0o644)?;
                Zeroizing::new(root)
            }
        };
        let fingerprint = fingerprint(&root);
        info!(file = %root_file.display(), %fingerprint, "internal issuer: clients must trust this root");
        let issuer = rcgen::Issuer::new(params(now), key);
        Ok((
            Self { issuer, root: root.to_string(), life, key: IssuerKey::internal() },
            Root { file: root_file, fingerprint },
        ))
    }

    pub(super) fn issue(&self, name: &Pattern, now: SystemTime) -> Result<Issued, OrderError> {
        let key = key::generate()?;
        let mut params = CertificateParams::new(vec![name.to_string()]).map_err(KeyError::from)?;
        params.distinguished_name = DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = ((now - SKEW).into(), (now + self.life).into());
        let leaf = params.signed_by(&key, &self.issuer).map_err(KeyError::from)?;
        Ok(Issued {
            chain: format!("{}{}", leaf.pem(), self.root),
            key: key::sec1_pem(key.serialized_der())?,
            url: None,
            account: None,
        })
    }
}

fn params(now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Gatehouse internal root");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = ((now - SKEW).into(), (now + ROOT_LIFE).into());
    params
}

fn load(pem: &[u8]) -> Result<KeyPair, KeyError> {
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(&key::pkcs8(pem)?, &rcgen::PKCS_ECDSA_P256_SHA256)?)
}

/// Whether the certificate `root` is of `key`; one that cannot be read is not.
fn is_of_key(root: &str, key: &KeyPair) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(root.as_bytes()) else { return false };
    let Ok((_, root)) = x509_parser::parse_x509_certificate(&der) else { return false };
    root.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
}

fn fingerprint(root: &str) -> String {
    let der = CertificateDer::from_pem_slice(root.as_bytes()).unwrap_or_else(|_| Vec::new().into());
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
    digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

fn read(file: &Path) -> Result<Option<Zeroizing<String>>, InternalError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(fault(file, "read", source)),
    }
}

/// Complete or not at all: a half-written file would be used as the root for ever.
fn write(file: &Path, text: &[u8], mode: u32) -> Result<(), InternalError> {
    whole_file::write(file, text, mode).map_err(|source| fault(file, "written", source))
}

fn fault(file: &Path, what: &'static str, source: io::Error) -> InternalError {
    InternalError::File { file: file.to_owned(), what, source }
}

const ROOT: &str = "internal-root.pem";
const KEY: &str = "internal-root-key.pem";
const ROOT_LIFE: Duration = Duration::from_hours(10 * 365 * 24);
/// How far a client's clock may be behind.
const SKEW: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::{certificates::keyed_chain::KeyedChain, name::Pattern};

    #[test]
    fn the_root_is_made_once_and_its_leaves_verify() {
        let directory = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let (first, root) = Internal::open(directory.path(), Duration::from_hours(1), now).unwrap();
        let (second, again) = Internal::open(directory.path(), Duration::from_hours(1), now).unwrap();
        assert_eq!(root, again);
        let mode = fs::metadata(directory.path().join(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&root.file).unwrap()).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .unwrap();
        for issuer in [first, second] {
            let name = Pattern::parse("a.example").unwrap();
            let issued = issuer.issue(&name, now).unwrap();
            let pair = KeyedChain::read(issued.chain.as_bytes(), issued.key.as_bytes(), &name).unwrap();
            let chain = &pair.certificate.key.cert;
            rustls::client::danger::ServerCertVerifier::verify_server_cert(
                verifier.as_ref(),
                &chain[0],
                &chain[1..],
                &"a.example".try_into().unwrap(),
                &[],
                rustls::pki_types::UnixTime::now(),
            )
            .unwrap();
        }
    }

    #[test]
    fn a_root_is_never_presented_whose_key_is_another() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Internal::open(directory.path(), Duration::from_hours(1), SystemTime::now());
        let (_, lost) = open().unwrap();
        fs::remove_file(directory.path().join(KEY)).unwrap();
        let (_, made) = open().unwrap();
        assert_ne!(lost, made, "its key is gone");
        assert_eq!(open().unwrap().1, made);
        for root in [fs::read_to_string(elsewhere().path().join(ROOT)).unwrap(), "damaged".to_owned()] {
            fs::write(directory.path().join(ROOT), root).unwrap();
            let error = open().err().unwrap().to_string();
            assert!(error.contains(ROOT) && error.contains(KEY) && error.contains("remove it"), "{error}");
        }
    }

    fn elsewhere() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        Internal::open(directory.path(), Duration::from_hours(1), SystemTime::now()).unwrap();
        directory
    }

    #[test]
    fn a_damaged_key_is_named() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(KEY), "half").unwrap();
        let error =
            Internal::open(directory.path(), Duration::from_hours(1), SystemTime::now()).err().unwrap();
        assert!(error.to_string().contains(KEY), "{error}");
    }
}
