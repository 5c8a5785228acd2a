//! The test CA: signs what our own servers present. (What Gatehouse presents is signed by Pebble.)

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// A root made for one run.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

/// A chain and its key, as PEM files.
#[derive(Debug, Clone)]
pub struct KeyFiles {
    /// The certificate.
    pub chain: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Authority {
    /// A new root; its certificate lies in `folder` as `test-ca.pem`.
    pub fn create(folder: &Path) -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "Gatehouse testbed root");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let file = folder.join("test-ca.pem");
        fs::write(&file, issuer.pem()).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self { issuer, file })
    }

    /// The root's certificate.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// A certificate for `names`, which may be IP addresses, as `<label>.crt` and `<label>.key` beside the root.
    pub fn issue(&self, label: &str, names: &[&str]) -> anyhow::Result<KeyFiles> {
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names)?;
        // OpenSSL takes a leaf whose subject is its issuer's for self-signed.
        params.distinguished_name.push(DnType::CommonName, label);
        let certificate = params.signed_by(&key, &self.issuer)?;
        let files = KeyFiles {
            chain: self.file.with_file_name(label).with_extension("crt"),
            key: self.key_file(label),
        };
        fs::write(&files.chain, certificate.pem())?;
        fs::write(&files.key, key.serialize_pem())?;
        Ok(files)
    }

    fn key_file(&self, label: &str) -> PathBuf {
        self.file.with_file_name(label).with_extension("key")
    }
}

impl KeyFiles {
    /// A server that presents these.
    pub fn server(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let chain = CertificateDer::pem_file_iter(&self.chain)?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(&self.key)?;
        Ok(Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?))
    }
}

/// The certificates of a PEM file, as roots.
pub fn roots(file: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file)? {
        roots.add(certificate?)?;
    }
    Ok(roots)
}
