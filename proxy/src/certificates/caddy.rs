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
    /// A fault of this program.
    #[error(
        "the copy was given up by a fault of this program, which the lines above tell; what was copied before stays"
    )]
    Lost,
    /// A table.
    #[error("what was copied before stays, and the command can be repeated")]
    Store(#[from] StoreError),
}

/// The results of `act` on all of `folders`, in their order; some at once, since each waits for the table.
async fn each<T, R, F>(folders: Vec<T>, act: impl Fn(T) -> F) -> Result<Vec<R>, TransferError>
where
    R: Send + 'static,
    F: Future<Output = Result<R, TransferError>> + Send + 'static,
{
    let (mut done, mut rest) = (Vec::with_capacity(folders.len()), folders.into_iter());
    loop {
        let running: Vec<_> = rest.by_ref().take(AT_ONCE).map(|folder| tokio::spawn(act(folder))).collect();
        if running.is_empty() {
            return Ok(done);
        }
        for result in running {
            done.push(result.await.map_err(|_| TransferError::Lost)??);
        }
    }
}

/// Certificates that are copied at once: 100,000 take some minutes then, and a table of few units is not overrun.
const AT_ONCE: usize = 8;
