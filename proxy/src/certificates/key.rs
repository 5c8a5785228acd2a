//! Private keys as the table holds them: P-256, in SEC1 PEM (RFC 5915), as Caddy reads and writes them.

use aws_lc_rs::{
    encoding::{AsDer, EcPrivateKeyRfc5915Der},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use zeroize::Zeroizing;

use crate::store::PrivateKeyPem;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No PEM of a key.
    #[error("no private key in PEM form")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// Another kind of key than ours.
    #[error("not a P-256 key")]
    Kind,
    /// The machine gives no randomness, or the library fails.
    #[error("no key could be generated")]
    Generation(#[from] rcgen::Error),
}

/// A new key for a certificate.
pub(super) fn generate() -> Result<rcgen::KeyPair, KeyError> {
    Ok(rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?)
}

/// A key as SEC1 PEM.
pub(super) fn sec1_pem(pkcs8: &[u8]) -> Result<PrivateKeyPem, KeyError> {
    let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8);
    let pair = pair.map_err(|_| KeyError::Kind)?;
    let der: EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der().map_err(|_| KeyError::Kind)?;
    Ok(pem("EC PRIVATE KEY", der.as_ref()).into())
}

/// `der` in the textual encoding of RFC 7468; it may be a key, so no part of it stays behind in memory.
pub(super) fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let text = Zeroizing::new(STANDARD.encode(der));
    let mut pem = Zeroizing::new(String::with_capacity(text.len() + text.len() / 64 + 2 * label.len() + 40));
    let mut push = |parts: [&str; 3]| parts.into_iter().for_each(|part| pem.push_str(part));
    push(["-----BEGIN ", label, "-----\n"]);
    // §2: lines of 64 characters.
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, behind) = rest.split_at_checked(64).unwrap_or((rest, ""));
        push([line, "\n", ""]);
        rest = behind;
    }
    push(["-----END ", label, "-----\n"]);
    pem
}

/// A P-256 key in SEC1 or PKCS#8 PEM as PKCS#8: Caddy keeps the former, ACME and certificate libraries take the latter.
pub(super) fn pkcs8(pem: &[u8]) -> Result<PrivatePkcs8KeyDer<'static>, KeyError> {
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(KeyError::Pem)?;
    let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_der());
    let document = pair.map_err(|_| KeyError::Kind)?.to_pkcs8v1().map_err(|_| KeyError::Kind)?;
    Ok(document.as_ref().to_vec().into())
}

/// A P-256 key in SEC1 or PKCS#8 PEM, to sign with.
pub(super) fn pair(pem: &[u8]) -> Result<rcgen::KeyPair, KeyError> {
    let pkcs8 = PrivateKeyDer::Pkcs8(pkcs8(pem)?);
    Ok(rcgen::KeyPair::from_der_and_sign_algo(&pkcs8, &rcgen::PKCS_ECDSA_P256_SHA256)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_both_forms() {
        let pair = generate().unwrap();
        let sec1 = sec1_pem(pair.serialized_der()).unwrap();
        let text = std::str::from_utf8(sec1.as_bytes()).unwrap();
        assert!(text.starts_with("-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE"), "{}", text.len());
        assert!(text.lines().all(|line| line.len() <= 64));
        for pem in [sec1.as_bytes(), pair.serialize_pem().as_bytes()] {
            let again = pkcs8(pem).unwrap();
            assert_eq!(sec1_pem(again.secret_pkcs8_der()).unwrap(), sec1);
            assert_eq!(super::pair(pem).unwrap().public_key_raw(), pair.public_key_raw());
        }
    }

    #[test]
    fn what_is_no_p256_key_is_refused() {
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        for pem in [
            "",
            "key",
            "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n",
            &other.serialize_pem(),
        ] {
            assert!(pkcs8(pem.as_bytes()).is_err(), "{pem}");
        }
    }
}
