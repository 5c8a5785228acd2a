//! What an instance serves, encrypted in a file of this machine, for a start at which the tables do not answer.
//! Not here: what belongs in it and when it is used (`run::local_copy`), what entries and certificates mean (`domains`, `certificates`).
//! Invariants: nothing is read that was not sealed for its place in this file (`what_is_not_sealed_for_its_place_is_left_out`); bytes of any
//! kind are read without a panic (`any_bytes_are_read_without_a_panic`); the file is seen whole or not at all, and by its owner alone
//! (`the_file_is_its_owners_alone_and_gone_once_it_is_cleared`).

mod format;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use aws_lc_rs::rand;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use self::format::{FileId, FormatError, Frames, Kind, List};
use super::{
    PrivateKeyPem, Store,
    certificate_table::IssuerKey,
    domain_table::DomainStatus,
    instant::Micros,
    key_sealer::{KeySealer, SealError, SealedKey},
};
use crate::{config::DomainSettings, name::Pattern, target::Target, whole_file};

/// The copy in one folder.
#[derive(Clone)]
pub struct LocalCopy {
    path: PathBuf,
    sealer: KeySealer,
}

/// What a copy holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyContents {
    /// When the domains table was last known to say what `entries` say.
    pub written_at: Micros,
    /// Entries of names, served or not.
    pub entries: Vec<CopiedEntry>,
    /// Certificates, those that were confirmed last first.
    pub certificates: Vec<CopiedCertificate>,
}

/// An entry as the data plane needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedEntry {
    /// What it covers.
    pub domain: Pattern,
    /// Its own target; absent, the default.
    pub target: Option<Target>,
    /// What it sets for its name.
    pub settings: DomainSettings,
    /// Whose it is.
    pub tenant: String,
    /// Whether it is served.
    pub status: DomainStatus,
    /// Which source has allowed it.
    pub source: CopiedSource,
    /// The table's optimistic lock; 0 where no feed has shown it.
    pub version: u64,
    /// `changed_at` of its item, microseconds since the epoch; 0 where no feed has shown it.
    pub changed_at_micros: u64,
}

/// Which source has allowed a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CopiedSource {
    /// The domains table.
    Table,
    /// The ask endpoint.
    Ask,
}

/// A certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedCertificate {
    /// What it was obtained for.
    pub pattern: Pattern,
    /// Under which issuer the certificate table has it.
    pub issuer: IssuerKey,
    /// When the table was last seen to hold it.
    pub seen_at: Micros,
    /// The chain in PEM.
    pub chain: Vec<u8>,
    /// The private key.
    pub key: PrivateKeyPem,
}

/// A copy as it was read.
#[derive(Debug)]
pub struct ReadCopy {
    /// What could be read.
    pub contents: CopyContents,
    /// How many certificates could not, because they were changed or are missing.
    pub left_out: usize,
}

/// Why a copy is not written, or not used.
#[derive(Debug, thiserror::Error)]
pub enum LocalCopyError {
    /// The file.
    #[error("`{}` cannot be read or written; check `store.local_copy`, the disk and who owns the directory", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// How it failed.
        #[source]
        source: io::Error,
    },
    /// It is no copy that this release reads.
    #[error("`{}` {fault}; it is left alone until another is written", path.display())]
    Format {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        fault: FormatError,
    },
    /// The key.
    #[error("store.key_encryption: {0}")]
    Sealing(#[from] SealError),
    /// There is more than one file can hold.
    #[error("there is more than a copy can hold; lower `store.local_copy_size`")]
    TooLong,
}

impl LocalCopyError {
    /// Whether it may be otherwise in a moment, with nothing done about it.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Sealing(SealError::Silent { .. }))
    }
}

impl Store {
    /// The copy in `folder`; `None` where the settings name no key to encrypt it by.
    #[must_use]
    pub fn local_copy(&self, folder: &Path) -> Option<LocalCopy> {
        match &self.sealer {
            KeySealer::Clear => None,
            sealer @ KeySealer::Encrypted(_) => {
                Some(LocalCopy { path: file_in(folder), sealer: sealer.clone() })
            }
        }
    }
}

impl LocalCopy {
    /// Puts `contents` in the place of what is there, and says how many bytes the file has.
    ///
    /// # Errors
    /// The disk, or the key.
    ///
    /// # Cancel safety
    /// What was there before stays until the new file is whole.
    pub async fn write(&self, contents: &CopyContents) -> Result<u64, LocalCopyError> {
        let mut id: FileId = [0; format::ID_BYTES];
        rand::fill(&mut id).map_err(|_| SealError::Library)?;
        let mut file = format::beginning(&id);
        let list = format::encode_list(contents).ok_or(LocalCopyError::TooLong)?;
        self.append(&mut file, &id, (Kind::List, 0), &list).await?;
        for (index, certificate) in contents.certificates.iter().enumerate() {
            let record = format::encode_certificate(certificate).ok_or(LocalCopyError::TooLong)?;
            self.append(&mut file, &id, (Kind::Certificate, index), &record).await?;
        }
        let (path, length) = (self.path.clone(), u64::try_from(file.len()).unwrap_or(u64::MAX));
        let write = move || {
            path.parent().map_or(Ok(()), whole_file::make_folder)?;
            whole_file::write(&path, &file, 0o600)
        };
        let written = spawn_blocking(write).await.map_err(io::Error::other).flatten();
        written.map_err(|source| self.file_error(source))?;
        Ok(length)
    }

    async fn append(
        &self,
        file: &mut Vec<u8>,
        id: &FileId,
        (kind, index): (Kind, usize),
        record: &[u8],
    ) -> Result<(), LocalCopyError> {
        let sealed = self.sealer.seal(record, &format::context(id, kind, index)).await?;
        format::append(file, sealed.contents()).ok_or(LocalCopyError::TooLong)
    }

    /// What is there; `None` if nothing is.
    ///
    /// # Errors
    /// A file that is no copy, or whose list was changed; a key that is another, or cannot be asked for now.
    pub async fn read(&self) -> Result<Option<ReadCopy>, LocalCopyError> {
        let path = self.path.clone();
        let read = spawn_blocking(move || whole_file::read(&path, LONGEST)).await;
        let file = match read.map_err(io::Error::other).flatten() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|source| self.file_error(source))?,
        };
        let (id, mut frames) = Frames::of(&file).map_err(|fault| self.format_error(fault))?;
        let list = match frames.next() {
            Some(sealed) => self.open(&id, (Kind::List, 0), sealed).await?,
            None => None,
        };
        let list = list.and_then(|record| List::decode(&record));
        let list = list.ok_or_else(|| self.format_error(FormatError::Tampered))?;
        let mut certificates = Vec::new();
        for (index, sealed) in frames.enumerate().take(list.certificates) {
            let record = match self.open(&id, (Kind::Certificate, index), sealed).await {
                // By the list's key it is read, so that this one was changed.
                Err(SealError::UnknownKey { .. }) => None,
                record => record?,
            };
            certificates.extend(record.and_then(|record| format::decode_certificate(&record)));
        }
        let left_out = list.certificates.saturating_sub(certificates.len());
        let contents = CopyContents { written_at: list.written_at, entries: list.entries, certificates };
        Ok(Some(ReadCopy { contents, left_out }))
    }

    /// What was sealed for this place; `None` for anything else, which leaves the others as they are.
    async fn open(
        &self,
        id: &FileId,
        (kind, index): (Kind, usize),
        sealed: &[u8],
    ) -> Result<Option<zeroize::Zeroizing<Vec<u8>>>, SealError> {
        let sealed = SealedKey::read(sealed.to_vec());
        Ok(self.sealer.open_sealed(sealed, &format::context(id, kind, index)).await?.ok())
    }

    fn file_error(&self, source: io::Error) -> LocalCopyError {
        LocalCopyError::File { path: self.path.clone(), source }
    }

    fn format_error(&self, fault: FormatError) -> LocalCopyError {
        LocalCopyError::Format { path: self.path.clone(), fault }
    }
}

/// Where the copy in `folder` lies.
#[must_use]
pub fn file_in(folder: &Path) -> PathBuf {
    folder.join("served")
}

/// Size and age of the copy in `folder`, which takes no key; `None` if there is none.
///
/// # Errors
/// A directory that this user may not look into.
pub fn look(folder: &Path) -> io::Result<Option<(u64, SystemTime)>> {
    match fs::metadata(file_in(folder)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.and_then(|found| Ok(Some((found.len(), found.modified()?)))),
    }
}

/// Removes the copy in `folder`, and what a writer that was interrupted has left; says how many bytes it had.
///
/// # Errors
/// A directory in which this user may remove nothing.
pub fn clear(folder: &Path) -> io::Result<Option<u64>> {
    let found = look(folder)?;
    let path = file_in(folder);
    for path in [whole_file::beside(&path), path] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(found.map(|(bytes, _)| bytes))
}

/// More than `store.local_copy_size` may be, with what encryption adds.
const LONGEST: usize = 1 << 31;

#[cfg(test)]
mod tests;
