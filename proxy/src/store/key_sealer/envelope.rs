//! An encrypted secret as bytes: which master key encrypts which data key, and what the data key encrypts.
//!
//! [`BEGINNING`], length (two bytes) and name of the master key, length (two bytes) and bytes of the encrypted data key, nonce (12), and
//! ciphertext with tag: AES-256-GCM (NIST SP 800-38D) with the name of the item as additional data.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    error::Unspecified,
    rand,
};
use zeroize::Zeroizing;

/// An encrypted data key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Wrapped {
    /// Names the master key: `file:` and a hash of it, or `kms:` and its ARN.
    pub(super) master: String,
    pub(super) bytes: Vec<u8>,
}

/// A key of AES-256-GCM.
pub(super) struct Key(LessSafeKey);

/// An encrypted secret.
pub(super) struct Envelope<'a> {
    pub(super) wrapped: Wrapped,
    nonce: [u8; NONCE_LEN],
    ciphertext: &'a [u8],
}

/// What bytes are.
pub(super) enum Sealed<'a> {
    /// No encrypted secret.
    Not,
    /// The beginning of one, and nothing that follows from it.
    Damaged,
    By(Envelope<'a>),
}

impl Key {
    pub(super) fn of(bytes: &[u8; KEY_BYTES]) -> Result<Self, Unspecified> {
        Ok(Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes)?)))
    }

    /// Nonce, then ciphertext with tag. A nonce is random: a key encrypts far less than 2^32 times (SP 800-38D, 8.3).
    pub(super) fn encrypt(&self, secret: &[u8], additional: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce)?;
        let mut text = Zeroizing::new(Vec::with_capacity(secret.len() + AES_256_GCM.tag_len()));
        text.extend_from_slice(secret);
        let nonce_of = Nonce::assume_unique_for_key(nonce);
        self.0.seal_in_place_append_tag(nonce_of, Aad::from(additional), &mut *text)?;
        Ok([&nonce, text.as_slice()].concat())
    }

    pub(super) fn decrypt(
        &self,
        nonce: [u8; NONCE_LEN],
        ciphertext: &[u8],
        additional: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let mut text = Zeroizing::new(ciphertext.to_vec());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let length = self.0.open_in_place(nonce, Aad::from(additional), &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }
}

impl<'a> Envelope<'a> {
    pub(super) fn find(bytes: &'a [u8]) -> Sealed<'a> {
        match bytes.strip_prefix(BEGINNING) {
            None => Sealed::Not,
            Some(rest) => Self::read(rest).map_or(Sealed::Damaged, Sealed::By),
        }
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (master, rest) = counted(bytes)?;
        let (data_key, rest) = counted(rest)?;
        let (nonce, ciphertext) = rest.split_first_chunk()?;
        let wrapped =
            Wrapped { master: std::str::from_utf8(master).ok()?.to_owned(), bytes: data_key.to_vec() };
        Some(Self { wrapped, nonce: *nonce, ciphertext })
    }

    pub(super) fn open(&self, key: &Key, context: &str) -> Option<Zeroizing<Vec<u8>>> {
        key.decrypt(self.nonce, self.ciphertext, context.as_bytes())
    }
}

/// `secret` encrypted by `key`, which `wrapped` holds.
pub(super) fn seal(
    key: &Key,
    wrapped: &Wrapped,
    context: &str,
    secret: &[u8],
) -> Result<Vec<u8>, Unspecified> {
    let mut sealed = BEGINNING.to_vec();
    for part in [wrapped.master.as_bytes(), &wrapped.bytes] {
        sealed.extend(u16::try_from(part.len()).map_err(|_| Unspecified)?.to_be_bytes());
        sealed.extend(part);
    }
    sealed.extend(key.encrypt(secret, context.as_bytes())?);
    Ok(sealed)
}

/// What two bytes of length count, and what follows.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// No PEM begins so, and none of the 32 random bytes that are kept but by a chance of 2^-184.
pub(super) const BEGINNING: &[u8] = b"gatehouse-sealed-key-1\n";
pub(super) const KEY_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let with_beginning = [BEGINNING, &bytes].concat();
            let is_not = matches!(Envelope::find(&with_beginning), Sealed::Not);
            prop_assert!(!is_not);
            let _ = Envelope::find(&bytes);
        }

        #[test]
        fn what_was_sealed_is_found(
            master in "[a-z:]{0,40}",
            data_key in proptest::collection::vec(any::<u8>(), 0..200),
            secret in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let key = Key::of(&[7; KEY_BYTES]).unwrap();
            let wrapped = Wrapped { master, bytes: data_key };
            let sealed = seal(&key, &wrapped, "here", &secret).unwrap();
            let Sealed::By(envelope) = Envelope::find(&sealed) else { panic!("not found") };
            prop_assert_eq!(&envelope.wrapped, &wrapped);
            prop_assert_eq!(envelope.open(&key, "here").unwrap().to_vec(), secret);
        }
    }
}
