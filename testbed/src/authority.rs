//! The test CA: signs what our own servers present. (What Gatehouse presents is signed by Pebble.)

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType, IsCa, KeyPair,
    KeyUsagePurpose,
};
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
        let certificate = params(label, names)?.signed_by(&key, &self.issuer)?;
        let files = KeyFiles {
            chain: self.file.with_file_name(label).with_extension("crt"),
            key: self.key_file(label),
        };
        fs::write(&files.chain, certificate.pem())?;
        fs::write(&files.key, key.serialize_pem())?;
        Ok(files)
    }

    /// A certificate for `name` with this serial number: its chain, the root in it, and its key, as PEM. What public CAs say beyond what
    /// ours does is made up for by an extension that nobody reads, so that the chain is as long as theirs.
    pub fn pems(&self, name: &str, serial: u64) -> anyhow::Result<(String, String)> {
        let key = KeyPair::generate()?;
        let mut params = params(name, &[name])?;
        params.serial_number = Some(serial.into());
        params.custom_extensions.push(CustomExtension::from_oid_content(&UNREAD, vec![0; UNREAD_BYTES]));
        let chain = params.signed_by(&key, &self.issuer)?.pem() + &self.issuer.pem();
        Ok((chain, key.serialize_pem()))
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

fn params(label: &str, names: &[&str]) -> anyhow::Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names)?;
    // OpenSSL takes a leaf whose subject is its issuer's for self-signed.
    params.distinguished_name.push(DnType::CommonName, label);
    Ok(params)
}

/// The certificates of a PEM file, as roots.
pub fn roots(file: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file)? {
        roots.add(certificate?)?;
    }
    Ok(roots)
}

/// Below the OID for examples (RFC 5612 §2).
const UNREAD: [u64; 8] = [1, 3, 6, 1, 4, 1, 32_473, 1];
/// With it a chain has 3 kB as PEM.
const UNREAD_BYTES: usize = 1_300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_as_pem_is_as_long_as_a_public_cas_and_leads_to_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(folder.path()).unwrap();
        let (chain, key) = authority.pems("a.example.com", 7).unwrap();
        assert!((2_800..3_200).contains(&chain.len()), "{}", chain.len());
        let files = KeyFiles { chain: folder.path().join("chain"), key: folder.path().join("key") };
        fs::write(&files.chain, &chain).unwrap();
        fs::write(&files.key, key).unwrap();
        files.server().unwrap();
        assert!(chain.ends_with(&fs::read_to_string(authority.file()).unwrap()), "{chain}");
    }
}
