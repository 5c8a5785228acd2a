//! How secrets are kept in tables and in the local copy: private keys, and the keys of session tickets.
//! Not here: what an item looks like.
//! Invariants: secrets are sealed where they are written to a table or the local copy, and opened where they are read from one, and nowhere
//! else; what was sealed for one item is not opened for another (`what_was_sealed_for_one_item_is_opened_for_no_other`); what lies in a
//! table in clear is read as well, so that encryption can be turned on while instances serve (`what_is_in_clear_is_read_as_it_is`), and what
//! lies in a copy in clear is not (`what_is_not_sealed_for_its_place_is_left_out`).

mod data_keys;
mod envelope;
mod error;
mod key_file;
mod kms;

use std::sync::Arc;

use zeroize::Zeroizing;

use self::{
    data_keys::{DataKeys, MasterKey},
    envelope::{Envelope, Sealed},
};
pub use self::{error::SealError, key_file::KeyFileError};
use crate::{config::KeyEncryption, ec2::IdentitySource};

/// A secret as an item holds it.
pub(super) struct SealedKey(Zeroizing<Vec<u8>>);

/// What an item holds was not sealed for it, or was changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("was changed since it was encrypted, or was encrypted for another item")]
pub struct Tampered;

/// How secrets are kept in tables.
#[derive(Clone)]
pub(super) enum KeySealer {
    /// In clear, as Caddy keeps and reads private keys: the table's encryption at rest is what protects them.
    Clear,
    /// Encrypted by data keys, which a master key that is in no table encrypts.
    Encrypted(Arc<DataKeys>),
}

/// Why secrets cannot be sealed as the settings say.
#[derive(Debug, thiserror::Error)]
pub(super) enum SealerError {
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// Of the key.
    #[error("no region is known")]
    Region,
}

impl SealedKey {
    pub(super) fn read(stored: impl Into<Zeroizing<Vec<u8>>>) -> Self {
        Self(stored.into())
    }

    /// What the item is to hold.
    pub(super) fn contents(&self) -> &[u8] {
        &self.0
    }
}

impl KeySealer {
    /// `region` is that of the tables, as far as settings say one.
    pub(super) async fn connect(
        encryption: &KeyEncryption,
        region: Option<&str>,
        instance: &IdentitySource,
    ) -> Result<Self, SealerError> {
        let master = match encryption {
            KeyEncryption::Off => return Ok(Self::Clear),
            KeyEncryption::File(path) => MasterKey::File(key_file::KeyFile::read(path)?),
            KeyEncryption::Kms(key) => {
                let region = instance.region(encryption.region().or(region)).await;
                MasterKey::Kms(kms::Kms::connect(key, region.ok_or(SealerError::Region)?).await)
            }
        };
        Ok(Self::Encrypted(Arc::new(DataKeys::new(master))))
    }

    /// Seals `secret` for the item, or the part of one, that `context` names.
    pub(super) async fn seal(&self, secret: &[u8], context: &str) -> Result<SealedKey, SealError> {
        match self {
            Self::Clear => Ok(SealedKey::read(secret.to_vec())),
            Self::Encrypted(keys) => {
                let (wrapped, key) = keys.sealing().await?;
                let encrypted = envelope::seal(&key, &wrapped, context, secret);
                Ok(SealedKey::read(encrypted.map_err(|_| SealError::Library)?))
            }
        }
    }

    /// Opens what was sealed for `context`.
    pub(super) async fn open(
        &self,
        sealed: SealedKey,
        context: &str,
    ) -> Result<Result<Zeroizing<Vec<u8>>, Tampered>, SealError> {
        let envelope = match Envelope::find(sealed.contents()) {
            Sealed::Not => return Ok(Ok(sealed.0)),
            Sealed::Damaged => return Ok(Err(Tampered)),
            Sealed::By(envelope) => envelope,
        };
        let key = match self {
            Self::Encrypted(keys) => keys.opening(&envelope.wrapped).await?,
            Self::Clear => return Err(SealError::unknown(&envelope.wrapped)),
        };
        let Some(key) = key else { return Ok(Err(Tampered)) };
        Ok(envelope.open(&key, context).ok_or(Tampered))
    }

    /// The same of what is never kept in clear: what is not encrypted was put there by somebody else.
    pub(super) async fn open_sealed(
        &self,
        sealed: SealedKey,
        context: &str,
    ) -> Result<Result<Zeroizing<Vec<u8>>, Tampered>, SealError> {
        match Envelope::find(sealed.contents()) {
            Sealed::Not | Sealed::Damaged => Ok(Err(Tampered)),
            Sealed::By(_) => self.open(sealed, context).await,
        }
    }

    /// Whether `sealed` is as [`KeySealer::seal`] would seal it now.
    pub(super) async fn is_current(&self, sealed: &SealedKey) -> Result<bool, SealError> {
        Ok(match (self, Envelope::find(sealed.contents())) {
            (Self::Clear, Sealed::Not) => true,
            (Self::Encrypted(keys), Sealed::By(envelope)) => {
                keys.sealing().await?.0.master == envelope.wrapped.master
            }
            (Self::Clear, _) | (Self::Encrypted(_), Sealed::Not | Sealed::Damaged) => false,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::*;

    /// By the keys of `text`.
    pub(in crate::store) async fn by_file(folder: &Path, text: &str) -> KeySealer {
        let path = folder.join("keys");
        key_file::tests::write(&path, text, 0o600);
        KeySealer::connect(&KeyEncryption::File(path), None, &IdentitySource::Off).await.unwrap()
    }

    pub(in crate::store) const FIRST: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    pub(in crate::store) const SECOND: &str = "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=";

    async fn opened(sealer: &KeySealer, encrypted: &[u8], context: &str) -> Result<Vec<u8>, Tampered> {
        let opened = sealer.open(SealedKey::read(encrypted.to_vec()), context).await.unwrap();
        opened.map(|secret| secret.to_vec())
    }

    #[tokio::test]
    async fn what_is_in_clear_is_read_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let encrypted = KeySealer::Clear.seal(b"key", "here").await.unwrap();
        assert_eq!(encrypted.contents(), b"key", "as Caddy keeps it");
        for sealer in [KeySealer::Clear, by_file(folder.path(), FIRST).await] {
            assert_eq!(opened(&sealer, b"key", "here").await, Ok(b"key".to_vec()));
        }
    }

    #[tokio::test]
    async fn what_was_sealed_for_one_item_is_opened_for_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let sealer = by_file(folder.path(), FIRST).await;
        let encrypted = sealer.seal(b"a key", "here").await.unwrap();
        let contents = encrypted.contents();
        assert!(!contents.windows(5).any(|window| window == b"a key"));
        assert_eq!(opened(&sealer, contents, "here").await, Ok(b"a key".to_vec()));
        assert_eq!(opened(&sealer, contents, "there").await, Err(Tampered));
        let again = sealer.seal(b"a key", "here").await.unwrap();
        assert_ne!(again.contents(), contents, "a nonce of its own");
        // Whatever is changed, nothing is opened; the beginning and the master key's name say what it is and whose.
        let names = envelope::BEGINNING.len() + 2 + "file:0123456789abcdef".len();
        for at in names..contents.len() {
            let mut changed = contents.to_vec();
            changed[at] ^= 1;
            assert_eq!(opened(&sealer, &changed, "here").await, Err(Tampered), "byte {at}");
        }
        for end in envelope::BEGINNING.len()..contents.len() {
            assert_eq!(opened(&sealer, &contents[..end], "here").await, Err(Tampered), "{end} bytes");
        }
    }

    #[tokio::test]
    async fn the_first_key_seals_and_the_others_open() {
        let folder = tempfile::tempdir().unwrap();
        let old = by_file(folder.path(), FIRST).await;
        let encrypted = old.seal(b"key", "here").await.unwrap();
        let both = by_file(folder.path(), &format!("# the new one first\n{SECOND}\n\n{FIRST}\n")).await;
        assert_eq!(opened(&both, encrypted.contents(), "here").await, Ok(b"key".to_vec()));
        assert!(old.is_current(&encrypted).await.unwrap() && !both.is_current(&encrypted).await.unwrap());
        let resealed = both.seal(b"key", "here").await.unwrap();
        assert!(both.is_current(&resealed).await.unwrap());
        assert!(!both.is_current(&SealedKey::read(b"key".to_vec())).await.unwrap());
        assert!(KeySealer::Clear.is_current(&SealedKey::read(b"key".to_vec())).await.unwrap());
        for (sealer, what) in [(&old, "another key"), (&KeySealer::Clear, "no key")] {
            let error = sealer.open(SealedKey::read(resealed.contents().to_vec()), "here").await.unwrap_err();
            let SealError::UnknownKey { master } = &error else { panic!("{what}: {error:?}") };
            assert!(master.starts_with("file:"), "{master}");
        }
    }
}
