//! Private keys as the table holds them, and in clear.
//! Not here: reading and making keys (`certificates`). Invariants: only `commit`, `read` and `account` seal and open keys; a key in
//! clear is wiped when it is dropped, and never shown by `{:?}` (`no_key_is_shown`).

use std::{fmt, mem};

use zeroize::Zeroizing;

use super::contents::ItemContents;

/// A private key in PEM (RFC 7468), in clear.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKeyPem(Zeroizing<Vec<u8>>);

impl PrivateKeyPem {
    /// Its text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for PrivateKeyPem {
    fn from(pem: Vec<u8>) -> Self {
        Self(Zeroizing::new(pem))
    }
}

impl From<Zeroizing<String>> for PrivateKeyPem {
    fn from(mut pem: Zeroizing<String>) -> Self {
        // Moved, not copied: nothing is left to wipe.
        mem::take(&mut *pem).into_bytes().into()
    }
}

impl fmt::Debug for PrivateKeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKeyPem({} bytes)", self.0.len())
    }
}

/// A private key as the `Contents` of an item hold it.
pub(super) struct SealedKey(ItemContents);

impl SealedKey {
    pub(super) fn read(contents: ItemContents) -> Self {
        Self(contents)
    }

    /// What the item is to hold.
    pub(super) fn contents(&self) -> &[u8] {
        &self.0
    }
}

/// How private keys are kept in the certificate table. Encrypting them there is another variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::store) enum KeySealer {
    /// In clear, as Caddy keeps and reads them: the table's encryption at rest is what protects them.
    #[default]
    Plain,
}

impl KeySealer {
    pub(super) fn seal(self, key: &PrivateKeyPem) -> SealedKey {
        match self {
            Self::Plain => SealedKey(key.as_bytes().to_vec().into()),
        }
    }

    pub(super) fn open(self, sealed: SealedKey) -> PrivateKeyPem {
        match self {
            Self::Plain => PrivateKeyPem(sealed.0.into_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_key_is_kept_as_caddy_keeps_it() {
        let key = PrivateKeyPem::from(b"key".to_vec());
        let sealed = KeySealer::Plain.seal(&key);
        assert_eq!(sealed.contents(), b"key");
        assert_eq!(KeySealer::Plain.open(sealed), key);
    }

    #[test]
    fn no_key_is_shown() {
        let key = PrivateKeyPem::from(Zeroizing::new("a key".to_owned()));
        for shown in [format!("{key:?}"), format!("{key:#?}"), format!("{:?}", Some(Ok::<_, ()>(&key)))] {
            assert!(shown.contains("PrivateKeyPem(5 bytes)") && !shown.contains("a key"), "{shown}");
        }
    }
}
