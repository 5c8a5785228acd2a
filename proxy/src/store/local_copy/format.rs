//! A local copy as bytes. Pure: what is sealed and opened is the caller's.
//!
//! [`BEGINNING`], version (two bytes), an id of the file ([`ID_BYTES`], random), then records: length (four bytes) and a sealed
//! secret. The first is the list: when it was written, how many certificates follow, and all entries, since a suspended one that was left out
//! would let a wildcard serve its name. Each other is a certificate. Each is sealed for its file, kind and place ([`context`]), so that none can
//! be put elsewhere; names lie within, since the file is to tell none.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{CopiedCertificate, CopiedEntry, CopyContents};
use crate::{
    hexadecimal::hexadecimal,
    name::Pattern,
    store::{PrivateKeyPem, certificate_table::IssuerKey, instant::Micros},
};

/// Random, so that no record of one file is one of another.
pub(super) type FileId = [u8; ID_BYTES];

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    List,
    Certificate,
}

/// Why a file is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// It does not begin as one.
    #[error("is no local copy")]
    Foreign,
    /// Another release wrote it.
    #[error("is a local copy of format {0}, which this release does not read")]
    Version(u16),
    /// Its list is not what was written.
    #[error("was cut or changed since it was written")]
    Tampered,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::List => "list",
            Self::Certificate => "certificate",
        })
    }
}

/// For what a record is sealed.
pub(super) fn context(id: &FileId, kind: Kind, index: usize) -> String {
    format!("local copy {VERSION}, file {}, {kind} {index}", hexadecimal(id))
}

/// What a file with this id begins with.
pub(super) fn beginning(id: &FileId) -> Vec<u8> {
    [BEGINNING, &VERSION.to_be_bytes(), id].concat()
}

/// Puts a record behind what `file` has; `None` if it is too long for one.
pub(super) fn append(file: &mut Vec<u8>, sealed: &[u8]) -> Option<()> {
    put(file, u32::try_from(sealed.len()).ok()?, sealed);
    Some(())
}

/// The sealed records of a file, until its end or until what is none.
pub(super) struct Frames<'a>(&'a [u8]);

impl<'a> Frames<'a> {
    pub(super) fn of(file: &'a [u8]) -> Result<(FileId, Self), FormatError> {
        let rest = file.strip_prefix(BEGINNING).ok_or(FormatError::Foreign)?;
        let (version, rest) = rest.split_first_chunk().ok_or(FormatError::Tampered)?;
        let version = u16::from_be_bytes(*version);
        if version != VERSION {
            return Err(FormatError::Version(version));
        }
        let (id, rest) = rest.split_first_chunk().ok_or(FormatError::Tampered)?;
        Ok((*id, Self(rest)))
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let (sealed, rest) = counted(self.0)?;
        self.0 = rest;
        Some(sealed)
    }
}

/// The first record.
#[derive(Debug)]
pub(super) struct List {
    pub(super) written_at: Micros,
    /// How many records follow.
    pub(super) certificates: usize,
    pub(super) entries: Vec<CopiedEntry>,
}

#[derive(Serialize)]
struct WrittenList<'a> {
    written_at_micros: u64,
    certificates: usize,
    entries: &'a [CopiedEntry],
}

#[derive(Deserialize)]
struct ReadList {
    written_at_micros: u64,
    certificates: usize,
    entries: Vec<CopiedEntry>,
}

impl List {
    pub(super) fn decode(record: &[u8]) -> Option<Self> {
        let list: ReadList = serde_json::from_slice(record).ok()?;
        let written_at = Micros::from_epoch(list.written_at_micros);
        Some(Self { written_at, certificates: list.certificates, entries: list.entries })
    }
}

pub(super) fn encode_list(contents: &CopyContents) -> Option<Vec<u8>> {
    let list = WrittenList {
        written_at_micros: contents.written_at.since_epoch(),
        certificates: contents.certificates.len(),
        entries: &contents.entries,
    };
    serde_json::to_vec(&list).ok()
}

/// Four parts, each with its length before it, behind the time.
pub(super) fn encode_certificate(certificate: &CopiedCertificate) -> Option<Zeroizing<Vec<u8>>> {
    let CopiedCertificate { pattern, issuer, seen_at, chain, key } = certificate;
    let pattern = pattern.to_string();
    let parts = [pattern.as_bytes(), issuer.as_str().as_bytes(), chain, key.as_bytes()];
    // Room for all of it at once, so that no part of the key stays behind in memory that was outgrown.
    let room = TIME_BYTES + parts.iter().map(|part| part.len() + LENGTH_BYTES).sum::<usize>();
    let mut record = Zeroizing::new(Vec::with_capacity(room));
    record.extend(seen_at.since_epoch().to_be_bytes());
    for part in parts {
        put(&mut record, u32::try_from(part.len()).ok()?, part);
    }
    Some(record)
}

pub(super) fn decode_certificate(record: &[u8]) -> Option<CopiedCertificate> {
    let (seen_at, rest) = record.split_first_chunk()?;
    let (pattern, rest) = counted(rest)?;
    let (issuer, rest) = counted(rest)?;
    let (chain, rest) = counted(rest)?;
    let (key, rest) = counted(rest)?;
    let text = |bytes| std::str::from_utf8(bytes).ok();
    rest.is_empty().then_some(())?;
    Some(CopiedCertificate {
        pattern: Pattern::parse(text(pattern)?).ok()?,
        issuer: IssuerKey::parse(text(issuer)?)?,
        seen_at: Micros::from_epoch(u64::from_be_bytes(*seen_at)),
        chain: chain.to_vec(),
        key: PrivateKeyPem::from(key.to_vec()),
    })
}

fn put(to: &mut Vec<u8>, length: u32, part: &[u8]) {
    to.extend(length.to_be_bytes());
    to.extend(part);
}

/// What four bytes of length count, and what follows.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

pub(super) const BEGINNING: &[u8] = b"gatehouse-local-copy\n";
pub(super) const VERSION: u16 = 1;
pub(super) const ID_BYTES: usize = 16;
const LENGTH_BYTES: usize = 4;
const TIME_BYTES: usize = 8;
