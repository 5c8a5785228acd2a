//! Master keys in a file: a key of 32 bytes in base64 on each line. The first encrypts, all decrypt; `#` begins a comment.

use std::path::{Path, PathBuf};

use aws_lc_rs::{digest, rand};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{
    envelope::{KEY_BYTES, Key, Wrapped},
    error::SealError,
};
use crate::whole_file::{self, SecretFileError};

/// The keys of a file.
pub(super) struct KeyFile {
    sealing: MasterKeyOfFile,
    opening: Vec<MasterKeyOfFile>,
}

struct MasterKeyOfFile {
    /// A hash of it.
    name: String,
    key: Key,
}

/// Why a file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("store.key_encryption: `{}` {problem}", path.display())]
pub struct KeyFileError {
    path: PathBuf,
    problem: KeyFileProblem,
}

#[derive(Debug, thiserror::Error)]
enum KeyFileProblem {
    #[error("cannot be read: {0}")]
    Unreadable(std::io::Error),
    #[error(
        "can be read by others (mode {0:03o}); `chmod 600` it, and change the keys if somebody has read it"
    )]
    Open(u32),
    #[error("line {0} is not the base64 of 32 bytes; make one by `openssl rand -base64 32`")]
    Line(usize),
    #[error("holds no key; make one by `openssl rand -base64 32`")]
    Empty,
    #[error("has keys that the cryptographic library does not take")]
    Library(#[from] aws_lc_rs::error::Unspecified),
}

impl KeyFile {
    pub(super) fn read(path: &Path) -> Result<Self, KeyFileError> {
        Self::read_keys(path).map_err(|problem| KeyFileError { path: path.to_owned(), problem })
    }

    fn read_keys(path: &Path) -> Result<Self, KeyFileProblem> {
        let text = whole_file::read_secret(path, LONGEST)?;
        let mut keys = Vec::new();
        for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let decoded = Zeroizing::new(STANDARD.decode(line).map_err(|_| KeyFileProblem::Line(at + 1))?);
            let bytes = decoded.as_slice().try_into().map_err(|_| KeyFileProblem::Line(at + 1))?;
            keys.push(MasterKeyOfFile::of(bytes)?);
        }
        let mut keys = keys.into_iter();
        let sealing = keys.next().ok_or(KeyFileProblem::Empty)?;
        Ok(Self { sealing, opening: keys.collect() })
    }

    /// A new data key, and the same encrypted.
    pub(super) fn generate(&self) -> Result<(Zeroizing<[u8; KEY_BYTES]>, Wrapped), SealError> {
        let mut fresh = Zeroizing::new([0; KEY_BYTES]);
        rand::fill(&mut *fresh).map_err(|_| SealError::Library)?;
        let MasterKeyOfFile { name, key } = &self.sealing;
        let bytes = key.encrypt(&*fresh, DATA_KEY).map_err(|_| SealError::Library)?;
        Ok((fresh, Wrapped { master: name.clone(), bytes }))
    }

    /// The data key; `None` when it was changed.
    pub(super) fn decrypt(&self, wrapped: &Wrapped) -> Result<Option<Zeroizing<Vec<u8>>>, SealError> {
        let mut keys = std::iter::once(&self.sealing).chain(&self.opening);
        let key = keys.find(|key| key.name == wrapped.master).ok_or_else(|| SealError::unknown(wrapped))?;
        let Some((nonce, ciphertext)) = wrapped.bytes.split_first_chunk() else { return Ok(None) };
        Ok(key.key.decrypt(*nonce, ciphertext, DATA_KEY))
    }
}

impl From<SecretFileError> for KeyFileProblem {
    fn from(error: SecretFileError) -> Self {
        match error {
            SecretFileError::Unreadable(source) => Self::Unreadable(source),
            SecretFileError::Exposed(mode) => Self::Open(mode),
        }
    }
}

impl MasterKeyOfFile {
    fn of(bytes: &[u8; KEY_BYTES]) -> Result<Self, aws_lc_rs::error::Unspecified> {
        let hash = digest::digest(&digest::SHA256, bytes);
        let short = hash.as_ref().first_chunk::<8>().map_or(0, |first| u64::from_be_bytes(*first));
        Ok(Self { name: format!("file:{short:016x}"), key: Key::of(bytes)? })
    }
}

/// What a master key encrypts, so that it is nothing else.
const DATA_KEY: &[u8] = b"data key";
const LONGEST: usize = 64 << 10;

#[cfg(test)]
pub(super) mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt as _,
    };

    use super::*;

    pub(in crate::store::key_sealer) fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let key = STANDARD.encode([7; KEY_BYTES]);
        for (text, mode, told) in [
            (key.as_str(), 0o640, "mode 640"),
            (key.as_str(), 0o604, "chmod 600"),
            ("# none\n\n", 0o600, "holds no key"),
            ("# one\nAAAA\n", 0o600, "line 2"),
            ("not base64!", 0o600, "line 1"),
        ] {
            write(&path, text, mode);
            let error = KeyFile::read(&path).err().unwrap().to_string();
            assert!(error.contains("store.key_encryption") && error.contains(told), "{error}");
            assert!(!error.contains(&key), "{error}");
        }
        let absent = KeyFile::read(&folder.path().join("none")).err().unwrap().to_string();
        assert!(absent.contains("cannot be read"), "{absent}");
    }
}
