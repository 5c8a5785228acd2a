//! An operator's own certificate, checked before it is stored: what is wrong with it is said with the remedy, and never shows its key.

use std::time::SystemTime;

use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::{extensions::GeneralName, prelude::X509Certificate};

use crate::{
    certificates::{
        key::pem,
        keyed_chain::{MAX_CHAIN, MAX_NAMES, Validity},
    },
    hexadecimal::hexadecimal,
    name::Pattern,
    store::{PrivateKeyPem, instant::Micros},
};

/// A certificate that can be presented as soon as it is stored.
///
/// Invariant: the chain is in order, the key is the leaf's, it is valid, and it covers the patterns.
#[derive(Debug)]
pub struct OwnCertificate {
    /// PEM of the certificates alone, the leaf first, whatever else the file held.
    pub(super) chain: String,
    pub(super) key: PrivateKeyPem,
    pub(super) patterns: Vec<Pattern>,
    pub(super) serial: String,
    pub(super) life: Validity,
    pub(super) warnings: Vec<String>,
}

/// Which of the two files is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnFile {
    /// The chain's.
    Chain,
    /// The key's.
    Key,
}

/// Why a chain and a key are no own certificate; to be read behind the name of the file that is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OwnFault {
    /// No PEM of a certificate.
    #[error(
        "holds no certificate in PEM form; name the file of the CA that begins with `-----BEGIN CERTIFICATE-----`"
    )]
    NoCertificate,
    /// One of them is broken.
    #[error("certificate {number} of the chain cannot be read; have the CA's file copied again")]
    Unreadable {
        /// Counted from one.
        number: usize,
    },
    /// More than anybody sends.
    #[error("holds more than {MAX_CHAIN} certificates; leave the server's and its issuers")]
    TooLong,
    /// They are not in the order of issue.
    #[error(
        "certificate {number} of the chain (`{subject}`) is not the issuer of the one before it, which is `{issuer}`; put the server's certificate first, and behind each its issuer"
    )]
    Order {
        /// Counted from one.
        number: usize,
        /// Whose it is.
        subject: String,
        /// Who issued the one before.
        issuer: String,
    },
    /// The key's certificate is not the first.
    #[error(
        "the key belongs to certificate {number} of the chain; put the server's certificate first, and behind each its issuer"
    )]
    KeyOfLater {
        /// Counted from one.
        number: usize,
    },
    /// A CA's own.
    #[error("the first certificate is a CA's (`{subject}`); put the server's certificate first")]
    OfCa {
        /// Whose it is.
        subject: String,
    },
    /// It has ended.
    #[error("the certificate has ended {at}; name a newer one")]
    Ended {
        /// When.
        at: Micros,
    },
    /// It has not begun.
    #[error("the certificate begins {at}; import it then, and check this machine's clock")]
    NotBegun {
        /// When.
        at: Micros,
    },
    /// It covers nothing.
    #[error(
        "the certificate has no name of the DNS that can be served among its subject alternative names, with which alone clients compare (RFC 9525 §6.3); have one issued that has"
    )]
    NoNames,
    /// It covers too much.
    #[error("the certificate has more than {MAX_NAMES} names; split them among several certificates")]
    TooManyNames,
    /// It is for something else.
    #[error(
        "the certificate is not for servers: its extended key usage lacks `serverAuth` (RFC 5280 §4.2.1.12)"
    )]
    Purpose,
    /// A passphrase protects the key.
    #[error(
        "holds an encrypted private key, and an instance that starts by itself can ask for no passphrase; decrypt it: `openssl pkey -in FILE -out NEW`, with NEW readable by its owner alone"
    )]
    EncryptedKey,
    /// No PEM of a key.
    #[error("holds no private key in PEM form, which begins with `-----BEGIN PRIVATE KEY-----` or the like")]
    NoKey,
    /// A key that cannot sign.
    #[error(
        "holds a private key of a kind that cannot be used; use ECDSA with P-256, P-384 or P-521, RSA of 2048 to 8192 bits, or Ed25519"
    )]
    KeyKind,
    /// A key of another certificate.
    #[error("is not the key of the certificate; name the one that the certificate was issued for")]
    Mismatch,
}

impl OwnFault {
    /// The file to correct.
    #[must_use]
    pub const fn file(&self) -> OwnFile {
        match self {
            Self::EncryptedKey | Self::NoKey | Self::KeyKind | Self::Mismatch => OwnFile::Key,
            Self::NoCertificate
            | Self::Unreadable { .. }
            | Self::TooLong
            | Self::Order { .. }
            | Self::KeyOfLater { .. }
            | Self::OfCa { .. }
            | Self::Ended { .. }
            | Self::NotBegun { .. }
            | Self::NoNames
            | Self::TooManyNames
            | Self::Purpose => OwnFile::Chain,
        }
    }
}

impl OwnCertificate {
    /// Reads the contents of the two files, and checks them.
    pub fn read(chain: &[u8], key: &[u8], now: SystemTime) -> Result<Self, OwnFault> {
        let chain = certificates(chain)?;
        let parsed = chain.iter().map(|der| parse(der)).collect::<Option<Vec<_>>>();
        let (Some(first), Some(parsed)) = (chain.first(), parsed) else {
            return Err(OwnFault::NoCertificate);
        };
        let leaf = parse(first).ok_or(OwnFault::NoCertificate)?;
        let der = private_key(key)?;
        check_key(&chain, &der)?;
        if leaf.is_ca() {
            return Err(OwnFault::OfCa { subject: leaf.subject().to_string() });
        }
        check_order(&parsed)?;
        check_purpose(&leaf)?;
        let life = Validity::of(&leaf);
        if now >= life.not_after {
            return Err(OwnFault::Ended { at: Micros::of(life.not_after) });
        }
        if now < life.not_before {
            return Err(OwnFault::NotBegun { at: Micros::of(life.not_before) });
        }
        let (patterns, mut warnings) = patterns(&leaf)?;
        if parsed.len() == 1 && leaf.issuer() != leaf.subject() {
            warnings.push(format!(
                "the chain is the server's certificate alone: clients that do not know its issuer `{}` refuse it, so add the CA's intermediate certificates to the file",
                leaf.issuer()
            ));
        }
        Ok(Self {
            chain: chain.iter().map(|der| pem("CERTIFICATE", der).to_string()).collect(),
            key: pem(label(&der), der.secret_der()).into(),
            patterns,
            serial: hexadecimal(leaf.tbs_certificate.raw_serial()),
            life,
            warnings,
        })
    }

    /// PEM of the chain.
    #[must_use]
    pub fn chain(&self) -> &str {
        &self.chain
    }

    /// The private key.
    #[must_use]
    pub const fn key(&self) -> &PrivateKeyPem {
        &self.key
    }
}

fn certificates(chain: &[u8]) -> Result<Vec<CertificateDer<'static>>, OwnFault> {
    let mut found = Vec::new();
    for (index, der) in CertificateDer::pem_slice_iter(chain).take(MAX_CHAIN + 1).enumerate() {
        let unreadable = OwnFault::Unreadable { number: index + 1 };
        let der = der.map_err(|_| unreadable.clone())?;
        if parse(&der).is_none() {
            return Err(unreadable);
        }
        found.push(der);
    }
    match found.len() {
        0 => Err(OwnFault::NoCertificate),
        length if length > MAX_CHAIN => Err(OwnFault::TooLong),
        _ => Ok(found),
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    x509_parser::parse_x509_certificate(der).ok().map(|(_, certificate)| certificate)
}

fn private_key(key: &[u8]) -> Result<PrivateKeyDer<'static>, OwnFault> {
    PrivateKeyDer::from_pem_slice(key).map_err(|_| {
        let holds = |part: &[u8]| key.windows(part.len()).any(|window| window == part);
        // RFC 7468 §11; RFC 1421 §4.6.1.1, as OpenSSL wrote it before.
        let is_encrypted =
            holds(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || holds(b"Proc-Type: 4,ENCRYPTED");
        if is_encrypted { OwnFault::EncryptedKey } else { OwnFault::NoKey }
    })
}

fn check_key(chain: &[CertificateDer<'static>], der: &PrivateKeyDer<'static>) -> Result<(), OwnFault> {
    let key = any_supported_type(der).map_err(|_| OwnFault::KeyKind)?;
    let is_of = |certificate: &CertificateDer<'static>| {
        CertifiedKey::new(vec![certificate.clone()], std::sync::Arc::clone(&key)).keys_match().is_ok()
    };
    match chain.iter().position(is_of) {
        Some(0) => Ok(()),
        Some(index) => Err(OwnFault::KeyOfLater { number: index + 1 }),
        None => Err(OwnFault::Mismatch),
    }
}

/// RFC 8446 §4.4.2 asks for this order; clients that do not sort for themselves refuse others.
fn check_order(chain: &[X509Certificate<'_>]) -> Result<(), OwnFault> {
    for (index, (before, issuer)) in chain.iter().zip(chain.iter().skip(1)).enumerate() {
        if before.issuer() != issuer.subject() {
            return Err(OwnFault::Order {
                number: index + 2,
                subject: issuer.subject().to_string(),
                issuer: before.issuer().to_string(),
            });
        }
    }
    Ok(())
}

fn check_purpose(leaf: &X509Certificate<'_>) -> Result<(), OwnFault> {
    match leaf.extended_key_usage() {
        Ok(Some(usage)) if !usage.value.server_auth && !usage.value.any => Err(OwnFault::Purpose),
        _ => Ok(()),
    }
}

/// What is covered, and what of it cannot be served.
fn patterns(leaf: &X509Certificate<'_>) -> Result<(Vec<Pattern>, Vec<String>), OwnFault> {
    let Ok(Some(names)) = leaf.subject_alternative_name() else { return Err(OwnFault::NoNames) };
    let names = &names.value.general_names;
    if names.len() > MAX_NAMES {
        return Err(OwnFault::TooManyNames);
    }
    let (mut patterns, mut warnings) = (Vec::new(), Vec::new());
    for name in names {
        match name {
            GeneralName::DNSName(name) => match Pattern::parse(name) {
                Ok(pattern) if patterns.contains(&pattern) => {}
                Ok(pattern) => patterns.push(pattern),
                Err(error) => warnings.push(format!("{error}; this name is left out")),
            },
            other => warnings.push(format!("`{other}` is no name of the DNS; it is left out")),
        }
    }
    if patterns.is_empty() { Err(OwnFault::NoNames) } else { Ok((patterns, warnings)) }
}

/// RFC 7468 §10 and §13; RFC 8017 for RSA alone.
const fn label(der: &PrivateKeyDer<'_>) -> &'static str {
    match der {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    }
}

#[cfg(test)]
mod tests;
