//! Private keys in clear.
//! Not here: reading and making keys (`certificates`), how tables hold them (`store::key_sealer`). Invariants: only `commit`, `read`,
//! `account` and `local_copy` seal and open keys; a key in clear is wiped when it is dropped, and never shown by `{:?}` (`no_key_is_shown`).

use std::{fmt, mem};

use zeroize::Zeroizing;

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

impl From<Zeroizing<Vec<u8>>> for PrivateKeyPem {
    fn from(pem: Zeroizing<Vec<u8>>) -> Self {
        Self(pem)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_shown() {
        let key = PrivateKeyPem::from(Zeroizing::new("a key".to_owned()));
        for shown in [format!("{key:?}"), format!("{key:#?}"), format!("{:?}", Some(Ok::<_, ()>(&key)))] {
            assert!(shown.contains("PrivateKeyPem(5 bytes)") && !shown.contains("a key"), "{shown}");
        }
    }
}
