//! A chain and its key, read from the table or from a CA, and checked to match.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::{extensions::GeneralName, prelude::X509Certificate};

use super::{Certificate, key};
use crate::{hexadecimal::hexadecimal, name::Pattern, random::fraction_of, store::PrivateKeyPem};

/// A certificate that can be presented, with the facts that decide when it is.
///
/// Invariant: the key is the leaf's, and the leaf covers the pattern it was read for.
#[derive(Debug, Clone)]
pub(super) struct KeyedChain {
    pub(super) certificate: Arc<Certificate>,
    pub(super) life: Validity,
    /// Hexadecimal.
    pub(super) serial: String,
    /// The key as it can be kept: what signs gives none away.
    pub(super) private_key: Arc<PrivateKeyPem>,
}

/// The validity period of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
}

/// Why a chain and a key make no certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyedChainError {
    /// The chain is no PEM of certificates.
    #[error("the chain cannot be read")]
    Chain,
    /// The key is no PEM of a key that can sign.
    #[error("the private key cannot be read")]
    Key,
    /// The key is another certificate's: half of a write was seen.
    #[error("the private key is not the certificate's")]
    Mismatch,
    /// It is for other names.
    #[error("the certificate does not cover the name")]
    Names,
}

impl KeyedChain {
    pub(super) fn read(chain: &[u8], key: &[u8], pattern: &Pattern) -> Result<Self, KeyedChainError> {
        let chain = certificates(chain).ok_or(KeyedChainError::Chain)?;
        let leaf = chain.first().ok_or(KeyedChainError::Chain)?;
        let (_, leaf) = x509_parser::parse_x509_certificate(leaf).map_err(|_| KeyedChainError::Chain)?;
        if !covers(&leaf, pattern) {
            return Err(KeyedChainError::Names);
        }
        let (life, serial) = (Validity::of(&leaf), hexadecimal(leaf.tbs_certificate.raw_serial()));
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| KeyedChainError::Key)?;
        let private_key = Arc::new(pem_of(&key));
        let key = any_supported_type(&key).map_err(|_| KeyedChainError::Key)?;
        let key = CertifiedKey::new(chain, key);
        key.keys_match().map_err(|_| KeyedChainError::Mismatch)?;
        let Validity { not_before, not_after } = life;
        let certificate = Certificate { key: Arc::new(key), not_before, not_after };
        Ok(Self { certificate: Arc::new(certificate), life, serial, private_key })
    }

    pub(super) fn is_valid(&self, now: SystemTime) -> bool {
        now < self.life.not_after
    }
}

/// A certificate that a server presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// Whether it is for the name that was asked for.
    pub covers: bool,
    /// From when on it is valid.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
    /// Who issued it: the common name, or else all of the name.
    pub issuer: String,
}

/// What `leaf` is to a client of `pattern`; `None` when it cannot be read.
#[must_use]
pub fn presented(leaf: &CertificateDer<'_>, pattern: &Pattern) -> Option<Presented> {
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let Validity { not_before, not_after } = Validity::of(&leaf);
    let common_name = leaf.issuer().iter_common_name().next().and_then(|name| name.as_str().ok());
    let issuer = common_name.map_or_else(|| leaf.issuer().to_string(), str::to_owned);
    let issuer = issuer.chars().take(LONGEST_ISSUER).collect();
    Some(Presented { covers: covers(&leaf, pattern), not_before, not_after, issuer })
}

impl Validity {
    pub(super) fn of(leaf: &X509Certificate<'_>) -> Self {
        let at = |seconds: i64| {
            SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
        };
        let validity = leaf.validity();
        Self {
            not_before: at(validity.not_before.timestamp()),
            not_after: at(validity.not_after.timestamp()),
        }
    }

    /// Two thirds of the life in, and earlier by up to a twentieth of it, so that names that began together do not renew together.
    /// The same for a name on every instance. No number of days: lives get shorter.
    pub(super) fn renew_at(self, name: &Pattern) -> SystemTime {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        let jitter = (life / 20).mul_f64(fraction_of(&name.to_string()));
        self.not_before + life * 2 / 3 - jitter
    }
}

/// RFC 7468 §10 and what RFC 5915 and RFC 8017 are written as.
fn pem_of(key: &PrivateKeyDer<'_>) -> PrivateKeyPem {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        // The library knows no other, and may one day.
        _ => "PRIVATE KEY",
    };
    key::pem(label, key.secret_der()).into()
}

/// The certificate that `chain` is for.
pub(super) fn leaf(chain: &[u8]) -> Option<CertificateDer<'static>> {
    sections(chain).next().and_then(|pem| CertificateDer::from_pem_slice(pem).ok())
}

/// The leaf and those intermediates that can be read: Go's PEM reader passes over the others too, and clients often have them.
/// `None` when the leaf cannot be read.
fn certificates(chain: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let certificate = |pem: &[u8]| {
        let der = CertificateDer::from_pem_slice(pem).ok()?;
        x509_parser::parse_x509_certificate(&der).ok()?;
        Some(der)
    };
    let mut sections = sections(chain).take(MAX_CHAIN);
    let leaf = certificate(sections.next()?)?;
    Some(std::iter::once(leaf).chain(sections.filter_map(certificate)).collect())
}

/// Each from its label to the next (RFC 7468 §2), so that a broken one does not affect the next.
fn sections(chain: &[u8]) -> impl Iterator<Item = &[u8]> {
    let starts = chain.windows(LABEL.len()).enumerate().filter(|(_, window)| *window == LABEL);
    let starts: Vec<_> = starts.map(|(at, _)| at).take(MAX_CHAIN + 1).collect();
    let ends: Vec<_> = starts.iter().skip(1).copied().chain([chain.len()]).collect();
    starts.into_iter().zip(ends).filter_map(|(start, end)| chain.get(start..end))
}

/// RFC 9525 §6.3: names are compared with `dNSName` alone, never with a common name.
fn covers(leaf: &X509Certificate<'_>, pattern: &Pattern) -> bool {
    let Ok(Some(names)) = leaf.subject_alternative_name() else { return false };
    let mut patterns = names.value.general_names.iter().take(MAX_NAMES).filter_map(|name| match name {
        GeneralName::DNSName(name) => Pattern::parse(name).ok(),
        _ => None,
    });
    patterns.any(|covered| match pattern {
        Pattern::Exact(name) => covered.covers(name),
        Pattern::Wildcard(_) => covered == *pattern,
    })
}

/// The serial number of a leaf as operators read it.
pub(super) fn serial(leaf: &CertificateDer<'_>) -> Option<String> {
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).ok()?;
    Some(hexadecimal(leaf.tbs_certificate.raw_serial()))
}

const LABEL: &[u8] = b"-----BEGIN CERTIFICATE-----";
/// Certificates of a chain that are read; public CAs send two to four.
pub(super) const MAX_CHAIN: usize = 10;
/// Of a longer name of an issuer, the beginning.
const LONGEST_ISSUER: usize = 128;
/// Let's Encrypt's limit is 100 names.
pub(super) const MAX_NAMES: usize = 200;

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{certificates::key, clock};

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    /// Chain and key of a self-signed certificate.
    pub(in crate::certificates) fn pems(
        names: &[&str],
        begins: SystemTime,
        life: Duration,
    ) -> (String, String) {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        (params.not_before, params.not_after) = (begins.into(), (begins + life).into());
        let pair = key::generate().unwrap();
        (
            params.self_signed(&pair).unwrap().pem(),
            String::from_utf8(key::sec1_pem(pair.serialized_der()).unwrap().as_bytes().to_vec()).unwrap(),
        )
    }

    #[test]
    fn a_pair_is_taken_for_the_names_it_covers_and_only_with_its_own_key() {
        let now = clock::wall();
        let (chain, key) = pems(&["a.example.com", "*.b.example.com"], now, Duration::from_hours(1));
        let (_, other) = pems(&["a.example.com"], now, Duration::from_hours(1));
        for (chain, key, name, expected) in [
            (&chain, &key, "a.example.com", None),
            (&chain, &key, "x.b.example.com", None),
            (&chain, &key, "*.b.example.com", None),
            (&chain, &key, "*.example.com", Some(KeyedChainError::Names)),
            (&chain, &key, "c.example.com", Some(KeyedChainError::Names)),
            (&chain, &other, "a.example.com", Some(KeyedChainError::Mismatch)),
            (&chain, &"key".to_owned(), "a.example.com", Some(KeyedChainError::Key)),
            (&String::new(), &key, "a.example.com", Some(KeyedChainError::Chain)),
            (&key, &key, "a.example.com", Some(KeyedChainError::Chain)),
        ] {
            let read = KeyedChain::read(chain.as_bytes(), key.as_bytes(), &pattern(name));
            assert_eq!(read.err(), expected, "{name}");
        }
    }

    #[test]
    fn no_key_is_shown() {
        let now = clock::wall();
        let (chain, key) = pems(&["a.example.com"], now, Duration::from_hours(1));
        let pair = KeyedChain::read(chain.as_bytes(), key.as_bytes(), &pattern("a.example.com")).unwrap();
        let der = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        // The private value of RFC 5915 starts after seven bytes.
        let secret = &der.secret_der()[7..39];
        let decimal: Vec<_> = secret[..6].iter().map(u8::to_string).collect();
        for shown in [format!("{pair:?}"), format!("{pair:#?}").replace('\n', "").replace(' ', "")] {
            let shown = shown.replace(", ", ",");
            assert!(!shown.contains(&decimal.join(",")) && !shown.contains(&hexadecimal(secret)), "{shown}");
        }
    }

    #[test]
    fn renewal_falls_in_the_same_share_of_every_life() {
        for hours in [160_u32, 45 * 24, 64 * 24, 90 * 24] {
            let life = Validity {
                not_before: SystemTime::UNIX_EPOCH,
                not_after: SystemTime::UNIX_EPOCH + Duration::from_hours(hours.into()),
            };
            let shares: Vec<_> = (0..200)
                .map(|n| {
                    let at = life.renew_at(&Pattern::parse(&format!("n{n}.example")).unwrap());
                    at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64()
                        / (f64::from(hours) * 3600.0)
                })
                .collect();
            assert!(shares.iter().all(|share| (0.616..=0.667).contains(share)), "{hours} h");
            let early = shares.iter().filter(|share| **share < 0.642).count();
            assert!((60..140).contains(&early), "{early} of 200 in the earlier half");
        }
    }

    mod properties {
        use super::*;

        proptest! {
            #[test]
            fn no_bytes_panic(chain in proptest::collection::vec(any::<u8>(), 0..300), text in "\\PC{0,80}") {
                let _ = KeyedChain::read(&chain, text.as_bytes(), &pattern("a.example"));
                let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", base64(&chain));
                let _ = KeyedChain::read(pem.as_bytes(), pem.as_bytes(), &pattern("a.example"));
            }
        }
    }

    fn base64(bytes: &[u8]) -> String {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(bytes)
    }
}
