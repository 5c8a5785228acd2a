//! How secrets are kept in tables: private keys, and the keys of session tickets.
//! Not here: what an item looks like. Invariant: secrets are sealed where they are written to a table, and opened where they are read
//! from one, and nowhere else.

use zeroize::Zeroizing;

/// A secret as an item holds it.
pub(super) struct SealedKey(Zeroizing<Vec<u8>>);

impl SealedKey {
    pub(super) fn read(stored: impl Into<Zeroizing<Vec<u8>>>) -> Self {
        Self(stored.into())
    }

    /// What the item is to hold.
    pub(super) fn contents(&self) -> &[u8] {
        &self.0
    }
}

/// How secrets are kept in tables. Encrypting them there is another variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum KeySealer {
    /// In clear, as Caddy keeps and reads private keys: the table's encryption at rest is what protects them.
    #[default]
    Plain,
}

impl KeySealer {
    pub(super) fn seal(self, secret: &[u8]) -> SealedKey {
        match self {
            Self::Plain => SealedKey::read(secret.to_vec()),
        }
    }

    pub(super) fn open(self, sealed: SealedKey) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Plain => sealed.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_key_is_kept_as_caddy_keeps_it() {
        let sealed = KeySealer::Plain.seal(b"key");
        assert_eq!(sealed.contents(), b"key");
        assert_eq!(*KeySealer::Plain.open(sealed), b"key");
    }
}
