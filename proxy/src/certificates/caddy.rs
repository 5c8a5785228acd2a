//! Caddy's storage of files: its certificates and accounts into the tables, and out of them into files that Caddy serves from.
//! Not here: the form of its items and the names of its files, which are the table's keys (`certificate_table`).
//! Invariants: bytes are copied as they are; nothing that is as new is overwritten, and no other account
//! (`a_certificate_is_copied_unless_what_is_there_is_as_new`); what is damaged is named, and stops nothing else.

mod decision;
mod export;
mod files;
mod import;
mod report;

use std::{io, path::PathBuf};

pub use export::export;
pub use import::import;
pub use report::{Outcome, Transfer, TransferredItem};

use crate::store::StoreError;

/// Whether anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is.
    Write,
    /// It is only found out what would be.
    DryRun,
}

/// Why a storage was not copied, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The folder has neither of Caddy's.
    #[error(
        "`{}` has neither a folder `certificates` nor `acme`; name the folder of Caddy's storage, like /var/lib/caddy/.local/share/caddy",
        .0.display()
    )]
    NoStorage(PathBuf),
    /// A folder cannot be listed.
    #[error("`{}` cannot be listed; run the command as a user who may read it", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("`{}` cannot be written; name a folder that this user may write to", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A table.
    #[error("what was copied before stays, and the command can be repeated")]
    Store(#[from] StoreError),
}
